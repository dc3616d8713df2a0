"""What each observation of a terminal means: pure judgements, for health, doctor and self-test alike.

A probe function takes what was observed (None: there was no answer in time) and says how bad it is, why, and what to
do. Who observes stands in yikatong.terminal.health (from inside) and yikatong.cli.outside (while the daemon is down).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from yikatong.core.card import CardIdentity, ReaderState
from yikatong.core.credit_table import CreditState
from yikatong.core.credit_transaction import Credit
from yikatong.core.reasons import MEANING, Reason, YikatongError
from yikatong.core.selftest import Report
from yikatong.core.session import Granted
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.terminal.admission import RESERVE

CLOCK_OFFSET_MAX: Final = timedelta(seconds=2)
CERTIFICATE_WARN: Final = timedelta(days=14)
OPEN_WARN_MS: Final = 5 * 60_000
OPEN_ALARM_MS: Final = 30 * 60_000
FREE_SHARE_MIN: Final = 0.02
HOTLINE_PLACEHOLDER: Final = "0000-0000000"
# Held rows wait for the HIS, accepted ones for a city that the gateway goes on asking: neither is overdue by its age.
_AGEING: Final = frozenset({State.SENT, State.REVERSING, State.MANUAL, CreditState.SENT})
_COUNTED: Final = frozenset({State.SENT, State.REVERSING})


class Severity(Enum):
    """OK; DEGRADED: the terminal takes money, but somebody should look; FAILED: it can't take money."""

    OK = "OK"
    DEGRADED = "DEGRADED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Probe:
    """One line of `doctor`. `reason` is None where all is well; the texts are for a person, with concrete facts."""

    name: str
    severity: Severity
    reason: Reason | None
    finding_zh: str
    finding_en: str
    next_zh: str = ""
    next_en: str = ""


def fine(name: str, zh: str, en: str) -> Probe:
    return Probe(name, Severity.OK, None, zh, en)


def degraded(name: str, reason: Reason, zh: str, en: str, next_zh: str = "", next_en: str = "") -> Probe:
    """The next step is the reason's own where none is given."""
    meaning = MEANING[reason]
    return Probe(name, Severity.DEGRADED, reason, zh, en, next_zh or meaning.next_zh, next_en or meaning.next_en)


def failed(name: str, reason: Reason, zh: str, en: str, next_zh: str = "", next_en: str = "") -> Probe:
    meaning = MEANING[reason]
    return Probe(name, Severity.FAILED, reason, zh, en, next_zh or meaning.next_zh, next_en or meaning.next_en)


def of_error(name: str, error: YikatongError, severity: Severity = Severity.FAILED) -> Probe:
    meaning = error.meaning
    return Probe(
        name,
        severity,
        error.reason,
        f"{meaning.zh.rstrip('。')}（{error.detail}）。" if error.detail else meaning.zh,
        f"{meaning.en.rstrip('.')} ({error.detail})." if error.detail else meaning.en,
        meaning.next_zh,
        meaning.next_en,
    )


# --- devices ----------------------------------------------------------------------------------------------------


def reader(seen: ReaderState | YikatongError | None) -> Probe:
    if seen is None:
        return failed("reader", Reason.READER_FAILED, "读卡器没有应答。", "The reader does not answer.")
    if isinstance(seen, YikatongError):
        return of_error("reader", seen)
    if not seen.present:
        reason = Reason(seen.detail) if seen.detail else Reason.NO_READER
        if reason is not Reason.NO_READER:
            return of_error("reader", YikatongError(reason, seen.explanation))
        name = seen.name or "PC/SC"
        why = f" ({seen.explanation})" if seen.explanation else ""
        return failed("reader", reason, f"找不到读卡器 {name}{why}。", f"No reader {name}{why}.")
    return fine("reader", f"读卡器 {seen.name} 正常。", f"Reader {seen.name} answers.")


@dataclass(frozen=True, slots=True)
class SocketSeen:
    """A unix socket as it was found: `error` is empty where something listens."""

    path: str
    error: str = ""


