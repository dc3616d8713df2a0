"""A runner with a real journal, an honest far end, and a desk where the same person stands every time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from tests.support.far_end import FarEnd
from tests.support.rows import PAYER
from yikatong.core.bill import Bill
from yikatong.core.card import CardAlgorithm, CardIdentity
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.session import Granted
from yikatong.core.transaction import Transaction
from yikatong.core.values import PersonName
from yikatong.runtime.clock import SystemClock
from yikatong.runtime.leg import Patience
from yikatong.terminal.desk import Desk, Presented
from yikatong.terminal.events import Hub
from yikatong.terminal.journal import Journal
from yikatong.terminal.live import Limits
from yikatong.terminal.runner import Runner
from yikatong.terminal.session import Session
from yikatong.terminal.stages import Stage
from yikatong.terminal.who_pays import WhoPays

IDENTITY = CardIdentity(
    atr=bytes(17),
    algorithm=CardAlgorithm.TRIPLE_DES,
    identification_code=PAYER.identification_code,
    spec_version="2.00",
    card_number=PAYER.card_number,
    social_security_number=PAYER.social_security_number,
    name=PersonName("张测试"),
    issue_date="2025-01-01",
    expiry_date="2035-01-01",
)


GRANTED = Granted(1, datetime.now(UTC), "P99000200001", "测试药店", "990002", "1", "2", "2026-01-02")


HASTY = Limits(
    Patience(total_s=0.4, call_s=0.3, resend_s=0.02, enquire_s=0.02),
    lambda attempt: 0.02,
    grace_s=0.3,
    ask_later=lambda asked: 0.4,
)


class _Desk:
    """Card and PIN are not the subject here: the same person comes every time, or nobody."""

    def __init__(self) -> None:
        self.gate: asyncio.Event | None = None
        self.refusal: YikatongError | None = None
        self.swapped: YikatongError | None = None
        self.visits = 0

    @asynccontextmanager
    async def identify(
        self, *, wait_ms: int, stage: Callable[[Stage], None], last_try_acknowledged: bool
    ) -> AsyncIterator[Presented]:
        self.visits += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        yield Presented(IDENTITY, self._same_card)

    async def _same_card(self) -> None:
        if self.swapped is not None:
            raise self.swapped


class World:
    def __init__(self, folder: Path, far_end: FarEnd) -> None:
        self.far_end, self.desk, self.left = far_end, _Desk(), list[Reason]()
        self.journal = Journal(folder / "journal.db")
        self.session = SimpleNamespace(
            terminal_id="P99000200001-01", fenced=False, require=lambda: GRANTED, fence=lambda: None
        )
        self.runner = Runner(
            self.journal,
            far_end,
            cast("Session", self.session),
            WhoPays(cast("Desk", self.desk)),
            Hub(),
            SystemClock(),
            leave=self.left.append,
            limits=HASTY,
        )

    async def debit(self, asked: Transaction, patience_s: float | None = None) -> Transaction:
        return await self.runner.debit(asked, Bill(), wait_ms=0, patience_s=patience_s)

    async def settled(self, row: Transaction) -> Transaction:
        """The row once nothing more happens to it."""
        async with asyncio.timeout(5):
            while (live := self.runner._live.get(row.transaction_id)) is not None:
                await live.changed.wait()
        found = await self.journal.by_id(row.transaction_id)
        assert found is not None
        return found

    async def close(self) -> None:
        await self.runner.close()
        await self.journal.close()


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until it is so."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def fresh(folder: Path) -> AsyncIterator[World]:
    made = World(folder, FarEnd())
    yield made
    await made.close()


@asynccontextmanager
async def restarted(world: World, folder: Path) -> AsyncIterator[World]:
    """The same disk and the same far end under a new daemon."""
    await world.close()
    made = World(folder, world.far_end)
    await made.runner.recover()
    try:
        yield made
    finally:
        await made.close()
