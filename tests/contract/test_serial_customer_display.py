"""`CustomerDisplay` over a serial line, against the simulated display."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from yikatong.core.ports import CustomerDisplay as CustomerDisplayPort
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.serial.customer_display import SerialCustomerDisplay
from yikatong.simulators.customer_display import CustomerDisplay, Heard


@pytest.fixture
def name(tmp_path: Path) -> Path:
    return tmp_path / "usb-Display_0001-if00"


@asynccontextmanager
async def opened(name: Path) -> AsyncIterator[SerialCustomerDisplay]:
    display = SerialCustomerDisplay(name)
    subject: CustomerDisplayPort = display  # it is one
    try:
        yield display
    finally:
        await subject.close()
        assert not [thread for thread in threading.enumerate() if thread.name == f"lane-display-{name.name}"]


async def refused(showing: Coroutine[None, None, None]) -> Reason:
    with pytest.raises(YikatongError) as caught:
        await showing
    return caught.value.reason


async def test_two_lines_are_shown_and_cleared(name: Path) -> None:
    with CustomerDisplay(name) as device:
        async with opened(name) as display:
            await display.show("应收 36.50 元", "余额 120.00 元")
            await asyncio.to_thread(device.wait_heard, Heard.LOWER)
            assert device.lines == ["应收 36.50 元", "余额 120.00 元"]
            await display.show("谢谢", "")
            await asyncio.to_thread(device.wait_heard, Heard.LOWER, times=2)
            assert device.lines == ["谢谢", ""]
            await display.clear()
            await asyncio.to_thread(device.wait_heard, Heard.CLEARED, times=3)
            assert device.lines == ["", ""]
        assert Heard.UNKNOWN not in device.heard


async def test_missing_then_plugged_in_then_another_device(name: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "ttyUSB0", tmp_path / "ttyUSB1"
    async with opened(name) as display:
        assert await refused(display.show("1", "2")) is Reason.NO_CUSTOMER_DISPLAY
        with CustomerDisplay(first) as old, CustomerDisplay(second) as new:
            name.symlink_to(first)
            await display.show("1", "2")
            await asyncio.to_thread(old.wait_heard, Heard.LOWER)
            old.unplug()
            assert await refused(display.clear()) is Reason.NO_CUSTOMER_DISPLAY
            name.unlink()
            name.symlink_to(second)
            await display.show("3", "4")
            await asyncio.to_thread(new.wait_heard, Heard.LOWER)
            assert new.lines == ["3", "4"]


async def test_something_else_bears_the_name(name: Path) -> None:
    name.symlink_to("/dev/null")
    async with opened(name) as display:
        assert await refused(display.show("1", "2")) is Reason.CUSTOMER_DISPLAY_FAILED
