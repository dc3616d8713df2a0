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
        self.kind = name.split("-", maxsplit=1)[0]
        """`terminal`, `gateway` or `city`: the name without its number."""
        self.alive = True
        self._at_death: list[Callable[[], None]] = []
        self.context = contextvars.Context()
        self.context.run(_PROCESS.set, self)

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


class _Handle:
    """What is to be run; asyncio cancels it."""

    __slots__ = ("arguments", "call", "cancelled", "context")

    def __init__(self, call: Callable[..., object], arguments: tuple[Any, ...], context: contextvars.Context) -> None:
        self.call, self.arguments, self.context = call, arguments, context
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualLoop(asyncio.BaseEventLoop):
    """The part of an event loop that tasks, futures and time-outs use, without its checks: most of a run is spent here.

    `failures` collects what the code under test lets escape; `steps` counts callbacks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._timers = 0
        self._due: deque[_Handle] = deque()
        self._later: list[tuple[float, int, _Handle]] = []
        self._made: list[asyncio.Task[Any]] = []
        self.steps = 0
        self.failures: list[str] = []

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def get_debug(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]  # typeshed names asyncio's own class of handles
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Handle:
        handle = _Handle(callback, args, context or contextvars.copy_context())
        self._due.append(handle)
        return handle

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> _Handle:
        handle = _Handle(callback, args, context or contextvars.copy_context())
        self._timers += 1
        heapq.heappush(self._later, (when, self._timers, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # typeshed wants a wider coroutine
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """Keeps every task: when the garbage collector comes must not matter to a run."""
        task = asyncio.Task(coro, loop=self, name=name or "", context=context)
        self._made.append(task)
        return task

    def run_in_executor(  # type: ignore[override]  # typeshed wants the variadic form
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """What would run beside the loop runs at once: there are no threads here."""
        future = self.create_future()
        future.set_result(func(*args))
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not of_a_store(error):
            self.failures.append(f"{context.get('message')}: {error!r}")

    def run_until_complete(self, future: Any) -> Any:
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(future)
            self._run_until(task)
            return task.result()
        finally:
            asyncio._set_running_loop(None)

    def _run_until(self, task: asyncio.Task[Any]) -> None:
        due = self._due
        while not task.done():
            if not due:
                self._jump()
            if self.steps > _STEPS_MAX:
                raise Stuck(f"no end after {_STEPS_MAX} steps")
            handle = due.popleft()
            if handle.cancelled:
                continue
            process = handle.context.get(_PROCESS)
            if process is not None and not process.alive:
                continue
            self.steps += 1
            try:
                handle.context.run(handle.call, *handle.arguments)
            except Exception as error:  # noqa: BLE001 - of a callback, whatever it is
                self.call_exception_handler({"message": f"a callback failed: {handle.call!r}", "exception": error})

    def _jump(self) -> None:
        """To the next timer that is still wanted."""
        later = self._later
        while later and later[0][2].cancelled:
            heapq.heappop(later)
        if not later:
            raise Stuck("nothing is ready and no timer is set")
        self._now = max(self._now, later[0][0])
        while later and later[0][0] <= self._now:
            self._due.append(heapq.heappop(later)[2])

    def close(self) -> None:
        """Ends what killed processes have left behind."""
        for task in self._made:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own field
                task.get_coro().close()
        self._made.clear()
        super().close()
