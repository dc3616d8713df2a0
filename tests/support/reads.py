"""Attempts to read cards, one after the other, as a reader tells them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from yikatong.core.card import CardBatch, ReadAttempt
from yikatong.core.reasons import Reason
from yikatong.core.values import ReaderName
from yikatong.terminal.reading import ReadingBook
from yikatong.terminal.reading_window import Record

READER = ReaderName("Virtual PCD 00 00")
BATCH = CardBatch("371000", "2.00", "00815443308699")
OTHER = CardBatch("370200", "3.00", "00904A30018660")


class Hours:
    """A clock that a test moves on."""

    boot_id = "boot"

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
        self._began = self.at

    def now(self) -> datetime:
        return self.at

    def boot_ms(self) -> int:
        return int((self.at - self._began).total_seconds() * 1000)

    def on(self, **span: float) -> None:
        self.at += timedelta(**span)


class Window:
    """One reader and those who come to it: each card leaves before the next one comes, two minutes later."""

    def __init__(self, records: dict[str, Record] | None = None) -> None:
        self.clock = Hours()
        self.book = ReadingBook(self.clock, records if records is not None else {})
        self._stay = 0
        self._people = 0

    @property
    def record(self) -> Record:
        return self.book.records[READER]

    def comes(
        self,
        failure: Reason | None = None,
        *,
        card: str | None = "",
        batch: CardBatch = BATCH,
        reset: bool = False,
        read_ms: int = 400,
        minutes: float = 2,
        stays: bool = False,
    ) -> None:
        """One attempt. `card`: which one, a new one where it is empty; None: it says nothing about itself."""
        self.clock.on(minutes=minutes)
        self._stay += not stays
        if card == "":
            self._people += 1
            card = f"person {self._people}"
        tag = card.encode() if card is not None else b""
        known = batch if card is not None else CardBatch(chip=batch.chip)
        self.book.note(ReadAttempt(READER, self._stay, failure, reset, 0 if failure else read_ms, known, tag))

    def day(self, cards: int, failing: int = 0, *, batch: CardBatch = BATCH) -> None:
        for number in range(cards):
            self.comes(Reason.CARD_MUTE if number < failing else None, batch=batch)
