"""A PC/SC reader with keys of its own, its card and the person before it, under a real pcscd.

pcscd loads `ifd_keypad.c`, which whoever wants it compiles, and that asks this over a unix socket. What PC/SC part 10
says of PIN_VERIFY_STRUCTURE is read here without the driver's code: an error made alike at both ends would pass.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

from yikatong.core.values import ReaderName
from yikatong.simulators.card.port import CardPulledError, PretendCard

SOURCE: Final = Path(__file__).with_name("ifd_keypad.c")
NAME: Final = ReaderName("Keypad Reader 00 00")
_FRIENDLY: Final = "Keypad Reader"

_REQUEST: Final = struct.Struct("<BI")
_REPLY: Final = struct.Struct("<iI")
_FEATURE_VERIFY_PIN_DIRECT: Final = bytes.fromhex("0604") + (0x42000000 + 0x330006).to_bytes(4, "big")
_FEATURE_MODIFY_PIN_DIRECT: Final = bytes.fromhex("0704") + (0x42000000 + 0x330007).to_bytes(4, "big")


class Status(IntEnum):
    """What a driver answers pcscd."""

    SUCCESS = 0
    COMMUNICATION_ERROR = 612
    NOT_SUPPORTED = 606
    PRESENT = 615
    NOT_PRESENT = 616


class Call(IntEnum):
    """What pcscd's driver asks for."""

    PRESENCE = 1
    POWER_ON = 2
    POWER_OFF = 3
    TRANSMIT = 4
    FEATURES = 5
    VERIFY = 6


class NotUnderstood(Exception):
    """A structure that no reader takes; it says so with 6B80."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A PIN_VERIFY_STRUCTURE, taken apart."""

    timeout_s: int
    timeout_after_first_key_s: int
    digits_min: int
    digits_max: int
    block: int
    command: bytes
    """The VERIFY, with fillers in the place of the PIN."""


@dataclass(frozen=True, slots=True)
class Presses:
    """What the person does at one prompt: types `digits` and Enter, or makes the reader answer `instead`.

    `until`: not before this is set. `then`: what the driver makes of it after the card has had its command; with
    NOT_SUPPORTED nobody was even asked.
    """

    digits: str = ""
    instead: bytes = b""
    until: threading.Event | None = field(default=None, compare=False)
    then: Status = Status.SUCCESS

    def __repr__(self) -> str:
        return f"Presses({len(self.digits)} digits, {self.instead.hex()}, {self.then.name})"


CANCELS: Final = Presses(instead=bytes.fromhex("6401"))
DOES_NOTHING: Final = Presses(instead=bytes.fromhex("6400"))


def types(pin: str) -> Presses:
    return Presses(pin)


