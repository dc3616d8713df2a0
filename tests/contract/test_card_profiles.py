"""Every kind of card over a real pcscd: read as written, by number and by tag, opened by a PSAM in the next slot and
through the centre; and pulled out in the middle.

All readers at once, because pcscd looks at each every 0.4 s only.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.authentication import by_centre, by_psam
from tests.support.cards import DirectLink, DirectVisit
from tests.support.pcscd import empty, private_slots
from tests.support.profiles import BY_VERSION, PROFILES, WAYS, Profile, differences, document
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.pcsc import PcscReader
from yikatong.simulators.card import issuer
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import PulledAt
from yikatong.simulators.card.personalisation import SM4, TRIPLE_DES
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.pcscd import PrivatePcscd
from yikatong.simulators.vpcd import VirtualSlot

pytestmark = pytest.mark.timeout(120)

READERS = 8
"""Sixteen slots: more pcscd does not take."""
WAIT_MS = 10_000


class Place:
    """A reader with two slots: the cardholder's, with the hand at it, and the one with a PSAM for one algorithm."""

    def __init__(self, reader: PcscReader, slot: VirtualSlot, psam: PcscReader, algorithm: int) -> None:
        self.reader, self._slot, self.psam, self.algorithm = reader, slot, psam, algorithm

    def document(self, way: str) -> SocialSecurityCard:
        return SocialSecurityCard(authenticator=by_psam(self.psam) if way == "psam" else by_centre())

    async def put(self, card: PretendCard) -> None:
        await asyncio.to_thread(self._slot.insert, card)

    async def clear(self) -> None:
        await asyncio.to_thread(self._slot.remove)
        await empty(self.reader)


@pytest.fixture
def pcscd() -> Iterator[tuple[PrivatePcscd, list[VirtualSlot]]]:
    with private_slots(READERS) as running:
        yield running


@pytest.fixture
async def places(pcscd: tuple[PrivatePcscd, list[VirtualSlot]]) -> AsyncIterator[list[Place]]:
    running, slots = pcscd
    made = []
    for number in range(0, 2 * READERS, 2):
        algorithm = TRIPLE_DES if number < READERS else SM4
        slots[number + 1].insert(issuer.psam(algorithm))
        psam = PcscReader(running.slots[number + 1].name)
        async with psam.visit(wait_ms=WAIT_MS):
            pass
        made.append(Place(PcscReader(running.slots[number].name), slots[number], psam, algorithm))
    yield made
    for place in made:
        await place.reader.close()
        await place.psam.close()
    for slot in slots:
        slot.remove()


class Work:
    """What is to be done; a PSAM opens cards of its own algorithm alone."""

    def __init__(self, points: list[tuple[Profile, str, int]]) -> None:
        self.count = len(points)
        self._anywhere = [point for point in points if point[1] != "psam"]
        self._with_psam: dict[int, list[tuple[Profile, str, int]]] = defaultdict(list)
        for point in points:
            if point[1] == "psam":
                self._with_psam[point[0].data.algorithm or TRIPLE_DES].append(point)

    def at(self, place: Place) -> Iterator[tuple[Profile, str, int]]:
        own = self._with_psam[place.algorithm]
        while own or self._anywhere:
            yield (own or self._anywhere).pop()


async def test_every_profile_reads_as_written(places: list[Place]) -> None:
    work = Work([(profile, way, 0) for profile in PROFILES for way in _ways(profile)])
    wrong: dict[tuple[str, str], str] = {}
    read = 0

    async def at(place: Place) -> None:
        nonlocal read
        for profile, way, _ in work.at(place):
            await place.put(profile.make())
            async with place.reader.visit(wait_ms=WAIT_MS) as visit:
                if differs := await differences(place.document(way), visit, profile):
                    wrong[profile.key, way] = differs
            read += 1
            await place.clear()

    await asyncio.gather(*(at(place) for place in places))
    assert wrong == {}
    assert read == work.count


async def test_pulled_out_in_the_middle_and_the_next_card_reads(places: list[Place]) -> None:
    """A sample of the commands of each read, authenticated ones both ways; every one of them is the unit tests'."""
    points = []
    for number, profile in enumerate(BY_VERSION):
        for way in _ways(profile):
            commands = range(1, await _commands(profile, way) + 1)
            points += [(profile, way, command) for command in commands if (command + number) % 7 == 0]
    work = Work(points)
    told: dict[tuple[str, str, int], Reason] = {}

    async def at(place: Place) -> None:
        for profile, way, command in work.at(place):
            await place.put(PulledAt(profile.make(), command=command))
            with pytest.raises(YikatongError) as caught:
                async with place.reader.visit(wait_ms=WAIT_MS) as visit:
                    await place.document(way).read(visit)
            told[profile.key, way, command] = caught.value.reason
            await empty(place.reader)
            await place.put(find("third-generation-gated").make())
            async with place.reader.visit(wait_ms=WAIT_MS) as visit:
                read = await place.document("centre").read(visit)
            assert read.card_number.reveal() == find("third-generation-gated").data.card_number
            await place.clear()

    await asyncio.gather(*(at(place) for place in places))
    assert len(told) == work.count > 2 * len(BY_VERSION)
    assert {point: reason for point, reason in told.items() if reason is not Reason.CARD_REMOVED} == {}


def _ways(profile: Profile) -> tuple[str, ...]:
    return WAYS if profile.data.gated else ("free",)


async def _commands(profile: Profile, way: str) -> int:
    link = DirectLink(profile.make())
    await document(profile, way).read(DirectVisit(link))
    return len(link.sent)
