"""sd_notify over real datagram sockets, and the watchdog that feeds only what lives."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.notify import Notifier, Watchdog, watchdog_limit_s


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def next(self) -> str:
        return self.socket.recv(4096).decode()

    @property
    def has_nothing(self) -> bool:
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else f"@yikatong-{secrets.token_hex(8)}")
    yield manager
    manager.socket.close()


def test_what_is_said_is_heard(manager: Manager) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address})
    notifier.ready()
    assert manager.next() == "READY=1"
    notifier.ready("接受交易 / taking payments")
    assert manager.next() == "READY=1\nSTATUS=接受交易 / taking payments"
    notifier.status("first\nREADY=1")
    assert manager.next() == "STATUS=first READY=1"
    notifier.alive()
    assert manager.next() == "WATCHDOG=1"
    notifier.stopping()
    assert manager.next() == "STOPPING=1"
    notifier.reloading()
    word, moment = manager.next().split("\n")
    assert word == "RELOADING=1"
    assert int(moment.removeprefix("MONOTONIC_USEC=")) > 0


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}])
def test_where_nobody_asked_nothing_happens(environment: dict[str, str]) -> None:
    Notifier.from_environment(environment).ready()


def test_a_manager_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(YikatongError) as caught:
        Notifier(str(tmp_path / "nobody")).ready()
    assert caught.value.reason is Reason.INTERNAL


def test_a_strange_address_is_refused() -> None:
    with pytest.raises(YikatongError) as caught:
        Notifier("vsock:2:1")
    assert caught.value.reason is Reason.CONFIGURATION_INVALID


@pytest.mark.parametrize(
    ("environment", "limit_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "15000000"}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_managers_patience(environment: dict[str, str], limit_s: float | None) -> None:
    assert watchdog_limit_s(environment) == limit_s


@pytest.mark.parametrize("text", ["", "0", "-1", "soon"])
def test_a_patience_that_is_no_number(text: str) -> None:
    with pytest.raises(YikatongError, match="WATCHDOG_USEC"):
        watchdog_limit_s({"WATCHDOG_USEC": text})


async def test_a_living_service_is_fed_again_and_again(manager: Manager) -> None:
    async def check() -> None: ...

    watchdog = asyncio.create_task(Watchdog(Notifier(manager.address), check, limit_s=0.02).run())
    for _ in range(3):
        assert await asyncio.get_running_loop().sock_recv(manager.socket, 100) == b"WATCHDOG=1"
    await stop(watchdog)


@pytest.mark.parametrize("fault", ["raises", "hangs"])
async def test_a_service_that_does_not_live_is_not_fed_until_it_does(manager: Manager, fault: str) -> None:
    looked, well = asyncio.Semaphore(0), False

    async def check() -> None:
        looked.release()
        if not well and fault == "raises":
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE)
        if not well:
            await asyncio.Event().wait()

    watchdog = asyncio.create_task(Watchdog(Notifier(manager.address), check, limit_s=0.02).run())
    for _ in range(3):
        await looked.acquire()
    assert manager.has_nothing
    well = True
    assert await asyncio.get_running_loop().sock_recv(manager.socket, 100) == b"WATCHDOG=1"
    await stop(watchdog)


async def test_a_mistake_of_ours_is_not_hidden(manager: Manager) -> None:
    async def check() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Watchdog(Notifier(manager.address), check, limit_s=0.02).run()
    assert manager.has_nothing


async def test_unwatched_it_ends_at_once() -> None:
    async def check() -> None:
        raise AssertionError("nobody asked")

    await Watchdog(Notifier(None), check, limit_s=None).run()


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
