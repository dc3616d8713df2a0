"""What the daemon and the process that holds a vendor's library say to each other. Pure; only the standard library.

    request  call, slot, length of the data (4 bytes) | data
    reply    status (4 bytes, signed), length of the data (4 bytes) | data

The status is what the library returned: a length or a code. Numbers are little endian.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

REQUEST: Final = struct.Struct("<BBI")
REPLY: Final = struct.Struct("<iI")
DATA_MAX: Final = 65_544
"""The longest command of ISO/IEC 7816-4: header, extended length, 65,535 bytes, extended Le."""
ANSWER_MAX: Final = 65_538
"""The longest answer, with its status word."""
PIN_MAX: Final = 16


class Call(IntEnum):
    """Which function of the library."""

    STATUS = 1
    POWER_ON = 2
    POWER_OFF = 3
    APPLICATION = 4
    INPUT_PASS = 5
    """Data: how long the person may take, in seconds, one byte."""


class Code(IntEnum):
    """What the library returns instead of a length; the interface's own list, as one vendor's header has it [1]."""

    OK = 0
    WRONG_TYPE = -1
    NO_CARD = -2
    NOT_POWERED = -3
    NO_RESPONSE = -4
    CONNECT_ERROR = -11
    NOT_CONNECTED = -12
    BAD_COMMAND = -13
    BAD_PARAMETER = -14
    CHECKSUM = -15
    # ours: what the process found out before or after the call
    NO_LIBRARY = -1001
    NO_ENTRY_POINT = -1002
    GARBAGE = -1003
    """The library returned more than any answer has."""


class InputCode(IntEnum):
    """What the library returns for a PIN entry instead of 0."""

    CANCELLED = -1
    TIMED_OUT = -2


def reply_header(header: bytes) -> tuple[int, int]:
    """Status and length of the data. Raises ValueError where no reply begins so."""
    status, length = REPLY.unpack(header)
    if length > ANSWER_MAX:
        raise ValueError("no reply is that long")
    return status, length
