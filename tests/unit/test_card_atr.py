"""The historical bytes of an answer to reset, of whatever shape it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import KeyHolder
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region
from yikatong.drivers.card.atr import historical_bytes


@pytest.mark.parametrize(
    ("atr", "historical"),
    [
        ("3B6D0000" + "00815443309999250101000001", "00815443309999250101000001"),  # card-facts §1.1
        ("3B08" + "1122334455667788", "1122334455667788"),
        ("3B00", ""),
        ("3F18" + "94" + "1122334455667788", "1122334455667788"),  # TA1
        ("3BF8" + "11000081" + "31" + "FE" + "45" + "1122334455667788" + "5A", "1122334455667788"),  # to TD2, with TCK
        ("3B88" + "80" + "01" + "1122334455667788" + "99", "1122334455667788"),  # as PC/SC makes it of an ATS
        ("3B68" + "0000" + "1122334455667788" + "AABB", "1122334455667788"),  # something behind it
    ],
)
def test_historical_bytes(atr: str, historical: str) -> None:
    assert historical_bytes(bytes.fromhex(atr)).hex() == historical.lower()


@pytest.mark.parametrize("atr", ["", "3B", "3B01", "3B6D0000", "3BF0", "3B80", "3B8080808080", "3B0F" + "11" * 14])
def test_an_atr_that_is_shorter_than_it_says(atr: str) -> None:
    with pytest.raises(YikatongError) as caught:
        historical_bytes(bytes.fromhex(atr))
    assert caught.value.reason is Reason.CARD_MALFORMED


@given(st.binary(max_size=40))
def test_any_bytes_are_taken_or_refused(atr: bytes) -> None:
    try:
        found = historical_bytes(atr)
    except YikatongError as error:
        assert error.reason is Reason.CARD_MALFORMED
    else:
        assert len(found) == atr[1] & 0x0F
        assert found in atr


def test_keys_are_made_of_the_last_eight() -> None:
    holder = KeyHolder(CardAlgorithm.SM4, bytes.fromhex("00815443309999250101000001"), Region("990001"))
    card, city, province = holder.factors(3)
    assert card.hex() == "9999250101000001"
    assert city.hex() == "3939303030317378"
    assert province.hex() == "3939303030307368"
    assert holder.factors(0) == ()
    assert holder.factors(1) == (card,)
    with pytest.raises(ValueError, match="eight"):
        KeyHolder(CardAlgorithm.SM4, bytes(7), Region("990001"))
