"""A module that reads resident identity cards, on a pseudo-terminal, and the card that somebody lays on it.

Written from card-facts §9.1 on its own, without the driver's code. Assumed here as there: 000080 where no card lies on
it. Assumed here only: 000081 and 000041 where a card can't be selected or read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from yikatong.simulators.serial_device import SerialDevice

if TYPE_CHECKING:
    from pathlib import Path

_START: Final = b"\xaa\xaa\xaa\x96\x69"


class Command(IntEnum):
    """Command and parameter, as one number."""

    FIND = 0x2001
    SELECT = 0x2002
    READ = 0x3001
    STATUS = 0x11FF


@dataclass(frozen=True, slots=True)
class IdCard:
    """An invented card. Texts are padded with spaces to the fields of the record."""

    number: str = "110101190001010014"
    name: str = "测试甲"
    birth: str = "19000101"
    valid_from: str = "20200101"
    valid_until: str = "长期"
    photo: bytes = field(default=bytes(1024), repr=False)

    def text(self) -> bytes:
        fields: list[tuple[str, int]] = [
            (self.name, 30),
            ("1", 2),
            ("01", 4),
            (self.birth, 16),
            ("某省某市某路一号", 70),
            (self.number, 36),
            ("某市公安局", 30),
            (self.valid_from, 16),
            (self.valid_until, 16),
            ("", 36),
        ]
        return b"".join((text + " " * size).encode("utf-16-le")[:size] for text, size in fields)


@dataclass(frozen=True, slots=True)
class Temper:
    """How the module misbehaves."""

    byte_pause_s: float = 0.0
    """Between two bytes on the line."""
    noise_before: bytes = b""
    """Sent before every answer."""
    flipped: int = 0
    """XORed onto the check of the answer to a read."""
    cut_at: int | None = None
    """Bytes of the answer to a read that are sent at all."""
    silent: bool = False


class IdCardModule(SerialDevice):
    """The module. `card` lies on it from the beginning; None: nothing does."""

    def __init__(self, name: Path, card: IdCard | None = None, *, temper: Temper | None = None) -> None:
        self._temper = temper or Temper()
        super().__init__(name, byte_pause_s=self._temper.byte_pause_s, silent=self._temper.silent)
        self._card = card
        self._lift_before: Command | None = None
        self._selected = self._found = False
        self._request = bytearray()

    def lay(self, card: IdCard) -> None:
        self._card = card

    def lift(self, *, before: Command | None = None) -> None:
        """Takes the card away, now or just before the next `before`."""
        if before is None:
            self._card = None
        self._lift_before = before

    def _rest(self) -> None:
        super()._rest()
        self._request.clear()
        self._found = self._selected = False

    def _hear(self, byte: int) -> None:
        self._request.append(byte)
        if not _START.startswith(self._request[: len(_START)]):
            self._request.clear()
        elif len(self._request) == 10:  # no request is longer
            *_, high, low, command, parameter, check = self._request
            self._request.clear()
            if (high, low) == (0, 3) and high ^ low ^ command ^ parameter == check:
                self._obey(command << 8 | parameter)

    def _obey(self, command: int) -> None:
        if command == self._lift_before:
            self.lift()
        lies = self._card is not None
        match command:
            case Command.FIND:
                self._found, self._selected = lies, False
                self._answer(b"\x00\x00\x9f" + bytes(4) if lies else b"\x00\x00\x80")
            case Command.SELECT:
                self._selected = lies and self._found
                self._answer(b"\x00\x00\x90" + bytes(8) if self._selected else b"\x00\x00\x81")
            case Command.READ if self._card is not None and self._selected:
                text, photo = self._card.text(), self._card.photo
                sizes = len(text).to_bytes(2) + len(photo).to_bytes(2)
                self._answer(b"\x00\x00\x90" + sizes + text + photo, self._temper.flipped, self._temper.cut_at)
            case Command.READ:
                self._answer(b"\x00\x00\x41")
            case Command.STATUS:
                self._answer(b"\x00\x00\x90")
            case _:
                self._answer(b"\x00\x00\x21")
        self._note(command)

    def _answer(self, content: bytes, flipped: int = 0, cut_at: int | None = None) -> None:
        body = (len(content) + 1).to_bytes(2) + content
        check = flipped
        for byte in body:
            check ^= byte
        self._send(self._temper.noise_before + (_START + body + bytes([check]))[:cut_at])
