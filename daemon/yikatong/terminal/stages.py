"""Where a transaction stands right now, for a person who waits: which party we wait for, and since when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from yikatong.core.credit_table import DECIDED
from yikatong.core.credit_transaction import Credit
from yikatong.core.orders import Credential
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction


class Party(Enum):
    """Whom we wait for, as a person calls it (zh, en)."""

    CARD_HOLDER = ("持卡人插卡", "the cardholder to insert the card")
    CARD = ("社会保障卡", "the card")
    CODE = ("持卡人出示医保电子凭证二维码", "the cardholder to show the e-voucher's code")
    VOUCHER_SERVICE = ("医保电子凭证服务", "the e-voucher service")
    ID_CARD = ("持卡人放置居民身份证", "the cardholder to lay the resident identity card on its reader")
    KEYPAD = ("持卡人在密码键盘上输入社会保障卡密码", "the social security PIN at the keypad")
    GATEWAY = ("网关", "the gateway")
    HOME_CITY = ("参保地", "the home city")
    HIS = ("收费系统确认", "the HIS to confirm")
    OPERATOR = ("经办机构人工核实", "an operator's decision")


class Stage(Enum):
    """What goes on; the value is the prompt for the cashier's screen (zh, en)."""

    WAITING_FOR_CARD = ("请插入社会保障卡。", "Insert the social security card.")
    READING_CARD = ("正在读卡，请勿取出。", "Reading the card; leave it in.")
    WAITING_FOR_PIN = (
        "请在密码键盘上输入社会保障卡密码（不是银行卡密码）。",
        "Enter the social security PIN (not the bank's) on the keypad.",
    )
    WAITING_FOR_CODE = (
        "请把医保电子凭证二维码对准扫码窗口。",
        "Hold the e-voucher's code before the scanner.",
    )
    RESOLVING_CODE = ("正在核验医保电子凭证，请稍候。", "The e-voucher is being checked; please wait.")
    WAITING_FOR_ID_CARD = (
        "请把居民身份证放在身份证阅读器上，读完前不要移动。",
        "Lay the resident identity card on its reader and leave it there until it has been read.",
    )
    ASKING_CITY = ("正在向参保地扣款，请稍候。", "Asking the home city for the debit; please wait.")
    WAITING_FOR_CONFIRMATION = (
        "已扣款，请取卡；等待收费系统确认。",
        "Debited; take the card. The HIS has to confirm it.",
    )
    REVERSING = (
        "正在自动冲正，本笔最终不扣款；请勿再次刷卡收费。",
        "It is being reversed, and in the end nothing is taken; do not charge the card again.",
    )
    REVERSAL_PROMISED = (
        "网关已受理冲正，等待参保地；本笔最终不扣款。",
        "The gateway has taken the reversal and waits for the home city; in the end nothing is taken.",
    )
    WAITING_FOR_OPERATOR = (
        "该笔交易需要人工核实，请拨打故障热线。",
        "An operator must decide; call the fault hotline.",
    )
    GIVING_BACK = ("正在退款，请勿另付现金。", "The credit is being settled; do not pay it in cash.")
    DONE = ("交易结束，请取卡。", "Done; take the card.")

    def prompt(self, credential: Credential) -> tuple[str, str]:
        """The value, without a card to take where none was used."""
        return self.value if credential is Credential.CARD else _WITHOUT_CARD.get(self, self.value)


