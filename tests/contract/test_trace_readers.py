"""Recorded at a reader of each kind and played at it again: our driver reads an invented person, in the same commands.

A real pcscd, a vendor's library in its process, a reader in process. Recording and playing go through the file as the
command writes and reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.cards import pin
from tests.support.pcscd import empty, private_slots
from tests.support.personal import found_in, pin_of, secrets_of, spread
from tests.support.profiles import BY_VERSION, PROFILES, Profile
from tests.support.recordings import lines, written
from tests.support.tracing import exchanges, missed, read, watched
from tests.support.vendor import compiled
from yikatong.core.card import CardIdentity, ReadAttempt
from yikatong.core.ports import CardLink, CardReader
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.trace import CardPowered, TraceEvent
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.pcsc import PcscReader
from yikatong.drivers.trace import ObservedReader, Trace
from yikatong.drivers.vendor.process import UnitSettings
from yikatong.drivers.vendor.unit import VendorUnit
from yikatong.simulators.card import issuer
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import Mute, PulledAt
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.card.recording import load
from yikatong.simulators.card.replay import ReplayedCard
from yikatong.simulators.pcscd import PrivatePcscd
from yikatong.simulators.reader import SimulatedReader
from yikatong.simulators.vendor_unit import VendorUnit as SimulatedUnit
from yikatong.simulators.vpcd import VirtualSlot

pytestmark = pytest.mark.timeout(90)

WAIT_MS = 10_000
TYPED = "8642097531864209"


@dataclass(frozen=True)
class Bench:
    """A reader, and hands at its slot; `clear` returns when the reader has seen that it is empty."""

    reader: CardReader
    insert: Callable[[PretendCard], None]
    remove: Callable[[], None]

    async def clear(self) -> None:
        await asyncio.to_thread(self.remove)
        async with asyncio.timeout(10):
            while (await self.reader.state()).card_present:
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def pcscd() -> Iterator[tuple[PrivatePcscd, list[VirtualSlot]]]:
    with private_slots(4) as running:
        yield running


@pytest.fixture(params=["pcscd", "library", "in process"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    if request.param == "pcscd":
        running, slots = request.getfixturevalue("pcscd")
        reader = PcscReader(running.slots[0].name)
        yield Bench(reader, slots[0].insert, slots[0].remove)
        await reader.close()
    elif request.param == "library":
        with SimulatedUnit(tmp_path / "unit") as simulated_unit:
            unit = VendorUnit(UnitSettings(compiled(tmp_path), str(simulated_unit.path)))
            yield Bench(unit.reader(), simulated_unit.insert, simulated_unit.remove)
            await unit.close()
    else:
        simulated = SimulatedReader()
        yield Bench(simulated, simulated.insert, simulated.remove)
        await simulated.close()


def _verify(link: CardLink) -> None:
    SocialSecurityCard().verify_pin(link, pin(TYPED))


async def _session(bench: Bench, card: PretendCard) -> tuple[list[TraceEvent], Any, list[ReadAttempt]]:
    """What is told of one visit: reading, and a PIN; and the identity, or why there is none."""
    trace, attempts = Trace(), list[ReadAttempt]()
    observed = ObservedReader(bench.reader, trace, attempts.append)
    given: Any = None
    async with watched(trace, recording=True) as watching:
        await asyncio.to_thread(bench.insert, card)
        try:
            async with observed.visit(wait_ms=WAIT_MS) as visit:
                given = await read(visit)
                await visit.run(_verify)
        except YikatongError as error:
            given = given or error.reason
        await bench.clear()
        return await watching.rest(trace), given, attempts


def _sent(events: list[TraceEvent]) -> list[tuple[Any, ...]]:
    return [
        (event.recorded.command, event.status, event.answer_length, event.failure)
        for event in exchanges(events)
        if event.recorded
    ]


@pytest.mark.parametrize("profile", [BY_VERSION[0], BY_VERSION[1], BY_VERSION[-1]], ids=lambda profile: profile.key)
async def test_what_is_recorded_plays_as_another_person(bench: Bench, tmp_path: Path, profile: Profile) -> None:
    secrets = secrets_of(profile.data) | pin_of(TYPED)
    real = SimulatedCard(profile.data, pin=TYPED)
    issuer.personalise(real)
    events, first, _ = await _session(bench, real)
    assert first.card_number.reveal() == profile.data.card_number
    assert missed(events) == 0
    file = written(tmp_path / "recording", lines(events))
    assert found_in([file.read_bytes(), *(piece for event in events for piece in spread(event))], secrets) == set()

    told: list[str] = []
    (card,) = load(file).cards
    again, other, _ = await _session(bench, ReplayedCard(card, lambda zh, en: told.append(en)))
    assert told == []
    assert _sent(again) == _sent(events)
    assert [type(event) for event in again] == [type(event) for event in events]
    assert other.spec_version == first.spec_version
    assert other.unreadable_fields == first.unreadable_fields == ()
    assert other.social_security_number.check_ok
    assert len(other.name.reveal()) == len(first.name.reveal())
    for value in ("card_number", "social_security_number", "name", "identification_code"):
        assert getattr(other, value).reveal() != getattr(first, value).reveal()
    (powered,) = [event for event in events if isinstance(event, CardPowered)]
    assert other.atr == powered.atr != first.atr


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: PulledAt(find("works").make(), command=7), Reason.CARD_REMOVED),
        (lambda: find("bad-check-digit").make(), Reason.CARD_MALFORMED),
        (lambda: find("not-social-security").make(), Reason.NOT_A_SOCIAL_SECURITY_CARD),
    ],
    ids=["pulled", "bad check digit", "another card"],
)
async def test_what_went_wrong_goes_wrong_again(
    bench: Bench, tmp_path: Path, make: Callable[[], PretendCard], reason: Reason
) -> None:
    await _twice(bench, tmp_path, make, reason)


@pytest.mark.parametrize("bench", ["library", "in process"], indirect=True)
async def test_a_mute_card_is_mute_again(bench: Bench, tmp_path: Path) -> None:
    """Not over the virtual reader, where silence ends by hanging up: on a busy machine that is a removal."""
    await _twice(bench, tmp_path, lambda: Mute(find("works").make()), Reason.CARD_MUTE)


async def _twice(bench: Bench, tmp_path: Path, make: Callable[[], PretendCard], reason: Reason) -> None:
    events, failed, attempts = await _session(bench, make())
    assert failed is reason
    assert [attempt.failure for attempt in attempts] == [reason]
    (card,) = load(written(tmp_path / "recording", lines(events))).cards
    again, failed_again, _ = await _session(bench, ReplayedCard(card))
    assert failed_again is reason
    assert _sent(again) == _sent(events)


async def test_every_profile_over_pcscd(pcscd: tuple[PrivatePcscd, list[VirtualSlot]], tmp_path: Path) -> None:
    """All slots at once, because pcscd looks at each every 0.4 s only."""
    running, slots = pcscd
    waiting, wrong = list(PROFILES), dict[str, str]()

    async def work(number: int, name: str, slot: VirtualSlot) -> None:
        reader = PcscReader(name)
        place = Bench(reader, slot.insert, slot.remove)
        while waiting:
            profile = waiting.pop()
            events, first, _ = await _session(place, profile.make())
            await empty(reader)
            (card,) = load(written(tmp_path / f"{number}", lines(events))).cards
            told: list[str] = []
            again, other, _ = await _session(place, ReplayedCard(card, lambda zh, en, told=told: told.append(en)))
            await empty(reader)
            if told or _sent(again) != _sent(events) or not isinstance(other, CardIdentity):
                wrong[profile.key] = f"{told} {other}"
            elif other.unreadable_fields or other.card_number == first.card_number or other.name == first.name:
                wrong[profile.key] = "not another person"
        await reader.close()

    known = list(zip(running.slots, slots, strict=True))[1:]
    await asyncio.gather(*(work(number, slot.name, hand) for number, (slot, hand) in enumerate(known)))
    assert wrong == {}


# --- attempts to read ------------------------------------------------------------------------------------------------


async def test_attempts_tell_the_batch_and_no_card(bench: Bench) -> None:
    attempts: list[ReadAttempt] = []
    observed = ObservedReader(bench.reader, Trace(), attempts.append)
    watching = asyncio.create_task(_follow(observed))
    for key in ("works", "third-generation", "works", "pulled-out"):
        await asyncio.to_thread(bench.insert, find(key).make())
        try:
            async with observed.visit(wait_ms=WAIT_MS) as visit:
                await read(visit)
        except YikatongError as error:
            assert key == "pulled-out", error
        else:
            await _until(lambda: observed._card_in)  # a library's unit is looked at now and then only
        await bench.clear()
        await _until(lambda: not observed._card_in)
    watching.cancel()
    batches = [(attempt.batch.issuing_region, attempt.batch.spec_version, attempt.batch.chip) for attempt in attempts]
    works = ("371000", "2.00", "00815443308699")
    assert batches == [works, ("371000", "3.00", works[2]), works, works]
    first, second, third, pulled = attempts
    assert first.tag == third.tag
    assert first.tag != second.tag
    assert pulled.tag not in {b"", first.tag, second.tag}
    assert [attempt.failure for attempt in attempts] == [None, None, None, Reason.CARD_REMOVED]
    assert len({attempt.stay for attempt in attempts}) == 4
    other = ObservedReader(bench.reader, Trace(), attempts.append)
    await asyncio.to_thread(bench.insert, find("works").make())
    async with other.visit(wait_ms=WAIT_MS) as visit:
        await read(visit)
    await bench.clear()
    assert attempts[-1].tag != first.tag, "another process knows other tags"


async def _until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not seen():
            await asyncio.sleep(0.01)


async def _follow(reader: ObservedReader) -> None:
    async for _ in reader.watch():
        pass
