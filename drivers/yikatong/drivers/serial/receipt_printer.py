"""An ESC/POS printer on a serial line as the port `ReceiptPrinter`.

It prints in a lane of its own and no transaction waits for it: a receipt that did not come out can be printed again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.serial import receipt_status as status
from yikatong.drivers.serial.patience import Patience, pieces
from yikatong.drivers.serial.port import LineObserver, PortReasons, SerialPort, SerialSettings
from yikatong.drivers.serial.receipt_layout import blocks
from yikatong.runtime.lane import Lane

REASONS: Final = PortReasons(missing=Reason.NO_PRINTER, failed=Reason.PRINTER_FAILED)
BAUD: Final = 9600
"""The usual setting (assumption)."""
ANSWER_MS_MAX: Final = 1_000
BLOCK_MS_MAX: Final = 15_000
"""A block of 1 KiB takes a second on the line and a few on paper."""
WRITE_MAX: Final = 256
"""Bytes that are written at once: at 9,600 bit/s they take a quarter of the time that the port allows."""
PROFILE: Final = "default"


class SerialReceiptPrinter:
    """A `ReceiptPrinter`. Receipts are printed one after the other; with too many waiting: DEVICE_BUSY."""

    def __init__(
        self,
        path: Path,
        *,
        baud: int = BAUD,
        profile: str = PROFILE,
        block_ms_max: int = BLOCK_MS_MAX,
        observer: LineObserver | None = None,
    ) -> None:
        """`path` is a name that survives replugging, `profile` one of python-escpos: it says which cutter there is."""
        settings = SerialSettings(path, baud)
        self._profile, self._block_ms_max = profile, block_ms_max
        self._lane = Lane(
            f"printer-{path.name}",
            lambda: SerialPort(settings, REASONS, observer),
            reopen_after=frozenset({REASONS.missing, REASONS.failed}),
        )

    async def print_receipt(self, text: str) -> None:
        """See `ReceiptPrinter.print_receipt`. Cancelling drops a receipt that waits, not one that is being printed."""
        await self._lane.run(lambda port: self._print(port, text))

    async def check(self) -> None:
        """See `ReceiptPrinter.check`."""
        await self._lane.run(_require_ready)

    async def close(self) -> None:
        """Gives the port back; a receipt that is being printed comes to its end first, within the lane's time."""
        await self._lane.close()

    def _print(self, port: SerialPort, text: str) -> None:
        """In the lane's thread. The printer tells nothing unasked: it is asked before, after each block, at the end."""
        composed = blocks(text, self._profile)
        _require_ready(port)
        for block in composed:
            for start in range(0, len(block), WRITE_MAX):
                port.write(block[start : start + WRITE_MAX])
            sensor = _ask(port, status.DONE, status.in_turn, self._block_ms_max)
            if sensor is None:  # it stands still, and says why when asked out of turn
                _require_ready(port)
                raise YikatongError(REASONS.failed, "the printer does not come to the end of the receipt")
            status.judge_done(sensor)
        _require_ready(port)


def _require_ready(port: SerialPort) -> None:
    """Raises PRINTER_OUT_OF_PAPER, PRINTER_NOT_READY, PRINTER_FAILED."""
    port.ready()
    answers = []
    for query in (status.PRINTER, status.CAUSE, status.PAPER):
        answer = _ask(port, query, status.at_once, ANSWER_MS_MAX)
        if answer is None:
            raise YikatongError(REASONS.failed, "the printer does not answer")
        answers.append(answer)
    status.judge(*answers)


def _ask(port: SerialPort, query: bytes, reading: Callable[[memoryview], int | None], wait_ms: int) -> int | None:
    """The answer, None where none came in time."""
    port.discard()
    port.write(query)
    for piece in pieces(port, Patience(first_ms=wait_ms)):
        if (answer := reading(piece)) is not None:
            return answer
    return None
