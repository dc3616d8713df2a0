"""Credits in protobuf and back: the same, or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.rows import order
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.core.credit_orders import CreditAccepted, CreditAnswer, CreditDeclined, Credited, CreditKind, CreditOrder
from yikatong.core.orders import Conflict, Undecided, Unfit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.runtime import wire

DEBIT = order()
REFUND = CreditOrder(TransactionId("t"), CreditKind.REFUND, DEBIT, Fen(100), RequestId("r"), "2026-01-02")
CANCELLATION = CreditOrder(TransactionId("t"), CreditKind.CANCELLATION, DEBIT, DEBIT.amount, RequestId("r"))


@pytest.mark.parametrize("credit", [REFUND, CANCELLATION])
def test_an_order_is_the_same_on_the_other_side(credit: CreditOrder) -> None:
    assert wire.credit_from_wire(wire.credit_to_wire(credit)) == credit


def test_a_method_takes_its_own_kind_alone() -> None:
    assert wire.refund_from_wire(wire.credit_to_wire(REFUND)) == REFUND
    assert wire.cancellation_from_wire(wire.credit_to_wire(CANCELLATION)) == CANCELLATION
    for method, other in ((wire.refund_from_wire, CANCELLATION), (wire.cancellation_from_wire, REFUND)):
        with pytest.raises(YikatongError) as error:
            method(wire.credit_to_wire(other))
        assert error.value.facts == {"field": "kind"}


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        (lambda w: setattr(w, "amount_fen", 101), "fingerprint"),
        (lambda w: setattr(w, "amount_fen", 0), "amount_fen"),
        (lambda w: setattr(w, "request_id", "s"), "fingerprint"),
        (lambda w: setattr(w.original, "amount_fen", 9_000), "fingerprint"),
        (lambda w: setattr(w.original, "institution", "?"), "order"),
    ],
)
def test_what_was_changed_on_the_way_is_refused(damage: Callable[[money.CreditOrder], None], field: str) -> None:
    wired = wire.credit_to_wire(REFUND)
    damage(wired)
    with pytest.raises(YikatongError) as error:
        wire.credit_from_wire(wired)
    assert (error.value.reason, error.value.facts) == (Reason.INVALID_FIELD, {"field": field})


ANSWERS: list[CreditAnswer] = [
    Credited("R", Fen(100), b"f" * 32, "2026-01-02", Fen(3_550), Fen(0)),
    Credited("R", Fen(100), b"f" * 32, "2026-01-02", Fen(0), None),
    CreditDeclined(Reason.NOT_CANCELLABLE),
    CreditDeclined(Reason.REQUEST_ID_REUSED, "other"),
    CreditAccepted(),
    Undecided(),
    Conflict(),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_the_same_on_the_other_side(answer: CreditAnswer) -> None:
    assert wire.credit_answer_from_wire("t", wire.credit_answer_to_wire("t", answer)) == answer


def test_nonsense_is_unfit_and_never_sent() -> None:
    assert wire.credit_answer_from_wire("t", wire.credit_answer_to_wire("u", CreditAccepted())) == Unfit()
    assert wire.credit_answer_from_wire("t", money.CreditAnswer(transaction_id="t")) == Unfit()
    declined = money.CreditAnswer(transaction_id="t", outcome=money.CREDIT_OUTCOME_DECLINED, reason="NO_SUCH_REASON")
    assert wire.credit_answer_from_wire("t", declined) == Unfit()
    with pytest.raises(AssertionError, match="never an answer"):
        wire.credit_answer_to_wire("t", Unfit())
