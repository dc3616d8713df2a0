"""What was open when this process started, for the first screen after a power cut."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from yikatong.core.credit_transaction import Credit
from yikatong.core.transaction import Transaction
from yikatong.core.values import TransactionId
from yikatong.core.words import Word, word
from yikatong.runtime.clock import Clock
from yikatong.terminal.journal import Journal

_KEPT: Final = timedelta(days=1)


def still_news(rows: Iterable[Transaction | Credit], now: datetime) -> list[TransactionId]:
    """Those that an earlier start had found open and that were settled since, within a day: power may fail twice."""
    return [
        row.transaction_id
        for row in rows
        if row.recovered
        and word(row) is not Word.BEING_SETTLED
        and abs(now - datetime.fromisoformat(row.decided_at)) < _KEPT
    ]


class Recovered:
    """The bills that the last run left open, each until somebody has asked how it ended, or for a day.

    `found`: debits without an outcome, or whose confirmation the far end has not acknowledged, and undecided credits.
    Only ids are kept: how a bill stands is always what the journal says.
    """

    def __init__(self, journal: Journal, clock: Clock, found: Iterable[TransactionId]) -> None:
        self._journal, self._clock = journal, clock
        self._ids = list(found)
        self.started_at, self._started_boot_ms = clock.now(), clock.boot_ms()

    async def rows(self) -> list[Transaction | Credit]:
        """How each of them stands now, oldest first."""
        old = timedelta(milliseconds=self._clock.boot_ms() - self._started_boot_ms) > _KEPT
        rows: list[Transaction | Credit] = []
        for transaction_id in list(self._ids):
            row = await self._journal.by_id(transaction_id) or await self._journal.credits.by_id(transaction_id)
            assert row is not None, "the journal keeps what it had"
            if old and word(row) is not Word.BEING_SETTLED:
                self._ids.remove(transaction_id)
            else:
                rows.append(row)
        return rows

    def heard(self, row: Transaction | Credit) -> None:
        """Somebody has asked for this transaction alone and was told: what is settled is no news any more."""
        if row.transaction_id in self._ids and word(row) is not Word.BEING_SETTLED:
            self._ids.remove(row.transaction_id)
