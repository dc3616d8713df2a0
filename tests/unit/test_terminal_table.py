"""Every state meets every event: each pair is a listed move, or it is refused."""

from __future__ import annotations

from itertools import product

import pytest

from yikatong.core import orders
from yikatong.core.orders import ReversalCause
from yikatong.core.reasons import Moved, Reason, Retry
from yikatong.core.tables import IllegalEvent
from yikatong.core.terminal_table import (
    FINAL,
    UNRESOLVED,
    Answered,
    CallerLeft,
    CardLeft,
    CommitFailed,
    ConfirmAnswered,
    ConfirmTimeUp,
    Effect,
    Event,
    GaveUp,
    Go,
    HisCancelled,
    HisConfirmed,
    LinkFailed,
    OperatorDecided,
    Restarted,
    ReversalAnswered,
    ReversalForgotten,
    ReversalUnanswered,
    State,
    TimeUp,
    Told,
    step,
    verdict,
)
from yikatong.core.values import Fen, Region

POSTED = orders.Posted("R1", Fen(1), bytes(32), Fen(2), orders.City(Region("990001"), "甲", "A"), "2026-01-01")
ANSWERS = {
    "posted": Answered(POSTED),
    "posted, to be held": Answered(POSTED, hold=True),
    "declined": Answered(orders.Declined(Reason.INSUFFICIENT_BALANCE)),
    "already reversed": Answered(orders.AlreadyReversed()),
    "undecided": Answered(orders.Undecided()),
    "not found": Answered(orders.NotFound()),
    "fenced": Answered(orders.Fenced()),
    "conflict": Answered(orders.Conflict()),
    "unfit": Answered(orders.Unfit()),
}
REVERSALS = {
    "reversed": ReversalAnswered(orders.Reversed("V1")),
    "tombstoned": ReversalAnswered(orders.Tombstoned("T1")),
    "was declined": ReversalAnswered(orders.WasDeclined()),
    "accepted": ReversalAnswered(orders.Accepted()),
    "denied": ReversalAnswered(orders.Denied(Reason.NEEDS_OPERATOR)),
    "reversal undecided": ReversalAnswered(orders.Undecided()),
}
EVENTS: dict[str, Event] = {
    "go": Go(),
    "gave up": GaveUp(Reason.CARD_REMOVED),
    "commit failed": CommitFailed(),
    **ANSWERS,
    "link failed": LinkFailed(),
    "time up": TimeUp(),
    "caller left": CallerLeft(),
    "card left": CardLeft(),
    "restarted": Restarted(),
    "restarted young": Restarted(young=True),
    "HIS confirmed": HisConfirmed(),
    "HIS cancelled": HisCancelled(),
    "confirm time up": ConfirmTimeUp(),
    **REVERSALS,
    "reversal unanswered": ReversalUnanswered(),
    "reversal forgotten": ReversalForgotten(),
    "confirmed": ConfirmAnswered(orders.Confirmed()),
    "confirmed too late": ConfirmAnswered(orders.ConfirmedTooLate()),
    "confirm undecided": ConfirmAnswered(orders.Undecided()),
    "operator approved": OperatorDecided(State.APPROVED),
    "operator reversed": OperatorDecided(State.REVERSED),
}

