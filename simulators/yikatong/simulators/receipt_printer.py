"""An ESC/POS receipt printer on a pseudo-terminal, with paper that ends and a cover that is opened.

Written from the command set as it is generally known, without the driver's code. It knows the commands of a receipt and
notes any other as unknown.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from yikatong.simulators.serial_device import SerialDevice

if TYPE_CHECKING:
    from pathlib import Path

_LENGTHS: Final = {b"\x1b@": 2, b"\x1c&": 2, b"\x1bd": 3, b"\x1dV": 3, b"\x1dr": 3}
"""Commands by their first two bytes, and how long they are."""


class Heard(IntEnum):
    """What the host sent, as far as tests ask for it."""

    ASKED = 1
    LINE = 2
    CUT = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class Temper:
    """How the printer misbehaves."""

    byte_pause_s: float = 0.0
    """Between two bytes on the line."""
    noise_before: bytes = b""
    """Sent before every answer."""
    silent: bool = False
    never_done: bool = False
    """Answers what is asked out of turn only: a printer that hangs."""


class ReceiptPrinter(SerialDevice):
    """The printer. `paper`: how many lines are left on the roll."""

    def __init__(self, name: Path, *, paper: int = 10_000, temper: Temper | None = None) -> None:
        self._temper = temper or Temper()
        super().__init__(name, byte_pause_s=self._temper.byte_pause_s, silent=self._temper.silent)
        self._paper = paper
        self._cover_open = False
        self._lines_until_open: int | None = None
        self._urgent = bytearray()  # the beginning of a command that is answered at once
        self._waiting: deque[int] = deque()  # the buffer of what is done in turn
        self._text = bytearray()
        self._slip: list[str] = []
        self.slips: list[list[str]] = []
        """What was cut off, by line."""

    def open_cover(self, *, after_lines: int = 0) -> None:
        """Now, or once so many more lines have been printed."""
        self._lines_until_open = after_lines or None
        self._cover_open = not after_lines

    def new_roll(self, paper: int = 10_000) -> None:
        """Opens the cover, changes the roll, closes it. What stood in the buffer is printed with the next byte."""
        self._paper, self._cover_open, self._lines_until_open = paper, False, None

    @property
    def slip(self) -> list[str]:
        """What hangs out of the printer, not cut off yet."""
        return list(self._slip)

    def _rest(self) -> None:
        super()._rest()
        self._urgent.clear()
        self._waiting.clear()
        self._text.clear()

    def _hear(self, byte: int) -> None:
        self._urgent.append(byte)
        if b"\x10\x04".startswith(self._urgent[:2]):
            if len(self._urgent) == 3:
                self._urgent.clear()
                self._note(Heard.ASKED)
                states = {1: 0x12 | self._stands << 3, 2: self._cause, 4: 0x72 if self._paper <= 0 else 0x12}
                self._answer(states.get(byte, 0x12))
            return
        self._waiting.extend(self._urgent)
        self._urgent.clear()
        while self._waiting and not self._stands and self._step():
            pass

    @property
    def _stands(self) -> bool:
        return self._cover_open or self._paper <= 0

    @property
    def _cause(self) -> int:
        return 0x12 | self._cover_open << 2 | (self._paper <= 0) << 5

    def _answer(self, byte: int) -> None:
        self._send(self._temper.noise_before + bytes([byte]))

    def _step(self) -> bool:
        """Does one thing from the buffer; false where it is not complete."""
        first = self._waiting[0]
        if first in b"\x1b\x1c\x1d":
            if len(self._waiting) < 2:
                return False
            length = _LENGTHS.get(bytes([first, self._waiting[1]]), 2)
            if len(self._waiting) < length:
                return False
            self._command(bytes(self._waiting.popleft() for _ in range(length)))
        elif self._waiting.popleft() != 0x0A:
            self._text.append(first)
        else:
            self._feed(1)
        return True

    def _command(self, command: bytes) -> None:
        match command[:2]:
            case b"\x1dr":
                if not self._temper.never_done:
                    self._answer(0x0C if self._paper <= 0 else 0x00)
            case b"\x1dV":
                self.slips.append(self._slip)
                self._slip = []
                self._note(Heard.CUT)
            case b"\x1bd":
                self._feed(command[2])
            case b"\x1b@" | b"\x1c&":
                self._text.clear()
            case _:
                self._note(Heard.UNKNOWN)

    def _feed(self, lines: int) -> None:
        self._slip += [self._text.decode("gb18030"), *[""] * (lines - 1)]
        self._text.clear()
        self._paper -= lines
        if self._lines_until_open is not None:
            self._lines_until_open -= lines
            self._cover_open = self._lines_until_open <= 0
        self._note(Heard.LINE)
