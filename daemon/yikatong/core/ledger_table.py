"""The home city's ledger table: state of a transaction × event → entries, reply, next state.

Pure, and plain data. One step is one SQL transaction of the ledger (L1 of the design), and the transaction id is its
unique key. The ledger is the only authority on money: what it says once, it says for ever. How a credit moves the row
of its original stands in `credit_ledger_table`; to the debit itself nothing more can happen then.

What is not listed raises IllegalEvent. Confirming an id that the ledger never saw is listed: a far end may ask it,
and nothing can be said but that nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from yikatong.core.tables import IllegalEvent


class State(Enum):
    """Where a transaction stands in the ledger. NONE: there is no row."""

    NONE = "NONE"
    POSTED = "POSTED"
    CONFIRMED = "CONFIRMED"
    DECLINED = "DECLINED"
    REVERSED = "REVERSED"
    TOMBSTONE = "TOMBSTONE"
    CANCELLED = "CANCELLED"  # confirmed, and taken back by a credit of its own


class Event(Enum):
    """What reaches the ledger. A new debit has been weighed (granted or refused); a known one has been compared."""

    DEBIT_GRANTED = "DEBIT_GRANTED"
    DEBIT_REFUSED = "DEBIT_REFUSED"
    DEBIT_AGAIN = "DEBIT_AGAIN"
    DEBIT_DIFFERS = "DEBIT_DIFFERS"
    REVERSAL = "REVERSAL"
    REVERSAL_DIFFERS = "REVERSAL_DIFFERS"
    CONFIRM = "CONFIRM"
    CONFIRM_DIFFERS = "CONFIRM_DIFFERS"
    QUERY = "QUERY"


class Entries(Enum):
    """What is written beside the row: nothing, the debit's entries, or their contra entries on the open date."""

    NOTHING = "NOTHING"
    DEBIT = "DEBIT"
    CONTRA = "CONTRA"


class Reply(Enum):
    """What is answered; the row supplies references, amounts and reasons."""

    POSTED = "POSTED"
    DECLINED = "DECLINED"
    ALREADY_REVERSED = "ALREADY_REVERSED"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    REVERSED = "REVERSED"
    TOMBSTONED = "TOMBSTONED"
    WAS_DECLINED = "WAS_DECLINED"
    DENIED_CONFIRMED = "DENIED_CONFIRMED"
    DENIED_CONFLICT = "DENIED_CONFLICT"
    CONFIRMED = "CONFIRMED"
    TOO_LATE = "TOO_LATE"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Step:
    """One move. `next` differs from the state exactly where the row is written; `alarm`: a person should look."""

    next: State
    reply: Reply
    entries: Entries = Entries.NOTHING
    alarm: bool = False


TABLE: Final[dict[tuple[State, Event], Step]] = {
    (State.NONE, Event.DEBIT_GRANTED): Step(State.POSTED, Reply.POSTED, Entries.DEBIT),
    # A refusal is stored: the same id is never weighed again, or a late repetition could post what was declined.
    (State.NONE, Event.DEBIT_REFUSED): Step(State.DECLINED, Reply.DECLINED),
    (State.NONE, Event.REVERSAL): Step(State.TOMBSTONE, Reply.TOMBSTONED),
    (State.NONE, Event.CONFIRM): Step(State.NONE, Reply.UNKNOWN, alarm=True),
    (State.NONE, Event.QUERY): Step(State.NONE, Reply.NOT_FOUND),
    (State.POSTED, Event.DEBIT_AGAIN): Step(State.POSTED, Reply.POSTED),
    (State.POSTED, Event.REVERSAL): Step(State.REVERSED, Reply.REVERSED, Entries.CONTRA),
    (State.POSTED, Event.CONFIRM): Step(State.CONFIRMED, Reply.CONFIRMED),
    (State.POSTED, Event.QUERY): Step(State.POSTED, Reply.POSTED),
    (State.CONFIRMED, Event.DEBIT_AGAIN): Step(State.CONFIRMED, Reply.POSTED),
    (State.CONFIRMED, Event.REVERSAL): Step(State.CONFIRMED, Reply.DENIED_CONFIRMED, alarm=True),
    (State.CONFIRMED, Event.CONFIRM): Step(State.CONFIRMED, Reply.CONFIRMED),
    (State.CONFIRMED, Event.QUERY): Step(State.CONFIRMED, Reply.POSTED),
    (State.CANCELLED, Event.DEBIT_AGAIN): Step(State.CANCELLED, Reply.POSTED),
    (State.CANCELLED, Event.REVERSAL): Step(State.CANCELLED, Reply.DENIED_CONFIRMED, alarm=True),
    (State.CANCELLED, Event.CONFIRM): Step(State.CANCELLED, Reply.CONFIRMED),
    (State.CANCELLED, Event.QUERY): Step(State.CANCELLED, Reply.POSTED),
    (State.DECLINED, Event.DEBIT_AGAIN): Step(State.DECLINED, Reply.DECLINED),
    (State.DECLINED, Event.REVERSAL): Step(State.DECLINED, Reply.WAS_DECLINED),
    (State.DECLINED, Event.CONFIRM): Step(State.DECLINED, Reply.TOO_LATE, alarm=True),
    (State.DECLINED, Event.QUERY): Step(State.DECLINED, Reply.DECLINED),
    (State.REVERSED, Event.DEBIT_AGAIN): Step(State.REVERSED, Reply.ALREADY_REVERSED),
    (State.REVERSED, Event.REVERSAL): Step(State.REVERSED, Reply.REVERSED),
    (State.REVERSED, Event.CONFIRM): Step(State.REVERSED, Reply.TOO_LATE),
    (State.REVERSED, Event.QUERY): Step(State.REVERSED, Reply.ALREADY_REVERSED),
    (State.TOMBSTONE, Event.DEBIT_AGAIN): Step(State.TOMBSTONE, Reply.ALREADY_REVERSED),
    (State.TOMBSTONE, Event.REVERSAL): Step(State.TOMBSTONE, Reply.TOMBSTONED),
    (State.TOMBSTONE, Event.CONFIRM): Step(State.TOMBSTONE, Reply.TOO_LATE),
    (State.TOMBSTONE, Event.QUERY): Step(State.TOMBSTONE, Reply.ALREADY_REVERSED),
    # Same id, other content: nothing is executed, whatever the row says.
    **{(s, Event.DEBIT_DIFFERS): Step(s, Reply.CONFLICT, alarm=True) for s in State if s is not State.NONE},
    **{(s, Event.REVERSAL_DIFFERS): Step(s, Reply.DENIED_CONFLICT, alarm=True) for s in State if s is not State.NONE},
    **{(s, Event.CONFIRM_DIFFERS): Step(s, Reply.UNKNOWN, alarm=True) for s in State if s is not State.NONE},
}


def step(state: State, event: Event) -> Step:
    """The move for `event` in `state`. Raises IllegalEvent where the table lists none."""
    move = TABLE.get((state, event))
    if move is None:
        raise IllegalEvent(f"ledger: {event.value} in {state.value}")
    return move
