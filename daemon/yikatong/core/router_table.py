"""The gateway's router table: state of a route row × event → what to write, what to send, what to reply, what is next.

Pure, and plain data. The router records `Step.next` durably (G1 to G4 of the design) before it carries out
`Step.effect` or replies. The home city's ledger is the authority; rows are there for speed, routing and audit, and may
be lost without harm, but for REV and REJECTED: a reversal from a forgotten row can undo what was approved later, and
a forgotten refusal can be followed by a posting. What is not listed raises IllegalEvent.

Where it says more than the design's table, and why:

- A debit that is refused because its order or request id belongs to another transaction is *stored* as REJECTED. An
  unstored refusal could be followed by a late repetition of the same debit that finds the order free, and posts.
- A reversal that the ledger refuses stays REV until two persons have decided; then the row says what the ledger says.
- A confirmation is recorded when the ledger has acknowledged it, so that an unanswered one is sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from yikatong.core.tables import IllegalEvent


class State(Enum):
    """Where a transaction stands in the route log. The design's DONE(r) is POSTED, CONFIRMED or DECLINED here."""

    NONE = "NONE"
    FWD = "FWD"
    POSTED = "POSTED"
    CONFIRMED = "CONFIRMED"
    DECLINED = "DECLINED"
    REJECTED = "REJECTED"
    REV = "REV"
    REVDONE = "REVDONE"


class Event(Enum):
    """What reaches the router: from the terminal, from the home city's ledger (LEDGER_…), or a start (RESTART)."""

    DEBIT_ADMITTED = "DEBIT_ADMITTED"
    DEBIT_REFUSED = "DEBIT_REFUSED"  # first sending: the gateway may refuse it by itself
    DEBIT_REFUSED_REPEAT = "DEBIT_REFUSED_REPEAT"  # not the first sending: it may have been forwarded before
    DEBIT_TOO_LATE = "DEBIT_TOO_LATE"  # its time is over, or its sequence far behind
    DEBIT_SEEN = "DEBIT_SEEN"  # its row is lost, its guards say where it went, and now it would not be sent there
    DEBIT_HELD_BY_ANOTHER = "DEBIT_HELD_BY_ANOTHER"  # its order or request id belongs to another transaction
    DEBIT_FENCED = "DEBIT_FENCED"  # a newer epoch than this has been used
    DEBIT_CLONED = "DEBIT_CLONED"  # (epoch, sequence) belongs to another transaction
    DEBIT_AGAIN = "DEBIT_AGAIN"
    DEBIT_DIFFERS = "DEBIT_DIFFERS"
    REVERSAL = "REVERSAL"
    REVERSAL_UNROUTABLE = "REVERSAL_UNROUTABLE"  # unknown id, and no ledger that it could have gone to
    REVERSAL_DIFFERS = "REVERSAL_DIFFERS"
    CONFIRM = "CONFIRM"
    CONFIRM_DIFFERS = "CONFIRM_DIFFERS"
    QUERY = "QUERY"
    RESTART = "RESTART"
    LEDGER_POSTED = "LEDGER_POSTED"
    LEDGER_CONFIRMED = "LEDGER_CONFIRMED"  # posted, and confirmed already
    LEDGER_DECLINED = "LEDGER_DECLINED"
    LEDGER_REVERSED = "LEDGER_REVERSED"  # a tombstone or a reversal was there first
    LEDGER_CONFLICT = "LEDGER_CONFLICT"
    LEDGER_UNFIT = "LEDGER_UNFIT"
    LEDGER_SILENT = "LEDGER_SILENT"  # nothing learned: no answer, UNKNOWN or NOT_FOUND
    LEDGER_UNDID = "LEDGER_UNDID"  # reversed, tombstoned, or was declined
    LEDGER_DENIED = "LEDGER_DENIED"
    LEDGER_KEEPS_SILENT = "LEDGER_KEEPS_SILENT"  # no answer to the reversal for as long as a terminal should wait
    LEDGER_CONFIRM_OK = "LEDGER_CONFIRM_OK"
    LEDGER_CONFIRM_TOO_LATE = "LEDGER_CONFIRM_TOO_LATE"
    LEDGER_CONFIRM_SILENT = "LEDGER_CONFIRM_SILENT"
    UPHELD = "UPHELD"  # two persons have looked at a refused reversal, and the ledger says: posted and confirmed


