"""What every simulated chip does before its own commands begin: power, and T=0 with its 61xx and 6Cxx."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

OK: Final = b"\x90\x00"


class CardRefusalError(Exception):
    """A status word that ends the command; raised anywhere below `Chip.execute`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


class Chip(ABC):
    """The frame of a `PretendCard`: a kind of chip adds its ATR, what it forgets, and its commands."""

    def __init__(self) -> None:
        self._powered = False
        self._waiting = b""

    @property
    @abstractmethod
    def atr(self) -> bytes:
        """The answer to reset."""

    @abstractmethod
    def _forget(self) -> None:
        """Power was off, or the chip was reset."""

    @abstractmethod
    def _dispatch(self, apdu: bytes) -> bytes:
        """Any command but GET RESPONSE, at least four bytes. Raises CardRefusalError."""

    def power_on(self) -> None:
        self._powered = True
        self.reset()

    def power_off(self) -> None:
        self._powered = False

    def reset(self) -> None:
        self._waiting = b""
        self._forget()

    def execute(self, apdu: bytes) -> bytes:
        """Without power there is no answer, as with any chip."""
        if not self._powered:
            return b""
        try:
            return self._carry_out(apdu)
        except CardRefusalError as refusal:
            return refusal.status.to_bytes(2, "big")

    def _carry_out(self, apdu: bytes) -> bytes:
        if len(apdu) < 4:
            raise CardRefusalError(0x6700)
        waiting, self._waiting = self._waiting, b""  # any other command drops what waits
        if apdu[:2] == b"\x00\xc0":
            return self._get_response(waiting, expected_length(apdu))
        return self._dispatch(apdu)

    def _later(self, answer: bytes) -> bytes:
        """T=0: a command with data gives none back at once; the answer waits for GET RESPONSE."""
        self._waiting = answer
        return bytes((0x61, len(answer) & 0xFF))

    def _get_response(self, waiting: bytes, length: int) -> bytes:
        if not waiting:
            raise CardRefusalError(0x6985)
        if length > len(waiting):
            self._waiting = waiting
            raise CardRefusalError(0x6C00 | len(waiting))
        self._waiting = waiting[length:]
        return waiting[:length] + (bytes((0x61, len(self._waiting))) if self._waiting else OK)


def expected_length(apdu: bytes) -> int:
    """Le of a command without data; 00 asks for 256."""
    if len(apdu) != 5:
        raise CardRefusalError(0x6700)
    return apdu[4] or 256


def command_data(apdu: bytes, *, optional: bool = False) -> bytes:
    """The data of a command; an Le behind them, as T=1 would send it, is passed over."""
    if optional and len(apdu) in {4, 5}:
        return b""
    if len(apdu) < 6:
        raise CardRefusalError(0x6700)
    length = apdu[4]
    if len(apdu) not in {5 + length, 6 + length}:
        raise CardRefusalError(0x6700)
    return apdu[5 : 5 + length]


def binary_part(content: bytes, offset: int, length: int) -> bytes:
    """What READ BINARY gives of a transparent file: 6B00 behind its end, 6Cxx where less is left than was asked for."""
    if offset >= len(content):
        raise CardRefusalError(0x6B00)
    left = len(content) - offset
    if length > left:
        raise CardRefusalError(0x6C00 | left)
    return content[offset : offset + length] + OK
