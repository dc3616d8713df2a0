"""`CodeScanner` over a serial line, against the simulated scanner: slow, noisy, interrupted, moved to another port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import serial

from yikatong.core.ports import CodeScanner
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import VoucherCode
from yikatong.drivers.serial.code_scanner import SerialCodeScanner
from yikatong.simulators.scanner import Scanner

LONG_MS = 30_000
CODE, OTHER = "MADE-UP-28-CHARACTERS-000001", "MADE-UP-28-CHARACTERS-000002"


@pytest.fixture
def name(tmp_path: Path) -> Path:
    return tmp_path / "usb-Scanner_0001-if00"


@asynccontextmanager
async def opened(name: Path) -> AsyncIterator[SerialCodeScanner]:
    scanner = SerialCodeScanner(name)
    subject: CodeScanner = scanner  # it is one
    try:
        yield scanner
    finally:
        await subject.close()
        assert not [thread for thread in threading.enumerate() if thread.name == f"lane-scanner-{name.name}"]


async def scan(scanner: SerialCodeScanner, act: Callable[[], None], timeout_ms: int = LONG_MS) -> VoucherCode:
    """One scan; `act` happens once the driver listens."""
    listening = threading.Event()
    scanning = asyncio.create_task(scanner.scan(timeout_ms=timeout_ms, listening=listening.set))
    assert await asyncio.to_thread(listening.wait, 10)
    await asyncio.to_thread(act)
    return await scanning


async def refused(
    scanner: SerialCodeScanner, act: Callable[[], None] | None = None, timeout_ms: int = LONG_MS
) -> Reason:
    with pytest.raises(YikatongError) as caught:
        await (scan(scanner, act, timeout_ms) if act else scanner.scan(timeout_ms=timeout_ms))
    return caught.value.reason


@pytest.mark.parametrize("byte_pause_s", [None, 0.002], ids=["at once", "byte by byte"])
async def test_what_is_scanned_arrives(name: Path, byte_pause_s: float | None) -> None:
    with Scanner(name, byte_pause_s=byte_pause_s) as device:
        async with opened(name) as scanner:
            for code in (CODE, OTHER):
                assert await scan(scanner, partial(device.present, code)) == VoucherCode(code)


async def test_a_code_that_came_before_is_somebody_elses(name: Path) -> None:
    with Scanner(name) as device:
        async with opened(name) as scanner:
            await scan(scanner, lambda: device.present(CODE))
            device.present(CODE)
            assert await scan(scanner, lambda: device.present(OTHER)) == VoucherCode(OTHER)


async def test_the_same_code_twice_is_one(name: Path) -> None:
    with Scanner(name) as device:
        async with opened(name) as scanner:
            assert await scan(scanner, lambda: device.present(CODE, CODE)) == VoucherCode(CODE)


@pytest.mark.parametrize(
    "line",
    [
        f"{CODE}\r{OTHER}\r".encode(),
        CODE[:10].encode(),
        b"\x00\xff" + CODE.encode() + b"\r",
        b"7" * 3000,
    ],
    ids=["two codes", "half a code, then silence", "noise", "a flood"],
)
async def test_what_is_no_single_code_is_refused_and_the_next_one_reads(name: Path, line: bytes) -> None:
    with Scanner(name) as device:
        async with opened(name) as scanner:
            assert await refused(scanner, lambda: device.send(line)) is Reason.SCAN_UNREADABLE
            assert await scan(scanner, lambda: device.present(CODE)) == VoucherCode(CODE)


async def test_nobody_scans(name: Path) -> None:
    with Scanner(name):
        async with opened(name) as scanner:
            assert await refused(scanner, timeout_ms=50) is Reason.SCAN_TIMEOUT


async def test_one_scan_at_a_time_and_cancelling_ends_it(name: Path) -> None:
    with Scanner(name) as device:
        async with opened(name) as scanner:
            listening = threading.Event()
            scanning = asyncio.create_task(scanner.scan(timeout_ms=LONG_MS, listening=listening.set))
            assert await asyncio.to_thread(listening.wait, 10)
            assert await refused(scanner) is Reason.DEVICE_BUSY
            await scanner.check()  # does not disturb it
            scanning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await scanning
            async with asyncio.timeout(20):  # long before LONG_MS
                assert await scan(scanner, lambda: device.present(CODE)) == VoucherCode(CODE)


async def test_closing_ends_a_scan(name: Path) -> None:
    with Scanner(name):
        async with opened(name) as scanner:
            listening = threading.Event()
            scanning = asyncio.create_task(scanner.scan(timeout_ms=LONG_MS, listening=listening.set))
            assert await asyncio.to_thread(listening.wait, 10)
            await scanner.close()
            with pytest.raises(YikatongError, match="DEVICE_BUSY"):
                await scanning


async def test_unplugged_during_a_scan_and_back(name: Path) -> None:
    with Scanner(name) as device:
        async with opened(name) as scanner:
            assert await refused(scanner, device.unplug) is Reason.SCANNER_FAILED
            assert await refused(scanner) is Reason.NO_SCANNER
            with pytest.raises(YikatongError, match="NO_SCANNER"):
                await scanner.check()
            device.plug()
            await scanner.check()
            assert await scan(scanner, lambda: device.present(CODE)) == VoucherCode(CODE)


async def test_it_comes_back_as_another_device_under_its_name(name: Path, tmp_path: Path) -> None:
    """The old line is still there, the name points elsewhere, as udev moves it: the name counts."""
    first, second = tmp_path / "ttyACM0", tmp_path / "ttyACM1"
    with Scanner(first) as old, Scanner(second) as new:
        name.symlink_to(first)
        async with opened(name) as scanner:
            assert await scan(scanner, lambda: old.present(CODE)) == VoucherCode(CODE)
            name.unlink()
            name.symlink_to(second)
            assert await scan(scanner, lambda: new.present(OTHER)) == VoucherCode(OTHER)


@pytest.mark.parametrize("kind", ["a character device that is no line", "a file"])
async def test_what_is_no_serial_line_is_no_scanner(name: Path, kind: str) -> None:
    """A keyboard-like device has no line: the name of its event node would lead to something like these."""
    if kind == "a file":
        name.write_text(CODE + "\r")
    else:
        name.symlink_to("/dev/zero")
    async with opened(name) as scanner:
        assert await refused(scanner) is Reason.SCANNER_FAILED


async def test_another_program_holds_the_port(name: Path) -> None:
    with Scanner(name):
        async with opened(name) as scanner:
            with serial.Serial(str(name), exclusive=True):
                assert await refused(scanner) is Reason.DEVICE_BUSY
