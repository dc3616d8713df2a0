"""A reading unit with a vendor's library: its slots, its keys, and everything that such libraries do wrong.

The library is `ssse32.c`, which whoever wants it compiles; it asks this over a unix socket. Codes as in the interface:
-2 no card, -3 not powered, -4 no answer (card-facts §9).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

from yikatong.simulators.card.port import CardPulledError, PretendCard

SOURCE: Final = Path(__file__).with_name("ssse32.c")
USER_CARD: Final = 0x01

_REQUEST: Final = struct.Struct("<BBI")
_REPLY: Final = struct.Struct("<iBI")
_NO_CARD, _NOT_POWERED, _NO_RESPONSE = -2, -3, -4


class Call(IntEnum):
    """What the library was asked for."""

    STATUS = 1
    POWER_ON = 2
    POWER_OFF = 3
    APPLICATION = 4
    INPUT_PASS = 5
    SOUND = 6


class Manner(IntEnum):
    """What the library does before it returns."""

    OBEY = 0
    CRASH = 1
    HANG = 2
    CHATTER = 3
    """Prints a lot."""
    OVERRUN = 4
    """Writes far behind its buffer."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Once, at the next `call`: a manner, and what is returned instead of the truth."""

    call: Call
    manner: Manner = Manner.OBEY
    status: int | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Presses:
    """What the cardholder does at one prompt: digits and Enter (status 0), cancel (-1), nothing (-2)."""

    digits: bytes = b""
    status: int = 0

    def __repr__(self) -> str:
        return f"Presses({len(self.digits)} digits, {self.status})"


CANCELS: Final = Presses(status=-1)
DOES_NOTHING: Final = Presses(status=-2)


def types(pin: str) -> Presses:
    return Presses(pin.encode("ascii"))


@dataclass(slots=True)
class _Slot:
    card: PretendCard | None = None
    powered: bool = False


class VendorUnit:
    """The unit, in a thread of its own, plugged in from `with` to the end of the block."""

    def __init__(self, path: Path, people: Iterable[Presses] = ()) -> None:
        """`path`: the socket, which is also the device's name for the library."""
        self.path = path
        self._people = deque(people)
        self._slots: dict[int, _Slot] = {}
        self._faults: deque[Fault] = deque()
        self._lock = threading.RLock()
        self._listener: socket.socket | None = None
        self._line: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.heard: list[Call] = []

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def plug(self) -> None:
        listener = self._listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen()
        self._thread = threading.Thread(target=self._serve, args=(listener,), name="vendor-unit", daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        if self._listener is None or self._thread is None:
            return
        with self._lock:
            for end in (self._listener, self._line):
                if end is not None:
                    with contextlib.suppress(OSError):  # the library has left already
                        end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._listener = None
        self.path.unlink()
        with self._lock:
            for slot in self._slots.values():
                self._power_off(slot)

    def insert(self, card: PretendCard, slot: int = USER_CARD) -> None:
        """Puts `card` in, and the one before out."""
        with self._lock:
            self.remove(slot)
            self._slots[slot] = _Slot(card)

    def remove(self, slot: int = USER_CARD) -> None:
        with self._lock:
            if (before := self._slots.pop(slot, None)) is not None:
                self._power_off(before)

    def fail(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return  # unplugged
            with line:
                with self._lock:
                    self._line = line
                with contextlib.suppress(ConnectionError):  # the library's process was ended
                    self._talk(line)
                with self._lock:
                    self._line = None

    def _talk(self, line: socket.socket) -> None:
        while header := line.recv(_REQUEST.size, socket.MSG_WAITALL):
            call, number, length = _REQUEST.unpack(header)
            data = line.recv(length, socket.MSG_WAITALL) if length else b""
            with self._lock:
                self.heard.append(Call(call))
                status, answer = self._answer(Call(call), number, data)
                fault = self._faults.popleft() if self._faults and self._faults[0].call == call else Fault(Call(call))
            status = status if fault.status is None else fault.status
            answer = answer if fault.data is None else fault.data
            line.sendall(_REPLY.pack(status, fault.manner, len(answer)) + answer)

    def _answer(self, call: Call, number: int, data: bytes) -> tuple[int, bytes]:
        slot = self._slots.get(number, _Slot())
        match call:
            case Call.SOUND:
                return 0, b""
            case Call.INPUT_PASS:
                presses = self._people.popleft() if self._people else DOES_NOTHING
                return presses.status, presses.digits
            case _ if slot.card is None:
                return _NO_CARD, b""
            case Call.STATUS:
                return (0 if slot.powered else _NOT_POWERED), b""
            case Call.POWER_ON:
                self._power_off(slot)
                slot.card.power_on()
                slot.powered = bool(slot.card.atr)
                return (len(slot.card.atr), slot.card.atr) if slot.powered else (_NO_RESPONSE, b"")
            case Call.POWER_OFF:
                self._power_off(slot)
                return 0, b""
            case _ if not slot.powered:
                return _NOT_POWERED, b""
            case Call.APPLICATION:
                return self._execute(number, slot.card, data)

    def _execute(self, number: int, card: PretendCard, command: bytes) -> tuple[int, bytes]:
        try:
            answer = card.execute(command)
        except CardPulledError:
            self.remove(number)
            return _NO_CARD, b""
        return (len(answer), answer) if answer else (_NO_RESPONSE, b"")

    @staticmethod
    def _power_off(slot: _Slot) -> None:
        if slot.powered and slot.card is not None:
            slot.card.power_off()
        slot.powered = False
