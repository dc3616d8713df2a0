"""What an ESC/POS printer says about itself. Pure: bytes in, verdict out.

`DLE EOT n` is answered at once, whatever the printer does; `GS r 1` when its turn comes, so that its answer proves that
everything before it is through. python-escpos has both, but takes silence for enough paper. General knowledge of the
command set (assumption: cheap printers that call themselves compatible answer alike).
"""

from __future__ import annotations

from typing import Final

from yikatong.core.reasons import Reason, YikatongError

PRINTER: Final = b"\x10\x04\x01"
CAUSE: Final = b"\x10\x04\x02"
PAPER: Final = b"\x10\x04\x04"
DONE: Final = b"\x1dr\x01"

_OFFLINE: Final = 0x08  # of PRINTER
_COVER, _ENDED, _ERROR = 0x04, 0x20, 0x40  # of CAUSE
_NO_PAPER: Final = 0x60  # of PAPER
_NO_PAPER_DONE: Final = 0x0C  # of DONE


def at_once(piece: memoryview) -> int | None:
    """The first byte that can be an answer to `DLE EOT`: bits 1 and 4 are set, 0 and 7 are not."""
    return next((byte for byte in piece if byte & 0x93 == 0x12), None)


def in_turn(piece: memoryview) -> int | None:
    """The first byte that can be an answer to `GS r`: bits 4 and 7 are not set."""
    return next((byte for byte in piece if byte & 0x90 == 0), None)


def judge(printer: int, cause: int, paper: int) -> None:
    """Raises PRINTER_OUT_OF_PAPER, PRINTER_NOT_READY, PRINTER_FAILED where the printer would not print."""
    if paper & _NO_PAPER or cause & _ENDED:
        raise YikatongError(Reason.PRINTER_OUT_OF_PAPER, "the printer is out of paper")
    if cause & _COVER:
        raise YikatongError(Reason.PRINTER_NOT_READY, "the printer's cover is open")
    if cause & _ERROR:
        raise YikatongError(Reason.PRINTER_FAILED, "the printer reports an error")
    if printer & _OFFLINE:
        raise YikatongError(Reason.PRINTER_NOT_READY, "the printer is offline")


def judge_done(sensor: int) -> None:
    """Raises PRINTER_OUT_OF_PAPER: what was sent may not be on paper."""
    if sensor & _NO_PAPER_DONE:
        raise YikatongError(Reason.PRINTER_OUT_OF_PAPER, "the paper ended while the receipt was printed")
