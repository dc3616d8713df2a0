"""Virtual time: an event loop without a selector, on which simulated processes live and are killed.

Time stands still while anything can run and then jumps to the next timer. What is ready runs in asyncio's own order,
which is a promise of asyncio's (done-callbacks run in the order of their registration); chance comes in through the
durations that network, disks and people take. Each callback carries the process that it belongs to in its context: of
a killed process nothing runs any more, no `finally` and no `except`, as after kill -9.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from yikatong.runtime.store import StoreFailed

_PROCESS: contextvars.ContextVar[Life] = contextvars.ContextVar("process")


class Life:
    """One run of a process, from its start to its death."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self._at_death: list[Callable[[], None]] = []
        self.context = contextvars.Context()
        self.context.run(_PROCESS.set, self)

    @property
    def kind(self) -> str:
        """`terminal`, `gateway` or `city`: the name without its number."""
        return self.name.split("-")[0]

    def at_death(self, call: Callable[[], None]) -> None:
        """`call` runs in the outside world at the moment of death: sockets close, files are let go."""
        self._at_death.append(call)

    def kill(self) -> None:
        """From here on nothing of this run does anything."""
        if self.alive:
            self.alive = False
            for call in reversed(self._at_death):  # its files are let go before its machine takes note
                outside(call)


def outside(call: Callable[..., Any], *arguments: Any) -> None:
    """Runs `call` in no process: what it starts survives every death."""
    contextvars.Context().run(call, *arguments)


def running_process() -> Life | None:
    """The process that runs now, or None outside of all."""
    return _PROCESS.get(None)


def of_a_store(error: BaseException | None) -> bool:
    """Whether a failed commit was the cause; those are planned."""
    return error is not None and (isinstance(error, StoreFailed) or of_a_store(error.__cause__))


_STEPS_MAX: Final = 200_000
"""Some hundred times what a run takes."""


class Stuck(AssertionError):
    """Nothing is ready and nothing will ever be, or there is no end of it."""


class VirtualLoop(asyncio.BaseEventLoop):
    """`failures` collects what the code under test lets escape; `steps` counts callbacks."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self.steps = 0
        self.failures: list[str] = []
        self._made: list[asyncio.Task[Any]] = []
        self.set_exception_handler(self._failed)
        self.set_task_factory(self._make)  # type: ignore[arg-type]  # typeshed wants a wider coroutine

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def _make(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **arguments: Any
    ) -> asyncio.Task[Any]:
        """Keeps every task: when the garbage collector comes must not matter to a run."""
        task = asyncio.Task(coroutine, loop=loop, **arguments)
        self._made.append(task)
        return task

    def close(self) -> None:
        """Ends what killed processes have left behind."""
        for task in self._made:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own field
                task.get_coro().close()
        self._made.clear()
        super().close()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not of_a_store(error):
            self.failures.append(f"{context.get('message')}: {error!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""

    def _process_events(self, event_list: list[Any]) -> None:
        """There is no input or output."""

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        if not ready and not self._stopping:
            while scheduled and scheduled[0]._cancelled:
                heapq.heappop(scheduled)
            if not scheduled:
                raise Stuck("nothing is ready and no timer is set")
            self._now = max(self._now, scheduled[0].when())
            while scheduled and scheduled[0].when() <= self._now:
                ready.append(heapq.heappop(scheduled))
        if self.steps > _STEPS_MAX:
            raise Stuck(f"no end after {_STEPS_MAX} steps")
        for _ in range(len(ready)):
            handle: Any = ready.popleft()  # asyncio's own fields again
            if handle._cancelled:
                continue
            process = handle._context.get(_PROCESS)
            if process is None or process.alive:
                self.steps += 1
                handle._run()
