"""The terminal's credit table: state of a credit × event → what to write, what to do, what comes next.

Pure. The credit is recorded as SENT before its first byte leaves. From there it is only ever pushed forward: no
answer, no restart and no caller that leaves turns it back. What is not listed raises IllegalEvent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from yikatong.core.credit_orders import CreditAccepted, CreditAnswer, CreditDeclined, Credited
from yikatong.core.orders import Undecided
from yikatong.core.reasons import Moved, Reason, Retry
from yikatong.core.tables import IllegalEvent
from yikatong.core.terminal_table import Told, Verdict


class CreditState(Enum):
    """Where a credit stands in the journal. ACCEPTED: the gateway has it durably, its city has not decided."""

    SENT = "SENT"
    ACCEPTED = "ACCEPTED"
    APPROVED = "APPROVED"
    DECLINED = "DECLINED"


DECIDED: Final = frozenset({CreditState.APPROVED, CreditState.DECLINED})


class CreditEffect(Enum):
    """What is done after the record is durable. PUSH_LATER: at the next nudge, or after a while."""

    PUSH = "PUSH"
    PUSH_LATER = "PUSH_LATER"
    ALARM = "ALARM"


@dataclass(frozen=True, slots=True)
class CreditAnswered:
    answer: CreditAnswer


@dataclass(frozen=True, slots=True)
class CreditRestarted:
    """The terminal started and found this row."""


CreditEvent = CreditAnswered | CreditRestarted


@dataclass(frozen=True, slots=True)
class CreditStep:
    """What to do; `next` differs from the state exactly where it is recorded."""

    next: CreditState
    effects: tuple[CreditEffect, ...] = ()
    reason: Reason | None = None


def _answered_while_open(state: CreditState) -> Callable[[CreditAnswered], CreditStep]:
    def step(event: CreditAnswered) -> CreditStep:
        match event.answer:
            case Credited():
                return CreditStep(CreditState.APPROVED)
            case CreditDeclined(reason=reason):
                return CreditStep(CreditState.DECLINED, reason=reason)
            case CreditAccepted():
                return CreditStep(CreditState.ACCEPTED, (CreditEffect.PUSH_LATER,))
            case Undecided():
                return CreditStep(state, (CreditEffect.PUSH_LATER,))
        # Conflict or Unfit, nothing that could be believed: a person looks, the pushing goes on.
        return CreditStep(state, (CreditEffect.ALARM, CreditEffect.PUSH_LATER))

    return step


def _answered_when_decided(state: CreditState) -> Callable[[CreditAnswered], CreditStep]:
    """A repeated answer changes nothing; one that contradicts what is recorded is somebody's to look at."""

    def step(event: CreditAnswered) -> CreditStep:
        contradicts = isinstance(event.answer, Credited if state is CreditState.DECLINED else CreditDeclined)
        return CreditStep(state, (CreditEffect.ALARM,) if contradicts else ())

    return step


_TABLE: Final[dict[tuple[CreditState, type[Any]], Callable[[Any], CreditStep]]] = {
    (CreditState.SENT, CreditAnswered): _answered_while_open(CreditState.SENT),
    (CreditState.SENT, CreditRestarted): lambda _: CreditStep(CreditState.SENT, (CreditEffect.PUSH,)),
    (CreditState.ACCEPTED, CreditAnswered): _answered_while_open(CreditState.ACCEPTED),
    (CreditState.ACCEPTED, CreditRestarted): lambda _: CreditStep(CreditState.ACCEPTED, (CreditEffect.PUSH,)),
    (CreditState.APPROVED, CreditAnswered): _answered_when_decided(CreditState.APPROVED),
    (CreditState.DECLINED, CreditAnswered): _answered_when_decided(CreditState.DECLINED),
}


def credit_step(state: CreditState, event: CreditEvent) -> CreditStep:
    """The one move that `event` makes from `state`. Raises IllegalEvent where there is none."""
    move = _TABLE.get((state, type(event)))
    if move is None:
        raise IllegalEvent(f"{type(event).__name__} in credit {state.name}")
    return move(event)


_VERDICTS: Final = {
    # Open until the ledger has decided: nothing that is told before may say how it ends.
    CreditState.SENT: Verdict(Told.PENDING, Moved.PENDING, Retry.NEVER),
    CreditState.ACCEPTED: Verdict(Told.PENDING, Moved.PENDING, Retry.NEVER),
    CreditState.APPROVED: Verdict(Told.APPROVED, Moved.MOVED, Retry.NEVER),
    CreditState.DECLINED: Verdict(Told.DECLINED, Moved.NOT_MOVED, Retry.NEW_REQUEST),
}


def credit_verdict(state: CreditState) -> Verdict:
    return _VERDICTS[state]
