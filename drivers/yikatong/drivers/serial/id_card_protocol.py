"""The frames of the module that reads resident identity cards (card-facts §9.1). Pure: bytes in, answers out.

    request  AA AA AA 96 69 | length, 2 bytes | command, parameter        | check
    answer   AA AA AA 96 69 | length, 2 bytes | status, 3 bytes   | data  | check

The length counts what stands behind it; the check is the XOR of everything from the length to before itself. Documented
statuses: 00009F found, 000090 done. Assumption: 000080 no card found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from operator import xor
from typing import Final

from yikatong.core.reasons import Reason, YikatongError

BAUD: Final = 115_200
FOUND: Final = 0x00009F
DONE: Final = 0x000090
NOT_FOUND: Final = 0x000080  # assumption

TEXT_LENGTH: Final = 256
FRAME_MAX: Final = 4096
"""More than any answer (1,295 bytes with a photo, 2,321 with fingerprints): what is longer is noise."""

_PREAMBLE: Final = bytes.fromhex("AAAAAA9669")
_LENGTH_MIN: Final = 4  # status and check
_SIZES: Final = 4  # of text and photo, two bytes each


def _request(command: int, parameter: int) -> bytes:
    body = bytes((0, 3, command, parameter))
    return _PREAMBLE + body + bytes((reduce(xor, body),))


FIND: Final = _request(0x20, 0x01)
SELECT: Final = _request(0x20, 0x02)
READ: Final = _request(0x30, 0x01)
"""Text and photo."""
STATUS: Final = _request(0x11, 0xFF)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the module said. The data may be a person's."""

    status: int
    data: bytes = field(repr=False)


class AnswerFrame:
    """Collects one answer, in whatever pieces it comes; noise before it does not matter, within `FRAME_MAX`."""

    __slots__ = ("_bytes", "_skipped")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._skipped = 0

    def feed(self, piece: memoryview) -> Answer | None:
        """The answer once it is complete. Raises ID_CARD_READER_FAILED for a frame that is none, and for endless noise.

        A broken frame is not searched for another one: the module answers once, and the request can be repeated.
        """
        self._bytes += piece
        self._skip_noise()
        if len(self._bytes) < len(_PREAMBLE) + 2:
            return None
        body = len(_PREAMBLE)
        length = int.from_bytes(self._bytes[body : body + 2])
        if not _LENGTH_MIN <= length <= FRAME_MAX:
            raise _broken("the length of an answer is none")
        end = body + 2 + length
        if len(self._bytes) < end:
            return None
        if reduce(xor, self._bytes[body:end]):  # with its check the XOR of a whole frame is 0
            raise _broken("the check of an answer is wrong")
        return Answer(int.from_bytes(self._bytes[body + 2 : body + 5]), bytes(self._bytes[body + 5 : end - 1]))

    def __repr__(self) -> str:
        return "AnswerFrame(hidden)"

    def _skip_noise(self) -> None:
        if self._bytes.startswith(_PREAMBLE):
            return
        start = self._bytes.find(_PREAMBLE)
        noise = start if start >= 0 else max(len(self._bytes) - len(_PREAMBLE) + 1, 0)  # it may end in half a preamble
        del self._bytes[:noise]
        self._skipped += noise
        if self._skipped > FRAME_MAX:
            raise _broken("noise, and no answer in it")


def text_of(data: bytes) -> bytes:
    """The text record of a read's answer; photo and fingerprints are skipped. Raises ID_CARD_READER_FAILED."""
    if len(data) < _SIZES + TEXT_LENGTH or int.from_bytes(data[:2]) != TEXT_LENGTH:
        raise _broken("the answer holds no text record")
    if len(data) != _SIZES + TEXT_LENGTH + int.from_bytes(data[2:4]):
        raise _broken("the answer's sizes do not add up")
    return data[_SIZES : _SIZES + TEXT_LENGTH]


def _broken(detail: str) -> YikatongError:
    return YikatongError(Reason.ID_CARD_READER_FAILED, detail)
