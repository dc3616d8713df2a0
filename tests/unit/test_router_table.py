"""Every state × event of the router table: listed as the design says, or refused."""

from __future__ import annotations

import pytest

from yikatong.core.router_table import HOLDS_ORDER, TABLE, UNFINISHED, Effect, Event, Reply, State, step
from yikatong.core.tables import IllegalEvent

# Written by hand: state -> event -> next and what follows (an effect in lower case, else the reply).
EXPECTED = """
NONE      DEBIT_ADMITTED          FWD       forward
NONE      DEBIT_REFUSED           REJECTED  STORED
NONE      DEBIT_REFUSED_REPEAT    REV       tombstone
NONE      DEBIT_TOO_LATE          REV       tombstone
NONE      DEBIT_SEEN              FWD       enquire
NONE      DEBIT_HELD_BY_ANOTHER   REJECTED  STORED
NONE      DEBIT_FENCED            NONE      FENCED
NONE      DEBIT_CLONED            REJECTED  STORED
NONE      REVERSAL                REV       reverse
NONE      REVERSAL_UNROUTABLE     REVDONE   STORED_REVERSAL
NONE      QUERY                   NONE      NOT_FOUND
NONE      CONFIRM                 NONE      confirm
NONE      LEDGER_CONFIRM_OK       NONE      CONFIRMED
NONE      LEDGER_CONFIRM_TOO_LATE NONE      TOO_LATE
NONE      LEDGER_CONFIRM_SILENT   NONE      UNDECIDED
FWD       DEBIT_AGAIN             FWD       forward
FWD       REVERSAL                REV       reverse
FWD       CONFIRM                 FWD       confirm
FWD       QUERY                   FWD       enquire
FWD       RESTART                 FWD       enquire
FWD       LEDGER_POSTED           POSTED    STORED
FWD       LEDGER_CONFIRMED        CONFIRMED STORED
FWD       LEDGER_DECLINED         DECLINED  STORED
FWD       LEDGER_REVERSED         REVDONE   ALREADY_REVERSED
FWD       LEDGER_CONFLICT         FWD       CONFLICT
FWD       LEDGER_UNFIT            FWD       UNDECIDED
FWD       LEDGER_SILENT           FWD       UNDECIDED
FWD       LEDGER_CONFIRM_OK       FWD       CONFIRMED
FWD       LEDGER_CONFIRM_TOO_LATE FWD       TOO_LATE
FWD       LEDGER_CONFIRM_SILENT   FWD       UNDECIDED
POSTED    DEBIT_AGAIN             POSTED    STORED
POSTED    REVERSAL                REV       reverse
POSTED    CONFIRM                 POSTED    confirm
POSTED    QUERY                   POSTED    STORED
POSTED    LEDGER_POSTED           POSTED    STORED
POSTED    LEDGER_CONFIRMED        CONFIRMED STORED
POSTED    LEDGER_SILENT           POSTED    STORED
POSTED    LEDGER_CONFIRM_OK       CONFIRMED CONFIRMED
POSTED    LEDGER_CONFIRM_TOO_LATE POSTED    TOO_LATE
POSTED    LEDGER_CONFIRM_SILENT   POSTED    UNDECIDED
CONFIRMED DEBIT_AGAIN             CONFIRMED STORED
CONFIRMED REVERSAL                CONFIRMED DENIED_CONFIRMED
CONFIRMED CONFIRM                 CONFIRMED CONFIRMED
CONFIRMED QUERY                   CONFIRMED STORED
CONFIRMED LEDGER_POSTED           CONFIRMED STORED
CONFIRMED LEDGER_CONFIRMED        CONFIRMED STORED
CONFIRMED LEDGER_SILENT           CONFIRMED STORED
CONFIRMED LEDGER_CONFIRM_OK       CONFIRMED CONFIRMED
CONFIRMED LEDGER_CONFIRM_SILENT   CONFIRMED CONFIRMED
CONFIRMED LEDGER_DENIED           CONFIRMED DENIED_CONFIRMED
CONFIRMED LEDGER_KEEPS_SILENT     CONFIRMED DENIED_CONFIRMED
DECLINED  DEBIT_AGAIN             DECLINED  STORED
DECLINED  REVERSAL                REV       reverse
DECLINED  CONFIRM                 DECLINED  TOO_LATE
DECLINED  QUERY                   DECLINED  STORED
DECLINED  LEDGER_DECLINED         DECLINED  STORED
DECLINED  LEDGER_SILENT           DECLINED  STORED
REJECTED  DEBIT_AGAIN             REJECTED  STORED
REJECTED  REVERSAL                REJECTED  WAS_DECLINED
REJECTED  CONFIRM                 REJECTED  TOO_LATE
REJECTED  QUERY                   REJECTED  STORED
REV       DEBIT_AGAIN             REV       UNDECIDED
REV       REVERSAL                REV       reverse
REV       CONFIRM                 REV       TOO_LATE
REV       QUERY                   REV       UNDECIDED
REV       RESTART                 REV       reverse
REV       LEDGER_POSTED           REV       UNDECIDED
REV       LEDGER_CONFIRMED        REV       UNDECIDED
REV       LEDGER_DECLINED         REV       UNDECIDED
REV       LEDGER_REVERSED         REV       UNDECIDED
REV       LEDGER_CONFLICT         REV       UNDECIDED
REV       LEDGER_UNFIT            REV       UNDECIDED
REV       LEDGER_SILENT           REV       UNDECIDED
REV       LEDGER_UNDID            REVDONE   STORED_REVERSAL
REV       LEDGER_DENIED           REV       DENIED_BY_LEDGER
REV       LEDGER_KEEPS_SILENT     REV       ACCEPTED
REV       UPHELD                  CONFIRMED STORED
REV       LEDGER_CONFIRM_OK       REV       CONFIRMED
REV       LEDGER_CONFIRM_TOO_LATE REV       TOO_LATE
REV       LEDGER_CONFIRM_SILENT   REV       UNDECIDED
REVDONE   DEBIT_AGAIN             REVDONE   ALREADY_REVERSED
REVDONE   REVERSAL                REVDONE   STORED_REVERSAL
REVDONE   CONFIRM                 REVDONE   TOO_LATE
REVDONE   QUERY                   REVDONE   ALREADY_REVERSED
REVDONE   LEDGER_POSTED           REVDONE   ALREADY_REVERSED
REVDONE   LEDGER_CONFIRMED        REVDONE   ALREADY_REVERSED
REVDONE   LEDGER_DECLINED         REVDONE   ALREADY_REVERSED
REVDONE   LEDGER_REVERSED         REVDONE   ALREADY_REVERSED
REVDONE   LEDGER_CONFLICT         REVDONE   ALREADY_REVERSED
REVDONE   LEDGER_UNFIT            REVDONE   ALREADY_REVERSED
REVDONE   LEDGER_SILENT           REVDONE   ALREADY_REVERSED
REVDONE   LEDGER_UNDID            REVDONE   STORED_REVERSAL
REVDONE   LEDGER_KEEPS_SILENT     REVDONE   STORED_REVERSAL
REVDONE   LEDGER_CONFIRM_TOO_LATE REVDONE   TOO_LATE
REVDONE   LEDGER_CONFIRM_SILENT   REVDONE   UNDECIDED
"""
MOVES = {(State(s), Event(e)): (State(n), then) for s, e, n, then in map(str.split, EXPECTED.split("\n")[1:-1])}
DIFFERS = {
    Event.DEBIT_DIFFERS: Reply.CONFLICT,
    Event.REVERSAL_DIFFERS: Reply.DENIED_CONFLICT,
    Event.CONFIRM_DIFFERS: Reply.UNDECIDED,
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_listed_or_refused(state: State, event: Event) -> None:
    if event in DIFFERS and state is not State.NONE:
        move = step(state, event)
        assert (move.next, move.reply, move.effect, move.alarm) == (state, DIFFERS[event], None, True)
    elif (state, event) in MOVES:
        move = step(state, event)
        after, then = MOVES[state, event]
        assert move.next is after
        if then.islower():
            assert (move.effect, move.reply) == (Effect(then.upper()), None)
        else:
            assert (move.effect, move.reply) == (None, Reply(then))
    else:
        with pytest.raises(IllegalEvent, match=f"{event.value} in {state.value}"):
            step(state, event)


def test_each_move_acts_or_replies_never_both() -> None:
    assert all((move.effect is None) != (move.reply is None) for move in TABLE.values())


def test_silence_is_never_a_refusal() -> None:
    for (state, event), move in TABLE.items():
        if event in (Event.LEDGER_SILENT, Event.LEDGER_KEEPS_SILENT, Event.LEDGER_CONFIRM_SILENT):
            assert move.next is state


def test_a_decided_reversal_is_a_one_way_door_but_for_two_persons() -> None:
    for (state, event), move in TABLE.items():
        if state in (State.REV, State.REVDONE) and event is not Event.UPHELD:
            assert move.next in (State.REV, State.REVDONE)
            assert move.effect in (None, Effect.REVERSE)


def test_a_debit_is_forwarded_from_two_states_only() -> None:
    assert {pair for pair, move in TABLE.items() if move.effect is Effect.FORWARD} == {
        (State.NONE, Event.DEBIT_ADMITTED),
        (State.FWD, Event.DEBIT_AGAIN),
    }


def test_a_finally_unmoved_transaction_frees_its_order() -> None:
    assert {State.DECLINED, State.REJECTED, State.REVDONE}.isdisjoint(HOLDS_ORDER)
    assert UNFINISHED <= HOLDS_ORDER
