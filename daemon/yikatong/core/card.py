"""What a card says, once it has been read: parsed at the door, nothing is parsed again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from yikatong.core.reasons import Reason
from yikatong.core.values import (
    CardIdentificationCode,
    CardNumber,
    PersonName,
    ReaderName,
    Region,
    SocialSecurityNumber,
)


class CardAlgorithm(Enum):
    """Algorithm of the card's keys, from the last byte of FCI tag 9F0C (card-facts §2.2)."""

    TRIPLE_DES = "3DES"
    SSF33 = "SSF33"
    SM4 = "SM4"


@dataclass(frozen=True, slots=True)
class CardIdentity:
    """The freely read identity of a social security card (EF05 and EF06 of the SSSE).

    `issue_date` and `expiry_date` are `YYYY-MM-DD`, or empty where the card leaves them blank. `unreadable_fields`
    names what the card holds but could not be understood and is not needed for a debit (for example `name`).
    """

    atr: bytes
    algorithm: CardAlgorithm
    identification_code: CardIdentificationCode
    spec_version: str
    card_number: CardNumber
    social_security_number: SocialSecurityNumber
    name: PersonName
    issue_date: str
    expiry_date: str
    unreadable_fields: tuple[str, ...] = ()

    @property
    def issuing_region(self) -> Region:
        """A hint, never the home region."""
        return self.identification_code.issuing_region


@dataclass(frozen=True, slots=True)
class ResidentCard:
    """What a resident identity card (居民身份证) says, as far as it tells who pays; the rest of it is not kept.

    `valid_from` and `valid_until` are `YYYY-MM-DD`; `valid_until` is empty where the card has no end (长期).
    `unreadable_fields` names what could not be understood and is not needed (`name`).
    """

    number: SocialSecurityNumber
    name: PersonName
    valid_from: str
    valid_until: str
    unreadable_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReaderState:
    """One reader as it is seen now.

    `detail`: the name of the reason where something is wrong, else empty; `explanation`: the facts of it.
    """

    name: ReaderName
    present: bool
    card_present: bool
    detail: str = ""
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class CardBatch:
    """What a card shares with thousands of others; each part is empty where it was not learned.

    `issuing_region`: six digits. `spec_version`: "2.00", … `chip`: chip maker, operating system and card maker, 14 hex
    digits from the historical bytes (card-facts §1.1), never those with the card's serial.
    """

    issuing_region: str = ""
    spec_version: str = ""
    chip: str = ""


@dataclass(frozen=True, slots=True)
class ReadAttempt:
    """What became of one attempt to read a card, and of what kind the card was. It names nobody.

    `stay` is the same as long as the card was not seen to leave the slot. `failure` is None where the card was read, in
    `read_ms`. `reset`: CARD_REMOVED, but the card had not left: it lost its power. `tag` tells this card from others as
    long as this process runs; it is empty for a card that said nothing about itself.
    """

    reader: ReaderName
    stay: int
    failure: Reason | None = None
    reset: bool = False
    read_ms: int = 0
    batch: CardBatch = CardBatch()
    tag: bytes = b""
