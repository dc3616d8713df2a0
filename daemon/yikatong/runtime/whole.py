"""Work that is carried out as a whole, whoever waits for it and leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from yikatong.core.reasons import YikatongError

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class WholeWork:
    """Tasks that belong to nobody who waits for them.

    Between a record and the work that it demands there must be no moment at which only a caller could begin that work:
    whoever commits the record begins it with `begin`, from the store's hand-over (`DurableStore.commit_then`).
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def begin(self, transaction_id: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Wait for it with `heard`. After `close` it is ended before it does anything: the next start takes it up."""
        task = asyncio.create_task(work, name=transaction_id)
        self._running.add(task)
        task.add_done_callback(self._ended)
        if self._closed:
            task.cancel()
        return task

    async def close(self) -> None:
        """Ends what runs. What is recorded is taken up by the next start."""
        self._closed = True
        while running := list(self._running):  # what ends may have begun something
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, YikatongError):  # an answer, for whoever still waits for it
            _log.info("work ended with a refusal", transaction_id=task.get_name(), reason=error.reason.value)
        else:
            _log.error("work has failed", transaction_id=task.get_name(), exc_info=error)


async def heard(said: T | asyncio.Task[T]) -> T:
    """What was said at once, or what the work that was begun says in the end. Cancelling ends the waiting alone."""
    return await asyncio.shield(said) if isinstance(said, asyncio.Task) else said
