"""Every kind of card that a window sees (card-facts §2.6, §3.3), and the two ways in which records are read.

Each is an invented person's; the names are the hard ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.support.authentication import by_centre, by_psam_of
from yikatong.core.ports import CardDocument, CardVisit
from yikatong.drivers.card import SocialSecurityCard
from yikatong.simulators.card import issuer
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.manners import Answering
from yikatong.simulators.card.numbers import card_number, social_security_number
from yikatong.simulators.card.personalisation import SM4, TRIPLE_DES, CardData
from yikatong.simulators.card.port import PretendCard

NAMES: Final = {
    "plain": "张测试",
    "rare characters": "㼆𠮷䶮",
    "middle dot": "阿卜杜热合曼·买买提",
    "over 30 bytes": "阿不都热合曼江·阿不都克里木艾山江",
    "split character": "A测试甲乙丙丁戊己庚辛壬癸子丑寅卯辰",
}
"""The last two reach into the extension (tag 4E), the last one with half a character."""
_INTO_THE_EXTENSION: Final = frozenset({"over 30 bytes", "split character"})


@dataclass(frozen=True)
class Profile:
    """One card: a version, a name, and which way of reading records it takes."""

    key: str
    data: CardData
    by_tag: bool

    def make(self) -> PretendCard:
        card = SimulatedCard(self.data)
        issuer.personalise(card)
        return Answering(card, _refuse_numbers) if self.by_tag else card


def _refuse_numbers(apdu: bytes, proper: bytes) -> bytes:
    """Such a card knows READ RECORD by identifier only."""
    by_number = apdu[1:2] == b"\xb2" and apdu[3] & 0b111 == 0b100
    return b"\x6a\x86" if by_number else proper


def _profiles(names: dict[str, str], ways: tuple[bool, ...]) -> list[Profile]:
    made = []
    for version, algorithm, gated in (
        ("1.00", None, False),
        ("2.00", TRIPLE_DES, False),
        ("2.01", TRIPLE_DES, False),
        ("3.00", SM4, False),
        ("3.00", TRIPLE_DES, True),
        ("3.00", SM4, True),
    ):
        for kind, name in names.items():
            if version == "1.00" and kind in _INTO_THE_EXTENSION:
                continue  # it has no extension
            for by_tag in ways:
                number = len(made) + 1
                data = CardData(
                    social_security_number(f"99000119700101{number:03d}"),
                    name,
                    card_number(f"P{number:07d}"),
                    "371000",
                    number.to_bytes(4, "big"),
                    version=version,
                    algorithm=algorithm,
                    gated=gated,
                )
                way = "by tag" if by_tag else "by number"
                gate = f" gated {'SM4' if algorithm == SM4 else '3DES'}" if gated else ""
                made.append(Profile(f"{version}{gate}, {kind}, {way}", data, by_tag))
    return made


PROFILES: Final = _profiles(NAMES, (False, True))
BY_VERSION: Final = _profiles({"split character": NAMES["split character"], "plain": NAMES["plain"]}, (False,))
"""One or two of each version, for what does not depend on names."""


WAYS: Final = ("psam", "centre")
"""In which a gated card is opened."""


def document(profile: Profile, way: str = "centre") -> SocialSecurityCard:
    """What reads this card; a PSAM of its algorithm is in a reader of the caller's own thread."""
    return SocialSecurityCard(authenticator=by_psam_of(profile.data.algorithm) if way == "psam" else by_centre())


async def differences(reading: CardDocument, visit: CardVisit, profile: Profile) -> str:
    """Reads the card: what differs from what was written, empty where nothing does."""
    read = await reading.read(visit)
    data = profile.data
    pairs = (
        (read.spec_version, data.version),
        (read.name.reveal(), data.name),
        (read.card_number.reveal(), data.card_number),
        (read.social_security_number.reveal(), data.social_security_number),
        (read.unreadable_fields, ()),
        (read.atr, data.atr),
    )
    return "; ".join(f"{seen!r} for {written!r}" for seen, written in pairs if seen != written)
