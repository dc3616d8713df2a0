"""A lane: one thread that owns one blocking device, and a bounded queue of jobs before it.

A running job cannot be cancelled: giving up waiting means "I stopped waiting", never "it did not happen".
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

import structlog

from yikatong.core.reasons import Reason, YikatongError

T = TypeVar("T")

_log = structlog.stdlib.get_logger(__name__)


class Closable(Protocol):
    def close(self) -> None:
        """Lets the device go. An error here ends nothing: it is logged, and the device is taken as closed."""


Device = TypeVar("Device", bound=Closable)


class Lane(Generic[Device]):
    """Runs jobs against a device, in order, in the thread that opened it.

    The device is opened when the first job needs it, closed after a job that failed with one of `reopen_after`, and
    opened again by the next job: `open_device` may raise YikatongError (NO_READER, …), which then belongs to the job
    that asked. `run` and `close` belong to one event loop.
    """

    def __init__(
        self,
        name: str,
        open_device: Callable[[], Device],
        *,
        depth_max: int = 16,
        reopen_after: frozenset[Reason] = frozenset(),
    ) -> None:
        self._name, self._open, self._reopen_after = name, open_device, reopen_after
        self._slips: queue.Queue[tuple[Future[Any], Callable[[Device], Any]] | None] = queue.Queue(depth_max)
        self._busy_since: float | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"lane-{name}", daemon=True)
        self._thread.start()

    @property
    def busy_s(self) -> float:
        """How long the present job has been running; 0 when idle. Long means: stuck in the driver."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def ended(self) -> bool:
        """Whether its thread is gone."""
        return not self._thread.is_alive()

    async def run(self, job: Callable[[Device], T]) -> T:
        """Waits for `job(device)`. Cancelling drops a job that waits, never one that runs. Raises DEVICE_BUSY."""
        slip: Future[T] = Future()
        context = contextvars.copy_context()  # log fields cross into the thread with the job
        if self._closing.is_set():
            raise YikatongError(Reason.DEVICE_BUSY, "the device is being closed", device=self._name)
        try:
            self._slips.put_nowait((slip, lambda device: context.run(job, device)))
        except queue.Full:
            raise YikatongError(Reason.DEVICE_BUSY, "the device has too much to do", device=self._name) from None
        return await asyncio.wrap_future(slip)

    async def close(self, *, timeout_s: float = 2.0) -> bool:
        """Lets the running job end, refuses the rest; false if the thread is still stuck after `timeout_s`."""
        self._closing.set()
        with contextlib.suppress(
            queue.Full
        ):  # a full queue wakes the worker anyway; it looks at the flag after every job
            self._slips.put_nowait(None)
        deadline = time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread sets no asyncio.Event
            await asyncio.sleep(0.005)
        return not self._thread.is_alive()

    def _work(self) -> None:
        device: Device | None = None
        try:
            while (item := self._slips.get()) is not None and not self._closing.is_set():
                device = self._answer(item, device)
                del item  # a lane that waits keeps nothing of the job before: a closure may hold a PIN
        finally:
            if device is not None:
                self._close_device(device)
            self._refuse_the_rest(item)

    def _answer(self, item: tuple[Future[Any], Callable[[Device], Any]], device: Device | None) -> Device | None:
        """Runs one job; returns the device as the next one finds it."""
        slip, job = item
        if not slip.set_running_or_notify_cancel():
            return device  # the caller left before we began: nothing has happened
        self._busy_since = time.monotonic()
        try:
            if device is None:
                device = self._open()
            slip.set_result(job(device))
        except StopIteration as error:  # on 3.11 a Future that gets one never wakes its waiter
            slip.set_exception(RuntimeError(f"a lane job ran dry: {error!r}"))
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, whatever it is
            if device is not None and isinstance(error, YikatongError) and error.reason in self._reopen_after:
                self._close_device(device)
                device = None
            slip.set_exception(error)
        finally:
            self._busy_since = None
        return device

    def _close_device(self, device: Device) -> None:
        try:
            device.close()
        except Exception:  # noqa: BLE001 - whatever it is, the lane must go on to the next job
            _log.exception("device_close_failed", device=self._name)

    def _refuse_the_rest(self, item: tuple[Future[Any], Callable[[Device], Any]] | None) -> None:
        while True:
            if item is not None and item[0].set_running_or_notify_cancel():
                item[0].set_exception(YikatongError(Reason.DEVICE_BUSY, "the device was closed", device=self._name))
            try:
                item = self._slips.get_nowait()
            except queue.Empty:
                return
