"""A serial PIN pad and the person in front of it, on a pseudo-terminal.

Written from card-facts §9.2 on its own, without the driver's code: an error made alike at both ends would pass. Assumed
here as there: Enter is 0x0D, cancel 0x1B, backspace 0x08; keys are sent only while the pad is open.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from yikatong.simulators.serial_device import SerialDevice

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Command(IntEnum):
    """What the host may send, one byte each."""

    WELCOME = 0x80
    ENTER_PASSWORD_AGAIN = 0x81
    ENTER_PASSWORD = 0x82
    WELCOME_OTHER = 0x83
    ARE_YOU_THERE = 0x89
    KEYS_ON = 0x8A
    KEYS_OFF = 0x8B


_ESCAPE: Final = 0x1B
_CANCEL_KEY: Final = b"\x1b"
_ENTER_KEY: Final = b"\x0d"


@dataclass(frozen=True, slots=True)
class Presses:
    """What the cardholder presses at one prompt; nothing at all for someone who looks elsewhere."""

    keys: bytes = b""

    def __repr__(self) -> str:
        return f"Presses({len(self.keys)} keys)"


def types(pin: str) -> Presses:
    return Presses(pin.encode("ascii") + _ENTER_KEY)


CANCELS: Final = Presses(_CANCEL_KEY)
DOES_NOTHING: Final = Presses()


@dataclass(frozen=True, slots=True)
class Temper:
    """How the pad misbehaves."""

    byte_pause_s: float = 0.0
    """Between two bytes on the line: a slow pad, and answers that arrive in pieces."""
    noise_before: bytes = b""
    """Sent before every answer to the query: a bad contact."""
    noise_within: bytes = b""
    """Sent behind the first key of an entry."""
    silent: bool = False
    """Hears everything, says nothing."""


class PinPad(SerialDevice):
    """The pad; freshly powered its keys are off.

    `cardholder` is what happens at each prompt in turn; when it runs out, nothing.
    """

    def __init__(self, name: Path, cardholder: Iterable[Presses] = (), *, temper: Temper | None = None) -> None:
        self._temper = temper or Temper()
        super().__init__(name, byte_pause_s=self._temper.byte_pause_s, silent=self._temper.silent)
        self._cardholder = deque(cardholder)
        self._keys_on = False
        self._text_follows = 0  # bytes of an ESC sequence that are no commands
        self._escaped = False

    def press(self, keys: bytes) -> None:
        """Someone presses keys now, prompt or not; a pad whose keys are off sends nothing."""
        if self._keys_on:
            self._send(keys)
            self._line.wake()

    def _hear(self, byte: int) -> None:
        if self._escaped:  # ESC S n text: n bytes to show; ESC C: clear the display
            self._escaped = False
            self._text_follows = -1 if byte == ord("S") else 0
            return
        if self._text_follows:
            self._text_follows = byte if self._text_follows < 0 else self._text_follows - 1
            return
        if byte == _ESCAPE:
            self._escaped = True
            return
        self._obey(byte)
        self._note(byte)

    def _obey(self, byte: int) -> None:
        match byte:
            case Command.KEYS_ON:
                self._keys_on = True
            case Command.KEYS_OFF:
                self._rest()
            case Command.ARE_YOU_THERE:
                self._send(self._temper.noise_before + b"OK\r")
            case Command.ENTER_PASSWORD | Command.ENTER_PASSWORD_AGAIN:
                keys = self._cardholder.popleft().keys if self._cardholder else b""
                if self._keys_on and keys:
                    self._send(keys[:1] + self._temper.noise_within + keys[1:])
            case _:
                pass  # a real pad ignores what it does not know

    def _rest(self) -> None:
        """Keys off, and whatever was still to be sent forgotten."""
        self._keys_on = False
        super()._rest()
