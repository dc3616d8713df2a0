"""The terminal's transaction table: state × event → what to write, what to do, what comes next.

Pure. The runner (yikatong.terminal.runner) records `Step.next` durably before it carries out the effects, in that
order, whenever `Step.record` says so. What is not listed here is a fault of ours and raises IllegalEvent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, assert_never

from yikatong.core.orders import (
    Accepted,
    AlreadyReversed,
    ConfirmAnswer,
    Confirmed,
    ConfirmedTooLate,
    Conflict,
    DebitAnswer,
    Declined,
    Denied,
    Fenced,
    NotFound,
    Posted,
    ReversalAnswer,
    ReversalCause,
    Reversed,
    Tombstoned,
    Undecided,
    Unfit,
    WasDeclined,
)
from yikatong.core.reasons import Moved, Reason, Retry
from yikatong.core.tables import IllegalEvent


class State(Enum):
    """Where a transaction stands in the journal. PREPARED and ABORTED never hold money and may live in memory."""

    PREPARED = "PREPARED"
    SENT = "SENT"
    HELD = "HELD"
    APPROVED = "APPROVED"
    DECLINED = "DECLINED"
    REVERSING = "REVERSING"
    ACCEPTED = "ACCEPTED"
    REVERSED = "REVERSED"
    ABORTED = "ABORTED"
    MANUAL = "MANUAL"


FINAL: Final = frozenset({State.APPROVED, State.DECLINED, State.REVERSED, State.ABORTED})
UNRESOLVED: Final = frozenset({State.SENT, State.HELD, State.REVERSING, State.ACCEPTED, State.MANUAL})


class Effect(Enum):
    """What the runner does after the record is durable."""

    SEND_DEBIT = "SEND_DEBIT"
    SEND_REVERSAL = "SEND_REVERSAL"
    SEND_CONFIRM = "SEND_CONFIRM"
    ENQUIRE = "ENQUIRE"
    ASK_LATER = "ASK_LATER"
    WAIT_FOR_CONFIRMATION = "WAIT_FOR_CONFIRMATION"
    TELL = "TELL"
    NOTE_LATE_ANSWER = "NOTE_LATE_ANSWER"
    ALARM = "ALARM"
    LEAVE_SERVICE = "LEAVE_SERVICE"


# --- events -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Go:
    """Card and PIN are done: debit."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Card removed, PIN cancelled, caller gone, or a crash, all before anything was sent."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """The journal could not record that the debit leaves: it does not leave."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to the debit or to an enquiry about it. `hold`: the HIS wants to confirm."""

    answer: DebitAnswer
    hold: bool = False


@dataclass(frozen=True, slots=True)
class LinkFailed:
    """A call failed; nothing was learned."""


@dataclass(frozen=True, slots=True)
class TimeUp:
    """No outcome within the time of a debit (30 s)."""


@dataclass(frozen=True, slots=True)
class CallerLeft:
    """The caller cancelled, went away, or its deadline is near."""


@dataclass(frozen=True, slots=True)
class CardLeft:
    """The card was taken out after the debit had been sent."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The terminal started and found this row. `young`: sent less than 30 s ago under the same boot."""

    young: bool = False


@dataclass(frozen=True, slots=True)
class HisConfirmed:
    """The HIS says that it has booked the debit."""


@dataclass(frozen=True, slots=True)
class HisCancelled:
    """The HIS takes the debit back. One that is approved and confirmed needs a credit of its own for that."""


@dataclass(frozen=True, slots=True)
class ConfirmTimeUp:
    """The HIS did not confirm in time; a reboot counts as that."""


@dataclass(frozen=True, slots=True)
class ReversalAnswered:
    answer: ReversalAnswer


@dataclass(frozen=True, slots=True)
class ReversalUnanswered:
    """No answer to a reversal, or none that decides."""


@dataclass(frozen=True, slots=True)
class ReversalForgotten:
    """The gateway that had promised the reversal no longer knows it (a new ledger incarnation)."""


@dataclass(frozen=True, slots=True)
class ConfirmAnswered:
    answer: ConfirmAnswer


@dataclass(frozen=True, slots=True)
class OperatorDecided:
    """Two persons have decided a MANUAL row, and the gateway says so; `final` is APPROVED or REVERSED.

    `posted`: what the ledger has of a debit that stands. `reference`: the ledger's proof of one that is undone.
    """

    final: State
    posted: Posted | None = None
    reference: str = ""


Event = (
    Go
    | GaveUp
    | CommitFailed
    | Answered
    | LinkFailed
    | TimeUp
    | CallerLeft
    | CardLeft
    | Restarted
    | HisConfirmed
    | HisCancelled
    | ConfirmTimeUp
    | ReversalAnswered
    | ReversalUnanswered
    | ReversalForgotten
    | ConfirmAnswered
    | OperatorDecided
)


