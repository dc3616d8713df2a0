"""A short day of the fuzzing that is done by hand (`python -m tests.fuzz.cards`), and that it would notice."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import cards
from tests.support.cards import AnswersLink
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import text, tlv
from yikatong.drivers.card.chain import ATR_BYTES_MAX, RESPONSE_BYTES_MAX, Budget, FetchedResponse, Limited

TAGS = (0x01, 0x03, 0x05, 0x06, 0x07, 0x08, 0x09, 0x4E)
VALUES = (
    text.identification_code,
    text.spec_version,
    text.calendar_date,
    text.card_number,
    text.social_security_number,
)


@pytest.mark.parametrize("parser", cards.parsers())
def test_every_input_is_taken_or_refused(parser: str) -> None:
    tally = cards.run(cards.parsers()[parser], 3000, seed=7)
    assert tally.inputs == 3000
    assert 0 < tally.values < tally.inputs, "an input that is never taken, or never refused, tests nothing"


def test_a_defect_would_be_noticed() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        cards.run(lambda dice: lambda: 1 // dice.randrange(100), 1000, seed=7)
    assert caught.value.__notes__


def test_a_seed_decides_every_input() -> None:
    make = cards.parsers()["reads"]
    once, again = (cards.run(make, 200, seed=3) for _ in range(2))
    assert (once.values, once.inputs) == (again.values, again.inputs)
    assert [cards.tree(random.Random(5)) for _ in range(3)] == [cards.tree(random.Random(5))] * 3


@given(st.sampled_from(TAGS), st.binary(max_size=260))
@settings(max_examples=300, deadline=None)
def test_any_record_is_a_value_or_malformed(tag: int, record: bytes) -> None:
    for parse in VALUES:
        for whole in (record, bytes((tag, len(record) & 0xFF)) + record):
            try:
                parse(tlv.record_value(whole, tag))
            except YikatongError as error:
                assert error.reason is Reason.CARD_MALFORMED


@given(st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_atr_is_one_or_malformed(atr: bytes) -> None:
    link = AnswersLink(b"\x90\x00")
    link.atr = atr
    limited = Limited(link, Budget(), lambda: 0.0)
    with pytest.raises(YikatongError) if len(atr) > ATR_BYTES_MAX else contextlib.nullcontext():
        assert limited.atr == atr


def test_an_answer_in_large_pieces_ends_too() -> None:
    """A reader that fetches by itself may hand over more at once than a card can."""
    link = AnswersLink(bytes(5000) + b"\x61\x00")
    with pytest.raises(YikatongError) as caught:
        FetchedResponse(link).transmit(bytes.fromhex("00A4000002EF05"))
    assert caught.value.reason is Reason.CARD_MALFORMED
    assert len(link.sent) == RESPONSE_BYTES_MAX // 5000 + 1
