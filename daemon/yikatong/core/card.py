"""What a card says, once it has been read: parsed at the door, nothing is parsed again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

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