# --- steps ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """What to do: record `next` durably if `record`, then the effects in their order.

    `reason` and `cause` go into the record; `confirm` says that the record carries the confirmation flag (P5).
    """

    next: State
    record: bool = False
    effects: tuple[Effect, ...] = ()
    reason: Reason | None = None
    cause: ReversalCause | None = None
    confirm: bool = False


def _stay(state: State, *effects: Effect) -> Step:
    return Step(state, effects=effects)


def _reverse(cause: ReversalCause, *more: Effect) -> Step:
    """P3: durable before the reversal leaves and before anybody is told anything but PENDING."""
    return Step(
        State.REVERSING,
        record=True,
        effects=(*more, Effect.SEND_REVERSAL, Effect.TELL),
        reason=cause.value,
        cause=cause,
    )


def _approved() -> Step:
    """P2 and P5 in one commit: nobody has to confirm first."""
    return Step(State.APPROVED, record=True, effects=(Effect.TELL, Effect.SEND_CONFIRM), confirm=True)


def _declined(reason: Reason) -> Step:
    return Step(State.DECLINED, record=True, effects=(Effect.TELL,), reason=reason)


def _manual() -> Step:
    effects = (Effect.ALARM, Effect.TELL, Effect.ASK_LATER)  # asked as a promised reversal is: people may have decided
    return Step(State.MANUAL, record=True, effects=effects, reason=Reason.NEEDS_OPERATOR)


def _answered_while_sent(event: Answered) -> Step:
    match event.answer:
        case Posted() if event.hold:
            return Step(State.HELD, record=True, effects=(Effect.TELL, Effect.WAIT_FOR_CONFIRMATION))
        case Posted():
            return _approved()
        case Declined(reason=reason):
            return _declined(reason)
        case AlreadyReversed():
            return _declined(Reason.ALREADY_REVERSED)
        case Undecided():
            return _stay(State.SENT, Effect.ENQUIRE)
        case NotFound():  # never an outcome: the original may be on its way
            return _stay(State.SENT)
        case Fenced():  # no reversal by this instance: it is no longer the terminal
            return _stay(State.SENT, Effect.ALARM, Effect.LEAVE_SERVICE)
        case Conflict() | Unfit():
            return _reverse(ReversalCause.BAD_ANSWER, Effect.ALARM)
        case never:
            assert_never(never)


def _reversal_answered(event: ReversalAnswered) -> Step:
    match event.answer:
        case Reversed() | Tombstoned() | WasDeclined():  # P4
            return Step(State.REVERSED, record=True, effects=(Effect.TELL,))
        case Accepted():
            return Step(State.ACCEPTED, record=True, effects=(Effect.TELL, Effect.ASK_LATER))
        case Denied():
            return _manual()
        case Undecided():
            return _stay(State.REVERSING, Effect.SEND_REVERSAL)
        case never:
            assert_never(never)


def _reversal_answered_once_accepted(event: ReversalAnswered) -> Step:
    match event.answer:
        case Reversed() | Tombstoned() | WasDeclined():
            return Step(State.REVERSED, record=True, effects=(Effect.TELL,))
        case Denied():
            return _manual()
        case Accepted() | Undecided():
            return _stay(State.ACCEPTED, Effect.ASK_LATER)
        case never:
            assert_never(never)


def _late_answer_when_final(state: State) -> Callable[[Answered], Step]:
    def step(event: Answered) -> Step:
        if isinstance(event.answer, Posted):  # reversing again is cheap and changes nothing that is undone
            return _stay(state, Effect.NOTE_LATE_ANSWER, Effect.ALARM, Effect.SEND_REVERSAL)
        return _stay(state, Effect.NOTE_LATE_ANSWER)

    return step


def _confirm_answered(event: ConfirmAnswered) -> Step:
    match event.answer:
        case Confirmed():
            return Step(State.APPROVED, record=True)  # the acknowledgement; may be batched
        case ConfirmedTooLate():  # P3 never follows P5 here: somebody else undid an approved debit
            return _stay(State.APPROVED, Effect.ALARM)
        case Undecided():
            return _stay(State.APPROVED, Effect.SEND_CONFIRM)
        case never:
            assert_never(never)


def _operator_decided(event: OperatorDecided) -> Step:
    """The record is the resolution's row in the journal. A debit that stands is confirmed as any other."""
    match event.final:
        case State.APPROVED:
            reason, effects = Reason.UPHELD_BY_OPERATORS, (Effect.TELL, Effect.SEND_CONFIRM)
            return Step(State.APPROVED, record=True, effects=effects, reason=reason, confirm=True)
        case State.REVERSED:
            return Step(State.REVERSED, record=True, effects=(Effect.TELL,), reason=Reason.REVERSED_BY_OPERATORS)
        case _:
            raise IllegalEvent(f"an operator can't decide {event.final.name}")


