"""What a code scanner sends: lines of text. Pure: bytes in, one code out, or the reason why there is none.

No payload layout of the e-voucher (医保电子凭证) is published (card-facts §9.3): the code is opaque. Assumptions: it is
printable ASCII without spaces, at most 512 characters; the scanner sends it plain, without prefix, and ends it with CR,
LF or both. Without an end nobody could tell a code from half of one, so the scanner has to be set to send it.
"""

from __future__ import annotations

from typing import Final

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import VoucherCode

_ENDS: Final = b"\r\n"


class ScannedCode:
    """Collects one scan, from its first byte to the silence behind it.

    Whose code it is decides whose money moves: a scan that is not exactly one whole code is none. Twice the same code
    is one (a scanner reads what stays before its window again).
    """

    __slots__ = ("_code", "_fault", "_line")

    def __init__(self) -> None:
        self._line = bytearray()
        self._code = b""
        self._fault = ""

    def feed(self, piece: memoryview) -> None:
        """Takes bytes as they come, in any pieces."""
        for byte in piece:
            if byte in _ENDS:
                self._end_line()
            elif not 0x21 <= byte <= 0x7E:
                self._refuse("it holds a byte that no code holds")
            elif len(self._line) == VoucherCode.LENGTH_MAX:
                self._refuse("it is too long")
            else:
                self._line.append(byte)

    def take(self) -> VoucherCode:
        """The code, once the line is silent. Raises SCAN_TIMEOUT where nothing came, SCAN_UNREADABLE."""
        if self._line:
            self._refuse("its end is missing")
        if self._fault:
            raise YikatongError(Reason.SCAN_UNREADABLE, f"what was scanned is no single code: {self._fault}")
        if not self._code:
            raise YikatongError(Reason.SCAN_TIMEOUT, "nothing was scanned in time")
        return VoucherCode(self._code.decode("ascii"))

    def __repr__(self) -> str:
        return "ScannedCode(hidden)"

    def _end_line(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        if line and self._code not in {b"", line}:
            self._refuse("two codes came at once")
        self._code = self._code or line

    def _refuse(self, fault: str) -> None:
        self._fault = self._fault or fault
