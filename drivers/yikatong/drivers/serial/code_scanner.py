"""A scanner on a serial line (or a USB one that presents itself as such, CDC) as the port `CodeScanner`.

A scanner that presents itself as a keyboard is none for us: its text goes to whatever window has the focus, and whoever
types can pay with it. It has no serial line, so it can't be configured here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import VoucherCode
from yikatong.drivers.serial.patience import Patience, pieces
from yikatong.drivers.serial.port import LineObserver, PortReasons, SerialPort, SerialSettings
from yikatong.drivers.serial.scanned_code import ScannedCode
from yikatong.runtime.lane import Lane

REASONS: Final = PortReasons(missing=Reason.NO_SCANNER, failed=Reason.SCANNER_FAILED)
BAUD: Final = 9600
"""The usual setting (assumption); a CDC device ignores it."""


class SerialCodeScanner:
    """A `CodeScanner`. One scan at a time; a second one meanwhile is refused with DEVICE_BUSY.

    The scanner is lit by itself (a window to hold the phone to) or by its trigger: no command starts it, since vendors
    agree on none.
    """

    def __init__(self, path: Path, *, baud: int = BAUD, observer: LineObserver | None = None) -> None:
        """`path` is a name that survives replugging, as udev makes it. Nothing is opened before it is needed."""
        settings = SerialSettings(path, baud)
        self._waiting: threading.Event | None = None
        self._lane = Lane(
            f"scanner-{path.name}",
            lambda: SerialPort(settings, REASONS, observer),
            reopen_after=frozenset({REASONS.missing, REASONS.failed}),
        )

    async def scan(self, *, timeout_ms: int, listening: Callable[[], None] = lambda: None) -> VoucherCode:
        """See `CodeScanner.scan`. Cancelling ends the wait within `STOP_LOOK_MS`.

        `listening` is called in the lane's thread when what is scanned begins to count.
        """
        if self._waiting is not None:
            raise YikatongError(Reason.DEVICE_BUSY, "the scanner is being used")
        given_up = self._waiting = threading.Event()
        try:
            return await self._lane.run(lambda port: _scan(port, timeout_ms, listening, given_up))
        finally:
            given_up.set()
            self._waiting = None

    async def check(self) -> None:
        """See `CodeScanner.check`. A scanner answers nothing: that its line opens is all that can be known."""
        if self._waiting is None:
            await self._lane.run(lambda port: port.ready())

    async def close(self) -> None:
        """Ends a running scan and gives the port back."""
        if self._waiting is not None:
            self._waiting.set()
        await self._lane.close()


def _scan(port: SerialPort, timeout_ms: int, listening: Callable[[], None], given_up: threading.Event) -> VoucherCode:
    """In the lane's thread. A code that came before is somebody else's: `ready()` drops it."""
    port.ready()
    listening()
    scanned = ScannedCode()
    for piece in pieces(port, Patience(first_ms=timeout_ms), given_up):
        scanned.feed(piece)
    return scanned.take()
