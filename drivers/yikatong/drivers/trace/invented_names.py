"""Names that nobody bears, in the bytes of a real one: the same characters' lengths, split at the same places.

GB18030 has characters of one, two and four bytes, and item 09 may end in the middle of one, whose rest begins the
extension (card-facts §3.1). What cannot be read stays unreadable.
"""

from __future__ import annotations

import codecs
import string
from typing import Final

from yikatong.drivers.characters import is_shown
from yikatong.drivers.trace.dice import Dice

_CHARSET: Final = "gb18030"
_PADDING: Final = b"\x00\xff"
_DOT: Final = "·"
_TWO_BYTES: Final = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥"
_LEAD: Final = 0x95
"""Begins characters of two and of four bytes; which of them it is shows in the byte behind it."""
_TWO_WITH_LEAD: Final = bytes((_LEAD, 0x92)).decode(_CHARSET)
_FOUR_BYTES: Final = tuple(chr(code) for code in range(0x20000, 0x20020))
"""They all begin with `_LEAD`."""
_UNREADABLE: Final = b"\x7f\x80"
"""Whatever stands before it: 7F is the second byte of no character, 80 the first of none."""


class InventedName:
    """One card's name: its first part, then its extension, as they are read."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._half = b""
        """The half character at the end of the real name's first part."""
        self._begun = _FOUR_BYTES[0]
        """The invented one of which as many bytes stand there."""

    def first(self, value: bytes) -> bytes:
        self._half = b""
        return self._part("name", value)

    def extension(self, value: bytes) -> bytes:
        return self._part("name extension", value)

    def _part(self, purpose: str, value: bytes) -> bytes:
        content = value.rstrip(_PADDING)
        padding = value[len(content) :]
        half, self._half = self._half, b""
        decoder = codecs.getincrementaldecoder(_CHARSET)("strict")
        try:
            text = decoder.decode(half + content)
        except UnicodeDecodeError:
            return (_UNREADABLE + _UNREADABLE[1:] * len(content))[: len(content)] + padding
        dice = Dice(self._salt, purpose, value)
        made = [_another(char, dice).encode(_CHARSET) for char in text]
        if half and text:
            made[0] = (self._begun if len(made[0]) == len(self._begun.encode(_CHARSET)) else _TWO_WITH_LEAD).encode(
                _CHARSET
            )
        self._half, _ = decoder.getstate()
        if self._half and (text or not half):
            self._begun = dice.other(_FOUR_BYTES, "")
        return (b"".join(made) + self._begun.encode(_CHARSET)[: len(self._half)])[len(half) :] + padding


def _another(char: str, dice: Dice) -> str:
    """A character of as many bytes; the same one where it names nobody."""
    for alphabet in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        if char in alphabet:
            return dice.other(alphabet, char)
    length = len(char.encode(_CHARSET))
    if length == 1 or char == _DOT or not is_shown(char):
        return char
    return dice.other(_FOUR_BYTES if length > len(_DOT.encode(_CHARSET)) else _TWO_BYTES, char)
