"""What the daemon and a prompt on somebody's terminal say to each other: one packet each (SOCK_SEQPACKET). Pure.

    daemon   ASK, number (4), seconds (2)     a PIN is wanted
             OVER, number (4)                 not any more
             TAKEN                            another prompt is connected already
    prompt   ENTERED, number (4), 4 to 16 ASCII digits
             CANCELLED, number (4)

Numbers are big endian. A prompt names the number that it answers: a PIN that comes too late is nobody's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

ASK: Final = 1
OVER: Final = 2
TAKEN: Final = 3
ENTERED: Final = 1
CANCELLED: Final = 2

DIGITS_MIN: Final = 4
DIGITS_MAX: Final = 16
_HEADER: Final = struct.Struct(">BI")
_ASK: Final = struct.Struct(">BIH")
ANSWER_MAX: Final = _HEADER.size + DIGITS_MAX
WORD_MAX: Final = _ASK.size
_SECONDS_MAX: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a prompt has to do; `seconds` 0: nothing any more."""

    number: int
    seconds: int


def ask(number: int, seconds: int) -> bytes:
    return _ASK.pack(ASK, number, min(max(seconds, 1), _SECONDS_MAX))


def over(number: int) -> bytes:
    return _HEADER.pack(OVER, number)


def taken() -> bytes:
    return bytes((TAKEN,))


def wanted(packet: bytes) -> Wanted | None:
    """What the daemon said; None where another prompt has its ear. Raises ValueError for anything else."""
    if packet == taken():
        return None
    if len(packet) == _ASK.size and packet[0] == ASK:
        _, number, seconds = _ASK.unpack(packet)
        return Wanted(number, seconds)
    if len(packet) == _HEADER.size and packet[0] == OVER:
        return Wanted(_HEADER.unpack(packet)[1], 0)
    raise ValueError("no such packet")


def entered(number: int, digits: bytearray) -> bytearray:
    """The packet, the caller's to wipe; `digits` are copied byte by byte."""
    packet = bytearray(_HEADER.size + len(digits))
    _HEADER.pack_into(packet, 0, ENTERED, number)
    for i, digit in enumerate(digits):
        packet[_HEADER.size + i] = digit
    return packet


def cancelled(number: int) -> bytes:
    return _HEADER.pack(CANCELLED, number)


def answered(packet: bytearray, count: int) -> int:
    """Which question the first `count` bytes of `packet` answer. Raises ValueError where they are no packet."""
    if count < _HEADER.size:
        raise ValueError("no such packet")
    return int(_HEADER.unpack_from(packet)[1])


def answer(packet: bytearray, count: int) -> bytearray | None:
    """The digits in them, the caller's to wipe; None where it was cancelled. Raises ValueError for anything else."""
    length = count - _HEADER.size
    if length == 0 and packet[0] == CANCELLED:
        return None
    if length < 0 or packet[0] != ENTERED or not DIGITS_MIN <= length <= DIGITS_MAX:
        raise ValueError("no such packet")
    digits = bytearray(length)
    for i in range(length):  # a slice would leave a copy behind
        digits[i] = packet[_HEADER.size + i]
    return digits
