"""A customer display on a serial line as the port `CustomerDisplay`. It takes what is sent and answers nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from yikatong.core.reasons import Reason
from yikatong.drivers.serial.display_protocol import CLEAR, two_lines
from yikatong.drivers.serial.port import LineObserver, PortReasons, SerialPort, SerialSettings
from yikatong.runtime.lane import Lane

REASONS: Final = PortReasons(missing=Reason.NO_CUSTOMER_DISPLAY, failed=Reason.CUSTOMER_DISPLAY_FAILED)
BAUD: Final = 9600
"""The usual setting (assumption)."""


class SerialCustomerDisplay:
    """A `CustomerDisplay`."""

    def __init__(self, path: Path, *, baud: int = BAUD, observer: LineObserver | None = None) -> None:
        """`path` is a name that survives replugging, as udev makes it. Nothing is opened before it is needed."""
        settings = SerialSettings(path, baud)
        self._lane = Lane(
            f"display-{path.name}",
            lambda: SerialPort(settings, REASONS, observer),
            reopen_after=frozenset({REASONS.missing, REASONS.failed}),
        )

    async def show(self, upper: str, lower: str) -> None:
        """See `CustomerDisplay.show`."""
        await self._send(two_lines(upper, lower))

    async def clear(self) -> None:
        """See `CustomerDisplay.clear`."""
        await self._send(CLEAR)

    async def check(self) -> None:
        """See `CustomerDisplay.check`. It answers nothing: that its line opens is all that can be known."""
        await self._lane.run(lambda port: port.ready())

    async def close(self) -> None:
        """Gives the port back; what is shown stays."""
        await self._lane.close()

    async def _send(self, commands: bytes) -> None:
        def job(port: SerialPort) -> None:
            port.ready()
            port.write(commands)

        await self._lane.run(job)
