"""`ReceiptPrinter` over a serial line, against the simulated printer: paper, cover, silence, a moved cable."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from yikatong.core.ports import ReceiptPrinter as ReceiptPrinterPort
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.receipt import Line, as_text
from yikatong.drivers.serial.receipt_printer import SerialReceiptPrinter
from yikatong.simulators.receipt_printer import Heard, ReceiptPrinter, Temper

RECEIPT = as_text(
    (Line("", "", "医保个人账户扣款凭条"), Line("金额", "Amount", "36.50 元"), Line("药品", "Item", "𠮷" * 60))
)
LONG = "\n".join(f"{number:4} 药品一盒" for number in range(300))


@pytest.fixture
def name(tmp_path: Path) -> Path:
    return tmp_path / "usb-Printer_0001-if00"


@asynccontextmanager
async def opened(name: Path, **settings: Any) -> AsyncIterator[SerialReceiptPrinter]:
    printer = SerialReceiptPrinter(name, **settings)
    subject: ReceiptPrinterPort = printer  # it is one
    try:
        yield printer
    finally:
        await subject.close()
        assert not [thread for thread in threading.enumerate() if thread.name == f"lane-printer-{name.name}"]


async def refused(printer: SerialReceiptPrinter, text: str = RECEIPT) -> Reason:
    with pytest.raises(YikatongError) as caught:
        await printer.print_receipt(text)
    return caught.value.reason


def printed(slip: list[str]) -> str:
    """A slip without the paper that is fed before the cut."""
    return "\n".join(slip[:-6])


@pytest.mark.parametrize(
    "temper",
    [Temper(), Temper(byte_pause_s=0.005), Temper(noise_before=b"\xff\x11\x13")],
    ids=["quick", "slow", "noisy"],
)
async def test_receipts_come_out_as_they_are_laid_out(name: Path, temper: Temper) -> None:
    with ReceiptPrinter(name, temper=temper) as device:
        async with opened(name) as printer:
            await asyncio.gather(printer.print_receipt(RECEIPT), printer.print_receipt(LONG))
        assert [printed(slip) for slip in device.slips] == [RECEIPT, LONG]
        assert Heard.UNKNOWN not in device.heard


@pytest.mark.parametrize("paper", [0, 100])
async def test_without_paper_it_is_said_and_with_a_new_roll_it_goes_on(name: Path, paper: int) -> None:
    with ReceiptPrinter(name, paper=paper) as device:
        async with opened(name, block_ms_max=1_000) as printer:
            assert await refused(printer, LONG) is Reason.PRINTER_OUT_OF_PAPER
            with pytest.raises(YikatongError, match="PRINTER_OUT_OF_PAPER"):
                await printer.check()
            device.new_roll()
            await printer.check()
            await printer.print_receipt(RECEIPT)
        assert printed(device.slips[-1]).endswith(RECEIPT)


async def test_an_open_cover(name: Path) -> None:
    with ReceiptPrinter(name) as device:
        device.open_cover()
        async with opened(name) as printer:
            assert await refused(printer) is Reason.PRINTER_NOT_READY
            assert device.slip == []
            device.new_roll()
            await printer.print_receipt(RECEIPT)


async def test_the_cover_is_opened_meanwhile(name: Path) -> None:
    with ReceiptPrinter(name) as device:
        device.open_cover(after_lines=100)
        async with opened(name, block_ms_max=1_000) as printer:
            assert await refused(printer, LONG) is Reason.PRINTER_NOT_READY
            assert device.slip == LONG.split("\n")[:100]


@pytest.mark.parametrize("temper", [Temper(silent=True), Temper(never_done=True)], ids=["silent", "hangs"])
async def test_a_printer_that_says_nothing_is_never_taken_for_ready(name: Path, temper: Temper) -> None:
    with ReceiptPrinter(name, temper=temper):
        async with opened(name, block_ms_max=50) as printer:
            assert await refused(printer) is Reason.PRINTER_FAILED


async def test_what_is_no_receipt_does_not_reach_the_printer(name: Path) -> None:
    with ReceiptPrinter(name) as device:
        async with opened(name) as printer:
            assert await refused(printer, "7" * 1000) is Reason.INVALID_FIELD
        assert device.heard == []


async def test_no_printer_then_unplugged_and_back_as_another_device(name: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "ttyUSB0", tmp_path / "ttyUSB1"
    async with opened(name) as printer:
        assert await refused(printer) is Reason.NO_PRINTER
        with ReceiptPrinter(first) as old, ReceiptPrinter(second) as new:
            name.symlink_to(first)
            await printer.print_receipt(RECEIPT)
            old.unplug()
            assert await refused(printer) is Reason.NO_PRINTER
            name.unlink()
            name.symlink_to(second)
            await printer.print_receipt(RECEIPT)
            assert printed(new.slips[0]) == RECEIPT
