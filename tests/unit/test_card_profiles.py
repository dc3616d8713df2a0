"""Every kind of card reads as it was written, by number and by tag, and may be pulled out at any moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cards import DirectLink, DirectVisit
from tests.support.keypads import Cardholder, pin_check
from tests.support.profiles import BY_VERSION, NAMES, PROFILES, WAYS, Profile, differences, document
from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.clock import SystemClock
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import Manner, PulledAt
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.reader import SimulatedReader
from yikatong.terminal.desk import Desk
from yikatong.terminal.journal import Journal


class _Counting(Manner):
    commands = 0
    verify = 0
    """Which of them was VERIFY."""

    def execute(self, apdu: bytes) -> bytes:
        self.commands += 1
        if apdu[1] == 0x20:
            self.verify = self.commands
        return super().execute(apdu)


def test_the_profiles_are_what_they_are_called() -> None:
    assert len({profile.data.social_security_number for profile in PROFILES}) == len(PROFILES)
    assert {profile.data.version for profile in PROFILES} == {"1.00", "2.00", "2.01", "3.00"}
    encoded = {kind: name.encode("gb18030") for kind, name in NAMES.items()}
    assert all(30 < len(encoded[kind]) <= 50 for kind in ("over 30 bytes", "split character"))
    with pytest.raises(UnicodeDecodeError):
        encoded["split character"][:30].decode("gb18030")
    assert max(len(character.encode("gb18030")) for character in NAMES["rare characters"]) == 4
    assert "·" in NAMES["middle dot"]


def ways(profile: Profile) -> tuple[str, ...]:
    """A card that reads freely is read in one way."""
    return WAYS if profile.data.gated else WAYS[:1]


READS = [(profile, way) for profile in PROFILES for way in ways(profile)]
DEBITS = [(profile, way) for profile in BY_VERSION for way in ways(profile)]


def key(point: object) -> str:
    return point.key if isinstance(point, Profile) else str(point)


@pytest.mark.parametrize(("profile", "way"), READS, ids=key)
async def test_it_reads_as_written(profile: Profile, way: str) -> None:
    link = DirectLink(profile.make())
    assert await differences(document(profile, way), DirectVisit(link), profile) == ""
    opened = [command for command in link.sent if command[1] in {0x88, 0x82}]
    assert len(opened) == (2 if profile.data.gated else 0)
    ways = {command[3] & 0b111 for command in link.sent if command[1] == 0xB2}
    assert 0b000 in ways if profile.by_tag else ways == {0b100}


@pytest.mark.parametrize(("profile", "way"), DEBITS, ids=key)
async def test_pulled_out_at_any_command_it_says_so_and_the_next_card_reads(
    profile: Profile, way: str, tmp_path: Path
) -> None:
    """Reading, authentication, PIN, and the last question before the debit. Only of a PIN that is out more is said."""

    async def debit(card: PretendCard) -> str:
        reader.insert(card)
        async with desk.identify(wait_ms=0, stage=lambda stage: None, last_try_acknowledged=True) as presented:
            await presented.demand_same_card()
            return presented.identity.card_number.reveal()

    reader, journal, card = SimulatedReader(), Journal(tmp_path / "journal.db"), document(profile, way)
    desk = Desk(reader, card, SystemClock(), pin=pin_check(Cardholder(), journal, document=card))
    whole = _Counting(profile.make())
    assert await debit(whole) == profile.data.card_number
    told = []
    for command in range(1, whole.commands + 1):
        with pytest.raises(YikatongError) as caught:
            await debit(PulledAt(profile.make(), command=command))
        told.append((caught.value.reason, caught.value.facts.get("cause")))
        assert not (await reader.state()).card_present
        assert await debit(find("works").make()) == find("works").data.card_number
    assert told.pop(whole.verify - 1) == (Reason.PIN_TRY_UNCLEAR, "CARD_REMOVED")
    assert set(told) == {(Reason.CARD_REMOVED, None)}
    assert whole.commands > 15
    await reader.close()
    await journal.close()
