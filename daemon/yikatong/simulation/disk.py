"""Stores in virtual time: real SQLite files with the shipped settings, in line instead of a thread.

A commit takes a while; its process may die right before or right after it. What was committed is in the file at the
next start, what was not never is. Batches are as in the shipped store: what waits shares the next commit.

A file is opened once, and stays open over the deaths of its processes, for speed: no simulated death is a power cut,
and what a start finds in a file after one is the business of the disk that loses power (`simulators.power_loss`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from yikatong.runtime.store import Asked, Job, Outcome, StoreFailed, carry_out, open_file
from yikatong.simulation.chance import Chance
from yikatong.simulation.loop import Life
from yikatong.simulation.points import commit_point

T = TypeVar("T")
U = TypeVar("U")

_QUICK_S = (0.0002, 0.004)
_SLOW_S = (0.05, 3.0)
_empty: dict[str, bytes] = {}
"""The file as the shipped code makes it at its first start, by schema: to make it anew for every seed takes long."""


def open_fresh(path: Path, application_id: int, version: int, schema: str) -> apsw.Connection:
    """Opens a new store's file with the shipped settings and schema."""
    if (image := _empty.get(schema)) is None:
        open_file(path, application_id, version, schema).close()
        image = _empty[schema] = path.read_bytes()
    path.write_bytes(image)
    return open_file(path, application_id, version, schema)


class SimulatedStore:
    """A DurableStore of one process's run."""

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        life: Life,
        chance: Chance,
        committed: Callable[[apsw.Connection], None],
        failed: Callable[[], None],
    ) -> None:
        """`committed` is called after each commit, and may look at the file; `failed` after one that is unknown."""
        if connection.in_transaction:  # left by a process that died of a failure in the middle
            connection.execute("ROLLBACK")
        self.connection = connection
        self.life, self._chance, self._committed, self._failed = life, chance, committed, failed
        self._queue: list[Asked] = []
        self._busy = False
        self.failed = False

    async def commit(self, job: Job[T]) -> T:
        return await self.commit_then(job, lambda result: result)

    async def commit_then(self, job: Job[T], then: Callable[[T], U]) -> U:
        if self.failed:
            raise StoreFailed("the store has failed before")
        slip: asyncio.Future[U] = asyncio.get_running_loop().create_future()
        self._queue.append(Asked(slip, job, then))
        if not self._busy:
            self._busy = True
            self._start()
        return await slip

    async def look(self, job: Job[T]) -> T:
        """As the shipped store: at once where nothing is queued or on its way."""
        if self._busy:
            return await self.commit(job)
        if self.failed:
            raise StoreFailed("the store has failed before")
        return job(self.connection)

    async def close(self) -> None:
        """A simulated process never closes anything: it dies."""

    def _start(self) -> None:
        chance = self._chance
        slow = chance.hits(chance.rates.slow_disk / 10, f"slow disk of {self.life.kind}")
        asyncio.get_running_loop().call_later(chance.dice.uniform(*(_SLOW_S if slow else _QUICK_S)), self._work)

    def _work(self) -> None:
        chance, loop = self._chance, asyncio.get_running_loop()
        batch, self._queue = self._queue, []
        what = [commit_point(asked.job) for asked in batch]
        if self._strikes(chance.rates.crash_at_commit, "dies before", what):
            self.life.kill()
            return
        fails = self._strikes(chance.rates.commit_fails, "fails to commit", what)
        if not fails or chance.dice.random() < 0.5:
            outcomes = carry_out(self.connection, [asked.job for asked in batch])
            chance.note(loop.time(), f"{self.life.name} commits {', '.join(what)}")
            self._committed(self.connection)
        if fails:
            self._fail([*batch, *self._queue])
            return
        if self._strikes(chance.rates.crash_at_commit, "dies after", what):
            self.life.kill()
            return
        for asked, outcome in zip(batch, outcomes, strict=True):
            asked.context.run(asked.hand_over, outcome)
        if self._queue:
            self._start()
        else:
            self._busy = False

    def _fail(self, batch: list[Asked]) -> None:
        """Nobody can say what is on the disk; the owner has to leave the service."""
        self.failed = True
        failure = Outcome(refusal=StoreFailed("a commit failed; whether it is on the disk is unknown"))
        for asked in batch:
            asked.context.run(asked.hand_over, failure)
        self._failed()

    def _strikes(self, rate: float, how: str, what: list[str]) -> bool:
        return self._chance.may_hit(rate) and self._chance.hits(
            rate, *[f"{self.life.kind} {how} {commit}" for commit in what]
        )
