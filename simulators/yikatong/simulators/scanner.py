"""A code scanner on a pseudo-terminal: lines of text, and everything that goes wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from yikatong.simulators.serial_line import SerialLine

if TYPE_CHECKING:
    from pathlib import Path


class Scanner:
    """A scanner that is plugged in from `with` to the end of the block. One thread uses it.

    `byte_pause_s`: between two bytes on the line, for a slow scanner whose codes arrive in pieces. `suffix` is what its
    setting puts behind each code.
    """

    def __init__(self, name: Path, *, suffix: bytes = b"\r\n", byte_pause_s: float | None = None) -> None:
        self._line = SerialLine(name)
        self._suffix, self._byte_pause_s = suffix, byte_pause_s

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def present(self, *codes: str) -> None:
        """Somebody holds codes before the window, one right behind the other."""
        self.send(b"".join(code.encode() + self._suffix for code in codes))

    def send(self, data: bytes) -> None:
        """Bytes as they are: halves, noise."""
        if self._byte_pause_s is None:
            self._line.write(data)
            return
        for byte in data:
            self._line.write(bytes([byte]))
            self._line.read(wait_s=self._byte_pause_s)  # a scanner listens to nothing that we know of

    def unplug(self) -> None:
        self._line.unplug()

    def plug(self) -> None:
        self._line.plug()
        self._line.read(wait_s=0)  # takes the wake-up that plugging leaves: it would shorten the first pause
