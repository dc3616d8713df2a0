"""What this terminal has learned of cards' PINs, in the journal's file: it has to outlive a restart."""

from __future__ import annotations

from typing import Final, TypeVar

import apsw

from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.store import DurableStore, Job, StoreFailed

T = TypeVar("T")

CARDS_MAX: Final = 1_000
"""So many cards are remembered, those last seen. A right PIN ends it: most cards are never in here."""

_TABLE: Final = "CREATE TABLE IF NOT EXISTS pin_tries(tag TEXT NOT NULL UNIQUE, tries_left INTEGER NOT NULL) STRICT"
_OLDEST: Final = "DELETE FROM pin_tries WHERE rowid NOT IN (SELECT rowid FROM pin_tries ORDER BY rowid DESC LIMIT ?)"


class PinBook:
    """How many tries are left at most, by the card's tag (`Vault.card_tag`). No PIN and no number of a card is in it.

    Raises YikatongError JOURNAL_UNAVAILABLE.
    """

    def __init__(self, store: DurableStore) -> None:
        self._store = store

    async def tries_left(self, tag: str) -> int | None:
        """None where nothing is known."""

        def job(connection: apsw.Connection) -> int | None:
            connection.execute(_TABLE)
            found = connection.execute("SELECT tries_left FROM pin_tries WHERE tag=?", (tag,)).fetchone()
            return int(found[0]) if found else None

        return await self._do(job)

    async def note(self, tag: str, tries_left: int | None) -> None:
        """Durable when it returns; None: nothing is known of the card any more."""

        def job(connection: apsw.Connection) -> None:
            connection.execute(_TABLE)
            if tries_left is None:
                connection.execute("DELETE FROM pin_tries WHERE tag=?", (tag,))
            else:  # replaced, it is the newest
                connection.execute("INSERT OR REPLACE INTO pin_tries VALUES(?,?)", (tag, tries_left))
                connection.execute(_OLDEST, (CARDS_MAX,))

        await self._do(job)

    async def _do(self, job: Job[T]) -> T:
        try:
            return await self._store.commit(job)
        except StoreFailed as error:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, str(error)) from error
