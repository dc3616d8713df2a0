"""How long the reader of a line waits: a device that is slow, silent or endless costs a known time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.serial.port import SerialPort

PIECE_MAX: Final = 512
STOP_LOOK_MS: Final = 50
"""How often one who waits looks whether it is still wanted."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Milliseconds: until the first byte, between two bytes, from the first byte to the last."""

    first_ms: int
    gap_ms: int = 200
    whole_ms: int = 2_000


def pieces(port: SerialPort, patience: Patience, given_up: threading.Event | None = None) -> Iterator[memoryview]:
    """What arrives, until the patience is over; the caller leaves earlier where it has what it wants.

    A piece is valid until the next one is asked for. Raises what the port raises, and DEVICE_BUSY within
    `STOP_LOOK_MS` of `given_up`.
    """
    with memoryview(bytearray(PIECE_MAX)) as buffer:
        by = time.monotonic() + patience.first_ms / 1000
        end: float | None = None
        while (left := by - time.monotonic()) > 0:
            if given_up is not None and given_up.is_set():
                raise YikatongError(Reason.DEVICE_BUSY, "those who waited for the device have left")
            count = port.read_into(buffer, wait_ms=min(int(left * 1000) + 1, STOP_LOOK_MS))
            if count:
                now = time.monotonic()
                end = end if end is not None else now + patience.whole_ms / 1000
                by = min(end, now + patience.gap_ms / 1000)
                yield buffer[:count]
