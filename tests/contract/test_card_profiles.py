"""Every kind of card over a real pcscd: read as written, by number and by tag; and pulled out in the middle.

All slots at once, because pcscd looks at each every 0.4 s only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.cards import DirectLink
from tests.support.pcscd import empty, private_slots
from tests.support.profiles import BY_VERSION, PROFILES, Profile, document, read_as_written
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.pcsc import PcscReader
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import PulledAt
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.pcscd import PrivatePcscd
from yikatong.simulators.vpcd import VirtualSlot

pytestmark = pytest.mark.timeout(60)

READERS = 8
"""Sixteen slots: more pcscd does not take."""
WAIT_MS = 10_000


class Place:
    """A slot: the reader that sees it, and the hand at it."""

    def __init__(self, reader: PcscReader, slot: VirtualSlot) -> None:
        self.reader, self._slot = reader, slot

    async def put(self, card: PretendCard) -> None:
        await asyncio.to_thread(self._slot.insert, card)

    async def clear(self) -> None:
        await asyncio.to_thread(self._slot.remove)
        await empty(self.reader)


@pytest.fixture(scope="module")
def pcscd() -> Iterator[tuple[PrivatePcscd, list[VirtualSlot]]]:
    with private_slots(READERS) as running:
        yield running


@pytest.fixture
async def places(pcscd: tuple[PrivatePcscd, list[VirtualSlot]]) -> AsyncIterator[list[Place]]:
    running, slots = pcscd
    made = [Place(PcscReader(known.name), slot) for known, slot in zip(running.slots, slots, strict=True)]
    yield made
    for place in made:
        await place.reader.close()


async def test_every_profile_reads_as_written(places: list[Place]) -> None:
    waiting = list(PROFILES)
    wrong: dict[str, str] = {}

    async def work(place: Place) -> None:
        while waiting:
            profile = waiting.pop()
            await place.put(profile.make())
            async with place.reader.visit(wait_ms=WAIT_MS) as visit:
                if differs := await visit.run(read_as_written(profile)):
                    wrong[profile.key] = differs
            await place.clear()

    await asyncio.gather(*(work(place) for place in places))
    assert wrong == {}


async def test_pulled_out_in_the_middle_and_the_next_card_reads(places: list[Place]) -> None:
    """A sample; every single command of every profile is the unit tests' business."""
    points = [
        (profile, command)
        for number, profile in enumerate(BY_VERSION)
        for command in range(1, _commands(profile) + 1)
        if (command + number) % 7 == 0
    ]
    count = len(points)
    assert count > len(BY_VERSION)
    told: dict[tuple[str, int], Reason] = {}

    async def work(place: Place) -> None:
        while points:
            profile, command = points.pop()
            await place.put(PulledAt(profile.make(), command=command))
            with pytest.raises(YikatongError) as caught:
                async with place.reader.visit(wait_ms=WAIT_MS) as visit:
                    await visit.run(document().read_identity)
            told[profile.key, command] = caught.value.reason
            await empty(place.reader)
            await place.put(find("works").make())
            async with place.reader.visit(wait_ms=WAIT_MS) as visit:
                read = await visit.run(document().read_identity)
            assert read.card_number.reveal() == find("works").data.card_number
            await place.clear()

    await asyncio.gather(*(work(place) for place in places))
    assert len(told) == count
    assert {point: reason for point, reason in told.items() if reason is not Reason.CARD_REMOVED} == {}


def _commands(profile: Profile) -> int:
    link = DirectLink(profile.make())
    document().read_identity(link)
    return len(link.sent)
