"""Every state × event of the ledger table: listed as the design says, or refused."""

from __future__ import annotations

import pytest

from yikatong.core.ledger_table import TABLE, Entries, Event, Reply, State, step
from yikatong.core.tables import IllegalEvent

# The design's table, written once more by hand: state, event -> next, reply, entries.
EXPECTED = """
NONE      DEBIT_GRANTED    POSTED    POSTED           DEBIT
NONE      DEBIT_REFUSED    DECLINED  DECLINED         NOTHING
NONE      REVERSAL         TOMBSTONE TOMBSTONED       NOTHING
NONE      CONFIRM          NONE      UNKNOWN          NOTHING
NONE      QUERY            NONE      NOT_FOUND        NOTHING
POSTED    DEBIT_AGAIN      POSTED    POSTED           NOTHING
POSTED    DEBIT_DIFFERS    POSTED    CONFLICT         NOTHING
POSTED    REVERSAL         REVERSED  REVERSED         CONTRA
POSTED    REVERSAL_DIFFERS POSTED    DENIED_CONFLICT  NOTHING
POSTED    CONFIRM          CONFIRMED CONFIRMED        NOTHING
POSTED    CONFIRM_DIFFERS  POSTED    UNKNOWN          NOTHING
POSTED    QUERY            POSTED    POSTED           NOTHING
CONFIRMED DEBIT_AGAIN      CONFIRMED POSTED           NOTHING
CONFIRMED DEBIT_DIFFERS    CONFIRMED CONFLICT         NOTHING
CONFIRMED REVERSAL         CONFIRMED DENIED_CONFIRMED NOTHING
CONFIRMED REVERSAL_DIFFERS CONFIRMED DENIED_CONFLICT  NOTHING
CONFIRMED CONFIRM          CONFIRMED CONFIRMED        NOTHING
CONFIRMED CONFIRM_DIFFERS  CONFIRMED UNKNOWN          NOTHING
CONFIRMED QUERY            CONFIRMED POSTED           NOTHING
CANCELLED DEBIT_AGAIN      CANCELLED POSTED           NOTHING
CANCELLED DEBIT_DIFFERS    CANCELLED CONFLICT         NOTHING
CANCELLED REVERSAL         CANCELLED DENIED_CONFIRMED NOTHING
CANCELLED REVERSAL_DIFFERS CANCELLED DENIED_CONFLICT  NOTHING
CANCELLED CONFIRM          CANCELLED CONFIRMED        NOTHING
CANCELLED CONFIRM_DIFFERS  CANCELLED UNKNOWN          NOTHING
CANCELLED QUERY            CANCELLED POSTED           NOTHING
DECLINED  DEBIT_AGAIN      DECLINED  DECLINED         NOTHING
DECLINED  DEBIT_DIFFERS    DECLINED  CONFLICT         NOTHING
DECLINED  REVERSAL         DECLINED  WAS_DECLINED     NOTHING
DECLINED  REVERSAL_DIFFERS DECLINED  DENIED_CONFLICT  NOTHING
DECLINED  CONFIRM          DECLINED  TOO_LATE         NOTHING
DECLINED  CONFIRM_DIFFERS  DECLINED  UNKNOWN          NOTHING
DECLINED  QUERY            DECLINED  DECLINED         NOTHING
REVERSED  DEBIT_AGAIN      REVERSED  ALREADY_REVERSED NOTHING
REVERSED  DEBIT_DIFFERS    REVERSED  CONFLICT         NOTHING
REVERSED  REVERSAL         REVERSED  REVERSED         NOTHING
REVERSED  REVERSAL_DIFFERS REVERSED  DENIED_CONFLICT  NOTHING
REVERSED  CONFIRM          REVERSED  TOO_LATE         NOTHING
REVERSED  CONFIRM_DIFFERS  REVERSED  UNKNOWN          NOTHING
REVERSED  QUERY            REVERSED  ALREADY_REVERSED NOTHING
TOMBSTONE DEBIT_AGAIN      TOMBSTONE ALREADY_REVERSED NOTHING
TOMBSTONE DEBIT_DIFFERS    TOMBSTONE CONFLICT         NOTHING
TOMBSTONE REVERSAL         TOMBSTONE TOMBSTONED       NOTHING
TOMBSTONE REVERSAL_DIFFERS TOMBSTONE DENIED_CONFLICT  NOTHING
TOMBSTONE CONFIRM          TOMBSTONE TOO_LATE         NOTHING
TOMBSTONE CONFIRM_DIFFERS  TOMBSTONE UNKNOWN          NOTHING
TOMBSTONE QUERY            TOMBSTONE ALREADY_REVERSED NOTHING
"""
MOVES = {
    (State(s), Event(e)): (State(n), Reply(r), Entries(w))
    for s, e, n, r, w in map(str.split, EXPECTED.split("\n")[1:-1])
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_listed_or_refused(state: State, event: Event) -> None:
    if (state, event) in MOVES:
        move = step(state, event)
        assert (move.next, move.reply, move.entries) == MOVES[state, event]
    else:
        with pytest.raises(IllegalEvent, match=f"{event.value} in {state.value}"):
            step(state, event)


def test_money_moves_out_once_and_back_once() -> None:
    out = [pair for pair, move in TABLE.items() if move.entries is Entries.DEBIT]
    back = [pair for pair, move in TABLE.items() if move.entries is Entries.CONTRA]
    assert out == [(State.NONE, Event.DEBIT_GRANTED)]
    assert back == [(State.POSTED, Event.REVERSAL)]
    assert not any(
        move.next is State.POSTED for (state, _), move in TABLE.items() if state not in (State.NONE, State.POSTED)
    )


def test_final_states_have_no_way_out() -> None:
    for state in (State.DECLINED, State.REVERSED, State.TOMBSTONE, State.CONFIRMED, State.CANCELLED):
        assert {move.next for (from_, _), move in TABLE.items() if from_ is state} == {state}


def test_what_contradicts_itself_alarms() -> None:
    alarming = {(s, e) for (s, e), move in TABLE.items() if move.alarm}
    assert {(s, e) for s, e in TABLE if e.value.endswith("DIFFERS")} <= alarming
    assert (State.CONFIRMED, Event.REVERSAL) in alarming
    assert (State.POSTED, Event.REVERSAL) not in alarming
