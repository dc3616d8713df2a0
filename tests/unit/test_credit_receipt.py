"""What is printed of a cancellation or a refund: nothing is called given back before it is, and where the money is."""

from __future__ import annotations

from typing import Any

import pytest

from yikatong.core.credit_orders import Credited, CreditKind
from yikatong.core.credit_receipt import credit_receipt
from yikatong.core.credit_table import CreditState
from yikatong.core.credit_transaction import Credit
from yikatong.core.reasons import MEANING, Reason
from yikatong.core.receipt import WIDTH, Issuer, as_text, columns
from yikatong.core.values import Fen, RequestId, TransactionId

ISSUER = Issuer("测试药店", "P99000200001-01", "12393", "0531-0000000")
CREDITED = Credited("371000-9", Fen(650), bytes(32), "2026-01-02", Fen(3_000), Fen(97_000))


def credit(state: CreditState, **changes: Any) -> Credit:
    known: dict[str, Any] = {
        "kind": CreditKind.REFUND,
        "order_no": "RX-1",
        "amount_fen": 650,
        "original_amount_fen": 3_650,
        "created_at": "2026-01-02T03:04:05+00:00",
    }
    return Credit(
        transaction_id=TransactionId("t"),
        request_id=RequestId("r"),
        original=TransactionId("o"),
        state=state,
        **{**known, **changes},
    )


def text(row: Credit) -> str:
    printed = as_text(credit_receipt(row, ISSUER))
    assert all(columns(line) <= WIDTH for line in printed.splitlines())
    return printed.replace("\n  ", "")


@pytest.mark.parametrize("kind", CreditKind)
@pytest.mark.parametrize("state", CreditState)
def test_only_what_is_back_is_called_given_back(state: CreditState, kind: CreditKind) -> None:
    printed = text(credit(state, kind=kind))
    approved, declined = state is CreditState.APPROVED, state is CreditState.DECLINED
    assert ("退回金额 Given back: 6.50 元" in printed) is approved
    assert ("申请金额 Requested: 6.50 元" in printed) is not approved
    assert ("已退回 / Credited" in printed) is approved
    assert ("尚可退 Still refundable" in printed) is approved
    assert ("未退回证明" in printed) is declined
    assert ("撤销凭条" in printed) is (not declined and kind is CreditKind.CANCELLATION)
    assert ("退费凭条" in printed) is (not declined and kind is CreditKind.REFUND)
    assert ("以参保地结果为准" in printed) is (not approved and not declined)


def test_money_that_is_back_is_in_the_account_or_in_suspense() -> None:
    back = credit(CreditState.APPROVED).learned(CREDITED)
    assert not back.in_suspense
    for shown in (
        "尚可退 Still refundable: 30.00 元",
        "账户余额 Balance: 970.00 元",
        "Reference: 371000-9",
        "2026-01-02",
    ):
        assert shown in text(back)
    closed = Credited("R", Fen(650), bytes(32), "2026-01-02", Fen(0), None)
    kept = credit(CreditState.APPROVED).learned(closed)
    assert kept.in_suspense
    assert "款项暂存参保地" in text(kept)
    assert "账户余额" not in text(kept)
    assert not any(credit(state).in_suspense for state in CreditState if state is not CreditState.APPROVED)


def test_why_it_was_declined_is_said_in_both_languages() -> None:
    printed = text(credit(CreditState.DECLINED, reason=Reason.REFUND_EXCEEDS_DEBIT.value, order_part="2"))
    meaning = MEANING[Reason.REFUND_EXCEEDS_DEBIT]
    for shown in ("REFUND_EXCEEDS_DEBIT", meaning.zh, meaning.en, meaning.next_zh, meaning.next_en, "RX-1 (2)"):
        assert shown in printed