class Effect(Enum):
    """What is done once the record is durable."""

    FORWARD = "FORWARD"
    TOMBSTONE = "TOMBSTONE"  # reverse at the ledger, then answer the debit
    REVERSE = "REVERSE"
    ENQUIRE = "ENQUIRE"
    CONFIRM = "CONFIRM"


class Reply(Enum):
    """What the terminal is told; STORED and STORED_REVERSAL stand in the row."""

    STORED = "STORED"
    ALREADY_REVERSED = "ALREADY_REVERSED"
    UNDECIDED = "UNDECIDED"
    NOT_FOUND = "NOT_FOUND"
    FENCED = "FENCED"
    CONFLICT = "CONFLICT"
    STORED_REVERSAL = "STORED_REVERSAL"
    WAS_DECLINED = "WAS_DECLINED"
    ACCEPTED = "ACCEPTED"
    DENIED_CONFIRMED = "DENIED_CONFIRMED"
    DENIED_CONFLICT = "DENIED_CONFLICT"
    DENIED_BY_LEDGER = "DENIED_BY_LEDGER"
    CONFIRMED = "CONFIRMED"
    TOO_LATE = "TOO_LATE"


@dataclass(frozen=True, slots=True)
class Step:
    """One move: an effect, or a reply. The row is written exactly where `next` differs from the state."""

    next: State
    reply: Reply | None = None
    effect: Effect | None = None
    alarm: bool = False


HOLDS_ORDER: Final = frozenset({State.FWD, State.POSTED, State.CONFIRMED, State.REV})
"""In these states a transaction keeps its order from every other; in the others no money moved, finally."""

NEEDS_PAYER: Final = frozenset({State.FWD, State.POSTED, State.REV})
"""A debit that may still have to be undone: for that its whole order is kept, sealed."""

UNFINISHED: Final = frozenset({State.FWD, State.REV})
"""What a start takes up again."""

S, E = State, Event
_DONE = (S.POSTED, S.CONFIRMED, S.DECLINED)
_UNDOING = (S.REV, S.REVDONE)
_KNOWN = tuple(s for s in State if s is not S.NONE)
_OF_THE_DEBIT = (
    *(E.DEBIT_AGAIN, E.QUERY, E.LEDGER_POSTED, E.LEDGER_CONFIRMED, E.LEDGER_DECLINED),
    *(E.LEDGER_REVERSED, E.LEDGER_CONFLICT, E.LEDGER_UNFIT, E.LEDGER_SILENT),
)

