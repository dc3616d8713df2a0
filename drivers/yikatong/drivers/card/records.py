"""The files of the social security environment (SSSE), and how their records are reached.

Cards differ in which forms they take (card-facts §2.2, §2.3): select by file id in two forms or a short file id, a
record by number or by tag. The spec version decides the number; an answer that is another item, or a refusal, leads
to the tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from yikatong.core.ports import CardLink
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card.tlv import malformed, record_tag, record_value

SSSE_AID: Final = bytes.fromhex("7378312E73682EC9E7BBE1B1A3D5CF")
_ISSUER: Final = 0xEF05
_HOLDER: Final = 0xEF06


@dataclass(frozen=True, slots=True)
class Item:
    """One item: its file, its tag, how long its value usually is, its name in errors."""

    file: int
    tag: int
    length: int
    name: str


IDENTIFICATION_CODE: Final = Item(_ISSUER, 0x01, 16, "identification_code")
SPEC_VERSION: Final = Item(_ISSUER, 0x03, 4, "spec_version")
ISSUE_DATE: Final = Item(_ISSUER, 0x05, 4, "issue_date")
EXPIRY_DATE: Final = Item(_ISSUER, 0x06, 4, "expiry_date")
CARD_NUMBER: Final = Item(_ISSUER, 0x07, 9, "card_number")
SOCIAL_SECURITY_NUMBER: Final = Item(_HOLDER, 0x08, 18, "social_security_number")
NAME: Final = Item(_HOLDER, 0x09, 30, "name")
NAME_EXTENSION: Final = Item(_HOLDER, 0x4E, 20, "name_extension")

Numbering = Mapping[int, int]
"""Tag → record number; a tag that is not in it is not on such a card."""

FIRST_GENERATION: Final[Numbering] = {0x01: 1, 0x03: 3, 0x05: 5, 0x06: 6, 0x07: 7, 0x08: 1, 0x09: 2}
LATER_GENERATIONS: Final[Numbering] = {**FIRST_GENERATION, 0x4E: 3}
"""Version 2.0 put the name extension between name and sex (card-facts §3.3)."""

_BY_NUMBER: Final = 0b100
_BY_TAG: Final = 0b000
"""The low bits of P2 in READ RECORD: what P1 is."""

OK: Final = 0x9000
ABSENT: Final = 0x6A83
_ABSENT_STATUSES: Final = frozenset({ABSENT, 0x6A88})
_NOT_IN_THIS_FORM: Final = frozenset({0x6981, 0x6A80, 0x6A81, 0x6A82, 0x6A83, 0x6A86, 0x6A88, 0x6B00})
"""Refusals that another way of addressing may get round."""


class GatedError(Exception):
    """The card wants authentication before it gives an item. Never leaves the driver."""

    def __init__(self, item: Item, status: int) -> None:
        super().__init__(f"{item.name}: {status:04X}")
        self.status = status
        self.facts = {"item": item.name, "sw": f"{status:04X}"}


def numbering(spec_version: str) -> Numbering:
    return FIRST_GENERATION if spec_version.startswith("1.") else LATER_GENERATIONS


def split(answer: bytes) -> tuple[bytes, int]:
    """Data and status word."""
    return answer[:-2], int.from_bytes(answer[-2:], "big")


class Files:
    """Reads items of the selected environment over a T=0 chain."""

    def __init__(self, link: CardLink) -> None:
        self._link = link
        self._current: int | None = None
        self._by_short_id: set[int] = set()

    def read(self, item: Item, numbers: Numbering) -> bytes | None:
        """The item's value; None where the card does not hold it.

        Raises CARD_MALFORMED, GatedError where the card refuses for want of authentication, and what the link raises.
        """
        self._choose(item.file)
        status = ABSENT
        for p1, kind in self._ways(item, numbers):
            data, status = split(self._link.transmit(self._command(item, p1, kind)))
            if status == OK and record_tag(data) == item.tag:
                return record_value(data, item.tag)
            if status == OK and kind == _BY_TAG:
                raise malformed("a record is not what was asked for", item=item.name)
            if status != OK and status not in _NOT_IN_THIS_FORM:
                break
        if status in _ABSENT_STATUSES or status == OK:
            return None
        raise _refusal(item, status)

    def _ways(self, item: Item, numbers: Numbering) -> list[tuple[int, int]]:
        number = numbers.get(item.tag)
        return ([(number, _BY_NUMBER)] if number else []) + [(item.tag, _BY_TAG)]

    def _command(self, item: Item, p1: int, kind: int) -> bytes:
        short = item.file & 0x1F if item.file in self._by_short_id else 0
        return bytes((0x00, 0xB2, p1, short << 3 | kind, item.length + 2))

    def _choose(self, file: int) -> None:
        """Makes the file current, or notes that it must be named in each command."""
        if self._current == file or file in self._by_short_id:
            return
        for p1 in (0x00, 0x02):
            _, status = split(self._link.transmit(bytes((0x00, 0xA4, p1, 0x00, 0x02)) + file.to_bytes(2, "big")))
            if status == OK:
                self._current = file
                return
        self._current = None
        self._by_short_id.add(file)


def _refusal(item: Item, status: int) -> Exception:
    """69xx and 6A8x for an item that is there: the card may want authentication; anything else is nonsense."""
    if status >> 8 == 0x69 or status in _NOT_IN_THIS_FORM:
        return GatedError(item, status)
    return YikatongError(Reason.CARD_MALFORMED, "the card refuses an item", item=item.name, sw=f"{status:04X}")
