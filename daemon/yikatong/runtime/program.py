"""A long-running program: its event loop, and how it is told to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import uvloop


def run_until_told(serve: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """Runs `serve` until it returns an exit status; SIGTERM and SIGINT set the event that it is given.

    On libuv's event loop: waking up costs less there, and a debit wakes up a dozen times (docs/performance.md).
    """

    async def until_told() -> int:
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        return await serve(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(until_told())
