"""Card authentication (卡认证): what a card and a holder of its keys say to each other (card-facts §5)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import Enum
from typing import Final

from yikatong.core.card import CardAlgorithm
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import CardIdentificationCode, Region

BLOCK: Final = 8
"""Factors, data, challenges and cryptograms have eight bytes, whatever the algorithm (card-facts §5.1, §5.4)."""


class CardKey(Enum):
    """Keys of a card that authentication needs (card-facts §2.7)."""

    IRK = "IRK"
    """By which a card proves that it is genuine."""
    RKSSSE = "RKSSSE"
    """By which a terminal is let read what third-generation cards refuse."""


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose keys are meant: a card's own are made of the issuer's, of the card's historical bytes and its region.

    Historical bytes are those of the answer to reset, at least eight. `region`: who issued the card.
    """

    algorithm: CardAlgorithm
    historical_bytes: bytes
    region: Region

    def __post_init__(self) -> None:
        if len(self.historical_bytes) < BLOCK:
            raise ValueError("keys are made of eight historical bytes")

    def factors(self, levels: int) -> tuple[bytes, ...]:
        """Of card, city, province, eight bytes each: the first `levels` of them, 0 to 3 (card-facts §5.3)."""
        digits = self.region.code.encode("ascii")
        return (self.historical_bytes[-BLOCK:], digits + b"sx", digits[:2] + b"0000sh")[:levels]


@dataclass(frozen=True, slots=True)
class CardProof:
    """What a card answered to INTERNAL AUTHENTICATE: `data` under the session key that `factor` makes of IRK."""

    factor: bytes
    data: bytes
    answer: bytes


@dataclass(frozen=True, slots=True)
class CardChallenge:
    """What the card wants to see: `data` under the session key that `factor` makes of RKssse."""

    factor: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class CardQuestion:
    """What a terminal asks the centre about a card that it holds. Without a challenge: is it genuine, no more."""

    algorithm: CardAlgorithm
    historical_bytes: bytes
    identification_code: CardIdentificationCode
    proof: CardProof
    challenge: CardChallenge | None

    @property
    def holder(self) -> KeyHolder:
        """Raises ValueError where the code names no region or the historical bytes are too few."""
        return KeyHolder(self.algorithm, self.historical_bytes, self.identification_code.issuing_region)


def demand_known(algorithm: CardAlgorithm) -> None:
    """Raises CARD_ALGORITHM_UNSUPPORTED for SSF33: the cipher is not public (card-facts §5.5)."""
    if algorithm is CardAlgorithm.SSF33:
        raise YikatongError(
            Reason.CARD_ALGORITHM_UNSUPPORTED, "nobody outside knows this cipher", algorithm=algorithm.value
        )


def demand_genuine(proof: CardProof, expected: bytes) -> None:
    """Raises CARD_NOT_GENUINE where the card's answer is another one."""
    if not hmac.compare_digest(proof.answer, expected):
        raise YikatongError(Reason.CARD_NOT_GENUINE, "the card does not have the key that it should have")
