"""What happens at the terminal, for everybody who watches: card, stage, transaction, readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from yikatong.core.card import ReaderState
from yikatong.core.credit_transaction import Credit
from yikatong.core.transaction import Transaction

_BACKLOG_MAX = 256


class Stage(Enum):
    """Which party we are waiting for; the value is the prompt (zh, en)."""

    WAITING_FOR_CARD = ("请插入社会保障卡。", "Insert the social security card.")
    READING_CARD = ("正在读卡，请勿取出。", "Reading the card; leave it in.")
    WAITING_FOR_PIN = ("请在密码键盘上输入社会保障卡密码。", "Enter the social security PIN on the keypad.")
    ASKING_CITY = ("正在向参保地扣款，请稍候。", "Asking the home city for the debit; please wait.")
    REVERSING = (
        "结果不明，正在自动冲正，请勿重复收费。",
        "The outcome is unknown and is being reversed; do not charge again.",
    )
    DONE = ("交易结束，请取卡。", "Done; take the card.")


@dataclass(frozen=True, slots=True)
class StageReached:
    request_id: str
    stage: Stage


@dataclass(frozen=True, slots=True)
class Readiness:
    """`reason` is empty where debits are taken."""

    reason: str


Happening = ReaderState | StageReached | Transaction | Credit | Readiness


class Hub:
    """Hands each happening to every watcher. One who does not keep up loses the oldest, never holds up the rest."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Queue[Happening]] = set()

    def tell(self, happening: Happening) -> None:
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
