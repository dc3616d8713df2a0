"""What happens at the terminal, for everybody who watches: card, stage, transaction, readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from yikatong.core.card import ReaderState
from yikatong.core.credit_transaction import Credit
from yikatong.core.transaction import Transaction
from yikatong.core.values import TransactionId
from yikatong.terminal.stages import Stage, StageReached
from yikatong.terminal.usual import Usual

_BACKLOG_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Readiness:
    """`reason` is empty where debits are taken."""

    reason: str


Happening = ReaderState | StageReached | Transaction | Credit | Readiness


class Hub:
    """Hands each happening to every watcher. One who does not keep up loses the oldest, never holds up the rest.

    It keeps the present stage of each transaction, for those who come later, and learns from them what is usual.
    """

    def __init__(self) -> None:
        self.usual = Usual()
        self._watchers: set[asyncio.Queue[Happening]] = set()
        self._present: dict[TransactionId, StageReached] = {}

    def tell(self, happening: Happening) -> None:
        match happening:
            case StageReached() if not self._moves_on(happening):
                return
            case Transaction():
                self.usual.meet(happening)
        for watcher in self._watchers:
            if watcher.full():
                watcher.get_nowait()
            watcher.put_nowait(happening)

    @contextmanager
    def watching(self) -> Iterator[asyncio.Queue[Happening]]:
        """A queue that gets everything from now on."""
        queue: asyncio.Queue[Happening] = asyncio.Queue(_BACKLOG_MAX)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    def present(self) -> list[StageReached]:
        """Where each transaction that is under way stands now, oldest first."""
        return list(self._present.values())

    def _moves_on(self, reached: StageReached) -> bool:
        """Keeps the stage. False where the transaction was in that stage already, since when it is kept."""
        key = reached.row.transaction_id
        before = self._present.get(key)
        if before is not None and before.stage is reached.stage:
            self._present[key] = replace(before, row=reached.row)
            return False
        if before is not None:
            self.usual.passed(before, reached)
        if reached.stage is Stage.DONE:
            self._present.pop(key, None)
        else:
            self._present[key] = reached
        return True
