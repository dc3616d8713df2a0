"""What an issuer writes into a card: the cardholder's data laid out as card-facts §3 says."""

from __future__ import annotations

from dataclasses import dataclass, field

from yikatong.simulators.card.files import (
    RID,
    SSSE_AID,
    Access,
    CyclicFile,
    DirectoryFile,
    Record,
    RecordFile,
    TransparentFile,
)

TRIPLE_DES, SSF33, SM4 = 1, 2, 3
"""What a card's select answer says of its keys; without a word 3DES is meant (card-facts §2.2)."""


@dataclass(frozen=True, slots=True)
class CardData:
    """An invented cardholder and card. Dates are `YYYYMMDD`, or eight F where the issuer left them blank."""

    social_security_number: str
    name: str
    card_number: str
    issuing_region: str
    serial: bytes
    """The last four historical bytes of the ATR, and bytes 9–12 of the card identification code."""
    version: str = "2.00"
    algorithm: int | None = TRIPLE_DES
    gated: bool = False
    """Third generation as most issuers make it: all but EF05 tags 01–04 needs RKssse (card-facts §2.6)."""
    issue_date: str = "20250101"
    expiry_date: str = "20350101"
    maker: bytes = bytes.fromhex("0081544330")
    manufacturer: bytes = bytes.fromhex("8699")
    identification_mac: bytes = bytes.fromhex("FFFFFFFF")
    replaced: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """(file, tag) → value bytes other than the proper ones: what a careless or hostile issuer wrote."""
    raw: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """(file, tag) → a whole record that need not be a TLV."""
    missing: frozenset[tuple[int, int]] = frozenset()

    @property
    def atr(self) -> bytes:
        """17 bytes, T=0 only, no TCK (card-facts §1.1)."""
        return bytes.fromhex("3B6D0000") + self.maker + self.manufacturer + b"\x25\x01" + self.serial

    @property
    def identification_code(self) -> bytes:
        return bytes.fromhex(self.issuing_region) + RID + self.serial + self.identification_mac


def file_system(card: CardData) -> tuple[DirectoryFile, ...]:
    """The SSSE and the applications under it."""
    gate = Access.READ_KEY if card.gated else Access.FREE
    ssse = DirectoryFile(
        0xDDF1,
        SSSE_AID,
        (
            _record_file(card, 0xEF05, _issuer_items(card, gate)),
            _record_file(card, 0xEF06, _holder_items(card, gate)),
            TransparentFile(0xEF07, bytes(0x300), Access.READ_KEY),
            TransparentFile(0xEF08, bytes(0x1000), Access.READ_KEY),
        ),
        card.algorithm,
    )
    return (ssse, *_applications())


def _issuer_items(card: CardData, gate: Access) -> list[Record]:
    return [
        Record(0x01, card.identification_code),
        Record(0x02, b"3"),
        Record(0x03, card.version.encode("ascii")),
        Record(0x04, bytes.fromhex("9900010000000000FFFFFFFF")),
        Record(0x05, bytes.fromhex(card.issue_date), gate),
        Record(0x06, bytes.fromhex(card.expiry_date), gate),
        Record(0x07, card.card_number.encode("ascii"), gate),
    ]


def _holder_items(card: CardData, gate: Access) -> list[Record]:
    name = card.name.encode("gb18030")
    number = card.social_security_number
    items = [
        Record(0x08, number.encode("ascii"), gate),
        Record(0x09, name[:30].ljust(30, b"\x00"), gate),
        Record(0x4E, name[30:].ljust(20, b"\x00"), gate),
        Record(0x0A, b"1" if int(number[16]) % 2 else b"2", gate),
        Record(0x0B, b"\x01", gate),
        Record(0x0C, bytes.fromhex(number[:6]), gate),
        Record(0x0D, bytes.fromhex(number[6:14]), gate),
    ]
    # V1.0 knows no name extension: every later record has the number before (card-facts §3.3).
    return [item for item in items if item.tag != 0x4E] if card.version.startswith("1") else items


def _record_file(card: CardData, fid: int, items: list[Record]) -> RecordFile:
    kept = [item for item in items if (fid, item.tag) not in card.missing]
    records = tuple(Record(item.tag, card.replaced.get((fid, item.tag), item.value), item.access) for item in kept)
    raw = {n: card.raw[fid, record.tag] for n, record in enumerate(records, start=1) if (fid, record.tag) in card.raw}
    return RecordFile(fid, records, raw)


def _applications() -> tuple[DirectoryFile, ...]:
    """DF01–DF05. Their contents differ from city to city (card-facts §3.4): a token of each, behind its gate."""
    log = bytes.fromhex("0001373700000000012025010210150000 0003E8 00000000 00002710".replace(" ", ""))
    medical = (
        RecordFile(0xEF05, (Record(0x81, b"00000000", Access.PIN),)),
        RecordFile(0xEF06, (Record(0x90, b"0", Access.NEVER),)),
        CyclicFile(0xEF08, (log,)),
    )
    return (
        DirectoryFile(0xDF01, RID + b"\x00", (TransparentFile(0xEF16, bytes(0x128)),)),
        DirectoryFile(0xDF02, RID + b"\x01"),
        DirectoryFile(0xDF03, RID + b"\x02"),
        DirectoryFile(0xDF04, RID + b"\x03", medical),
        DirectoryFile(0xDF05, RID + b"\x04"),
    )