AT_THE_DESK: Final = frozenset(
    {
        Stage.WAITING_FOR_CARD,
        Stage.READING_CARD,
        Stage.WAITING_FOR_PIN,
        Stage.WAITING_FOR_CODE,
        Stage.RESOLVING_CODE,
        Stage.WAITING_FOR_ID_CARD,
    }
)
PARTIES: Final = {
    Stage.WAITING_FOR_CARD: Party.CARD_HOLDER,
    Stage.READING_CARD: Party.CARD,
    Stage.WAITING_FOR_PIN: Party.KEYPAD,
    Stage.WAITING_FOR_CODE: Party.CODE,
    Stage.RESOLVING_CODE: Party.VOUCHER_SERVICE,
    Stage.WAITING_FOR_ID_CARD: Party.ID_CARD,
    Stage.ASKING_CITY: Party.HOME_CITY,
    Stage.WAITING_FOR_CONFIRMATION: Party.HIS,
    Stage.REVERSING: Party.HOME_CITY,
    Stage.REVERSAL_PROMISED: Party.HOME_CITY,
    Stage.WAITING_FOR_OPERATOR: Party.OPERATOR,
    Stage.GIVING_BACK: Party.HOME_CITY,
}
"""Whom we wait for while everything works; without the gateway it is the gateway (`waits_for`)."""
_OVER_THE_GATEWAY: Final = frozenset({Stage.RESOLVING_CODE, Stage.ASKING_CITY, Stage.REVERSING, Stage.GIVING_BACK})
_ANSWERING: Final = frozenset({Party.GATEWAY, Party.HOME_CITY, Party.VOUCHER_SERVICE})
_STAGES: Final = {
    State.SENT: Stage.ASKING_CITY,
    State.HELD: Stage.WAITING_FOR_CONFIRMATION,
    State.REVERSING: Stage.REVERSING,
    State.ACCEPTED: Stage.REVERSAL_PROMISED,
    State.MANUAL: Stage.WAITING_FOR_OPERATOR,
}


_WITHOUT_CARD: Final = {
    Stage.WAITING_FOR_CONFIRMATION: ("已扣款；等待收费系统确认。", "Debited. The HIS has to confirm it."),
    Stage.REVERSING: (
        "正在自动冲正，本笔最终不扣款；请勿再次收费。",
        "It is being reversed, and in the end nothing is taken; do not charge again.",
    ),
    Stage.DONE: ("交易结束。", "Done."),
}


@dataclass(frozen=True, slots=True)
class StageReached:
    """Where `row` stands, since when by the wall clock and by the boot clock."""

    row: Transaction | Credit
    stage: Stage
    since: datetime
    since_boot_ms: int


def stage_of(row: Transaction | Credit) -> Stage:
    """The stage that follows from the row alone: everything after card and PIN."""
    if isinstance(row, Credit):
        return Stage.DONE if row.state in DECIDED else Stage.GIVING_BACK
    return _STAGES.get(row.state, Stage.DONE)


def waits_for(stage: Stage, *, reachable: bool) -> Party | None:
    """Whom we wait for. `reachable`: the link to the gateway is up. None: for nobody any more."""
    if not reachable and stage in _OVER_THE_GATEWAY:
        return Party.GATEWAY
    return PARTIES.get(stage)


@dataclass(frozen=True, slots=True)
class Times:
    """How long a stage lasts here: half of `count` are over within `median_ms`, 95 of 100 within `most_ms`."""

    median_ms: int
    most_ms: int
    count: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is said of a stage that lasts; the sentence counts seconds, as a person does."""

    party: Party
    city_zh: str
    city_en: str
    elapsed_ms: int
    usual: Times | None
    attempts: int
    ends_unpaid: bool

    @property
    def party_zh(self) -> str:
        return f"{self.party.value[0]}{self.city_zh if self.party is Party.HOME_CITY else ''}"

    @property
    def party_en(self) -> str:
        return f"{self.party.value[1]} {self.city_en if self.party is Party.HOME_CITY else ''}".rstrip()

    def sentence_zh(self) -> str:
        usual = f"通常 {_zh(_up(self.usual.most_ms))}内" if self.usual else "通常用时尚不清楚"
        answer = "答复" if self.party in _ANSWERING else ""
        said = f"正在等待{self.party_zh}{answer}，已 {_zh(self.elapsed_ms // 1000)}，{usual}"
        if self.attempts > 1:
            said += f"，第 {self.attempts} 次询问"
        return said + ("；本笔最终不扣款，可改收现金。" if self.ends_unpaid else "。")

    def sentence_en(self) -> str:
        usual = f"usually within {_en(_up(self.usual.most_ms))}" if self.usual else "how long is usual is not known yet"
        said = f"Waiting for {self.party_en} for {_en(self.elapsed_ms // 1000)}, {usual}"
        if self.attempts > 1:
            said += f", asked {self.attempts} times"
        return said + ("; in the end nothing is taken, cash may be taken." if self.ends_unpaid else ".")


def _up(milliseconds: int) -> int:
    """Whole seconds, never less than it takes, at least one."""
    return max(-(-milliseconds // 1000), 1)


def _zh(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    if minutes >= 60:
        return f"{minutes // 60} 小时 {minutes % 60} 分"
    return f"{minutes} 分 {rest} 秒" if minutes else f"{rest} 秒"


def _en(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
