"""Telling the service manager how we are: the datagrams of sd_notify(3), and a watchdog that has looked first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from yikatong.core.reasons import Reason, YikatongError

SEND_LIMIT_S = 1.0

log = structlog.get_logger()


class Notifier:
    """Sends to $NOTIFY_SOCKET; does nothing where nobody asked for it (a shell, a test).

    Every method raises YikatongError INTERNAL where the manager's socket is named and does not take the message: a
    service that cannot say that it is ready is going to be killed, and better says why.
    """

    def __init__(self, address: str | None) -> None:
        """`address` is a path, or `@name` for a socket in the abstract namespace."""
        if address is not None and not address.startswith(("/", "@")):
            raise YikatongError(Reason.CONFIGURATION_INVALID, "NOTIFY_SOCKET is neither a path nor an @name")
        self._address = None if address is None else "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        return cls(environment.get("NOTIFY_SOCKET") or None)

    def ready(self, status: str = "") -> None:
        """The service is up, or a reload has ended."""
        self._send("READY=1", *([_status(status)] if status else []))

    def status(self, text: str) -> None:
        """One line that `systemctl status` shows; no personal data."""
        self._send(_status(text))

    def reloading(self) -> None:
        """A reload has begun; `ready()` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feeds the manager's watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.settimeout(SEND_LIMIT_S)
                line.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            raise YikatongError(Reason.INTERNAL, "the service manager does not take our message") from error


class Watchdog:
    """Feeds the manager's watchdog at half its time, and only after a check that the service really lives.

    A check that raises YikatongError, or takes longer than a quarter of the time, is a missed feeding and is logged;
    after enough of them the manager kills and restarts the service. Any other exception is a mistake of ours and goes
    to whoever awaits `run()`.
    """

    def __init__(self, notifier: Notifier, check: Callable[[], Awaitable[None]], *, limit_s: float | None) -> None:
        """`limit_s` is the manager's patience; None where it watches nothing."""
        self._notifier, self._check, self._limit_s = notifier, check, limit_s

    async def run(self) -> None:
        """Until cancelled; returns at once where nobody watches."""
        if self._limit_s is None:
            return
        while True:
            try:
                async with asyncio.timeout(self._limit_s / 4):
                    await self._check()
            except (YikatongError, TimeoutError) as error:
                reason = error.reason.value if isinstance(error, YikatongError) else "TIMEOUT"
                log.warning("watchdog.not_fed", reason=reason)
            else:
                self._notifier.alive()
            await asyncio.sleep(self._limit_s / 2)


def watchdog_limit_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """The manager's patience in seconds ($WATCHDOG_USEC), None where it watches nothing or another process.

    Raises CONFIGURATION_INVALID for a value that is no positive number.
    """
    text, process = environment.get("WATCHDOG_USEC"), environment.get("WATCHDOG_PID")
    if text is None or (process is not None and process != str(os.getpid())):
        return None
    with contextlib.suppress(ValueError):
        if (limit_us := int(text)) > 0:
            return limit_us / 1_000_000
    raise YikatongError(Reason.CONFIGURATION_INVALID, "WATCHDOG_USEC is no positive number of microseconds")


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.split())  # a line break would begin another assignment
