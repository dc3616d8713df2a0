"""What a person is told of a debit or a credit: the one word for it, a sentence, and the next step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from yikatong.core.credit_table import CreditState, credit_verdict
from yikatong.core.credit_transaction import Credit
from yikatong.core.reasons import MEANING, Reason
from yikatong.core.terminal_table import State, Told, Verdict, verdict
from yikatong.core.transaction import Transaction


class Word(Enum):
    """How a bill stands, in one word (zh, en). PAID is said only of what stays paid."""

    PAID = ("已支付", "PAID")
    NOT_PAID = ("未支付", "NOT PAID")
    BEING_SETTLED = ("核实中", "BEING SETTLED")
    GIVEN_BACK = ("已退回", "GIVEN BACK")
    NOT_GIVEN_BACK = ("未退回", "NOT GIVEN BACK")


@dataclass(frozen=True, slots=True)
class Explanation:
    """A sentence for a person, and the next step."""

    zh: str
    en: str
    next_zh: str
    next_en: str


_PAID: Final = Explanation(
    "已支付。",
    "It is paid.",
    "请勿再次收费；可打印凭条。",
    "Do not charge again; print the receipt if it is wanted.",
)
_HELD: Final = Explanation(
    "已扣款，等待收费系统确认；逾时未确认将自动冲正。",
    "It is debited and waits for the HIS to confirm it; it is reversed if that does not come in time.",
    "请在收费系统中完成该笔记账；确认之前请勿另行收费。",
    "Finish the booking in the HIS; do not charge in another way before that.",
)
_PREPARED: Final = Explanation(
    "正在读取卡、二维码或身份证，或等待密码，尚未发出扣款。",
    "Card, code, identity card or PIN is awaited; no debit has been sent.",
    "请等待结果，或用同一请求号查询。",
    "Wait for the outcome, or ask with the same request id.",
)
_BEING_REVERSED: Final = Explanation(
    "本笔正在冲正，最终不会扣款。",
    "It is being reversed; in the end no money is taken.",
    "请勿再次刷卡收费；可改收现金。",
    "Do not charge the card again; cash may be taken.",
)
_NOT_TAKEN: Final = Explanation(
    "没有扣款。", "No money is taken.", "可重新收费或改收现金。", "Charge again, or take cash."
)
_GIVEN_BACK: Final = Explanation(
    "款项已退回。",
    "The money is given back.",
    "请勿另付现金；可打印凭条。",
    "Do not pay it in cash as well; print the receipt.",
)
_BEING_GIVEN_BACK: Final = Explanation(
    "退款正在处理，终端会一直送到参保地作出决定。",
    "The credit is being settled; the terminal goes on until the home city has decided.",
    "请勿另付现金；请用同一请求号查询结果。",
    "Do not pay it in cash; ask for the outcome with the same request id.",
)


def word(row: Transaction | Credit) -> Word:
    """The word for `row`. A debit that waits for its confirmation may still be reversed: it is being settled."""
    if isinstance(row, Credit):
        return _CREDIT_WORDS[credit_verdict(row.state).told]
    return Word.BEING_SETTLED if row.state is State.HELD else _DEBIT_WORDS[verdict(row.state).told]


_DEBIT_WORDS: Final = {
    Told.APPROVED: Word.PAID,
    Told.DECLINED: Word.NOT_PAID,
    Told.REFUSED: Word.NOT_PAID,
    Told.REVERSED: Word.NOT_PAID,
    Told.PENDING: Word.BEING_SETTLED,
}
_CREDIT_WORDS: Final = {
    Told.APPROVED: Word.GIVEN_BACK,
    Told.DECLINED: Word.NOT_GIVEN_BACK,
    Told.PENDING: Word.BEING_SETTLED,
}
_BY_STATE: Final[dict[State | CreditState, Explanation]] = {
    State.PREPARED: _PREPARED,
    State.HELD: _HELD,
    State.APPROVED: _PAID,
    CreditState.SENT: _BEING_GIVEN_BACK,
    CreditState.ACCEPTED: _BEING_GIVEN_BACK,
    CreditState.APPROVED: _GIVEN_BACK,
}


def explanation(told: Verdict, reason: Reason | None) -> Explanation | None:
    """Why a transaction is not simply approved; None where it is, or where nobody has said why.

    The reason of a reversal speaks of what is done ("is reversed, charge again"): that is said once it is proven.
    """
    if told.told is Told.APPROVED:
        return None
    if told.resolves_to is Told.REVERSED:
        return _BEING_REVERSED
    why = reason or (Reason.OUTCOME_PENDING if told.told is Told.PENDING else None)
    if why is None:
        return None
    meaning = MEANING[why]
    return Explanation(meaning.zh, meaning.en, meaning.next_zh, meaning.next_en)


def advice(row: Transaction | Credit) -> Explanation:
    """How `row` stands, and what the cashier does now."""
    if (known := _BY_STATE.get(row.state)) is not None:
        return known
    told = credit_verdict(row.state) if isinstance(row, Credit) else verdict(row.state)
    return explanation(told, row.why) or _NOT_TAKEN
