"""What a customer display of two lines takes. Pure.

The command set of CD5220 displays, which others imitate (general knowledge; assumption): `0C` clears, `ESC Q A` and
`ESC Q B` write the upper and the lower line up to a carriage return. Assumption: it has Chinese characters in GB18030,
each two columns wide.
"""

from __future__ import annotations

from typing import Final

from yikatong.core.receipt import columns
from yikatong.drivers.characters import is_shown

WIDTH: Final = 20
CLEAR: Final = b"\x0c"

_UPPER: Final = b"\x1bQA"
_LOWER: Final = b"\x1bQB"


def two_lines(upper: str, lower: str) -> bytes:
    """Both lines, each cut to the display's width."""
    return CLEAR + _UPPER + _line(upper) + b"\r" + _LOWER + _line(lower) + b"\r"


def _line(text: str) -> bytes:
    line = "".join(char if is_shown(char) else "?" for char in text[:WIDTH])
    while columns(line) > WIDTH:
        line = line[:-1]
    return line.encode("gb18030")