# state, event → next, durable?, effects. What is not here must be refused.
MOVES = """
PREPARED  | go                  | SENT      | record | SEND_DEBIT
PREPARED  | gave up             | ABORTED   |        | TELL
PREPARED  | caller left         | ABORTED   |        | TELL
PREPARED  | HIS cancelled       | ABORTED   |        | TELL
PREPARED  | commit failed       | ABORTED   |        | TELL LEAVE_SERVICE
SENT      | posted              | APPROVED  | record | TELL SEND_CONFIRM
SENT      | posted, to be held  | HELD      | record | TELL WAIT_FOR_CONFIRMATION
SENT      | declined            | DECLINED  | record | TELL
SENT      | already reversed    | DECLINED  | record | TELL
SENT      | undecided           | SENT      |        | ENQUIRE
SENT      | not found           | SENT      |        |
SENT      | fenced              | SENT      |        | ALARM LEAVE_SERVICE
SENT      | conflict            | REVERSING | record | ALARM SEND_REVERSAL TELL
SENT      | unfit               | REVERSING | record | ALARM SEND_REVERSAL TELL
SENT      | link failed         | SENT      |        | SEND_DEBIT
SENT      | time up             | REVERSING | record | SEND_REVERSAL TELL
SENT      | caller left         | REVERSING | record | SEND_REVERSAL TELL
SENT      | HIS cancelled       | REVERSING | record | SEND_REVERSAL TELL
SENT      | card left           | SENT      |        |
SENT      | restarted           | REVERSING | record | SEND_REVERSAL TELL
SENT      | restarted young     | SENT      |        | ENQUIRE
HELD      | HIS confirmed       | APPROVED  | record | TELL SEND_CONFIRM
HELD      | HIS cancelled       | REVERSING | record | SEND_REVERSAL TELL
HELD      | confirm time up     | REVERSING | record | SEND_REVERSAL TELL
HELD      | caller left         | HELD      |        |
HELD      | *answer             | HELD      |        |
HELD      | restarted           | HELD      |        | WAIT_FOR_CONFIRMATION
HELD      | restarted young     | HELD      |        | WAIT_FOR_CONFIRMATION
APPROVED  | *answer             | APPROVED  |        |
APPROVED  | HIS cancelled       | APPROVED  |        |
APPROVED  | HIS confirmed       | APPROVED  |        | TELL
APPROVED  | caller left         | APPROVED  |        |
APPROVED  | confirm time up     | APPROVED  |        |
APPROVED  | link failed         | APPROVED  |        | SEND_CONFIRM
APPROVED  | confirmed           | APPROVED  | record |
APPROVED  | confirmed too late  | APPROVED  |        | ALARM
APPROVED  | confirm undecided   | APPROVED  |        | SEND_CONFIRM
APPROVED  | restarted           | APPROVED  |        | SEND_CONFIRM
APPROVED  | restarted young     | APPROVED  |        | SEND_CONFIRM
DECLINED  | *late approval      | DECLINED  |        | NOTE_LATE_ANSWER ALARM SEND_REVERSAL
DECLINED  | *other late answer  | DECLINED  |        | NOTE_LATE_ANSWER
DECLINED  | HIS cancelled       | DECLINED  |        |
DECLINED  | HIS confirmed       | DECLINED  |        | TELL
DECLINED  | *reversal           | DECLINED  |        |
DECLINED  | caller left         | DECLINED  |        |
DECLINED  | restarted           | DECLINED  |        |
DECLINED  | restarted young     | DECLINED  |        |
REVERSING | *answer             | REVERSING |        | NOTE_LATE_ANSWER
REVERSING | HIS cancelled       | REVERSING |        |
REVERSING | HIS confirmed       | REVERSING |        | TELL
REVERSING | confirm time up     | REVERSING |        |
REVERSING | caller left         | REVERSING |        |
REVERSING | time up             | REVERSING |        |
REVERSING | link failed         | REVERSING |        |
REVERSING | reversed            | REVERSED  | record | TELL
REVERSING | tombstoned          | REVERSED  | record | TELL
REVERSING | was declined        | REVERSED  | record | TELL
REVERSING | accepted            | ACCEPTED  | record | TELL ASK_LATER
REVERSING | denied              | MANUAL    | record | ALARM TELL ASK_LATER
REVERSING | reversal undecided  | REVERSING |        | SEND_REVERSAL
REVERSING | reversal unanswered | REVERSING |        | SEND_REVERSAL
REVERSING | restarted           | REVERSING |        | SEND_REVERSAL
REVERSING | restarted young     | REVERSING |        | SEND_REVERSAL
ACCEPTED  | *answer             | ACCEPTED  |        | NOTE_LATE_ANSWER
ACCEPTED  | HIS cancelled       | ACCEPTED  |        |
ACCEPTED  | HIS confirmed       | ACCEPTED  |        | TELL
ACCEPTED  | caller left         | ACCEPTED  |        |
ACCEPTED  | reversed            | REVERSED  | record | TELL
ACCEPTED  | tombstoned          | REVERSED  | record | TELL
ACCEPTED  | was declined        | REVERSED  | record | TELL
ACCEPTED  | accepted            | ACCEPTED  |        | ASK_LATER
ACCEPTED  | reversal undecided  | ACCEPTED  |        | ASK_LATER
ACCEPTED  | denied              | MANUAL    | record | ALARM TELL ASK_LATER
ACCEPTED  | reversal unanswered | ACCEPTED  |        | ASK_LATER
ACCEPTED  | reversal forgotten  | REVERSING | record | SEND_REVERSAL
ACCEPTED  | restarted           | ACCEPTED  |        | ASK_LATER
ACCEPTED  | restarted young     | ACCEPTED  |        | ASK_LATER
REVERSED  | *late approval      | REVERSED  |        | NOTE_LATE_ANSWER ALARM SEND_REVERSAL
REVERSED  | *other late answer  | REVERSED  |        | NOTE_LATE_ANSWER
REVERSED  | HIS cancelled       | REVERSED  |        |
REVERSED  | HIS confirmed       | REVERSED  |        | TELL
REVERSED  | *reversal           | REVERSED  |        |
REVERSED  | caller left         | REVERSED  |        |
REVERSED  | restarted           | REVERSED  |        |
REVERSED  | restarted young     | REVERSED  |        |
ABORTED   | HIS cancelled       | ABORTED   |        |
ABORTED   | go                  | ABORTED   |        |
ABORTED   | gave up             | ABORTED   |        |
ABORTED   | *late approval      | ABORTED   |        | NOTE_LATE_ANSWER ALARM SEND_REVERSAL
ABORTED   | *other late answer  | ABORTED   |        | NOTE_LATE_ANSWER
ABORTED   | *reversal           | ABORTED   |        |
ABORTED   | caller left         | ABORTED   |        |
ABORTED   | restarted           | ABORTED   |        |
ABORTED   | restarted young     | ABORTED   |        |
MANUAL    | *answer             | MANUAL    |        | NOTE_LATE_ANSWER
MANUAL    | HIS cancelled       | MANUAL    |        |
MANUAL    | HIS confirmed       | MANUAL    |        | TELL
MANUAL    | *reversal           | MANUAL    |        | ASK_LATER
MANUAL    | caller left         | MANUAL    |        |
MANUAL    | restarted           | MANUAL    |        | ASK_LATER
MANUAL    | restarted young     | MANUAL    |        | ASK_LATER
MANUAL    | operator approved   | APPROVED  | record | TELL SEND_CONFIRM
MANUAL    | operator reversed   | REVERSED  | record | TELL
"""
_LATE = {"posted", "posted, to be held"}
_GROUPS = {
    "*answer": set(ANSWERS),
    "*late approval": _LATE,
    "*other late answer": set(ANSWERS) - _LATE,
    "*reversal": set(REVERSALS),
}


