"""The test issuer (测试发卡方): master keys, and what its cards, PSAMs and the centre have of them.

The values are invented, and they are public: nothing that is worth anything may ever be opened by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from yikatong.simulators.card import cryptography
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.personalisation import SM4, TRIPLE_DES, CardData
from yikatong.simulators.card.psam import SimulatedPsam, by_region_and_card
from yikatong.simulators.card.security import KEY_RKSSSE

RKSSSE_OF_PSAM: Final = (0x47, 0x0A)
IRK_OF_PSAM: Final = (0x47, 0x01)
"""No source names a PSAM's key for it (card-facts §2.7): this one is invented."""


@dataclass(frozen=True, slots=True)
class Masters:
    """A province's master keys of one algorithm, 16 bytes each; a card's own are two levels below: city, card."""

    name: str
    algorithm: cryptography.Algorithm
    irk: bytes
    rkssse: bytes


MASTERS: Final = {
    TRIPLE_DES: Masters("3DES", cryptography.TRIPLE_DES, bytes(range(0x60, 0x70)), bytes(range(0x70, 0x80))),
    SM4: Masters("SM4", cryptography.SM4_ASSUMED, bytes(range(0x80, 0x90)), bytes(range(0x90, 0xA0))),
}
"""By the algorithm in a card's select answer; the issuer has no SSF33."""


def personalise(card: SimulatedCard) -> None:
    """Puts the card's own keys in, made of the masters; a card of another algorithm keeps what it has."""
    masters = MASTERS.get(card.data.algorithm or TRIPLE_DES)
    if masters is not None:
        factors = _factors(card.data)
        card.security.irk = by_region_and_card(masters.algorithm, masters.irk, factors)
        card.security.keys[KEY_RKSSSE] = by_region_and_card(masters.algorithm, masters.rkssse, factors)


def psam(algorithm: int = TRIPLE_DES) -> SimulatedPsam:
    """A PSAM for cards of one algorithm."""
    masters = MASTERS[algorithm]
    return SimulatedPsam(
        keys={RKSSSE_OF_PSAM: masters.rkssse, IRK_OF_PSAM: masters.irk},
        derivation=by_region_and_card,
        algorithm=masters.algorithm,
    )


def key_file() -> str:
    """The masters as a gateway's file of soft keys has them, for cards of any region."""
    lines = ["# key    algorithm regions levels value: the test issuer's; invented, public, worth nothing"]
    for masters in MASTERS.values():
        for name, value in (("IRK", masters.irk), ("RKSSSE", masters.rkssse)):
            lines.append(f"{name:8} {masters.name:9} *       2      {value.hex()}")
    return "\n".join(lines) + "\n"


def _factors(data: CardData) -> list[bytes]:
    """Of card and city, as card-facts §5.3 spells them."""
    return [data.atr[-8:], data.issuing_region.encode("ascii") + b"sx"]