def _always(step: Step) -> Callable[[Any], Step]:
    return lambda event: step


_TABLE: Final[dict[tuple[State, type[Any]], Callable[[Any], Step]]] = {
    (State.PREPARED, Go): _always(Step(State.SENT, record=True, effects=(Effect.SEND_DEBIT,))),  # P1
    (State.PREPARED, GaveUp): lambda event: Step(State.ABORTED, effects=(Effect.TELL,), reason=event.reason),
    (State.PREPARED, CallerLeft): _always(
        Step(State.ABORTED, effects=(Effect.TELL,), reason=Reason.CANCELLED_BY_CALLER)
    ),
    (State.PREPARED, HisCancelled): _always(
        Step(State.ABORTED, effects=(Effect.TELL,), reason=Reason.CANCELLED_BY_CALLER)
    ),
    (State.PREPARED, CommitFailed): _always(
        Step(State.ABORTED, effects=(Effect.TELL, Effect.LEAVE_SERVICE), reason=Reason.JOURNAL_UNAVAILABLE)
    ),
    (State.SENT, Answered): _answered_while_sent,
    (State.SENT, LinkFailed): _always(_stay(State.SENT, Effect.SEND_DEBIT)),
    (State.SENT, TimeUp): _always(_reverse(ReversalCause.TIMEOUT)),
    (State.SENT, CallerLeft): _always(_reverse(ReversalCause.CANCELLED)),
    (State.SENT, HisCancelled): _always(_reverse(ReversalCause.CANCELLED)),
    (State.SENT, CardLeft): _always(_stay(State.SENT)),
    (State.SENT, Restarted): lambda event: (
        _stay(State.SENT, Effect.ENQUIRE) if event.young else _reverse(ReversalCause.RECOVERY)
    ),
    (State.HELD, HisConfirmed): _always(_approved()),
    (State.HELD, HisCancelled): _always(_reverse(ReversalCause.CANCELLED)),
    (State.HELD, ConfirmTimeUp): _always(_reverse(ReversalCause.UNCONFIRMED)),
    (State.HELD, CallerLeft): _always(_stay(State.HELD)),
    (State.HELD, Answered): _always(_stay(State.HELD)),
    (State.HELD, Restarted): _always(_stay(State.HELD, Effect.WAIT_FOR_CONFIRMATION)),
    (State.APPROVED, Answered): _always(_stay(State.APPROVED)),
    (State.APPROVED, HisConfirmed): _always(_stay(State.APPROVED, Effect.TELL)),
    (State.APPROVED, CallerLeft): _always(_stay(State.APPROVED)),
    (State.APPROVED, ConfirmTimeUp): _always(_stay(State.APPROVED)),
    (State.APPROVED, ConfirmAnswered): _confirm_answered,
    (State.APPROVED, LinkFailed): _always(_stay(State.APPROVED, Effect.SEND_CONFIRM)),
    (State.APPROVED, Restarted): _always(_stay(State.APPROVED, Effect.SEND_CONFIRM)),
    (State.DECLINED, Answered): _late_answer_when_final(State.DECLINED),
    (State.DECLINED, HisConfirmed): _always(_stay(State.DECLINED, Effect.TELL)),
    (State.DECLINED, ReversalAnswered): _always(_stay(State.DECLINED)),  # of a late approval that was reversed again
    (State.DECLINED, CallerLeft): _always(_stay(State.DECLINED)),
    (State.DECLINED, Restarted): _always(_stay(State.DECLINED)),
    (State.REVERSING, Answered): _always(_stay(State.REVERSING, Effect.NOTE_LATE_ANSWER)),  # a one-way door
    (State.REVERSING, HisConfirmed): _always(_stay(State.REVERSING, Effect.TELL)),  # CONFIRM_TOO_LATE
    (State.REVERSING, ConfirmTimeUp): _always(_stay(State.REVERSING)),
    (State.REVERSING, CallerLeft): _always(_stay(State.REVERSING)),
    (State.REVERSING, TimeUp): _always(_stay(State.REVERSING)),
    (State.REVERSING, LinkFailed): _always(_stay(State.REVERSING)),
    (State.REVERSING, ReversalAnswered): _reversal_answered,
    (State.REVERSING, ReversalUnanswered): _always(_stay(State.REVERSING, Effect.SEND_REVERSAL)),
    (State.REVERSING, Restarted): _always(_stay(State.REVERSING, Effect.SEND_REVERSAL)),
    (State.ACCEPTED, Answered): _always(_stay(State.ACCEPTED, Effect.NOTE_LATE_ANSWER)),
    (State.ACCEPTED, HisConfirmed): _always(_stay(State.ACCEPTED, Effect.TELL)),
    (State.ACCEPTED, CallerLeft): _always(_stay(State.ACCEPTED)),
    (State.ACCEPTED, ReversalAnswered): _reversal_answered_once_accepted,
    (State.ACCEPTED, ReversalUnanswered): _always(_stay(State.ACCEPTED, Effect.ASK_LATER)),
    (State.ACCEPTED, ReversalForgotten): _always(
        Step(State.REVERSING, record=True, effects=(Effect.SEND_REVERSAL,), cause=ReversalCause.RECOVERY)
    ),
    (State.ACCEPTED, Restarted): _always(_stay(State.ACCEPTED, Effect.ASK_LATER)),
    (State.REVERSED, Answered): _late_answer_when_final(State.REVERSED),
    (State.REVERSED, HisConfirmed): _always(_stay(State.REVERSED, Effect.TELL)),  # CONFIRM_TOO_LATE
    (State.REVERSED, CallerLeft): _always(_stay(State.REVERSED)),
    (State.REVERSED, ReversalAnswered): _always(_stay(State.REVERSED)),
    (State.REVERSED, Restarted): _always(_stay(State.REVERSED)),
    (State.ABORTED, Go): _always(_stay(State.ABORTED)),  # the caller left while card and PIN were being finished
    (State.ABORTED, GaveUp): _always(_stay(State.ABORTED)),
    (State.ABORTED, Answered): _late_answer_when_final(State.ABORTED),
    (State.ABORTED, ReversalAnswered): _always(_stay(State.ABORTED)),
    (State.ABORTED, CallerLeft): _always(_stay(State.ABORTED)),
    (State.ABORTED, Restarted): _always(_stay(State.ABORTED)),
    (State.MANUAL, Answered): _always(_stay(State.MANUAL, Effect.NOTE_LATE_ANSWER)),
    (State.MANUAL, HisConfirmed): _always(_stay(State.MANUAL, Effect.TELL)),
    (State.MANUAL, CallerLeft): _always(_stay(State.MANUAL)),
    (State.MANUAL, ReversalAnswered): _always(_stay(State.MANUAL, Effect.ASK_LATER)),
    (State.MANUAL, Restarted): _always(_stay(State.MANUAL, Effect.ASK_LATER)),
    (State.MANUAL, OperatorDecided): _operator_decided,
    # Too late to take it back without a credit, or nothing to take back: whoever asks is told how it stands.
    **{
        (state, HisCancelled): _always(_stay(state))
        for state in State
        if state not in {State.PREPARED, State.SENT, State.HELD}
    },
}


