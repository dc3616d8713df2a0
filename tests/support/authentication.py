"""Both ways of authenticating a card, with the test issuer's keys: its PSAM; the gateway's part, without a line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.cards import DirectLink, DirectReader, DirectVisit
from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import CardKey, CardQuestion
from yikatong.core.orders import City
from yikatong.core.ports import CardLink, CardReader, Hsm
from yikatong.core.reasons import YikatongError
from yikatong.core.values import Institution, Region, TerminalId
from yikatong.drivers.card import Authenticator, SocialSecurityCard
from yikatong.drivers.card.centre import CentreAuthenticator
from yikatong.drivers.card.psam import PsamAuthenticator, PsamKey
from yikatong.gateway.card_authentication import CardAuthentication
from yikatong.gateway.registry import EVER, Agreement, HomeCity, Member, Registry
from yikatong.gateway.soft_hsm import SoftHsm
from yikatong.gateway.soft_keys import MasterKey
from yikatong.runtime.clock import Clock, SystemClock
from yikatong.simulators.card import issuer
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.personalisation import SM4, TRIPLE_DES
from yikatong.simulators.card.port import PretendCard

TERMINAL = TerminalId("terminal-1")
GENUINENESS = PsamKey(*issuer.IRK_OF_PSAM)


def soft_hsm() -> SoftHsm:
    return SoftHsm(
        [
            MasterKey(key, algorithm, "", 2, bytearray(value))
            for algorithm, masters in (
                (CardAlgorithm.TRIPLE_DES, issuer.MASTERS[TRIPLE_DES]),
                (CardAlgorithm.SM4, issuer.MASTERS[SM4]),
            )
            for key, value in ((CardKey.IRK, masters.irk), (CardKey.RKSSSE, masters.rkssse))
        ]
    )


def registry(agreement: Agreement = Agreement.ACTIVE) -> Registry:
    """One pharmacy with one terminal."""
    pharmacy, city = Institution("P37010000001"), City(Region("370100"), "济南", "Jinan")
    return Registry(
        [HomeCity(city, "OPEN", *EVER, "", "")],
        [Member(pharmacy, "测试药店", city.region, agreement)],
        {TERMINAL: pharmacy},
    )


def card_authentication(
    hsm: Hsm | None,
    *,
    agreement: Agreement = Agreement.ACTIVE,
    clock: Clock | None = None,
    per_minute: int = 100_000,
    hsm_s: float = 20.0,
) -> CardAuthentication:
    return CardAuthentication(hsm, registry(agreement), clock or SystemClock(), per_minute=per_minute, hsm_s=hsm_s)


class Centre:
    """Implements `core.ports.CardCentre`: the gateway's answers, without a line between. Keeps the questions."""

    def __init__(self, hsm: Hsm | None = None) -> None:
        self._cards = card_authentication(hsm or soft_hsm())
        self.asked: list[CardQuestion] = []

    async def authenticate(self, question: CardQuestion) -> bytes:
        self.asked.append(question)
        return await self._cards.answer(TERMINAL, question)

    async def check(self) -> None:
        return


def by_centre(*, last: bool = True) -> CentreAuthenticator:
    return CentreAuthenticator(Centre(), last=last)


def by_psam(reader: CardReader) -> PsamAuthenticator:
    return PsamAuthenticator(reader, genuineness=GENUINENESS)


def direct(psam: PretendCard) -> DirectReader:
    """A reader with that PSAM in it, powered anew for each visit."""
    return DirectReader(lambda: DirectLink(psam))


def by_psam_of(algorithm: int | None, make: Callable[[int], PretendCard] = issuer.psam) -> PsamAuthenticator:
    """With a PSAM for cards of this algorithm, as a card's select answer numbers it."""
    return by_psam(direct(make(algorithm or TRIPLE_DES)))


def gated(algorithm: int = TRIPLE_DES) -> SimulatedCard:
    """A card as the test issuer hands it out."""
    card = find("third-generation-gated" if algorithm == TRIPLE_DES else "gated-sm4").make()
    assert isinstance(card, SimulatedCard)
    return card


async def read(link: CardLink, authenticator: Authenticator | None, *, every_card: bool = False) -> str:
    document = SocialSecurityCard(authenticator=authenticator, every_card=every_card)
    return (await document.read(DirectVisit(link))).card_number.reveal()


async def refused(link: CardLink, authenticator: Authenticator | None, *, every_card: bool = False) -> YikatongError:
    with pytest.raises(YikatongError) as caught:
        await read(link, authenticator, every_card=every_card)
    return caught.value
