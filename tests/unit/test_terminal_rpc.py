"""What the HIS is told of a row, in the words of the interface."""

from __future__ import annotations

import pytest

from tests.support.rows import row
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.core.reasons import Reason
from yikatong.core.terminal_table import State
from yikatong.terminal.transaction_rpc import debit


@pytest.mark.parametrize(
    ("reason", "retry"),
    [
        (Reason.INSUFFICIENT_BALANCE, api.RETRY_NEW_REQUEST),
        (Reason.ORDER_ALREADY_PAID, api.RETRY_NEVER),
        (Reason.ORDER_IN_PROGRESS, api.RETRY_NEVER),
    ],
)
def test_a_decline_invites_a_retry_only_where_nobody_else_may_have_paid(
    reason: Reason, retry: api.Retry.ValueType
) -> None:
    told = debit(row(State.DECLINED, reason=reason.value), english=True)
    assert (told.state, told.outcome, told.retry) == (api.TRANSACTION_STATE_DECLINED, api.OUTCOME_NOT_MOVED, retry)
    assert told.word == api.WORD_NOT_PAID


def test_the_transaction_that_holds_the_order_is_named() -> None:
    held_by = row(State.DECLINED, reason=Reason.ORDER_IN_PROGRESS.value, other_transaction="other")
    assert debit(held_by, english=True).other_transaction_id == "other"
    assert debit(row(State.APPROVED), english=True).other_transaction_id == ""


@pytest.mark.parametrize("english", [True, False])
@pytest.mark.parametrize("state", [State.REVERSING, State.ACCEPTED])
def test_what_is_being_reversed_invites_to_nothing(state: State, english: bool) -> None:
    told = debit(row(state, reason=Reason.NO_ANSWER_IN_TIME.value), english=english)
    assert (told.state, told.outcome, told.retry) == (
        api.TRANSACTION_STATE_PENDING,
        api.OUTCOME_PENDING,
        api.RETRY_NEVER,
    )
    assert told.resolves_to == api.TRANSACTION_STATE_REVERSED
    assert told.reason == "NO_ANSWER_IN_TIME"
    for claim in ("is reversed", "charge again,", "已自动冲正", "未扣款", "重新收费"):
        assert claim not in f"{told.message} {told.next_step}"
