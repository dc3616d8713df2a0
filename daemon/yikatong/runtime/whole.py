"""Calls that are carried out as a whole, whoever leaves in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class WholeCalls:
    """A caller that leaves, because its line or its process ends, stops nothing half done.

    Between a record and the work that it demands there must be no moment at which only a caller could begin that work.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Cancelling it ends the waiting alone."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_told_nobody)
            raise

    async def close(self) -> None:
        """Ends what runs. What is recorded is taken up by the next start."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _told_nobody(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("a call failed after its caller had left", exc_info=error)
