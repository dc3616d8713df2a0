"""The card of the weekly self-test: sound in every field, and what must be read from it, said a second time by hand."""

from __future__ import annotations

from typing import Final

from yikatong.core.card import CardAlgorithm, CardIdentity
from yikatong.core.ports import PinAttempt
from yikatong.core.selftest import TEST_PERSON
from yikatong.core.values import CardIdentificationCode, CardNumber, PersonName, Pin, SocialSecurityNumber
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.personalisation import CardData

PIN: Final = "123456"

DATA: Final = CardData(
    social_security_number=TEST_PERSON,
    name="自检",
    card_number="T99000000",
    issuing_region="990000",
    serial=bytes.fromhex("00000099"),
    issue_date="20250101",
    expiry_date="20991231",
)

IDENTITY: Final = CardIdentity(
    atr=bytes.fromhex("3B6D000000815443308699250100000099"),
    algorithm=CardAlgorithm.TRIPLE_DES,
    identification_code=CardIdentificationCode(bytes.fromhex("990000D15600000500000099FFFFFFFF")),
    spec_version="2.00",
    card_number=CardNumber("T99000000"),
    social_security_number=SocialSecurityNumber(TEST_PERSON),
    name=PersonName("自检"),
    issue_date="2025-01-01",
    expiry_date="2099-12-31",
)


def make() -> SimulatedCard:
    """A fresh card, as it comes from the issuer."""
    return SimulatedCard(DATA, pin=PIN)


class Cardholder:
    """Implements `core.ports.PinEntry`: types the test card's PIN at once."""

    async def enter(self, attempt: PinAttempt, *, timeout_ms: int) -> None:
        await attempt.present(Pin(bytearray(PIN.encode("ascii"))))

    async def check(self) -> None:
        return

    async def close(self) -> None:
        return