def pcscd(seen: SocketSeen | None) -> Probe:
    """None: no reader of this terminal needs pcscd."""
    if seen is None:
        return fine("pcscd", "未使用 pcscd。", "pcscd is not used.")
    if seen.error:
        return failed(
            "pcscd",
            Reason.PCSCD_NOT_RUNNING,
            f"智能卡服务 pcscd 不可用：{seen.path}（{seen.error}）。",
            f"The smart card service pcscd can't be reached: {seen.path} ({seen.error}).",
        )
    return fine("pcscd", "智能卡服务 pcscd 正在运行。", "The smart card service pcscd runs.")


def card(state: ReaderState | None, read: CardIdentity | YikatongError | None) -> Probe:
    """`read`: what reading the card gave, None where it was not tried or gave nothing in time."""
    if state is None or not state.card_present:
        return fine("card", "读卡器中没有卡。", "There is no card in the reader.")
    if isinstance(read, YikatongError):
        if read.reason is Reason.NO_CARD:
            return fine("card", "卡刚刚取出。", "The card has just been taken out.")
        if read.reason is Reason.DEVICE_BUSY and "pcsc" not in read.facts:  # we ourselves are at it
            return fine("card", "卡正在使用中。", "The card is in use.")
        return of_error("card", read, Severity.DEGRADED)
    if read is None:
        return degraded("card", Reason.CARD_MUTE, "卡没有及时应答。", "The card did not answer in time.")
    return fine(
        "card",
        f"卡可读：{read.card_number}，规范 {read.spec_version}。",
        f"The card can be read: {read.card_number}, specification {read.spec_version}.",
    )


def card_in_use() -> Probe:
    return fine("card", "正在办理交易，未检查卡。", "A transaction is in progress; the card was left alone.")


@dataclass(frozen=True, slots=True)
class KeypadSeen:
    """`error` None where the keypad answered; `answered` false where it did not in time."""

    answered: bool
    error: YikatongError | None = None


def pin_keypad(device: str, seen: KeypadSeen | None) -> Probe:
    """`seen` None: no keypad is configured."""
    if seen is None:
        return fine("pin-keypad", "未配置密码键盘。", "No PIN keypad is configured.")
    if not seen.answered:
        return failed(
            "pin-keypad",
            Reason.PIN_KEYPAD_FAILED,
            f"密码键盘 {device} 没有应答。",
            f"The PIN keypad {device} does not answer.",
        )
    if seen.error is not None:
        meaning = seen.error.meaning
        return failed(
            "pin-keypad", seen.error.reason, f"密码键盘 {device}：{meaning.zh}", f"PIN keypad {device}: {meaning.en}"
        )
    return fine("pin-keypad", f"密码键盘 {device} 正常。", f"The PIN keypad {device} answers.")


_SILENT: Final = {
    "printer": Reason.PRINTER_FAILED,
    "customer-display": Reason.CUSTOMER_DISPLAY_FAILED,
    "scanner": Reason.SCANNER_FAILED,
    "id-card-reader": Reason.ID_CARD_READER_FAILED,
}


def beside_the_card(name: str, device: str, error: YikatongError | None, *, answered: bool) -> Probe:
    """Printer, display, scanner or reader of identity cards: without it money is taken by card all the same."""
    if answered and error is None:
        return fine(name, f"设备 {device} 正常。", f"The device {device} is well.")
    if error is None:
        zh, en = f"设备 {device} 没有应答。", f"The device {device} does not answer."
        return degraded(name, _SILENT[name], zh, en)
    return degraded(name, error.reason, f"{error.meaning.zh} ({device})", f"{error.meaning.en} ({device})")


@dataclass(frozen=True, slots=True)
class AuthenticationSeen:
    """Where cards are authenticated: `place` is psam or gateway, `told` what it says of itself.

    `error` None where it answered; `answered` false where it did not in time. `needed`: no card is taken without it.
    """

    place: str
    needed: bool
    told: str = ""
    answered: bool = True
    error: YikatongError | None = None


