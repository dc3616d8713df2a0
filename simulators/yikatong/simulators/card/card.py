"""The simulated card: its commands, files and rights.

Where the facts leave something open the assumption of card-facts §11 holds: 6982 for a gated read, 6Cxx for every Le
that does not fit (00 too), 6A83 for an absent record, 6A82 for an unknown name, 6D00 for anything else; rights end
where an environment is selected, the same one too.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from yikatong.simulators.card.chip import OK, CardRefusalError, Chip, binary_part, command_data, expected_length
from yikatong.simulators.card.cryptography import SM4_ASSUMED, TRIPLE_DES
from yikatong.simulators.card.files import (
    Access,
    CyclicFile,
    DirectoryFile,
    ElementaryFile,
    RecordFile,
    TransparentFile,
)
from yikatong.simulators.card.personalisation import SM4, CardData, file_system
from yikatong.simulators.card.security import Security, WithoutPin, pin_block

_MASTER_FILE: Final = 0x3F00
_BALANCE: Final = bytes.fromhex("00002710")


class SimulatedCard(Chip):
    """One chip. Its PIN, counters and files outlive a reset; selection, rights and challenges do not.

    `random` makes challenges: a test hands in its own to replay a recorded exchange.
    """

    def __init__(
        self,
        data: CardData,
        *,
        pin: str = "123456",
        without_pin: WithoutPin = WithoutPin.REFUSES,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        super().__init__()
        self.data = data
        algorithm = SM4_ASSUMED if data.algorithm == SM4 else TRIPLE_DES
        self.security = Security(pin_block(pin), without_pin, algorithm=algorithm)
        self._random = random
        self._directories = file_system(data)
        self._directory: DirectoryFile | None = None
        self._file: ElementaryFile | None = None

    @property
    def atr(self) -> bytes:
        return self.data.atr

    def _forget(self) -> None:
        self.security.forget()
        self._directory = self._file = None

    def _dispatch(self, apdu: bytes) -> bytes:
        cla, ins, p1, p2 = apdu[:4]
        match (cla, ins):
            case (0x00, 0xA4):
                return self._select(p1, p2, command_data(apdu, optional=True))
            case (0x00, 0xB2):
                return self._read_record(p1, p2, expected_length(apdu))
            case (0x00, 0xB0):
                return self._read_binary(p1, p2, expected_length(apdu))
            case (0x00, 0x84) if p1 == p2 == 0:
                return self._challenge(expected_length(apdu))
            case (0x00, 0x88) if p1 == p2 == 0:
                return self._later(self.security.internal_authenticate(command_data(apdu)))
            case (0x00, 0x82) if p1 == 0:
                self.security.external_authenticate(p2, command_data(apdu))
            case (0x00, 0x20) if p1 == p2 == 0:
                self.security.verify(command_data(apdu, optional=True))
            case (0x80, 0x5E) if (p1, p2) == (1, 0):
                self.security.change(command_data(apdu))
            case (0x84, 0x24) if p1 == 0 and p2 in {0, 1}:
                self.security.reload_pin(apdu[:5], command_data(apdu))
            case (0xB0, 0x26) if p1 == 0 and p2 == 1:
                return self._balance(expected_length(apdu))
            case (0xB0, 0x28) if (p1, p2) == (0, 1):
                return self._initialise_load(command_data(apdu))
            case (0x00 | 0x80 | 0x84 | 0xB0, _):
                raise CardRefusalError(0x6A86 if ins in {0x84, 0x88, 0x82, 0x20} else 0x6D00)
            case _:
                raise CardRefusalError(0x6E00)
        return OK

    def _select(self, p1: int, p2: int, name: bytes) -> bytes:
        if p2 not in {0x00, 0x0C}:
            raise CardRefusalError(0x6A86)
        if p1 == 0x04:
            found = next((directory for directory in self._directories if directory.aid == name), None)
            return self._enter(found)
        if p1 not in {0x00, 0x02}:
            raise CardRefusalError(0x6A86)
        if name and len(name) != 2:
            raise CardRefusalError(0x6700)
        fid = int.from_bytes(name, "big") if name else _MASTER_FILE
        if p1 == 0x00 and fid == _MASTER_FILE:
            self._directory = self._file = None
            return OK
        if p1 == 0x00 and fid >> 8 != 0xEF:
            return self._enter(next((directory for directory in self._directories if directory.fid == fid), None))
        file = self._directory.file(fid) if self._directory else None
        if file is None:
            raise CardRefusalError(0x6A82)
        self._file = file
        return OK

    def _enter(self, directory: DirectoryFile | None) -> bytes:
        if directory is None:
            raise CardRefusalError(0x6A82)
        self._directory, self._file = directory, None
        self.security.end_rights()
        return self._later(directory.control_information)

    def _addressed(self, sfi: int) -> ElementaryFile:
        """A short file id makes that file current; 0 is the current one."""
        if sfi:
            file = self._directory.short(sfi) if self._directory else None
            if file is None:
                raise CardRefusalError(0x6A82)
            self._file = file
        if self._file is None:
            raise CardRefusalError(0x6986)
        return self._file

    def _read_record(self, p1: int, p2: int, length: int) -> bytes:
        file = self._addressed(p2 >> 3)
        if isinstance(file, TransparentFile):
            raise CardRefusalError(0x6981)
        if p2 & 0b111 not in {0b100, 0b000}:
            raise CardRefusalError(0x6A86)
        found = file.by_number(p1) if p2 & 0b111 else file.by_tag(p1)
        if found is None:
            raise CardRefusalError(0x6A83)
        record, access = found
        self._demand(access)
        if length != len(record):
            raise CardRefusalError(0x6C00 | (len(record) & 0xFF))
        return record + OK

    def _read_binary(self, p1: int, p2: int, length: int) -> bytes:
        file = self._addressed(p1 & 0x1F if p1 & 0x80 else 0)
        if isinstance(file, RecordFile | CyclicFile):
            raise CardRefusalError(0x6981)
        self._demand(file.access)
        return binary_part(file.content, p2 if p1 & 0x80 else p1 << 8 | p2, length)

    def _demand(self, access: Access) -> None:
        if not self.security.may(access):
            raise CardRefusalError(0x6982)

    def _challenge(self, length: int) -> bytes:
        if length not in {4, 8, 16}:
            raise CardRefusalError(0x6700)
        return self.security.new_challenge(length, self._random) + OK

    def _balance(self, length: int) -> bytes:
        self._demand(Access.PIN)
        if length != len(_BALANCE):
            raise CardRefusalError(0x6C00 | len(_BALANCE))
        return _BALANCE + OK

    def _initialise_load(self, data: bytes) -> bytes:
        """The form of the answer is known (card-facts §6.1); its MAC1 is not, and stands here as zeros."""
        self._demand(Access.PIN)
        if len(data) != 11:
            raise CardRefusalError(0x6700)
        serial, key_version, algorithm, mac1 = b"\x00\x01", b"\x01", b"\x01", bytes(4)
        return self._later(_BALANCE + serial + key_version + algorithm + self._random(4) + mac1)
