"""The receipt (凭条) of a debit, or the slip that proves that no money was taken. Chinese first, 48 columns wide."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from yikatong.core.bill import Bill, Fund
from yikatong.core.orders import Credential, Purpose
from yikatong.core.reasons import Reason
from yikatong.core.terminal_table import State, Told, verdict
from yikatong.core.transaction import Transaction
from yikatong.core.values import Fen
from yikatong.core.words import advice

WIDTH: Final = 48
_INDENT: Final = "  "
_TOKENS: Final = re.compile(r"[!-~]+|.")
_CHINA: Final = timezone(timedelta(hours=8))

_PURPOSES: Final = {
    Purpose.PHARMACY_PURCHASE: ("药店购药", "Pharmacy purchase"),
    Purpose.OUTPATIENT_BILL: ("门诊费用", "Outpatient bill"),
    Purpose.INPATIENT_SELF_PAID: ("住院自付", "In-patient, self-paid part"),
}
_NUMBERS: Final = {
    Credential.CARD: ("卡号", "Card"),
    Credential.VOUCHER: ("社会保障号码", "Person"),
    Credential.RESIDENT_ID: ("社会保障号码", "Person"),
}
_WAYS: Final = {
    Credential.VOUCHER: ("医保电子凭证", "E-voucher"),
    Credential.RESIDENT_ID: ("居民身份证", "Resident identity card"),
}
_TITLES: Final = {
    Told.APPROVED: ("社会保障卡 异地扣款凭条", "Receipt"),
    Told.DECLINED: ("未扣款证明", "No money was taken"),
    Told.REFUSED: ("未扣款证明", "No money was taken"),
    Told.REVERSED: ("冲正凭条（未扣款）", "Reversed: no money was taken"),
    Told.PENDING: ("交易处理中，请勿重复收费", "Being settled: do not charge again"),
}
_PAID_WITHOUT_CARD: Final = ("异地扣款凭条", "Receipt")
_RESULTS: Final = {
    Told.APPROVED: ("已扣款", "Debited"),
    Told.DECLINED: ("未扣款", "No money was taken"),
    Told.REFUSED: ("未扣款", "No money was taken"),
    Told.REVERSED: ("已冲正，未扣款", "No money was taken"),
    Told.PENDING: ("核实中", "Being settled"),
}
_DOOMED_TITLE: Final = ("冲正通知：本笔最终不扣款", "Being reversed: nothing will be taken")
_DOOMED_RESULT: Final = ("正在冲正", "Being reversed")
_DECLINED_FOR_EVER: Final = (
    "该交易号已记为拒绝，不会再执行。",
    "It is on record as declined and will never be executed.",
)
_NOT_ON_RECORD: Final = frozenset(
    {Reason.ORDER_IN_PROGRESS, Reason.ORDER_ALREADY_PAID, Reason.REQUEST_ID_REUSED, Reason.REVERSED_BY_OPERATORS}
)
"""Another transaction, or people, stand behind these: nobody's ledger has declined the id."""
_CHANGE_PIN: Final = ("提示：请尽快修改社会保障卡密码。", "Please change your social security PIN soon.")
"""Not why: whoever finds the slip, or the card with it, must not learn that the PIN is one that everybody knows."""
_NEVER_SENT: Final = ("本终端没有发出该笔交易。", "This terminal has sent nothing.")


