"""What is printed and shown of a debit: no reversal before it is proven, no "charge again" while it is open."""

from __future__ import annotations

import pytest

from tests.support.rows import row
from yikatong.core.bill import Bill
from yikatong.core.orders import ReversalCause
from yikatong.core.reasons import MEANING, Reason
from yikatong.core.receipt import WIDTH, Issuer, as_text, columns, explanation, receipt
from yikatong.core.terminal_table import State, verdict

ISSUER = Issuer("测试药店", "P99000200001-01", "12393", "0531-0000000")
REASONS = [cause.value for cause in ReversalCause]


def text(state: State, reason: Reason | None = None) -> str:
    made = row(state, reason=reason.value if reason else "", created_at="2026-01-02T03:04:05+00:00")
    return as_text(receipt(made, Bill(), ISSUER))


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("state", [State.REVERSING, State.ACCEPTED])
def test_what_is_being_reversed_is_not_called_reversed(state: State, reason: Reason) -> None:
    printed, meaning = text(state, reason), MEANING[reason]
    flat = printed.replace("\n  ", "")
    for claim in (meaning.zh, meaning.en, meaning.next_zh, meaning.next_en):
        assert claim not in flat
    assert "可改收现金" in flat
    assert reason.value in flat
    said = explanation(verdict(state), reason)
    assert said is not None
    for claim in ("已自动冲正", "未扣款", "重新收费"):
        assert claim not in said.zh + said.next_zh


@pytest.mark.parametrize("reason", REASONS)
def test_what_is_reversed_says_why(reason: Reason) -> None:
    printed = text(State.REVERSED, reason).replace("\n  ", "")
    assert MEANING[reason].zh in printed
    assert "冲正凭条" in printed


@pytest.mark.parametrize("state", [State.SENT, State.MANUAL])
def test_what_is_open_says_not_to_charge_again(state: State) -> None:
    printed = text(state, Reason.NEEDS_OPERATOR if state is State.MANUAL else None)
    assert "不要重复收费" in printed or "请勿重复收费" in printed
    assert "未扣款" not in printed


@pytest.mark.parametrize("state", list(State))
def test_every_state_fits_on_paper(state: State) -> None:
    assert all(columns(line) <= WIDTH for line in text(state, Reason.NO_ANSWER_IN_TIME).splitlines())
    assert (explanation(verdict(state), None) is None) == (
        state in {State.APPROVED, State.HELD, State.DECLINED, State.REVERSED, State.ABORTED}
    )