def step(state: State, event: Event) -> Step:
    """The one move that `event` makes from `state`. Raises IllegalEvent where there is none."""
    move = _TABLE.get((state, type(event)))
    if move is None:
        raise IllegalEvent(f"{type(event).__name__} in {state.name}")
    return move(event)


# --- what a caller is told --------------------------------------------------------------------------------------


class Told(Enum):
    """The five words that a caller may hear."""

    APPROVED = "APPROVED"
    DECLINED = "DECLINED"
    REFUSED = "REFUSED"
    REVERSED = "REVERSED"
    PENDING = "PENDING"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a caller hears of a state: the word, whether money moved, how to go on, and what PENDING becomes."""

    told: Told
    moved: Moved
    retry: Retry
    resolves_to: Told | None = None


_VERDICTS: Final = {
    State.PREPARED: Verdict(Told.PENDING, Moved.PENDING, Retry.SAME_REQUEST),
    State.SENT: Verdict(Told.PENDING, Moved.PENDING, Retry.NEVER),
    State.HELD: Verdict(Told.APPROVED, Moved.MOVED, Retry.NEVER),
    State.APPROVED: Verdict(Told.APPROVED, Moved.MOVED, Retry.NEVER),
    State.DECLINED: Verdict(Told.DECLINED, Moved.NOT_MOVED, Retry.NEW_REQUEST),
    State.REVERSING: Verdict(Told.PENDING, Moved.PENDING, Retry.NEVER, Told.REVERSED),
    State.ACCEPTED: Verdict(Told.PENDING, Moved.PENDING, Retry.NEVER, Told.REVERSED),
    State.REVERSED: Verdict(Told.REVERSED, Moved.NOT_MOVED, Retry.NEW_REQUEST),
    State.ABORTED: Verdict(Told.REFUSED, Moved.NOT_MOVED, Retry.NEW_REQUEST),
    State.MANUAL: Verdict(Told.PENDING, Moved.PENDING, Retry.NEVER),
}


def verdict(state: State) -> Verdict:
    return _VERDICTS[state]
