"""The card's side of authentication: what it is asked, and what its answers mean (card-facts §5.1, §5.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import BLOCK, CardProof, KeyHolder
from yikatong.core.ports import CardLink, CardVisit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import CardIdentificationCode
from yikatong.drivers.card import tlv
from yikatong.drivers.card.atr import historical_bytes
from yikatong.drivers.card.chain import FetchedResponse, Limited
from yikatong.drivers.card.records import OK, split

_INTERNAL: Final = bytes.fromhex("0088000010")
_GET_CHALLENGE: Final = bytes.fromhex("0084000008")
_EXTERNAL: Final = bytes.fromhex("0082000A10")
"""With RKssse, key 0A on the card (card-facts §2.7)."""


@dataclass(frozen=True, slots=True)
class OpenedCard:
    """What is known of a card before it has been authenticated: enough to diversify its keys."""

    atr: bytes
    algorithm: CardAlgorithm
    spec_version: str
    identification_code: CardIdentificationCode

    @property
    def key_holder(self) -> KeyHolder:
        """Raises CARD_MALFORMED where the ATR has too few historical bytes."""
        try:
            return KeyHolder(self.algorithm, historical_bytes(self.atr), self.identification_code.issuing_region)
        except ValueError as error:
            raise tlv.malformed("the ATR has too few historical bytes", length=len(self.atr)) from error


class Authenticator(Protocol):
    """Proves a card genuine and opens a gated one, with a PSAM or through the centre (card-facts §5.3, §5.4)."""

    async def authenticate(self, card: CardAtHand, *, opening: bool) -> None:
        """Without `opening` the card is only to prove that it is genuine.

        Raises CARD_NOT_GENUINE, CARD_ALGORITHM_UNSUPPORTED, what `CardAtHand` raises, and why there are no keys.
        """


class CardAtHand:
    """A card that is being visited and keeps its power while others are asked about it.

    Each question is a job of its own in the reader's thread, which is free in between. All of them raise CARD_REMOVED,
    CARD_MUTE, CARD_MALFORMED and what the visit raises.
    """

    def __init__(self, known: OpenedCard, visit: CardVisit, limited: Callable[[CardLink], Limited]) -> None:
        self.known = known
        self._visit, self._limited = visit, limited

    async def prove(self, factor: bytes, data: bytes) -> CardProof:
        """INTERNAL AUTHENTICATE. Whether the answer is right only a holder of the key can say.

        Raises CARD_NOT_GENUINE where the card refuses to prove anything.
        """

        def job(link: CardLink) -> CardProof:
            answer, status = split(FetchedResponse(self._limited(link)).transmit(_INTERNAL + factor + data))
            if status != OK:
                raise YikatongError(Reason.CARD_NOT_GENUINE, "the card proves nothing", sw=f"{status:04X}")
            return CardProof(factor, data, _block(answer, "proof"))

        return await self._visit.run(job)

    async def challenges(self, count: int) -> list[bytes]:
        """GET CHALLENGE, in their order; each is another one."""

        def job(link: CardLink) -> list[bytes]:
            limited = self._limited(link)
            given = []
            for _ in range(count):
                challenge, status = split(limited.transmit(_GET_CHALLENGE))
                if status != OK:
                    raise tlv.malformed("the card gives no challenge", sw=f"{status:04X}")
                given.append(_block(challenge, "challenge"))
            if len(set(given)) != count:
                raise tlv.malformed("the card repeats its challenge")
            return given

        return await self._visit.run(job)

    async def open(self, cryptogram: bytes, data: bytes) -> None:
        """EXTERNAL AUTHENTICATE, exactly once: each refusal costs one of the card's tries.

        Raises CARD_AUTHENTICATION_REFUSED (facts `sw`, and `tries_left` where the card says so) and
        CARD_AUTHENTICATION_BLOCKED.
        """

        def job(link: CardLink) -> None:
            _, status = split(self._limited(link).transmit(_EXTERNAL + cryptogram + data))
            _judge(status)

        await self._visit.run(job)


def _block(data: bytes, what: str) -> bytes:
    if len(data) != BLOCK:
        raise tlv.malformed(f"a {what} of the wrong length", length=len(data))
    return data


def _judge(status: int) -> None:
    if status == OK:
        return
    sw = f"{status:04X}"
    if status in {0x63C0, 0x6983}:
        raise YikatongError(
            Reason.CARD_AUTHENTICATION_BLOCKED, "the card takes no more cryptograms", sw=sw, tries_left=0
        )
    if status & 0xFFF0 == 0x63C0:
        raise YikatongError(
            Reason.CARD_AUTHENTICATION_REFUSED, "the card refuses the cryptogram", sw=sw, tries_left=status & 0x0F
        )
    raise YikatongError(Reason.CARD_AUTHENTICATION_REFUSED, "the card does not let the terminal read", sw=sw)
