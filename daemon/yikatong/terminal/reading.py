"""How cards are read at this terminal, counted by cards and not by attempts.

A bad card that is put in ten times is one card that fails. Which card it is is known by its salted tag, here in memory,
for a day. A card that says nothing is taken for the one before it where that was not seen to leave, or had just failed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from yikatong.core.card import ReadAttempt
from yikatong.core.reasons import Reason
from yikatong.runtime.clock import Clock, accounting_date
from yikatong.terminal.reading_window import Failing, Record, Suspect, Tally, Window

WINDOW_CARDS: Final = 50
"""A window is full with so many, and lasts at least its first day: what was cleaned is soon judged by what it does."""
WINDOW_DAYS: Final = 14
READERS_MAX: Final = 4
RETRY_MS: Final = 60_000
"""Who puts a card in again does so at once."""

_CARDS_KEPT: Final = 2048
_KEPT_MS: Final = 24 * 3600 * 1000
_FAILING: Final = {
    Reason.CARD_MUTE: Failing.MUTE,
    Reason.CARD_REMOVED: Failing.REMOVED,
    Reason.CARD_MALFORMED: Failing.MALFORMED,
    Reason.READER_FAILED: Failing.READER,
}
_ANSWERED: Final = frozenset({Reason.CARD_NEEDS_AUTHENTICATION, Reason.CARD_NOT_GENUINE})
"""It was not read to the end, but reader and chip did what they should. Any other reason says nothing of either."""


@dataclass(slots=True)
class _Card:
    """One card of the last day. `failures`: in how many stays since it was last read."""

    first_ms: int
    counted_in: tuple[Tally, ...]
    failed: bool = False
    read: bool = False
    failures: int = 0
    failed_stay: int = -1

    def fails(self, stay: int) -> bool:
        """Whether it is the first time in this stay."""
        if not self.failed:
            self.failed = True
            for tally in self.counted_in:
                tally.failed += 1
        first, self.failed_stay = self.failed_stay != stay, stay
        self.failures += first
        return first


@dataclass(frozen=True, slots=True)
class _Last:
    """The attempt before."""

    key: bytes
    stay: int
    at_ms: int
    failed: bool
    named: bool


class _Slot:
    """The cards of one reader, by tag; the nameless by a number of their own, which is shorter than any tag."""

    def __init__(self) -> None:
        self.cards: dict[bytes, _Card] = {}
        self.last: _Last | None = None
        self._nameless = 0

    def forget(self, now_ms: int) -> None:
        for key in list(self.cards):
            if now_ms - self.cards[key].first_ms < _KEPT_MS and len(self.cards) <= _CARDS_KEPT:
                break
            del self.cards[key]

    def key(self, attempt: ReadAttempt, now_ms: int) -> bytes:
        """Which card it is."""
        last = self.last
        if last is None or (last.stay != attempt.stay and not (last.failed and now_ms - last.at_ms <= RETRY_MS)):
            return attempt.tag or self._new()
        if not attempt.tag:
            return last.key
        if not last.named and last.key in self.cards and attempt.tag not in self.cards:
            self.cards[attempt.tag] = self.cards.pop(last.key)  # now it has said who it is
            self.last = replace(last, key=attempt.tag)
        return attempt.tag

    def _new(self) -> bytes:
        self._nameless += 1
        return self._nameless.to_bytes(4)


class ReadingBook:
    """Counts for every reader. Used in the event loop alone."""

    def __init__(self, clock: Clock, records: dict[str, Record], *, set_aside: str = "") -> None:
        """Goes on with `records`, by the readers' names, and keeps them up to date.

        `set_aside`: where a record lies that was too damaged to go on with.
        """
        self._clock, self.records, self.set_aside = clock, records, set_aside
        self._slots: dict[str, _Slot] = {}
        self.changed = asyncio.Event()
        """Set at each count."""

    def note(self, attempt: ReadAttempt) -> None:
        failing = _FAILING.get(attempt.failure) if attempt.failure else None
        if attempt.failure is not None and failing is None and attempt.failure not in _ANSWERED:
            return
        now_ms = self._clock.boot_ms()
        slot, window = self._slots.setdefault(attempt.reader, _Slot()), self._window(attempt.reader)
        slot.forget(now_ms)
        key = slot.key(attempt, now_ms)
        card = slot.cards.get(key)
        if card is None:
            batch = window.batch(attempt.batch)
            card = slot.cards[key] = _Card(now_ms, (window.all,) if batch is None else (window.all, batch))
            for tally in card.counted_in:
                tally.cards += 1
        if failing is not None:
            kind = Failing.RESET if attempt.reset else failing
            if card.fails(attempt.stay):
                window.failing[kind] = window.failing.get(kind, 0) + 1
        else:
            card.read, card.failures = True, 0
            if attempt.failure is None:
                window.timed(attempt.read_ms)
        if slot.last is not None and slot.last.failed and slot.last.key == key:
            window.retries += 1
        slot.last = _Last(key, attempt.stay, now_ms, failing is not None, bool(attempt.tag))
        self.changed.set()

    def suspect(self, reader: str) -> Suspect | None:
        """The card that failed last, where it has not been read since."""
        slot = self._slots.get(reader)
        if slot is None or slot.last is None or (card := slot.cards.get(slot.last.key)) is None or not card.failures:
            return None
        return Suspect(card.failures, sum(other.read for other in slot.cards.values() if other is not card))

    def _window(self, reader: str) -> Window:
        today = accounting_date(self._clock.now())
        record = self.records.get(reader)
        if record is None:
            if len(self.records) >= READERS_MAX:
                del self.records[min(self.records, key=lambda name: self.records[name].current.since)]
            record = self.records[reader] = Record(Window(today))
        window = record.current
        days = (date.fromisoformat(today) - date.fromisoformat(window.since)).days
        if days and (window.all.cards >= WINDOW_CARDS or abs(days) >= WINDOW_DAYS):
            record.previous = window if abs(days) < 2 * WINDOW_DAYS else None
            record.current = Window(today)
        return record.current