def _moves() -> dict[tuple[State, str], tuple[State, bool, tuple[Effect, ...]]]:
    moves = {}
    for line in MOVES.strip().splitlines():
        state, event, after, record, effects = (cell.strip() for cell in line.split("|"))
        for name in _GROUPS.get(event, {event}):
            assert (State(state), name) not in moves, line
            moves[State(state), name] = (
                State(after),
                record == "record",
                tuple(Effect(word) for word in effects.split()),
            )
    return moves


EXPECTED = _moves()


@pytest.mark.parametrize(
    ("state", "name"), list(product(State, EVENTS)), ids=lambda value: getattr(value, "name", value)
)
def test_every_state_meets_every_event(state: State, name: str) -> None:
    expected = EXPECTED.get((state, name))
    if expected is None:
        with pytest.raises(IllegalEvent):
            step(state, EVENTS[name])
    else:
        taken = step(state, EVENTS[name])
        assert (taken.next, taken.record, taken.effects) == expected


def test_the_table_of_the_test_names_only_what_exists() -> None:
    assert {name for _, name in EXPECTED} <= set(EVENTS)


@pytest.mark.parametrize("cause", ReversalCause)
def test_a_reversal_says_why(cause: ReversalCause) -> None:
    events = {
        ReversalCause.TIMEOUT: (State.SENT, TimeUp()),
        ReversalCause.BAD_ANSWER: (State.SENT, ANSWERS["unfit"]),
        ReversalCause.CANCELLED: (State.SENT, CallerLeft()),
        ReversalCause.RECOVERY: (State.SENT, Restarted()),
        ReversalCause.UNCONFIRMED: (State.HELD, ConfirmTimeUp()),
    }
    taken = step(*events[cause])
    assert (taken.cause, taken.reason) == (cause, cause.value)


def test_an_approval_confirms_in_the_same_record() -> None:
    assert step(State.SENT, ANSWERS["posted"]).confirm
    assert step(State.HELD, HisConfirmed()).confirm
    assert not step(State.SENT, ANSWERS["posted, to be held"]).confirm


def test_a_decision_of_people_says_so_in_the_record() -> None:
    upheld, undone = (step(State.MANUAL, OperatorDecided(final)) for final in (State.APPROVED, State.REVERSED))
    assert (upheld.reason, upheld.confirm) == (Reason.UPHELD_BY_OPERATORS, True)
    assert (undone.reason, undone.confirm) == (Reason.REVERSED_BY_OPERATORS, False)


def test_an_operator_cannot_decide_for_anything_but_paid_or_undone() -> None:
    for state in set(State) - {State.APPROVED, State.REVERSED}:
        with pytest.raises(IllegalEvent):
            step(State.MANUAL, OperatorDecided(state))


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_what_is_told_fits_what_is_known(state: State) -> None:
    told = verdict(state)
    if state in FINAL:
        assert told.told is not Told.PENDING
        assert told.moved is not Moved.PENDING
    if told.retry is Retry.NEW_REQUEST:
        assert told.moved is Moved.NOT_MOVED
    if told.resolves_to is not None:
        assert told.told is Told.PENDING
    assert (state in FINAL) != (state in UNRESOLVED) or state is State.PREPARED


def test_no_record_is_skipped_on_the_way_into_a_state_that_is_told() -> None:
    """A state that a caller may hear of is durable before: every move into it from another state records."""
    for (state, name), (after, record, _) in EXPECTED.items():
        if after is not state and after is not State.ABORTED:
            assert record, (state, name)
