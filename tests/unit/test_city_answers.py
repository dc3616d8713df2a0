"""What a city's core may decline for, as the gateway hears it."""

from __future__ import annotations

import pytest

from yikatong.core.orders import Declined, Unfit
from yikatong.core.reasons import Reason
from yikatong.gateway.city_client import _of_a_city


@pytest.mark.parametrize(
    "reason",
    [Reason.INSUFFICIENT_BALANCE, Reason.VOUCHER_NOT_ACCEPTED, Reason.RESIDENT_ID_NOT_ACCEPTED],
)
def test_a_city_declines_for_what_is_its_own_to_say(reason: Reason) -> None:
    assert _of_a_city(Declined(reason)) == Declined(reason)


@pytest.mark.parametrize("reason", [Reason.VOUCHER_USED, Reason.VOUCHER_INVALID, Reason.TERMINAL_UNKNOWN])
def test_what_only_the_gateway_may_say_does_not_fit(reason: Reason) -> None:
    assert _of_a_city(Declined(reason)) == Unfit()
