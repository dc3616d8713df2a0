"""T=0 and the limits: each link alone, against answers that are written down."""

from __future__ import annotations

import itertools

import pytest

from tests.support.cards import AnswersLink
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card.chain import (
    COMMANDS_MAX,
    ROUNDS_MAX,
    Budget,
    CorrectedLength,
    FetchedResponse,
    Limited,
)

READ = bytes.fromhex("00B2010412")
SELECT = bytes.fromhex("00A4000002EF05")


def _limited(link: AnswersLink, budget: Budget | None = None) -> Limited:
    return Limited(link, budget or Budget(), lambda: 0.0)


def test_a_wrong_length_is_corrected_once() -> None:
    link = AnswersLink(bytes.fromhex("6C0B"), b"\x01" * 11 + b"\x90\x00")
    assert CorrectedLength(link).transmit(READ) == b"\x01" * 11 + b"\x90\x00"
    assert link.sent == [READ, bytes.fromhex("00B201040B")]


def test_a_length_that_is_corrected_twice_is_refused() -> None:
    link = AnswersLink(bytes.fromhex("6C0B"))
    with pytest.raises(YikatongError) as caught:
        CorrectedLength(link).transmit(READ)
    assert caught.value.reason is Reason.CARD_MALFORMED
    assert len(link.sent) == 2


def test_a_command_with_data_is_never_corrected() -> None:
    link = AnswersLink(bytes.fromhex("6C0B"))
    assert CorrectedLength(link).transmit(SELECT) == bytes.fromhex("6C0B")
    assert link.sent == [SELECT]


def test_a_waiting_answer_is_fetched_in_pieces() -> None:
    link = AnswersLink(b"\x61\x02", b"ab\x61\x01", b"c\x90\x00")
    assert FetchedResponse(link).transmit(SELECT) == b"abc\x90\x00"
    assert link.sent == [SELECT, bytes.fromhex("00C0000002"), bytes.fromhex("00C0000001")]


def test_6100_asks_for_256_bytes() -> None:
    link = AnswersLink(b"\x61\x00", bytes(256) + b"\x90\x00")
    assert FetchedResponse(_limited(link)).transmit(SELECT) == bytes(256) + b"\x90\x00"
    assert link.sent[1] == bytes.fromhex("00C0000000")


def test_an_answer_without_end_is_refused() -> None:
    link = AnswersLink(b"\x00" * 8 + b"\x61\x08")
    with pytest.raises(YikatongError) as caught:
        FetchedResponse(link).transmit(SELECT)
    assert caught.value.reason is Reason.CARD_MALFORMED
    assert len(link.sent) == 1 + ROUNDS_MAX


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", Reason.CARD_MUTE),
        (b"\x90", Reason.CARD_MALFORMED),
        (bytes(0x12) + b"\x00\x90\x00", Reason.CARD_MALFORMED),
        (bytes(300), Reason.CARD_MALFORMED),
    ],
    ids=["empty", "one byte", "one byte more than asked", "far too long"],
)
def test_an_answer_of_the_wrong_length(answer: bytes, reason: Reason) -> None:
    with pytest.raises(YikatongError) as caught:
        _limited(AnswersLink(answer)).transmit(READ)
    assert caught.value.reason is reason


def test_an_answer_of_just_the_length_that_was_asked() -> None:
    assert len(_limited(AnswersLink(bytes(0x12) + b"\x90\x00")).transmit(READ)) == 0x14


def test_the_commands_of_a_stay_are_limited() -> None:
    budget = Budget()
    link = AnswersLink(b"\x90\x00")
    for _ in range(COMMANDS_MAX):
        _limited(link, budget).transmit(READ)
    with pytest.raises(YikatongError) as caught:
        _limited(link, budget).transmit(READ)
    assert caught.value.reason is Reason.CARD_MALFORMED
    assert len(link.sent) == COMMANDS_MAX


def test_the_card_time_of_a_stay_is_limited() -> None:
    ticks = itertools.count(step=4)  # each command takes 4 s by this clock
    link = AnswersLink(b"\x90\x00")
    limited = Limited(link, Budget(), lambda: float(next(ticks)))
    for _ in range(4):
        limited.transmit(READ)
    with pytest.raises(YikatongError) as caught:
        limited.transmit(READ)
    assert (caught.value.reason, caught.value.facts) == (Reason.CARD_MALFORMED, {"card_time_ms": 16000})
    assert len(link.sent) == 4


def test_an_atr_longer_than_any_atr_is_refused() -> None:
    link = AnswersLink(b"\x90\x00")
    link.atr = bytes(34)
    with pytest.raises(YikatongError):
        _ = _limited(link).atr