def card_authentication(seen: AuthenticationSeen | None) -> Probe:
    """`seen` None: it is not configured. Cards that read freely can be taken without it, unless it is `needed`."""
    name = "authentication"
    severity = Severity.FAILED if seen is not None and seen.needed else Severity.DEGRADED
    if seen is None:
        return fine(
            name,
            "未配置卡认证：拒绝自由读取的第三代卡不能使用。",
            "Not configured: third-generation cards that refuse a free read are not taken.",
        )
    if not seen.answered:
        return of_error(name, YikatongError(Reason.PSAM_FAILED, "no answer in time"), severity)
    if seen.error is not None:
        if seen.error.reason is Reason.DEVICE_BUSY and "pcsc" not in seen.error.facts:  # we ourselves are at it
            return fine(name, "正在认证一张卡。", "A card is being authenticated.")
        return of_error(name, seen.error, severity)
    if seen.place == "psam":
        number = seen.told or "?"
        return fine(name, f"PSAM 正常，终端机编号 {number}。", f"The PSAM answers, terminal number {number}.")
    return fine(name, "由网关的加密机认证。", "Cards are authenticated by the gateway's security module.")


# --- the link ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """The terminal's session as it stands."""

    address: str
    granted: Granted | None
    refusal: Reason | None
    fenced: bool
    reachable: bool


def gateway(seen: LinkSeen) -> Probe:
    if seen.fenced:
        return failed(
            "gateway",
            Reason.TERMINAL_SUPERSEDED,
            "本终端的身份已由另一台机器使用。",
            "Another machine has taken over this terminal's identity.",
        )
    if not seen.reachable:
        return failed(
            "gateway",
            Reason.GATEWAY_UNREACHABLE,
            f"无法连接网关 {seen.address}。",
            f"The gateway at {seen.address} can't be reached.",
        )
    if seen.granted is None:
        reason = seen.refusal or Reason.NOT_SIGNED_IN
        meaning = MEANING[reason]
        return failed(
            "gateway",
            reason,
            f"网关 {seen.address}：尚未签到。{meaning.zh}",
            f"Gateway {seen.address}: not signed in. {meaning.en}",
        )
    return fine(
        "gateway",
        f"已签到：{seen.granted.institution_name}（{seen.granted.institution}），"
        f"记账日 {seen.granted.accounting_date}。",
        f"Signed in: {seen.granted.institution_name} ({seen.granted.institution}),"
        f" accounting date {seen.granted.accounting_date}.",
    )


@dataclass(frozen=True, slots=True)
class Validity:
    """The life of a certificate, UTC."""

    begin: datetime
    end: datetime


def certificate(seen: Validity | YikatongError, now: datetime) -> Probe:
    if isinstance(seen, YikatongError):
        return of_error("certificate", seen)
    left, day = seen.end - now, seen.end.date().isoformat()
    if left <= timedelta():
        return failed(
            "certificate",
            Reason.CERTIFICATE_INVALID,
            f"终端证书已于 {day} 过期。",
            f"The terminal's certificate expired on {day}.",
        )
    if now < seen.begin:
        begin = seen.begin.date().isoformat()
        return failed(
            "certificate",
            Reason.CLOCK_WRONG,
            f"终端证书自 {begin} 起有效，而本机日期是 {now.date().isoformat()}。",
            f"The terminal's certificate begins on {begin}, but the date here is {now.date().isoformat()}.",
        )
    if left < CERTIFICATE_WARN:
        return degraded(
            "certificate",
            Reason.CERTIFICATE_INVALID,
            f"终端证书还有 {left.days} 天到期（{day}）。",
            f"The terminal's certificate expires in {left.days} days ({day}).",
        )
    return fine(
        "certificate",
        f"终端证书有效至 {day}（{left.days} 天）。",
        f"The terminal's certificate is valid until {day} ({left.days} days).",
    )


