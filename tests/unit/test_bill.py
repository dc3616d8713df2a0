"""A bill adds up, or it is refused with the field that does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.core.bill import Bill, Fund, Share
from yikatong.core.reasons import Reason, YikatongError

SHARES = st.lists(st.integers(0, 10**6), max_size=4).map(
    lambda amounts: tuple(Share(fund.name, amount) for fund, amount in zip(Fund, amounts, strict=False))
)


@given(SHARES, st.integers(1, 10**6))
def test_a_bill_that_adds_up_is_taken(shares: tuple[Share, ...], debit_fen: int) -> None:
    Bill(shares=shares, total_fen=debit_fen + sum(share.amount_fen for share in shares)).check(debit_fen)


@given(SHARES, st.integers(1, 10**6), st.integers(-10, 10).filter(bool))
def test_a_bill_that_does_not_is_refused(shares: tuple[Share, ...], debit_fen: int, off_fen: int) -> None:
    whole_fen = debit_fen + sum(share.amount_fen for share in shares)
    if whole_fen + off_fen == 0:
        return
    with pytest.raises(YikatongError) as caught:
        Bill(shares=shares, total_fen=whole_fen + off_fen).check(debit_fen)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.facts == {"field": "shares", "sum_fen": whole_fen, "total_fen": whole_fen + off_fen}


def test_shares_need_a_total_and_a_bill_without_either_is_fine() -> None:
    with pytest.raises(YikatongError) as caught:
        Bill(shares=(Share("CASH", 500),)).check(3650)
    assert (caught.value.reason, caught.value.facts) == (Reason.INVALID_FIELD, {"field": "bill_total_fen"})
    Bill().check(3650)
