"""PC/SC part 10: readers with keys, and what they are told so that a PIN goes from them straight to the card. Pure.

Field names in comments are the part's own. Keys that complete a VERIFY by themselves are its FEATURE_VERIFY_PIN_DIRECT.
"""

from __future__ import annotations

import struct
from typing import Final

GET_FEATURE_REQUEST: Final = 3400
"""CM_IOCTL_GET_FEATURE_REQUEST, an argument of SCARD_CTL_CODE."""
VERIFY_PIN_DIRECT: Final = 0x06

TIMED_OUT: Final = b"\x64\x00"
CANCELLED: Final = b"\x64\x01"
MISMATCH: Final = b"\x64\x02"
WRONG_LENGTH: Final = b"\x64\x03"
NOT_UNDERSTOOD: Final = b"\x6b\x80"
"""What a reader answers itself, in the place of the card's status word: no PIN has reached the card."""

_FEATURE: Final = struct.Struct(">BBI")
_VERIFY: Final = struct.Struct("=BBBBBHBBHB3sI")  # numbers in the machine's own order; the driver turns them
_SECONDS_MAX: Final = 0xFF
_BCD_LEFT_AT_BYTE_0: Final = 0x81
_NO_LENGTH_IN_APDU: Final = 0x00
_ENTER_ENDS: Final = 0x02
_ONE_MESSAGE: Final = 0x01
_CHINESE: Final = 0x0804
_FILLER: Final = 0xFF


def control_code(features: bytes, wanted: int) -> int | None:
    """The control code of feature `wanted`, from what GET_FEATURE_REQUEST answers; None where the reader has it not.

    A list of tag, length (4), value; anything else is not understood and says nothing: there are no features behind it.
    """
    for at in range(0, len(features) - _FEATURE.size + 1, _FEATURE.size):
        tag, length, code = _FEATURE.unpack_from(features, at)
        if length != 4:
            return None
        if tag == wanted:
            return int(code)
    return None


def verify_structure(header: bytes, *, digits: int, timeout_ms: int, key_gap_ms_max: int) -> bytes:
    """PIN_VERIFY_STRUCTURE for a VERIFY whose data are `digits` BCD digits, two a byte, an odd one filled up with F.

    `header`: CLA, INS, P1, P2. One length and no range: readers differ in which half of wPINMaxExtraDigit is which, and
    in what they do with a block that is longer than its PIN.
    """
    block = (digits + 1) // 2
    template = header + bytes((block,)) + bytes((_FILLER,)) * block
    return (
        _VERIFY.pack(
            _seconds(timeout_ms),  # bTimerOut
            _seconds(key_gap_ms_max),  # bTimerOut2: after the first key
            _BCD_LEFT_AT_BYTE_0,  # bmFormatString
            block,  # bmPINBlockString: no length bits, the block's size in bytes
            _NO_LENGTH_IN_APDU,  # bmPINLengthFormat
            digits << 8 | digits,  # wPINMaxExtraDigit
            _ENTER_ENDS,  # bEntryValidationCondition
            _ONE_MESSAGE,  # bNumberMessage
            _CHINESE,  # wLangId
            0,  # bMsgIndex
            bytes(3),  # bTeoPrologue
            len(template),  # ulDataLength
        )
        + template
    )


def _seconds(milliseconds: int) -> int:
    """At least one: 0 means the reader's own idea."""
    return min(max(round(milliseconds / 1000), 1), _SECONDS_MAX)
