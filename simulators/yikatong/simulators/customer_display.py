"""A customer display of two lines on a pseudo-terminal. Written from the command set, without the driver's code."""

from __future__ import annotations

import unicodedata
from enum import IntEnum
from typing import TYPE_CHECKING

from yikatong.simulators.serial_device import SerialDevice

if TYPE_CHECKING:
    from pathlib import Path


class Heard(IntEnum):
    """Commands that it took."""

    CLEARED = 1
    UPPER = 2
    LOWER = 3
    UNKNOWN = 4


class CustomerDisplay(SerialDevice):
    """The display; freshly powered it is dark."""

    def __init__(self, name: Path) -> None:
        super().__init__(name)
        self._command = bytearray()
        self.lines = ["", ""]
        """What can be read on it, upper and lower."""

    def _rest(self) -> None:
        super()._rest()
        self._command.clear()
        self.lines = ["", ""]

    def _hear(self, byte: int) -> None:
        self._command.append(byte)
        if self._command == b"\x0c":
            self.lines = ["", ""]
            self._end(Heard.CLEARED)
        elif bytes(self._command[:3]) in {b"\x1bQA", b"\x1bQB"}:
            if byte == 0x0D:
                number = self._command[2] - ord("A")
                self.lines[number] = self._readable(bytes(self._command[3:-1]))
                self._end(Heard.LOWER if number else Heard.UPPER)
        elif not b"\x1bQ".startswith(self._command):
            self._end(Heard.UNKNOWN)

    def _end(self, heard: Heard) -> None:
        self._command.clear()
        self._note(heard)

    @staticmethod
    def _readable(text: bytes) -> str:
        """Twenty columns; what is beyond them is not seen."""
        shown, width = "", 0
        for char in text.decode("gb18030"):
            width += 2 if unicodedata.east_asian_width(char) in "FW" else 1
            shown += char if width <= 20 else ""
        return shown
