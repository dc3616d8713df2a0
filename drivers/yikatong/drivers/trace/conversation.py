"""Follows what is said to one card, so that it is known what each answer holds. Pure.

What is not understood stays strange, and nothing is shown of it. A command that carries a PIN is never copied: of it
only its header's four numbers are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from yikatong.drivers.card import dictionary
from yikatong.drivers.card.dictionary import Entry, Named
from yikatong.drivers.card.records import OK

HEADER: Final = 4
_CASE_2: Final = 5
"""A command of this length has an Le and no data; a longer one has data behind its fifth byte."""
_SECRET: Final = frozenset({0x20, 0x21, 0x24, 0x2C, 0x2D, 0x5E, 0xD4})
"""VERIFY, CHANGE and RELOAD PIN in all their forms, RESET RETRY COUNTER, and WRITE KEY (card-facts §4)."""
_BY_NAME: Final = 0x04
_BY_NUMBER: Final = 0b100
_WAITING: Final = 0x61


class Act(Enum):
    """What a command asks for."""

    SELECT = auto()
    READ_RECORD = auto()
    READ_BINARY = auto()
    GET_RESPONSE = auto()
    GET_CHALLENGE = auto()
    INTERNAL_AUTHENTICATE = auto()
    EXTERNAL_AUTHENTICATE = auto()
    SECRET = auto()
    OTHER = auto()


class Content(Enum):
    """What an answer's data are."""

    CONTROL_INFORMATION = auto()
    RECORD = auto()
    RANDOM = auto()
    STRANGE = auto()


_ACTS: Final = {
    (0x00, 0xA4): Act.SELECT,
    (0x00, 0xB2): Act.READ_RECORD,
    (0x00, 0xB0): Act.READ_BINARY,
    (0x00, 0xC0): Act.GET_RESPONSE,
    (0x00, 0x84): Act.GET_CHALLENGE,
    (0x00, 0x88): Act.INTERNAL_AUTHENTICATE,
    (0x00, 0x82): Act.EXTERNAL_AUTHENTICATE,
}
_CONTENTS: Final = {
    Act.SELECT: Content.CONTROL_INFORMATION,
    Act.READ_RECORD: Content.RECORD,
    Act.GET_CHALLENGE: Content.RANDOM,
    Act.INTERNAL_AUTHENTICATE: Content.RANDOM,
}


@dataclass(frozen=True, slots=True)
class Understood:
    """One exchange, and what is known of it. `data` may be a person's.

    `command` is all of it where it names nothing but files, else its header. `status` is None where no answer came.
    `names` is what is selected or read from; `entry` the item that `data` (a record) holds.
    """

    act: Act
    command: bytes
    command_length: int
    status: int | None
    content: Content = Content.STRANGE
    data: bytes = field(default=b"", repr=False)
    names: Named | None = None
    entry: Entry | None = None

    @property
    def header(self) -> bytes:
        return self.command[:HEADER]

    @property
    def by_number(self) -> bool:
        """Of READ_RECORD: whether P1 is a record's number, and not its tag."""
        return self.command[3] & 0b111 == _BY_NUMBER


class Conversation:
    """One card since it was powered. After a gap in what is heard begin a new one: who knows what was selected."""

    def __init__(self) -> None:
        self._directory: Named | None = None
        self._file: int | None = None
        self._waiting: Understood | None = None

    def hear(self, apdu: bytes | bytearray, answer: bytes) -> Understood:
        """`answer` is empty where none came. Keeps nothing of either but what is selected."""
        if isinstance(apdu, bytearray) or (len(apdu) >= HEADER and apdu[1] in _SECRET):  # a bytearray is to be wiped
            self._waiting = None
            return Understood(Act.SECRET, _header(apdu), 0, _status(answer))
        understood = self._understood(apdu, answer)
        waits = understood.status is not None and understood.status >> 8 == _WAITING
        # An answer in more than one piece is nothing that we know.
        self._waiting = understood if waits and understood.act is not Act.GET_RESPONSE else None
        return understood

    def _understood(self, apdu: bytes, answer: bytes) -> Understood:
        act = _ACTS.get((apdu[0], apdu[1]), Act.OTHER) if len(apdu) >= HEADER else Act.OTHER
        status, data = _status(answer), answer[:-2]
        length = len(apdu) - _CASE_2 if len(apdu) > _CASE_2 else 0
        command = apdu if not length or act is Act.SELECT else apdu[:HEADER]
        content, names, entry = _CONTENTS.get(act, Content.STRANGE), None, None
        match act:
            case Act.SELECT:
                names = self._select(apdu, status)
            case Act.READ_RECORD:
                names, entry = self._read(apdu, data, status)
            case Act.GET_RESPONSE if self._waiting is not None and status == OK:
                content, names = self._waiting.content, self._waiting.names
        return Understood(act, command, length, status, content, data, names, entry)

    def _select(self, apdu: bytes, status: int | None) -> Named | None:
        """What is to be selected; where the card obeys, it is current from now on."""
        name = apdu[_CASE_2 : _CASE_2 + apdu[4]] if len(apdu) > _CASE_2 else b""
        fid = int.from_bytes(name, "big") if apdu[2] != _BY_NAME and len(name) == 2 else 0
        if fid >> 8 == 0xEF:
            if not _refused(status):
                self._file = fid if _obeyed(status) else None
            return dictionary.SSSE_FILES.get(fid) if self._directory is dictionary.SSSE else None
        directory = dictionary.APPLICATIONS.get(name) if apdu[2] == _BY_NAME else None
        if fid == dictionary.SSSE_FID:
            directory = dictionary.SSSE
        if not _refused(status):
            self._directory, self._file = directory if _obeyed(status) else None, None
        return directory

    def _read(self, apdu: bytes, data: bytes, status: int | None) -> tuple[Named | None, Entry | None]:
        """The file, and the item: what the record itself says it is, or where it gives none what was asked for."""
        short = apdu[3] >> 3
        file = 0xEF00 | short if short else self._file
        if short and status == OK:
            self._file = file
        if self._directory is not dictionary.SSSE or file is None:
            return None, None
        by_tag = apdu[3] & 0b111 == 0
        tag = data[0] if data else apdu[2] if by_tag else None
        entry = dictionary.SSSE_ITEMS.get((file, tag)) if tag is not None else None
        return dictionary.SSSE_FILES.get(file), entry


def _header(apdu: bytes | bytearray) -> bytes:
    """Number by number: a slice of a buffer that will be wiped would be a copy that is not."""
    return bytes(apdu[i] for i in range(min(HEADER, len(apdu))))


def _status(answer: bytes) -> int | None:
    return int.from_bytes(answer[-2:], "big") if len(answer) >= 2 else None


def _obeyed(status: int | None) -> bool:
    return status is not None and (status == OK or status >> 8 == _WAITING)


def _refused(status: int | None) -> bool:
    """What is refused in so many words leaves the selection as it was (ISO/IEC 7816-4)."""
    return status is not None and 0x67 <= status >> 8 <= 0x6F
