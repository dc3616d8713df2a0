"""Who watches what passes between terminal and devices. Where nobody does, nothing is looked at and nothing is kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.trace import Missed, TraceBegun, TraceEvent
from yikatong.drivers.trace.invention import Inventor

_log = structlog.stdlib.get_logger(__name__)

BACKLOG_MAX: Final = 1024
"""Events that wait for a watcher: some thirty cards."""
WATCHERS_MAX: Final = 4
"""Each costs the device's thread a little."""


class Watcher:
    """One who watches. `inventor` is None where nothing is recorded."""

    def __init__(self, backlog_max: int, *, recording: bool) -> None:
        self.inventor = Inventor() if recording else None
        self._backlog_max, self._began_ns = backlog_max, time.monotonic_ns()
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting: deque[TraceEvent] = deque()
        self._missed = 0
        self._over = False
        self._news = asyncio.Event()

    def at_us(self, moment_ns: int) -> int:
        return max(moment_ns - self._began_ns, 0) // 1000

    def tell(self, event: TraceEvent) -> None:
        """From any thread; never waits. What finds no room is counted, and the count is told in its place."""
        with self._lock:
            if len(self._waiting) >= self._backlog_max:
                self._missed += 1
                return
            self._note_missed()
            self._waiting.append(event)
            first = len(self._waiting) == 1
        if first:
            self._wake()

    def miss(self) -> None:
        """An event that could not be told."""
        with self._lock:
            self._missed += 1
        self._wake()

    def end(self) -> None:
        self._over = True
        self._wake()

    async def next(self) -> TraceEvent | None:
        """The next event; None when there is none any more."""
        while True:
            self._news.clear()
            with self._lock:
                if not self._waiting:
                    self._note_missed()
                if self._waiting:
                    return self._waiting.popleft()
            if self._over:
                return None
            await self._news.wait()

    def _note_missed(self) -> None:
        if self._missed:
            self._waiting.append(Missed(self._missed))
            self._missed = 0

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)


class Trace:
    """Implements `core.ports.Tracer`. One for a terminal; `watch` and `close` belong to one event loop."""

    def __init__(self, *, backlog_max: int = BACKLOG_MAX) -> None:
        self._backlog_max = backlog_max
        self._closed = False
        self.watchers: tuple[Watcher, ...] = ()
        """Empty where nobody watches."""

    async def watch(self, *, recording: bool) -> AsyncGenerator[TraceEvent, None]:
        """See `Tracer.watch`."""
        if len(self.watchers) >= WATCHERS_MAX:
            raise YikatongError(Reason.DEVICE_BUSY, "too many watch already", watchers=len(self.watchers))
        watcher = Watcher(self._backlog_max, recording=recording)
        if self._closed:
            watcher.end()
        self.watchers = (*self.watchers, watcher)
        _log.info("trace_begins", recording=recording, watchers=len(self.watchers))
        try:
            yield TraceBegun()
            while (event := await watcher.next()) is not None:
                yield event
        finally:
            self.watchers = tuple(other for other in self.watchers if other is not watcher)
            _log.info("trace_ends", recording=recording, watchers=len(self.watchers))

    def close(self) -> None:
        """Ends every watching, when what waits has been taken; a later one ends at once."""
        self._closed = True
        for watcher in self.watchers:
            watcher.end()

    @contextmanager
    def telling(self) -> Iterator[tuple[Watcher, ...]]:
        """Those who are to be told. Inside, in the device's thread, a defect costs an event and never the job."""
        watchers = self.watchers
        try:
            yield watchers
        except Exception as error:  # noqa: BLE001 - ours; it is logged, and told as an event that is missing
            # Without the error's text and its traceback: either may quote what was to be hidden.
            _log.error("trace_failed", error=type(error).__name__)
            for watcher in watchers:
                watcher.miss()
