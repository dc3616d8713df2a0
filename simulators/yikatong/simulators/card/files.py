"""The card's file system: environments, record files, transparent files, and who may read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

SSSE_AID: Final = bytes.fromhex("7378312E73682EC9E7BBE1B1A3D5CF")
"""Social security environment: ASCII "sx1.sh." and four GBK characters (card-facts §2.1)."""
RID: Final = bytes.fromhex("D156000005")


class Access(Enum):
    """What must have happened before a read. The ways in are the card's security state."""

    FREE = "free"
    READ_KEY = "external authentication with RKssse"
    PIN = "PIN"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Record:
    """One item: a tag, a length and a value, each of one byte but the last."""

    tag: int
    value: bytes
    access: Access = Access.FREE

    @property
    def encoded(self) -> bytes:
        return bytes((self.tag, len(self.value))) + self.value


@dataclass(frozen=True, slots=True)
class RecordFile:
    """Records in their order; a hostile card may hold raw ones that are no TLV at all."""

    fid: int
    records: tuple[Record, ...]
    raw: dict[int, bytes] = field(default_factory=dict)
    """Record number → bytes that the card gives instead of the proper record."""

    @property
    def sfi(self) -> int:
        return self.fid & 0x1F

    def by_number(self, number: int) -> tuple[bytes, Access] | None:
        if not 1 <= number <= len(self.records):
            return None
        record = self.records[number - 1]
        return self.raw.get(number, record.encoded), record.access

    def by_tag(self, tag: int) -> tuple[bytes, Access] | None:
        for number, record in enumerate(self.records, start=1):
            if record.tag == tag:
                return self.by_number(number)
        return None


@dataclass(frozen=True, slots=True)
class CyclicFile:
    """Records without tags, the newest as number 1."""

    fid: int
    records: tuple[bytes, ...]
    access: Access = Access.FREE

    @property
    def sfi(self) -> int:
        return self.fid & 0x1F

    def by_number(self, number: int) -> tuple[bytes, Access] | None:
        return (self.records[number - 1], self.access) if 1 <= number <= len(self.records) else None

    def by_tag(self, tag: int) -> tuple[bytes, Access] | None:
        del tag  # cyclic records have none
        return None


@dataclass(frozen=True, slots=True)
class TransparentFile:
    fid: int
    content: bytes
    access: Access = Access.FREE

    @property
    def sfi(self) -> int:
        return self.fid & 0x1F


ElementaryFile = RecordFile | CyclicFile | TransparentFile


@dataclass(frozen=True, slots=True)
class DirectoryFile:
    """The SSSE or an application under it. `algorithm` (01 3DES, 02 SSF33, 03 SM4) goes into the FCI of the SSSE."""

    fid: int
    aid: bytes
    files: tuple[ElementaryFile, ...] = ()
    algorithm: int | None = None

    def file(self, fid: int) -> ElementaryFile | None:
        return next((file for file in self.files if file.fid == fid), None)

    def short(self, sfi: int) -> ElementaryFile | None:
        return next((file for file in self.files if file.sfi == sfi), None)

    @property
    def control_information(self) -> bytes:
        """FCI; for the SSSE 30 bytes, as real cards say; which bytes is an assumption (card-facts §2.2)."""
        proprietary = bytes.fromhex("880105")
        if self.algorithm is not None:
            proprietary += bytes.fromhex("9F0C038601") + bytes((self.algorithm,))
        inside = bytes((0x84, len(self.aid))) + self.aid + bytes((0xA5, len(proprietary))) + proprietary
        return bytes((0x6F, len(inside))) + inside