def clock(offset: timedelta | None) -> Probe:
    """Offset of this machine's clock to the gateway's; None before the first sign-in."""
    if offset is None:
        return fine("clock", "尚未签到，无法核对时钟。", "Not signed in yet; the clock was not compared.")
    seconds = offset.total_seconds()
    if abs(offset) > CLOCK_OFFSET_MAX:
        fast = seconds > 0
        return degraded(
            "clock",
            Reason.CLOCK_WRONG,
            f"本机时钟比网关{'快' if fast else '慢'} {abs(seconds):.1f} 秒。",
            f"This machine's clock is {abs(seconds):.1f} s {'ahead of' if fast else 'behind'} the gateway's.",
            "请启用时间同步：timedatectl set-ntp true。",
            "Turn on time synchronisation: timedatectl set-ntp true.",
        )
    return fine("clock", f"与网关相差 {seconds:+.1f} 秒。", f"{seconds:+.1f} s from the gateway's clock.")


# --- the journal and what it says -------------------------------------------------------------------------------


def journal(error: str | None) -> Probe:
    """`error`: why it can't be written, None where a value was just written durably and read back."""
    if error is None:
        return fine("journal", "流水可写，启动时校验通过。", "The journal can be written, and was proved at the start.")
    return failed(
        "journal", Reason.JOURNAL_UNAVAILABLE, f"流水不可用（{error}）。", f"The journal can't be used ({error})."
    )


