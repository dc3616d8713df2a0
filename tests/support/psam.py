"""Opens a gated card with a PSAM, in the form of card-facts §5.3: for tests, and no part of a terminal."""

from __future__ import annotations

from collections.abc import Callable

from yikatong.core.ports import CardLink
from yikatong.drivers.card import OpenedCard
from yikatong.drivers.card.chain import FetchedResponse

OK = b"\x90\x00"


def card_factor(atr: bytes) -> bytes:
    return atr[-8:]


def city_factor(region: str) -> bytes:
    return region.encode("ascii") + b"sx"


def province_factor(region: str) -> bytes:
    return region[:2].encode("ascii") + b"0000sh"


class PsamAuthenticator:
    """Implements `drivers.card.Authenticator`: external authentication with RKssse alone.

    `original` makes the 8 bytes of original data. Internal authentication has no PSAM key that anybody names.
    """

    def __init__(self, psam: CardLink, *, original: Callable[[], bytes]) -> None:
        self._psam, self._original = psam, original

    def authenticate(self, link: CardLink, card: OpenedCard) -> None:
        challenge = _give(link, bytes.fromhex("0084000008"))
        selected = self._psam.transmit(bytes.fromhex("00A4000002DF01"))
        assert selected[0] == 0x61 or selected == OK  # its FCI is left there: nobody needs it
        factors = card_factor(card.atr) + city_factor(card.identification_code.issuing_region.code)
        _give(self._psam, bytes.fromhex("BFDE470A18") + factors + challenge)
        original = self._original()
        cryptogram = _give(FetchedResponse(self._psam), bytes.fromhex("80FA000008") + original)
        _give(link, bytes.fromhex("0082000A10") + cryptogram + original)


def _give(link: CardLink, apdu: bytes) -> bytes:
    """The data of an answer that must be good."""
    answer = link.transmit(apdu)
    assert answer[-2:] == OK, f"{apdu[:5].hex()} → {answer[-2:].hex()}"
    return answer[:-2]
