"""The home city's credit table: state of the *original* × a new credit → verdict, and the original's next state.

Pure, and plain data. A ledger serialises all credits of a debit on the debit's own row. What is declined is stored
under the credit's id and never weighed again; WAIT alone stores nothing, because it decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from yikatong.core.ledger_table import State
from yikatong.core.reasons import Reason


class CreditWeighed(Enum):
    """A new credit, compared with its original's row."""

    CANCEL = "CANCEL"  # stamped with the original's accounting date, and nothing was refunded
    CANCEL_TOO_LATE = "CANCEL_TOO_LATE"
    REFUND = "REFUND"  # with what was refunded before, not more than the debit
    REFUND_TOO_MUCH = "REFUND_TOO_MUCH"
    ORIGINAL_DIFFERS = "ORIGINAL_DIFFERS"


class Verdict(Enum):
    CREDIT = "CREDIT"
    DECLINE = "DECLINE"
    WAIT = "WAIT"  # the original's confirmation is still on its way


@dataclass(frozen=True, slots=True)
class CreditLedgerStep:
    """One move; `next` is the original's state. `reason` stands beside DECLINE alone."""

    next: State
    verdict: Verdict
    reason: Reason | None = None
    alarm: bool = False


_ASKED: Final = tuple(weighed for weighed in CreditWeighed if weighed is not CreditWeighed.ORIGINAL_DIFFERS)
_CANCELS: Final = (CreditWeighed.CANCEL, CreditWeighed.CANCEL_TOO_LATE)
_REFUNDS: Final = (CreditWeighed.REFUND, CreditWeighed.REFUND_TOO_MUCH)


def _declined(state: State, reason: Reason, *, alarm: bool = False) -> CreditLedgerStep:
    return CreditLedgerStep(state, Verdict.DECLINE, reason, alarm)


TABLE: Final[dict[tuple[State, CreditWeighed], CreditLedgerStep]] = {
    # Whoever credits has been told that the debit is approved: a ledger that does not know it has lost something.
    **{(State.NONE, w): _declined(State.NONE, Reason.TRANSACTION_NOT_FOUND, alarm=True) for w in CreditWeighed},
    **{(State.POSTED, w): CreditLedgerStep(State.POSTED, Verdict.WAIT) for w in _ASKED},
    (State.CONFIRMED, CreditWeighed.CANCEL): CreditLedgerStep(State.CANCELLED, Verdict.CREDIT),
    (State.CONFIRMED, CreditWeighed.CANCEL_TOO_LATE): _declined(State.CONFIRMED, Reason.NOT_CANCELLABLE),
    (State.CONFIRMED, CreditWeighed.REFUND): CreditLedgerStep(State.CONFIRMED, Verdict.CREDIT),
    (State.CONFIRMED, CreditWeighed.REFUND_TOO_MUCH): _declined(State.CONFIRMED, Reason.REFUND_EXCEEDS_DEBIT),
    **{(State.CANCELLED, w): _declined(State.CANCELLED, Reason.NOT_CANCELLABLE) for w in _CANCELS},
    **{(State.CANCELLED, w): _declined(State.CANCELLED, Reason.REFUND_EXCEEDS_DEBIT) for w in _REFUNDS},
    # No money had moved, or it is back already.
    **{(State.DECLINED, w): _declined(State.DECLINED, Reason.NOT_CANCELLABLE, alarm=True) for w in _ASKED},
    **{(s, w): _declined(s, Reason.ALREADY_REVERSED) for s in (State.REVERSED, State.TOMBSTONE) for w in _ASKED},
    **{
        (s, CreditWeighed.ORIGINAL_DIFFERS): _declined(s, Reason.TRANSACTION_ID_REUSED, alarm=True)
        for s in State
        if s is not State.NONE
    },
}


def credit_ledger_step(original: State, weighed: CreditWeighed) -> CreditLedgerStep:
    """The move for a new credit whose original stands in `original`; every pair is listed."""
    return TABLE[original, weighed]