@dataclass(frozen=True, slots=True)
class Line:
    """A labelled value, or with an empty label a line of its own."""

    label_zh: str
    label_en: str
    value: str


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who hands out the receipt: institution and both hotlines."""

    institution_name: str
    terminal_id: str
    policy_hotline: str
    fault_hotline: str


def receipt(row: Transaction, bill: Bill, issuer: Issuer) -> tuple[Line, ...]:
    """The receipt of `row` as data. What PENDING will become is said, because the cashier may then take cash."""
    told = verdict(row.state)
    doomed = told.resolves_to is Told.REVERSED
    title = _DOOMED_TITLE if doomed else _TITLES[told.told]
    if told.told is Told.APPROVED and row.credential is not Credential.CARD:
        title = _PAID_WITHOUT_CARD
    lines = [
        Line("", "", f"{title[0]} / {title[1]}"),
        Line("机构", "Institution", issuer.institution_name or row.institution),
        Line("终端", "Terminal", issuer.terminal_id),
        Line("单据号", "Order", row.order_no + (f" ({row.order_part})" if row.order_part else "")),
        Line("交易号", "Transaction", row.transaction_id),
        Line("北京时间", "Time (UTC+8)", china_time(row.created_at)),
        Line("类别", "Purpose", " / ".join(_PURPOSES[row.purpose])),
    ]
    if row.card_number_masked:  # not where it was refused before anybody was known
        lines += [Line(*_NUMBERS[row.credential], row.card_number_masked), Line("姓名", "Name", row.cardholder_masked)]
        if row.credential is not Credential.CARD:
            lines.append(Line("支付方式", "Paid with", " / ".join(_WAYS[row.credential])))
    if row.home_region:
        lines.append(Line("参保地", "Home city", f"{row.home_city_zh} {row.home_city_en} ({row.home_region})"))
    for item in bill.items:
        lines += [
            Line("", "", f"{item.name} × {_quantity(item.quantity_milli)}  {Fen(item.amount_fen)}"),
            Line("", "", f"  国家医保编码 National {item.national_code or '—'}"),
            Line("", "", f"  地方编码 Local {item.local_code or '—'}"),
        ]
    if bill.total_fen:
        lines.append(Line("总金额", "Bill total", f"{Fen(bill.total_fen)} 元"))
    for share in bill.shares:
        fund = Fund[share.fund].value
        lines.append(Line(fund[0], fund[1], f"{Fen(share.amount_fen)} 元"))
    result = _DOOMED_RESULT if doomed else _RESULTS[told.told]
    moved = told.told is Told.APPROVED
    label = ("个人账户扣款", "Personal account") if moved else ("申请金额", "Requested")
    lines.append(Line(*label, f"{row.amount} 元"))
    lines.append(Line("结果", "Result", f"{result[0]} / {result[1]}"))
    if row.state is State.HELD:
        lines.append(Line("最迟确认", "Confirm by", china_time(row.confirm_by)))
    if row.state is not State.APPROVED:
        said = advice(row)
        if row.reason:
            lines.append(Line("原因", "Reason", row.reason))
        lines += [Line("", "", said.zh), Line("", "", said.en)]
        lines += [Line("", "", said.next_zh), Line("", "", said.next_en)]
    if told.told is Told.APPROVED:
        if row.balance_fen is not None:
            lines.append(Line("账户余额", "Balance", f"{Fen(row.balance_fen)} 元"))
        lines.append(Line("参考号", "Reference", row.reference))
        lines.append(Line("记账日", "Accounting date", row.accounting_date))
    lines += _proof(row)
    if row.initial_pin:
        lines += [Line("", "", said) for said in _CHANGE_PIN]
    lines += [
        Line("政策热线", "Policy hotline", issuer.policy_hotline),
        Line("故障热线", "Fault hotline", issuer.fault_hotline),
    ]
    return tuple(lines)


def _proof(row: Transaction) -> list[Line]:
    """Why nothing was taken, in words that can be looked up: the ledger's reference, or what is on record instead."""
    match verdict(row.state).told:
        case Told.REVERSED if row.reference:
            proof = [Line("冲正参考号", "Proof", row.reference)]
        case Told.DECLINED | Told.REVERSED:
            proof = [Line("", "", said) for said in _DECLINED_FOR_EVER if row.why not in _NOT_ON_RECORD]
        case Told.REFUSED:
            proof = [Line("", "", said) for said in _NEVER_SENT]
        case _:
            return []
    return [*proof, Line("结论时间", "Decided", china_time(row.decided_at))]


def as_text(lines: tuple[Line, ...]) -> str:
    """The receipt as plain text, at most 48 columns; a Chinese character takes two."""
    rule = "-" * WIDTH
    out = [rule]
    for number, line in enumerate(lines):
        if not line.label_zh:
            parts = line.value.split(" / ") if number == 0 and columns(line.value) > WIDTH else [line.value]
            out += [*map(_centred, parts), rule] if number == 0 else _wrapped(line.value, "")
        else:
            out += _wrapped(line.value, f"{line.label_zh} {line.label_en}: ")
    return "\n".join([*out, rule, ""])


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def china_time(moment: str) -> str:
    """An ISO 8601 moment as the window's clock shows it: China has one time, eight hours ahead of UTC."""
    return datetime.fromisoformat(moment).astimezone(_CHINA).strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def _quantity(milli: int) -> str:
    whole, part = divmod(milli, 1000)
    return f"{whole}.{part:03d}".rstrip("0").rstrip(".")


def _centred(text: str) -> str:
    return " " * max((WIDTH - columns(text)) // 2, 0) + text


def _wrapped(text: str, label: str) -> list[str]:
    """Label and text; what does not fit goes on below, indented by two. A word or number is broken only where it is
    longer than a line."""
    lines, line = [], label
    for token in _TOKENS.findall(text):
        parts = [token] if columns(token) <= WIDTH - len(_INDENT) else list(token)
        for part in parts:
            if columns(line) + columns(part) > WIDTH:
                lines.append(line.rstrip())
                line = _INDENT
            line += part
    return [*lines, line]
