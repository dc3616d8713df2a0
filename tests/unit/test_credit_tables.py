"""The three credit tables, each pair of state and event: listed as the design says, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.rows import order
from yikatong.core import credit_ledger_table, credit_router_table
from yikatong.core.credit_ledger_table import CreditWeighed, Verdict, credit_ledger_step
from yikatong.core.credit_orders import (
    CreditAccepted,
    CreditDeclined,
    Credited,
    CreditKind,
    CreditOrder,
    fitting_credit,
)
from yikatong.core.credit_router_table import CreditRouteEvent, CreditRouteReply, CreditRouteState, credit_route_step
from yikatong.core.credit_table import (
    DECIDED,
    CreditAnswered,
    CreditEffect,
    CreditEvent,
    CreditRestarted,
    CreditState,
    CreditStep,
    credit_step,
    credit_verdict,
)
from yikatong.core.ledger_table import State
from yikatong.core.orders import Conflict, Undecided, Unfit
from yikatong.core.reasons import Moved, Reason, Retry
from yikatong.core.tables import IllegalEvent
from yikatong.core.terminal_table import Told
from yikatong.core.values import Fen, RequestId, TransactionId

CREDITED = Credited("R", Fen(5), b"f", "2026-01-02", Fen(0), None)
S, X = CreditState, CreditEffect
EVENTS: dict[str, CreditEvent] = {
    "credited": CreditAnswered(CREDITED),
    "declined": CreditAnswered(CreditDeclined(Reason.NOT_CANCELLABLE)),
    "accepted": CreditAnswered(CreditAccepted()),
    "undecided": CreditAnswered(Undecided()),
    "conflict": CreditAnswered(Conflict()),
    "unfit": CreditAnswered(Unfit()),
    "restart": CreditRestarted(),
}
LATER, LOOK = (X.PUSH_LATER,), (X.ALARM, X.PUSH_LATER)
TERMINAL: dict[tuple[CreditState, str], CreditStep] = {
    (S.SENT, "credited"): CreditStep(S.APPROVED),
    (S.SENT, "declined"): CreditStep(S.DECLINED, reason=Reason.NOT_CANCELLABLE),
    (S.SENT, "accepted"): CreditStep(S.ACCEPTED, LATER),
    (S.SENT, "undecided"): CreditStep(S.SENT, LATER),
    (S.SENT, "conflict"): CreditStep(S.SENT, LOOK),
    (S.SENT, "unfit"): CreditStep(S.SENT, LOOK),
    (S.SENT, "restart"): CreditStep(S.SENT, (X.PUSH,)),
    (S.ACCEPTED, "credited"): CreditStep(S.APPROVED),
    (S.ACCEPTED, "declined"): CreditStep(S.DECLINED, reason=Reason.NOT_CANCELLABLE),
    (S.ACCEPTED, "accepted"): CreditStep(S.ACCEPTED, LATER),
    (S.ACCEPTED, "undecided"): CreditStep(S.ACCEPTED, LATER),
    (S.ACCEPTED, "conflict"): CreditStep(S.ACCEPTED, LOOK),
    (S.ACCEPTED, "unfit"): CreditStep(S.ACCEPTED, LOOK),
    (S.ACCEPTED, "restart"): CreditStep(S.ACCEPTED, (X.PUSH,)),
    **{(S.APPROVED, name): CreditStep(S.APPROVED) for name in EVENTS if name not in ("declined", "restart")},
    (S.APPROVED, "declined"): CreditStep(S.APPROVED, (X.ALARM,)),
    **{(S.DECLINED, name): CreditStep(S.DECLINED) for name in EVENTS if name not in ("credited", "restart")},
    (S.DECLINED, "credited"): CreditStep(S.DECLINED, (X.ALARM,)),
}


@pytest.mark.parametrize("state", CreditState)
@pytest.mark.parametrize("event", EVENTS)
def test_terminal_every_pair_is_listed_or_refused(state: CreditState, event: str) -> None:
    if (state, event) in TERMINAL:
        assert credit_step(state, EVENTS[event]) == TERMINAL[state, event]
    else:
        with pytest.raises(IllegalEvent, match=f"in credit {state.name}"):
            credit_step(state, EVENTS[event])


def test_terminal_what_is_not_decided_goes_on_and_what_is_decided_stays() -> None:
    for (state, _), move in TERMINAL.items():
        if state in DECIDED:
            assert move.next is state
        elif move.next not in DECIDED:
            assert {X.PUSH, X.PUSH_LATER} & set(move.effects), "an open credit is always pushed again"


def test_terminal_only_a_decision_is_told_as_one() -> None:
    told = {state: credit_verdict(state) for state in CreditState}
    assert {state for state, v in told.items() if v.told is Told.PENDING} == set(CreditState) - DECIDED
    assert all((v.moved is Moved.PENDING) == (v.told is Told.PENDING) for v in told.values())
    assert all(v.resolves_to is None for v in told.values()), "the ledger alone says how it ends"
    assert [s for s, v in told.items() if v.retry is Retry.NEW_REQUEST] == [S.DECLINED]


ROUTER = """
NONE     NEW             FWD      -        push
NONE     HELD_BY_ANOTHER DECLINED STORED   -
NONE     UNROUTABLE      DECLINED STORED   alarm
FWD      AGAIN           FWD      -        push
FWD      RESTART         FWD      -        push
FWD      DIFFERS         FWD      CONFLICT alarm
FWD      LEDGER_CREDITED CREDITED STORED   -
FWD      LEDGER_DECLINED DECLINED STORED   -
FWD      LEDGER_CONFLICT FWD      CONFLICT alarm
FWD      LEDGER_UNFIT    FWD      ACCEPTED alarm
FWD      LEDGER_SILENT   FWD      ACCEPTED -
CREDITED AGAIN           CREDITED STORED   -
CREDITED DIFFERS         CREDITED CONFLICT alarm
CREDITED LEDGER_SILENT   CREDITED STORED   -
CREDITED LEDGER_CREDITED CREDITED STORED   -
CREDITED LEDGER_DECLINED CREDITED STORED   alarm
CREDITED LEDGER_CONFLICT CREDITED STORED   alarm
CREDITED LEDGER_UNFIT    CREDITED STORED   alarm
DECLINED AGAIN           DECLINED STORED   -
DECLINED DIFFERS         DECLINED CONFLICT alarm
DECLINED LEDGER_SILENT   DECLINED STORED   -
DECLINED LEDGER_DECLINED DECLINED STORED   -
DECLINED LEDGER_CREDITED DECLINED STORED   alarm
DECLINED LEDGER_CONFLICT DECLINED STORED   alarm
DECLINED LEDGER_UNFIT    DECLINED STORED   alarm
"""
ROUTES = {
    (CreditRouteState(s), CreditRouteEvent(e)): (
        CreditRouteState(n),
        None if r == "-" else CreditRouteReply(r),
        also == "push",
        also == "alarm",
    )
    for s, e, n, r, also in map(str.split, ROUTER.split("\n")[1:-1])
}


@pytest.mark.parametrize("state", CreditRouteState)
@pytest.mark.parametrize("event", CreditRouteEvent)
def test_router_every_pair_is_listed_or_refused(state: CreditRouteState, event: CreditRouteEvent) -> None:
    if (state, event) in ROUTES:
        move = credit_route_step(state, event)
        assert (move.next, move.reply, move.push, move.alarm) == ROUTES[state, event]
    else:
        with pytest.raises(IllegalEvent, match=f"{event.value} in {state.value}"):
            credit_route_step(state, event)


def test_router_a_credit_that_has_set_out_is_decided_by_its_ledger_alone() -> None:
    ways_out = {e for (s, e), m in credit_router_table.TABLE.items() if s is CreditRouteState.FWD and m.next is not s}
    assert ways_out == {CreditRouteEvent.LEDGER_CREDITED, CreditRouteEvent.LEDGER_DECLINED}


LEDGER = """
NONE      CANCEL NONE TRANSACTION_NOT_FOUND
NONE      CANCEL_TOO_LATE NONE TRANSACTION_NOT_FOUND
NONE      REFUND NONE TRANSACTION_NOT_FOUND
NONE      REFUND_TOO_MUCH NONE TRANSACTION_NOT_FOUND
NONE      ORIGINAL_DIFFERS NONE TRANSACTION_NOT_FOUND
POSTED    CANCEL POSTED WAIT
POSTED    CANCEL_TOO_LATE POSTED WAIT
POSTED    REFUND POSTED WAIT
POSTED    REFUND_TOO_MUCH POSTED WAIT
POSTED    ORIGINAL_DIFFERS POSTED TRANSACTION_ID_REUSED
CONFIRMED CANCEL CANCELLED CREDIT
CONFIRMED CANCEL_TOO_LATE CONFIRMED NOT_CANCELLABLE
CONFIRMED REFUND CONFIRMED CREDIT
CONFIRMED REFUND_TOO_MUCH CONFIRMED REFUND_EXCEEDS_DEBIT
CONFIRMED ORIGINAL_DIFFERS CONFIRMED TRANSACTION_ID_REUSED
CANCELLED CANCEL CANCELLED NOT_CANCELLABLE
CANCELLED CANCEL_TOO_LATE CANCELLED NOT_CANCELLABLE
CANCELLED REFUND CANCELLED REFUND_EXCEEDS_DEBIT
CANCELLED REFUND_TOO_MUCH CANCELLED REFUND_EXCEEDS_DEBIT
CANCELLED ORIGINAL_DIFFERS CANCELLED TRANSACTION_ID_REUSED
DECLINED  CANCEL DECLINED NOT_CANCELLABLE
DECLINED  CANCEL_TOO_LATE DECLINED NOT_CANCELLABLE
DECLINED  REFUND DECLINED NOT_CANCELLABLE
DECLINED  REFUND_TOO_MUCH DECLINED NOT_CANCELLABLE
DECLINED  ORIGINAL_DIFFERS DECLINED TRANSACTION_ID_REUSED
REVERSED  CANCEL REVERSED ALREADY_REVERSED
REVERSED  CANCEL_TOO_LATE REVERSED ALREADY_REVERSED
REVERSED  REFUND REVERSED ALREADY_REVERSED
REVERSED  REFUND_TOO_MUCH REVERSED ALREADY_REVERSED
REVERSED  ORIGINAL_DIFFERS REVERSED TRANSACTION_ID_REUSED
TOMBSTONE CANCEL TOMBSTONE ALREADY_REVERSED
TOMBSTONE CANCEL_TOO_LATE TOMBSTONE ALREADY_REVERSED
TOMBSTONE REFUND TOMBSTONE ALREADY_REVERSED
TOMBSTONE REFUND_TOO_MUCH TOMBSTONE ALREADY_REVERSED
TOMBSTONE ORIGINAL_DIFFERS TOMBSTONE TRANSACTION_ID_REUSED
"""
WEIGHED = {(State(s), CreditWeighed(e)): (State(n), v) for s, e, n, v in map(str.split, LEDGER.split("\n")[1:-1])}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("weighed", CreditWeighed)
def test_ledger_every_pair(state: State, weighed: CreditWeighed) -> None:
    move = credit_ledger_step(state, weighed)
    said = move.reason.value if move.reason else move.verdict.value
    assert (move.next, said) == WEIGHED[state, weighed]
    assert (move.verdict is Verdict.DECLINE) == (move.reason is not None)


def test_ledger_credits_confirmed_debits_alone() -> None:
    granted = {pair for pair, move in credit_ledger_table.TABLE.items() if move.verdict is Verdict.CREDIT}
    assert granted == {(State.CONFIRMED, CreditWeighed.CANCEL), (State.CONFIRMED, CreditWeighed.REFUND)}
    moved = {pair for pair, move in credit_ledger_table.TABLE.items() if move.next is not pair[0]}
    assert moved == {(State.CONFIRMED, CreditWeighed.CANCEL)}


# --- the order ----------------------------------------------------------------------------------------------------


def _credit(**changes: object) -> CreditOrder:
    made = CreditOrder(TransactionId("t"), CreditKind.REFUND, order(), Fen(100), RequestId("r"))
    return replace(made, **changes)  # type: ignore[arg-type]  # tests name fields of the order


@pytest.mark.parametrize(
    "change",
    [
        lambda c: replace(c, transaction_id=TransactionId("u")),
        lambda c: replace(c, amount=Fen(101)),
        lambda c: replace(c, request_id=RequestId("s")),
        lambda c: replace(c, original=replace(c.original, amount=Fen(3651))),
        lambda c: replace(c, kind=CreditKind.CANCELLATION, amount=c.original.amount),
    ],
)
def test_the_fingerprint_covers_what_money_depends_on(change: Callable[[CreditOrder], CreditOrder]) -> None:
    credit = _credit()
    assert change(credit).fingerprint != credit.fingerprint
    assert replace(credit, accounting_date="2026-01-02").fingerprint == credit.fingerprint, "stamps are outside it"


def test_a_credit_is_something_and_a_cancellation_everything() -> None:
    with pytest.raises(ValueError, match="more than nothing"):
        _credit(amount=Fen(0))
    with pytest.raises(ValueError, match="whole debit"):
        _credit(kind=CreditKind.CANCELLATION)


def test_an_answer_about_other_content_is_unfit() -> None:
    credit = _credit()
    fitting = Credited("R", credit.amount, credit.fingerprint, "2026-01-02", Fen(0), Fen(1))
    assert fitting_credit(credit, fitting) == fitting
    assert fitting_credit(credit, replace(fitting, amount=Fen(99))) == Unfit()
    assert fitting_credit(credit, replace(fitting, fingerprint=b"x")) == Unfit()
    assert fitting_credit(credit, CreditAccepted()) == CreditAccepted()
