"""The gateway's credit table: state of a credit's row × event → what to write, to send, to reply, what is next.

Pure, and plain data. The row is durable before the credit goes on (G1) and before its answer is told (G2). A row that
is FWD stays so until its home city has decided, however long that takes and however often the gateway starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from yikatong.core.tables import IllegalEvent


class CreditRouteState(Enum):
    """Where a credit stands at the gateway. NONE: it has no row."""

    NONE = "NONE"
    FWD = "FWD"
    CREDITED = "CREDITED"
    DECLINED = "DECLINED"


class CreditRouteEvent(Enum):
    """What reaches the gateway: from the terminal, from the home city's ledger (LEDGER_…), or a start (RESTART)."""

    NEW = "NEW"
    HELD_BY_ANOTHER = "HELD_BY_ANOTHER"  # first sending, and its request id belongs to another transaction
    UNROUTABLE = "UNROUTABLE"  # no ledger could ever have posted the original
    AGAIN = "AGAIN"
    DIFFERS = "DIFFERS"
    RESTART = "RESTART"
    LEDGER_CREDITED = "LEDGER_CREDITED"
    LEDGER_DECLINED = "LEDGER_DECLINED"
    LEDGER_CONFLICT = "LEDGER_CONFLICT"
    LEDGER_UNFIT = "LEDGER_UNFIT"
    LEDGER_SILENT = "LEDGER_SILENT"  # closed, away, or waiting for the original's confirmation


class CreditRouteReply(Enum):
    """What the terminal is told; STORED stands in the row."""

    STORED = "STORED"
    ACCEPTED = "ACCEPTED"
    CONFLICT = "CONFLICT"


@dataclass(frozen=True, slots=True)
class CreditRouteStep:
    """One move. The row is written exactly where `next` differs from the state; `push`: on to the home city."""

    next: CreditRouteState
    reply: CreditRouteReply | None = None
    push: bool = False
    alarm: bool = False


S, E, R = CreditRouteState, CreditRouteEvent, CreditRouteReply
_DECIDED = (S.CREDITED, S.DECLINED)
_NONSENSE = (E.LEDGER_CONFLICT, E.LEDGER_UNFIT)

TABLE: Final[dict[tuple[CreditRouteState, CreditRouteEvent], CreditRouteStep]] = {
    (S.NONE, E.NEW): CreditRouteStep(S.FWD, push=True),
    (S.NONE, E.HELD_BY_ANOTHER): CreditRouteStep(S.DECLINED, R.STORED),
    (S.NONE, E.UNROUTABLE): CreditRouteStep(S.DECLINED, R.STORED, alarm=True),
    (S.FWD, E.AGAIN): CreditRouteStep(S.FWD, push=True),
    (S.FWD, E.RESTART): CreditRouteStep(S.FWD, push=True),
    (S.FWD, E.LEDGER_CREDITED): CreditRouteStep(S.CREDITED, R.STORED),
    (S.FWD, E.LEDGER_DECLINED): CreditRouteStep(S.DECLINED, R.STORED),
    (S.FWD, E.LEDGER_CONFLICT): CreditRouteStep(S.FWD, R.CONFLICT, alarm=True),
    (S.FWD, E.LEDGER_UNFIT): CreditRouteStep(S.FWD, R.ACCEPTED, alarm=True),
    (S.FWD, E.LEDGER_SILENT): CreditRouteStep(S.FWD, R.ACCEPTED),
    # Decided once, told for ever. A wait that ends after the answer has come hears the answer.
    **{(s, E.AGAIN): CreditRouteStep(s, R.STORED) for s in _DECIDED},
    **{(s, E.LEDGER_SILENT): CreditRouteStep(s, R.STORED) for s in _DECIDED},
    # The city said so before: the row was written, and the process that pushed did not live to see it, or was late.
    (S.CREDITED, E.LEDGER_CREDITED): CreditRouteStep(S.CREDITED, R.STORED),
    (S.DECLINED, E.LEDGER_DECLINED): CreditRouteStep(S.DECLINED, R.STORED),
    # It says something else now. Told is told; a person looks.
    **{(S.CREDITED, e): CreditRouteStep(S.CREDITED, R.STORED, alarm=True) for e in (E.LEDGER_DECLINED, *_NONSENSE)},
    **{(S.DECLINED, e): CreditRouteStep(S.DECLINED, R.STORED, alarm=True) for e in (E.LEDGER_CREDITED, *_NONSENSE)},
    # Same id, other content: nothing is executed, whatever the row says.
    **{(s, E.DIFFERS): CreditRouteStep(s, R.CONFLICT, alarm=True) for s in (S.FWD, *_DECIDED)},
}


def credit_route_step(state: CreditRouteState, event: CreditRouteEvent) -> CreditRouteStep:
    """The move for `event` in `state`. Raises IllegalEvent where the table lists none."""
    move = TABLE.get((state, event))
    if move is None:
        raise IllegalEvent(f"credit router: {event.value} in {state.value}")
    return move