class KeypadReader:
    """The reader, in a thread of its own, from `with` to the end of the block; pcscd may come and go meanwhile."""

    def __init__(self, path: Path, people: Iterable[Presses] = (), *, with_keys: bool = True) -> None:
        """`path`: the socket, which is also the device's name for the driver."""
        self.path, self._with_keys = path, with_keys
        self.people = deque(people)
        self.asked: list[Asked] = []
        """Every prompt so far."""
        self.commands: list[bytes] = []
        """Every command that came over the line, without those that the keys made."""
        self._lock = threading.RLock()
        self._card: PretendCard | None = None
        self._powered = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._line: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="keypad-reader", daemon=True)

    def configuration(self, driver: Path) -> str:
        """What stands in pcscd's reader.conf for it."""
        return f'FRIENDLYNAME "{_FRIENDLY}"\nDEVICENAME {self.path}\nLIBPATH {driver}\nCHANNELID 0\n'

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            for end in (self._listener, self._line):
                if end is not None:
                    with contextlib.suppress(OSError):  # pcscd has left already
                        end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.path.unlink()

    def insert(self, card: PretendCard) -> None:
        """Puts `card` in, and the one before out."""
        with self._lock:
            self.remove()
            self._card = card

    def remove(self) -> None:
        with self._lock:
            self._power_off()
            self._card = None

    def _power_off(self) -> None:
        if self._card is not None:
            self._card.power_off()
        self._powered = False

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return  # the end of the block
            with line:
                with self._lock:
                    self._line = line
                with contextlib.suppress(ConnectionError):  # pcscd has ended
                    self._talk(line)
                with self._lock:
                    self._line = None

    def _talk(self, line: socket.socket) -> None:
        while header := line.recv(_REQUEST.size, socket.MSG_WAITALL):
            call, length = _REQUEST.unpack(header)
            data = line.recv(length, socket.MSG_WAITALL) if length else b""
            status, answer = self._verify(data) if call == Call.VERIFY else self._answer(Call(call), data)
            line.sendall(_REPLY.pack(status, len(answer)) + answer)

    def _answer(self, call: Call, data: bytes) -> tuple[Status, bytes]:
        with self._lock:
            match call:
                case Call.FEATURES:
                    features = _FEATURE_MODIFY_PIN_DIRECT + _FEATURE_VERIFY_PIN_DIRECT if self._with_keys else b""
                    return Status.SUCCESS, features
                case Call.PRESENCE:
                    return Status.PRESENT if self._card is not None else Status.NOT_PRESENT, b""
                case Call.POWER_OFF:
                    self._power_off()
                    return Status.SUCCESS, b""
                case _ if self._card is None:
                    return Status.COMMUNICATION_ERROR, b""
                case Call.POWER_ON:
                    self._card.power_on()
                    self._powered = True
                    return Status.SUCCESS, self._card.atr
                case _:
                    self.commands.append(data)
                    return self._execute(data)

    def _execute(self, command: bytes) -> tuple[Status, bytes]:
        if self._card is None or not self._powered:
            return Status.COMMUNICATION_ERROR, b""
        try:
            answer = self._card.execute(command)
        except CardPulledError:
            self.remove()
            return Status.COMMUNICATION_ERROR, b""
        return (Status.SUCCESS, answer) if answer else (Status.COMMUNICATION_ERROR, b"")

    def _verify(self, structure: bytes) -> tuple[Status, bytes]:
        """A prompt: waits for the person, puts the digits into the command, and gives it to the card."""
        try:
            asked = taken_apart(structure)
        except NotUnderstood:
            return Status.SUCCESS, bytes.fromhex("6B80")
        with self._lock:
            self.asked.append(asked)
            presses = self.people.popleft() if self.people else DOES_NOTHING
        if presses.then is Status.NOT_SUPPORTED:
            return presses.then, b""
        if presses.until is not None:
            presses.until.wait()
        if presses.instead:
            return Status.SUCCESS, presses.instead
        if not asked.digits_min <= len(presses.digits) <= asked.digits_max:
            return Status.SUCCESS, bytes.fromhex("6403")
        with self._lock:
            status, answer = self._execute(with_pin(asked, presses.digits))
        return (status, answer) if presses.then is Status.SUCCESS else (presses.then, b"")


def taken_apart(structure: bytes) -> Asked:
    """PIN_VERIFY_STRUCTURE in this machine's byte order. Raises NotUnderstood where it is not for BCD at byte 0."""
    layout = struct.Struct("=BBBBBHBBHB3sI")
    if len(structure) < layout.size:
        raise NotUnderstood
    (timer, timer2, form, block, length_form, digits, condition, messages, _language, index, prologue, length) = (
        layout.unpack_from(structure)
    )
    command = structure[layout.size :]
    in_bytes, position, right, coding = form >> 7, form >> 3 & 0xF, form >> 2 & 1, form & 0b11
    sound = (
        (in_bytes, position, right, coding) == (1, 0, 0, 0b01)
        and block >> 4 == 0
        and length_form == 0
        and condition == 0b010
        and (messages, index, prologue) == (1, 0, bytes(3))
        and length == len(command)
        and len(command) == 5 + (block & 0xF) == 5 + command[4]
        and 0 < digits >> 8 <= digits & 0xFF <= 2 * (block & 0xF)
    )
    if not sound:
        raise NotUnderstood
    return Asked(timer, timer2, digits >> 8, digits & 0xFF, block & 0xF, command)


def with_pin(asked: Asked, digits: str) -> bytes:
    """The command with the PIN over its fillers, two digits a byte from the left."""
    fillers = asked.command[5:].hex()
    return asked.command[:5] + bytes.fromhex(digits + fillers[len(digits) :])