TABLE: Final[dict[tuple[State, Event], Step]] = {
    # An id that is not in the log.
    (S.NONE, E.DEBIT_ADMITTED): Step(S.FWD, effect=Effect.FORWARD),
    (S.NONE, E.DEBIT_REFUSED): Step(S.REJECTED, Reply.STORED),
    (S.NONE, E.DEBIT_REFUSED_REPEAT): Step(S.REV, effect=Effect.TOMBSTONE),
    (S.NONE, E.DEBIT_TOO_LATE): Step(S.REV, effect=Effect.TOMBSTONE),
    (S.NONE, E.DEBIT_SEEN): Step(S.FWD, effect=Effect.ENQUIRE),  # only the ledger knows what became of it
    (S.NONE, E.DEBIT_HELD_BY_ANOTHER): Step(S.REJECTED, Reply.STORED),
    (S.NONE, E.DEBIT_FENCED): Step(S.NONE, Reply.FENCED, alarm=True),
    (S.NONE, E.DEBIT_CLONED): Step(S.REJECTED, Reply.STORED, alarm=True),
    (S.NONE, E.REVERSAL): Step(S.REV, effect=Effect.REVERSE),
    (S.NONE, E.REVERSAL_UNROUTABLE): Step(S.REVDONE, Reply.STORED_REVERSAL, alarm=True),
    (S.NONE, E.QUERY): Step(S.NONE, Reply.NOT_FOUND),
    (S.NONE, E.CONFIRM): Step(S.NONE, effect=Effect.CONFIRM),
    (S.NONE, E.LEDGER_CONFIRM_OK): Step(S.NONE, Reply.CONFIRMED),
    (S.NONE, E.LEDGER_CONFIRM_TOO_LATE): Step(S.NONE, Reply.TOO_LATE),
    (S.NONE, E.LEDGER_CONFIRM_SILENT): Step(S.NONE, Reply.UNDECIDED),
    # Forwarded, no answer yet.
    (S.FWD, E.DEBIT_AGAIN): Step(S.FWD, effect=Effect.FORWARD),
    (S.FWD, E.REVERSAL): Step(S.REV, effect=Effect.REVERSE),
    (S.FWD, E.CONFIRM): Step(S.FWD, effect=Effect.CONFIRM),
    (S.FWD, E.LEDGER_CONFIRM_OK): Step(S.FWD, Reply.CONFIRMED),
    (S.FWD, E.LEDGER_CONFIRM_TOO_LATE): Step(S.FWD, Reply.TOO_LATE),
    (S.FWD, E.LEDGER_CONFIRM_SILENT): Step(S.FWD, Reply.UNDECIDED),
    (S.FWD, E.QUERY): Step(S.FWD, effect=Effect.ENQUIRE),
    (S.FWD, E.RESTART): Step(S.FWD, effect=Effect.ENQUIRE),
    (S.FWD, E.LEDGER_POSTED): Step(S.POSTED, Reply.STORED),
    (S.FWD, E.LEDGER_CONFIRMED): Step(S.CONFIRMED, Reply.STORED),
    (S.FWD, E.LEDGER_DECLINED): Step(S.DECLINED, Reply.STORED),
    (S.FWD, E.LEDGER_REVERSED): Step(S.REVDONE, Reply.ALREADY_REVERSED),
    (S.FWD, E.LEDGER_CONFLICT): Step(S.FWD, Reply.CONFLICT, alarm=True),
    (S.FWD, E.LEDGER_UNFIT): Step(S.FWD, Reply.UNDECIDED, alarm=True),
    (S.FWD, E.LEDGER_SILENT): Step(S.FWD, Reply.UNDECIDED),  # never a refusal
    # The ledger has decided.
    **{(s, E.DEBIT_AGAIN): Step(s, Reply.STORED) for s in _DONE},
    **{(s, E.QUERY): Step(s, Reply.STORED) for s in _DONE},
    **{(s, E.LEDGER_SILENT): Step(s, Reply.STORED) for s in _DONE},
    (S.POSTED, E.LEDGER_POSTED): Step(S.POSTED, Reply.STORED),
    (S.POSTED, E.LEDGER_CONFIRMED): Step(S.CONFIRMED, Reply.STORED),
    (S.POSTED, E.REVERSAL): Step(S.REV, effect=Effect.REVERSE),
    (S.POSTED, E.CONFIRM): Step(S.POSTED, effect=Effect.CONFIRM),
    (S.POSTED, E.LEDGER_CONFIRM_OK): Step(S.CONFIRMED, Reply.CONFIRMED),
    (S.POSTED, E.LEDGER_CONFIRM_TOO_LATE): Step(S.POSTED, Reply.TOO_LATE, alarm=True),
    (S.POSTED, E.LEDGER_CONFIRM_SILENT): Step(S.POSTED, Reply.UNDECIDED),
    (S.CONFIRMED, E.LEDGER_POSTED): Step(S.CONFIRMED, Reply.STORED),  # an answer from before the confirmation
    (S.CONFIRMED, E.LEDGER_CONFIRMED): Step(S.CONFIRMED, Reply.STORED),
    (S.CONFIRMED, E.REVERSAL): Step(S.CONFIRMED, Reply.DENIED_CONFIRMED, alarm=True),
    (S.CONFIRMED, E.CONFIRM): Step(S.CONFIRMED, Reply.CONFIRMED),
    (S.CONFIRMED, E.LEDGER_CONFIRM_OK): Step(S.CONFIRMED, Reply.CONFIRMED),
    (S.CONFIRMED, E.LEDGER_CONFIRM_SILENT): Step(S.CONFIRMED, Reply.CONFIRMED),
    (S.DECLINED, E.LEDGER_DECLINED): Step(S.DECLINED, Reply.STORED),
    (S.DECLINED, E.REVERSAL): Step(S.REV, effect=Effect.REVERSE),
    (S.DECLINED, E.CONFIRM): Step(S.DECLINED, Reply.TOO_LATE, alarm=True),
    # Refused by the gateway itself at the first sending: nothing was ever forwarded.
    (S.REJECTED, E.DEBIT_AGAIN): Step(S.REJECTED, Reply.STORED),
    (S.REJECTED, E.QUERY): Step(S.REJECTED, Reply.STORED),
    (S.REJECTED, E.REVERSAL): Step(S.REJECTED, Reply.WAS_DECLINED),
    (S.REJECTED, E.CONFIRM): Step(S.REJECTED, Reply.TOO_LATE, alarm=True),
    # A reversal is decided: nothing is forwarded any more, and late answers to the debit change nothing. But only what
    # the ledger has undone is told as undone: until then this row alone stands for it, and it may be lost.
    **{(S.REV, e): Step(S.REV, Reply.UNDECIDED) for e in _OF_THE_DEBIT},
    **{(S.REVDONE, e): Step(S.REVDONE, Reply.ALREADY_REVERSED) for e in _OF_THE_DEBIT},
    **{(s, E.CONFIRM): Step(s, Reply.TOO_LATE) for s in _UNDOING},
    **{(s, E.LEDGER_CONFIRM_SILENT): Step(s, Reply.UNDECIDED) for s in _UNDOING},
    **{(s, E.LEDGER_CONFIRM_TOO_LATE): Step(s, Reply.TOO_LATE) for s in _UNDOING},
    (S.REV, E.LEDGER_CONFIRM_OK): Step(S.REV, Reply.CONFIRMED, alarm=True),  # the ledger took it first: it decides
    (S.REV, E.REVERSAL): Step(S.REV, effect=Effect.REVERSE),
    (S.REV, E.RESTART): Step(S.REV, effect=Effect.REVERSE),
    (S.REV, E.LEDGER_UNDID): Step(S.REVDONE, Reply.STORED_REVERSAL),
    (S.REV, E.LEDGER_DENIED): Step(S.REV, Reply.DENIED_BY_LEDGER, alarm=True),
    (S.REV, E.LEDGER_KEEPS_SILENT): Step(S.REV, Reply.ACCEPTED),
    (S.REV, E.UPHELD): Step(S.CONFIRMED, Reply.STORED),  # the only way back: the ledger has refused to undo it
    # Upheld while a reversal was still on its way: the ledger goes on refusing it.
    (S.CONFIRMED, E.LEDGER_DENIED): Step(S.CONFIRMED, Reply.DENIED_CONFIRMED),
    (S.CONFIRMED, E.LEDGER_KEEPS_SILENT): Step(S.CONFIRMED, Reply.DENIED_CONFIRMED),
    (S.REVDONE, E.REVERSAL): Step(S.REVDONE, Reply.STORED_REVERSAL),
    (S.REVDONE, E.LEDGER_UNDID): Step(S.REVDONE, Reply.STORED_REVERSAL),
    (S.REVDONE, E.LEDGER_KEEPS_SILENT): Step(S.REVDONE, Reply.STORED_REVERSAL),
    # Same id, other content: nothing is executed, whatever the row says.
    **{(s, E.DEBIT_DIFFERS): Step(s, Reply.CONFLICT, alarm=True) for s in _KNOWN},
    **{(s, E.REVERSAL_DIFFERS): Step(s, Reply.DENIED_CONFLICT, alarm=True) for s in _KNOWN},
    **{(s, E.CONFIRM_DIFFERS): Step(s, Reply.UNDECIDED, alarm=True) for s in _KNOWN},
}


def step(state: State, event: Event) -> Step:
    """The move for `event` in `state`. Raises IllegalEvent where the table lists none."""
    move = TABLE.get((state, event))
    if move is None:
        raise IllegalEvent(f"router: {event.value} in {state.value}")
    return move