def disk(free: int, total: int) -> Probe:
    """Room for the journal, in bytes."""
    zh, en = f"剩余空间 {_size(free)}，共 {_size(total)}。", f"{_size(free)} free of {_size(total)}."
    if free < RESERVE:
        return failed(
            "disk",
            Reason.JOURNAL_UNAVAILABLE,
            f"磁盘已满，停止扣款：{zh}",
            f"The disk is full, no debit is taken: {en}",
            "请清理磁盘；未决交易继续处理。",
            "Free some space; what is open goes on.",
        )
    if free < total * FREE_SHARE_MIN:
        return degraded(
            "disk",
            Reason.JOURNAL_UNAVAILABLE,
            f"磁盘将满：{zh}",
            f"The disk is nearly full: {en}",
            f"请清理磁盘；不足 {_size(RESERVE)} 时将停止扣款。",
            f"Free some space; debits stop below {_size(RESERVE)}.",
        )
    return fine("disk", zh, en)


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A transaction whose outcome is open, and for how long."""

    row: Transaction | Credit
    age_ms: int

    @property
    def ages(self) -> bool:
        """Whether its age is somebody's fault: it is not promised by the gateway, and not the HIS's to confirm."""
        return self.row.state in _AGEING


def open_transactions(rows: Sequence[OpenRow], *, limit: int, limit_ms: int) -> Probe:
    """`limit`, `limit_ms`: with more debits, or older ones, under way no new one is taken."""
    ageing = [row for row in rows if row.ages]
    counted = [row for row in ageing if row.row.state in _COUNTED]
    waiting = len(rows) - len(ageing)
    if not ageing:
        if waiting:
            return fine(
                "open-transactions",
                f"{waiting} 笔交易在等待（网关已受理冲正，或等待收费系统确认）。",
                f"{waiting} transactions wait (the gateway carries on, or the HIS is to confirm).",
            )
        return fine("open-transactions", "没有未决交易。", "No transaction is open.")
    oldest = max(ageing, key=lambda row: row.age_ms)
    zh = f"{len(ageing)} 笔未决交易，最早的 {oldest.row.order_no} 已 {_age_zh(oldest.age_ms)}。"
    en = f"{len(ageing)} open transactions; the oldest, {oldest.row.order_no}, for {_age_en(oldest.age_ms)}."
    if len(counted) > limit or any(row.age_ms > limit_ms for row in counted):
        return failed("open-transactions", Reason.TOO_MANY_UNRESOLVED, zh, en)
    if any(row.row.state is State.MANUAL for row in ageing):
        return degraded(
            "open-transactions", Reason.NEEDS_OPERATOR, f"须人工核实：{zh}", f"An operator must decide: {en}"
        )
    if oldest.age_ms > OPEN_ALARM_MS:
        return degraded(
            "open-transactions",
            Reason.OUTCOME_PENDING,
            f"警报：{zh}",
            f"Alarm: {en}",
            "请检查网络，并拨打故障热线。",
            "Check the network, and call the fault hotline.",
        )
    if oldest.age_ms > OPEN_WARN_MS:
        return degraded("open-transactions", Reason.OUTCOME_PENDING, zh, en, "请检查网络。", "Check the network.")
    return fine("open-transactions", zh, en)


def self_test(last: Report | None, now: datetime, days: int) -> Probe:
    """The newest stored report; `days` after which a passed test is too old."""
    if last is None:
        return degraded("self-test", Reason.SELF_TEST_OVERDUE, "还没有自检过。", "No self-test has run yet.")
    when = datetime.fromisoformat(last.started_at)
    day = when.date().isoformat()
    if last.disproved:
        names = ", ".join(last.disproved)
        return failed(
            "self-test",
            Reason.SELF_TEST_FAILED,
            f"{day} 自检发现资金通路有误，停止扣款：{names}。",
            f"The self-test of {day} disproved the way of the money, no debit is taken: {names}.",
            "请拨打故障热线；排除故障后运行 yikatong selftest --report，通过后恢复扣款。",
            "Call the fault hotline; clear the fault, then run yikatong selftest --report; passed, debits go on.",
        )
    if not last.passed:
        names = ", ".join(step.name for step in last.steps if not step.passed)
        return degraded(
            "self-test",
            Reason.SELF_TEST_FAILED,
            f"{day} 自检未通过：{names}。",
            f"The self-test of {day} failed: {names}.",
            "请排除故障后运行 yikatong selftest --report。",
            "Clear the fault, then run yikatong selftest --report.",
        )
    if now - when > timedelta(days=days):
        return degraded(
            "self-test",
            Reason.SELF_TEST_OVERDUE,
            f"上次自检在 {day}，已 {(now - when).days} 天。",
            f"The last self-test was on {day}, {(now - when).days} days ago.",
            "请运行 yikatong selftest --report。",
            "Run yikatong selftest --report.",
        )
    return fine("self-test", f"{day} 自检通过。", f"The self-test of {day} passed.")


def configuration(*, development: bool, simulated_reader: bool) -> Probe:
    if development:
        more_zh, more_en = ("，读卡器是模拟的", ", the reader is simulated") if simulated_reader else ("", "")
        return fine(
            "configuration",
            f"配置有效；开发模式{more_zh}，不可用于收费窗口。",
            f"The configuration is valid; development mode{more_en}: not for a window that takes money.",
        )
    return fine("configuration", "配置有效。", "The configuration is valid.")


def hotlines(policy: str, fault: str) -> Probe:
    if not policy or not fault or HOTLINE_PLACEHOLDER in {policy, fault}:
        return degraded(
            "hotlines",
            Reason.CONFIGURATION_INVALID,
            f"热线未设置：政策 {policy or '（空）'}，故障 {fault or '（空）'}。",
            f"A hotline is not set: policy {policy or '(empty)'}, fault {fault or '(empty)'}.",
            "请在网关或终端配置中填写两条热线。",
            "Set both hotlines at the gateway or in the terminal's configuration.",
        )
    return fine(
        "hotlines", f"政策热线 {policy}，故障热线 {fault}。", f"Policy hotline {policy}, fault hotline {fault}."
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _age_zh(age_ms: int) -> str:
    minutes = age_ms // 60_000
    return f"{minutes // 60} 小时 {minutes % 60} 分" if minutes >= 60 else f"{minutes} 分 {age_ms // 1000 % 60} 秒"


def _age_en(age_ms: int) -> str:
    minutes = age_ms // 60_000
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {age_ms // 1000 % 60} s"
