"""Counts of reads: by cards and not by attempts, for a while and not for ever, and nobody in them."""

from __future__ import annotations

import re

import msgspec
import pytest

from tests.support.reads import BATCH, OTHER, READER, Window
from yikatong.core.card import CardBatch, ReadAttempt
from yikatong.core.reasons import Reason
from yikatong.core.values import ReaderName
from yikatong.terminal import reading
from yikatong.terminal.reading import READERS_MAX, WINDOW_CARDS
from yikatong.terminal.reading_window import BATCHES_MAX, TIMES_MS, Failing, Suspect, Tally
from yikatong.terminal.reading_window import Window as Counted

MUTE = Reason.CARD_MUTE


def test_good_reads() -> None:
    window = Window()
    for read_ms in (100, 250, 251, 400, 20_000):
        window.comes(read_ms=read_ms)
    counted = window.record.current
    assert (counted.since, counted.all, counted.reads, counted.failing) == ("2026-11-22", Tally(5, 0), 5, {})
    assert counted.times == [2, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert counted.median_ms == 500
    assert counted.batches == {"371000/2.00/00815443308699": Tally(5, 0)}


@pytest.mark.parametrize(
    ("failure", "reset", "kind"),
    [
        (Reason.CARD_MUTE, False, Failing.MUTE),
        (Reason.CARD_REMOVED, False, Failing.REMOVED),
        (Reason.CARD_REMOVED, True, Failing.RESET),
        (Reason.CARD_MALFORMED, False, Failing.MALFORMED),
        (Reason.READER_FAILED, False, Failing.READER),
    ],
)
def test_each_kind_of_failure(failure: Reason, reset: bool, kind: Failing) -> None:
    window = Window()
    window.comes()
    window.comes(failure, reset=reset)
    counted = window.record.current
    assert (counted.all, counted.failing, counted.reads) == (Tally(2, 1), {kind: 1}, 1)


def test_what_says_nothing_of_reader_and_card_is_not_counted() -> None:
    window = Window()
    for failure in set(Reason) - {MUTE, Reason.CARD_REMOVED, Reason.CARD_MALFORMED, Reason.READER_FAILED}:
        window.comes(failure)
    counted = window.record.current  # two of them: the card has answered well, and wants a key
    assert (counted.all, counted.reads, counted.failing) == (Tally(2, 0), 0, {})


def test_a_bad_card_put_in_ten_times_is_one_card() -> None:
    window = Window()
    for minutes in (2, 0.1, 0.1, 30, 0.5, 120, 0.2, 0.2, 0.2, 5):
        window.comes(Reason.CARD_MALFORMED, card="bad", minutes=minutes)
    counted = window.record.current
    assert (counted.all, counted.failing, counted.retries) == (Tally(1, 1), {Failing.MALFORMED: 10}, 9)


def test_a_silent_card_put_in_again_and_again_is_one_card() -> None:
    """It has no tag; that it comes within a minute says that it is the same."""
    window = Window()
    for minutes in (2, 0.2, 0.5, 0.9):
        window.comes(MUTE, card=None, minutes=minutes)
    assert window.record.current.all == Tally(1, 1)
    window.comes(MUTE, card=None, minutes=1.1)
    assert window.record.current.all == Tally(2, 2)


def test_a_silent_card_that_lies_in_the_slot_is_one_card_however_often_doctor_asks() -> None:
    window = Window()
    window.comes(MUTE, card=None)
    for _ in range(20):
        window.comes(MUTE, card=None, minutes=10, stays=True)
    counted = window.record.current
    assert (counted.all, counted.failing, counted.retries) == (Tally(1, 1), {Failing.MUTE: 1}, 20)


def test_a_card_that_is_wiped_and_then_read_is_one_card_that_failed() -> None:
    window = Window()
    window.comes(MUTE, card=None)
    window.comes(card="dirty", minutes=0.3)
    window.comes(card="dirty", minutes=60)
    counted = window.record.current
    assert (counted.all, counted.reads, counted.retries) == (Tally(1, 1), 2, 1)
    window.comes(card="another", minutes=0.3)
    assert counted.all == Tally(2, 1)


def test_a_silent_card_behind_one_that_was_read_is_another() -> None:
    window = Window()
    window.comes(card="good")
    window.comes(MUTE, card=None, minutes=0.2)
    assert window.record.current.all == Tally(2, 1)


def test_a_card_that_falls_silent_while_it_lies_there_is_the_same() -> None:
    window = Window()
    window.comes(card="good")
    window.comes(MUTE, card=None, stays=True)
    window.comes(card="good", stays=True)
    counted = window.record.current
    assert (counted.all, counted.reads, counted.retries) == (Tally(1, 1), 2, 1)


def test_the_same_card_counts_again_after_a_day() -> None:
    window = Window()
    window.comes(MUTE, card="bad")
    window.comes(card="good")
    window.clock.on(hours=23)
    window.comes(MUTE, card="bad")
    assert window.record.all().all == Tally(2, 1)
    window.clock.on(hours=2)
    window.comes(MUTE, card="bad")
    assert window.record.all().all == Tally(3, 2)


def test_tags_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_CARDS_KEPT", 10)
    window = Window()
    window.day(50)
    assert len(window.book._slots[READER].cards) <= 11


# --- windows --------------------------------------------------------------------------------------------------------


def test_a_window_ends_when_it_is_full_but_not_on_its_first_day() -> None:
    window = Window()
    window.day(WINDOW_CARDS + 9, 5)
    assert (window.record.current.since, window.record.previous) == ("2026-11-22", None)
    window.clock.on(days=1)
    window.comes()
    assert window.record.current.since == "2026-11-23"
    assert window.record.previous is not None
    assert window.record.previous.all == Tally(59, 5)
    together = window.record.all()
    assert (together.since, together.all, together.reads) == ("2026-11-22", Tally(60, 5), 55)
    assert together.failing[Failing.MUTE] == 5
    assert sum(together.times) == 55
    assert together.batches == {"371000/2.00/00815443308699": Tally(60, 5)}


def test_an_old_window_ends_with_few_cards_and_a_very_old_one_is_forgotten() -> None:
    window = Window()
    window.day(3, 1)
    window.clock.on(days=14)
    window.comes()
    assert window.record.previous is not None
    assert window.record.current.all == Tally(1, 0)
    window.clock.on(days=40)
    window.comes()
    assert window.record.previous is None


def test_a_clock_that_was_set_back_begins_a_window_and_breaks_nothing() -> None:
    window = Window()
    window.day(WINDOW_CARDS)
    window.clock.on(days=-400)
    window.comes()
    assert window.record.current.since == "2025-10-18"
    assert window.record.previous is None


def test_a_card_that_fails_after_the_window_ended_stays_in_its_window() -> None:
    window = Window()
    window.day(WINDOW_CARDS)
    window.comes(card="late", minutes=60 * 11)  # ten at night in China
    window.clock.on(hours=3)
    window.comes(MUTE, card="late")
    assert window.record.current.since == "2026-11-23"
    assert window.record.current.all == Tally(0, 0)
    assert window.record.previous is not None
    assert window.record.previous.all == Tally(WINDOW_CARDS + 1, 1)


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_batches_are_few_and_a_batch_without_a_chip_is_none() -> None:
    window = Window()
    for number in range(BATCHES_MAX + 20):
        window.comes(batch=CardBatch(f"{370000 + number}", "2.00", BATCH.chip))
    window.comes(batch=CardBatch("371000", "2.00", ""))
    counted = window.record.current
    assert (counted.all.cards, len(counted.batches)) == (BATCHES_MAX + 21, BATCHES_MAX)
    window.comes(batch=CardBatch("370000", "2.00", BATCH.chip))
    assert counted.batches[f"370000/2.00/{BATCH.chip}"] == Tally(2, 0)


def test_readers_are_few() -> None:
    window = Window()
    for number in range(READERS_MAX + 2):
        window.clock.on(days=1)
        window.book.note(ReadAttempt(ReaderName(f"reader {number}"), 1, batch=BATCH, tag=b"card"))
    assert list(window.book.records) == [f"reader {number}" for number in range(2, READERS_MAX + 2)]


def test_what_is_kept_names_nobody() -> None:
    window = Window()
    window.comes(card="990001197001010017")
    window.comes(MUTE, card="T0000001X", batch=OTHER)
    kept = msgspec.json.encode(window.book.records).decode()
    assert not re.search(r"99000119|T0000001|\b[0-9a-f]{16}\b", kept)
    assert "370200/3.00/00904A30018660" in kept


# --- the card that failed last --------------------------------------------------------------------------------------


def test_a_suspect_is_the_card_that_failed_last_and_was_not_read_since() -> None:
    window = Window()
    assert window.book.suspect(READER) is None
    window.day(6)
    assert window.book.suspect(READER) is None
    for _ in range(3):
        window.comes(Reason.CARD_MALFORMED, card="bad", minutes=0.5)
    assert window.book.suspect(READER) == Suspect(3, 6)
    window.comes(card="bad", minutes=0.5)
    assert window.book.suspect(READER) is None
    window.comes(Reason.CARD_MALFORMED, card="bad", minutes=0.5)
    assert window.book.suspect(READER) == Suspect(1, 6)


def test_failing_again_without_being_taken_out_is_failing_once() -> None:
    window = Window()
    for _ in range(5):
        window.comes(Reason.CARD_MALFORMED, card="bad", stays=True)
    assert window.book.suspect(READER) == Suspect(1, 0)


def test_a_suspect_is_forgotten_with_the_day() -> None:
    window = Window()
    window.comes(MUTE, card="bad")
    window.clock.on(hours=25)
    window.comes()
    assert window.book.suspect(READER) is None


def test_the_median_of_nothing_and_of_the_slowest() -> None:
    assert Counted("2026-11-22").median_ms == 0
    slow = Counted("2026-11-22")
    slow.timed(60_000)
    assert slow.median_ms == 0
    assert len(slow.times) == len(TIMES_MS) + 1
