"""An order as it travels: what does not fit it is not believed, at either end of a leg."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.far_end import CITY
from tests.support.rows import PAYER, order, row
from yikatong.core.orders import Declined, Posted, Purpose, Unfit, fitting
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import (
    CardIdentificationCode,
    CardNumber,
    Fen,
    Institution,
    Region,
    RequestId,
    SocialSecurityNumber,
    TerminalId,
    TransactionId,
)
from yikatong.runtime import wire

ORDER = order()
GOLDEN = "56fb15b01cfebba7fe0a299a22c5f94298aa2dda4a83fbe466e2e613a1bc918f"
"""As computed before there was another way to pay than with the card."""


def posted(**changes: Any) -> Posted:
    known: dict[str, Any] = {"amount": ORDER.amount, "fingerprint": ORDER.fingerprint, **changes}
    return Posted("R", balance=Fen(1), city=CITY, accounting_date="2026-01-02", **known)


def test_an_approval_of_something_else_is_no_approval() -> None:
    assert fitting(ORDER, posted()) == posted()
    assert fitting(ORDER, posted(amount=ORDER.amount + Fen(1))) == Unfit()
    assert fitting(ORDER, posted(fingerprint=bytes(32))) == Unfit()
    assert fitting(ORDER, Declined(Reason.LIMIT_EXCEEDED)) == Declined(Reason.LIMIT_EXCEEDED)


@pytest.mark.parametrize(
    "change",
    [
        {"transaction_id": TransactionId("0" * 36)},
        {"institution": Institution("P99000200002")},
        {"terminal_id": TerminalId("another")},
        {"treatment_region": Region("990003")},
        {"request_id": RequestId("another")},
        {"order_no": "another"},
        {"order_part": "2"},
        {"amount": Fen(3651)},
        {"purpose": Purpose.OUTPATIENT_BILL},
        {"payer": replace(PAYER, social_security_number=SocialSecurityNumber("110101190001010022"))},
        {"payer": replace(PAYER, card_number=CardNumber("T9"))},
        {"payer": replace(PAYER, identification_code=CardIdentificationCode(bytes(16)))},
        {"payer": replace(PAYER, card_region=Region("990003"))},
    ],
)
def test_all_that_money_depends_on_is_in_the_fingerprint(change: dict[str, Any]) -> None:
    base: dict[str, Any] = {name: getattr(ORDER, name) for name in ("transaction_id", "request_id", "order_no")}
    assert order(**base).fingerprint == ORDER.fingerprint
    assert order(**{**base, **change}).fingerprint != ORDER.fingerprint


def test_an_order_that_was_changed_on_its_way_is_refused() -> None:
    wired = wire.order_to_wire(ORDER)
    assert wire.order_from_wire(wired) == ORDER
    wired.amount_fen += 1
    with pytest.raises(YikatongError) as caught:
        wire.order_from_wire(wired)
    assert (caught.value.reason, caught.value.facts["field"]) == (Reason.INVALID_FIELD, "fingerprint")


@pytest.mark.parametrize("count", [0, -1])
def test_a_debit_is_more_than_nothing(count: int) -> None:
    with pytest.raises(ValueError, match="more than nothing"):
        order(amount=Fen(count))


def test_the_fingerprint_of_a_card_order_never_changes() -> None:
    """Ledgers and journals hold such fingerprints: an order from before must still fit its own."""
    fixed = order(
        transaction_id=TransactionId("01890000-0000-7000-8000-000000000001"),
        request_id=RequestId("request-1"),
        order_no="order-1",
    )
    assert fixed.fingerprint.hex() == GOLDEN


def test_a_decline_says_which_city_found_it_out_where_one_did() -> None:
    refused = row().refused(Declined(Reason.INSUFFICIENT_BALANCE, city=CITY))
    assert (refused.home_region, refused.home_city_zh, refused.home_city_en) == ("990001", "甲市", "City A")
    assert row().refused(Declined(Reason.LIMIT_EXCEEDED, "other")).other_transaction == "other"
