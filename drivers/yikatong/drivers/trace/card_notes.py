"""What a card tells of its kind while it is read, for the record of good and bad reads: its batch, and a tag."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from yikatong.core.card import CardBatch
from yikatong.drivers.card import atr_layout
from yikatong.drivers.card.records import IDENTIFICATION_CODE, SPEC_VERSION, Item

_TAG_LENGTH: Final = 8
_STATUS: Final = b"\x90\x00"
_VERSION: Final = re.compile(rb"[0-9]\.[0-9]{2}")


def _head(item: Item) -> tuple[bytes, int]:
    """How an answer begins that holds the item, and how long it is."""
    return bytes((item.tag, item.length)), 2 + item.length + len(_STATUS)


_CODE, _CODE_LENGTH = _head(IDENTIFICATION_CODE)
_SPEC, _SPEC_LENGTH = _head(SPEC_VERSION)


class CardNotes:
    """One card's, from its power-on. Hears every answer and keeps of two what many cards share; and the salted tag."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._chip = self._region = self._version = ""
        self.tag = b""

    @property
    def batch(self) -> CardBatch:
        return CardBatch(self._region, self._version, self._chip)

    def power(self, atr: bytes) -> None:
        self._chip = atr_layout.chip(atr)

    def hear(self, answer: bytes) -> None:
        """Costs next to nothing: most answers have another length."""
        match len(answer):
            case length if length == _CODE_LENGTH and answer.startswith(_CODE) and not self.tag:
                code = answer[2:-2]
                self._region = region if (region := code[:3].hex()).isdecimal() else ""
                self.tag = hashlib.blake2b(code, key=self._salt, digest_size=_TAG_LENGTH).digest()
            case length if length == _SPEC_LENGTH and answer.startswith(_SPEC):
                version = answer[2:-2]
                self._version = version.decode("ascii") if _VERSION.fullmatch(version) else ""
