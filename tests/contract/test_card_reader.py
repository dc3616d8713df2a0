"""What every card reader promises: one suite; a reader in process, a real pcscd, a vendor's library in its process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cards import pin
from tests.support.pcscd import private_pcscd
from tests.support.vendor import compiled
from yikatong.core.card import ReaderState
from yikatong.core.pin import PinRight
from yikatong.core.ports import CardLink, CardReader
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.pcsc import PcscReader
from yikatong.drivers.vendor.process import UnitSettings
from yikatong.drivers.vendor.unit import VendorUnit
from yikatong.simulators.card.deck import DECK, DeckCard, find
from yikatong.simulators.card.files import SSSE_AID
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.pcscd import PrivatePcscd
from yikatong.simulators.reader import SimulatedReader
from yikatong.simulators.vendor_unit import VendorUnit as SimulatedUnit
from yikatong.simulators.vpcd import VirtualSlot

pytestmark = pytest.mark.timeout(60)

SELECT = bytes.fromhex("00A40400") + bytes((len(SSSE_AID),)) + SSSE_AID
WAIT_MS = 10_000
AT_THE_CARD = {
    Reason.CARD_MALFORMED,
    Reason.CARD_MUTE,
    Reason.CARD_NEEDS_AUTHENTICATION,
    Reason.CARD_REMOVED,
    Reason.NOT_A_SOCIAL_SECURITY_CARD,
}
BAD_CARDS = [card for card in DECK if card.expected in AT_THE_CARD]


@dataclass(frozen=True)
class Bench:
    reader: CardReader
    insert: Callable[[PretendCard], None]
    remove: Callable[[], None]


@pytest.fixture(scope="module")
def pcscd() -> Iterator[tuple[PrivatePcscd, VirtualSlot]]:
    with private_pcscd() as running:
        yield running


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("library"))


@pytest.fixture(params=["in process", "pcscd", "library"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    if request.param == "library":
        with SimulatedUnit(tmp_path / "unit") as simulated_unit:
            unit = VendorUnit(UnitSettings(request.getfixturevalue("library"), str(simulated_unit.path)))
            slot_reader = unit.reader()
            yield Bench(slot_reader, simulated_unit.insert, simulated_unit.remove)
            await slot_reader.close()
            await unit.close()
        return
    if request.param == "in process":
        simulated = SimulatedReader()
        yield Bench(simulated, simulated.insert, simulated.remove)
        await simulated.close()
        return
    running, slot = request.getfixturevalue("pcscd")
    reader = PcscReader(running.reader_name)
    await _until(reader, lambda state: state.present and not state.card_present)
    yield Bench(reader, slot.insert, slot.remove)
    slot.remove()
    await reader.close()


async def _until(reader: CardReader, wanted: Callable[[ReaderState], bool]) -> ReaderState:
    async with asyncio.timeout(WAIT_MS / 1000), aclosing(reader.watch()) as states:
        async for state in states:
            if wanted(state):
                return state
    raise AssertionError("the watch ended")


def _select(link: CardLink) -> bytes:
    return link.transmit(SELECT)


async def _reason_of_a_visit(reader: CardReader, *, wait_ms: int = 0) -> Reason:
    with pytest.raises(YikatongError) as caught:
        async with reader.visit(wait_ms=wait_ms) as visit:
            await visit.run(SocialSecurityCard().read_identity)
    return caught.value.reason


async def test_an_empty_reader_has_no_card(bench: Bench) -> None:
    assert await bench.reader.state() == ReaderState(bench.reader.name, present=True, card_present=False)
    assert await _reason_of_a_visit(bench.reader) is Reason.NO_CARD
    assert await _reason_of_a_visit(bench.reader, wait_ms=10) is Reason.NO_CARD


async def test_a_visit_waits_for_the_card(bench: Bench) -> None:
    async def visit() -> str:
        async with bench.reader.visit(wait_ms=WAIT_MS) as visit:
            return (await visit.run(SocialSecurityCard().read_identity)).card_number.reveal()

    waiting = asyncio.create_task(visit())
    await asyncio.sleep(0)
    bench.insert(find("works").make())
    assert await waiting == find("works").data.card_number


async def test_a_card_is_read_and_its_pin_presented_in_one_visit(bench: Bench) -> None:
    card = find("works")
    bench.insert(card.make())
    document = SocialSecurityCard()
    async with bench.reader.visit(wait_ms=WAIT_MS) as visit:
        identity = await visit.run(document.read_identity)
        assert identity.social_security_number.reveal() == card.data.social_security_number
        assert identity.atr == card.data.atr
        with pin() as typed:
            assert await visit.run(lambda link: document.verify_pin(link, typed)) == PinRight()
        assert await visit.run(document.read_identity) == identity


async def test_rights_do_not_outlive_a_visit(bench: Bench) -> None:
    bench.insert(find("works").make())
    balance = bytes.fromhex("B026000104")
    document = SocialSecurityCard()
    with pin() as typed:
        async with bench.reader.visit(wait_ms=WAIT_MS) as visit:
            await visit.run(lambda link: document.verify_pin(link, typed))
            assert await visit.run(lambda link: link.transmit(balance)) == bytes.fromhex("000027109000")
    async with bench.reader.visit(wait_ms=WAIT_MS) as visit:
        assert await visit.run(lambda link: link.transmit(balance)) == bytes.fromhex("6982")


async def test_one_visit_at_a_time(bench: Bench) -> None:
    bench.insert(find("works").make())
    async with bench.reader.visit(wait_ms=WAIT_MS) as visit:
        assert await _reason_of_a_visit(bench.reader) is Reason.DEVICE_BUSY
        assert await visit.run(_select) == bytes.fromhex("611E")
    async with bench.reader.visit() as visit:
        assert await visit.run(_select) == bytes.fromhex("611E")


async def test_a_card_that_leaves_ends_the_visit_for_good(bench: Bench) -> None:
    card = find("works").make()
    bench.insert(card)
    async with bench.reader.visit(wait_ms=WAIT_MS) as visit:
        await visit.run(_select)
        bench.remove()
        await _until(bench.reader, lambda state: not state.card_present)
        bench.insert(card)
        await _until(bench.reader, lambda state: state.card_present)
        for job in (_select, lambda _link: b"nothing sent"):
            with pytest.raises(YikatongError) as caught:
                await visit.run(job)
            assert caught.value.reason is Reason.CARD_REMOVED
    async with bench.reader.visit() as visit:
        assert await visit.run(_select) == bytes.fromhex("611E")


async def test_a_card_pulled_in_the_middle_of_a_job(bench: Bench) -> None:
    bench.insert(find("works").make())
    async with bench.reader.visit(wait_ms=WAIT_MS) as visit:

        def job(link: CardLink) -> bytes:
            link.transmit(SELECT)
            bench.remove()
            return link.transmit(SELECT)

        with pytest.raises(YikatongError) as caught:
            await visit.run(job)
        assert caught.value.reason is Reason.CARD_REMOVED


async def test_a_swap_too_quick_to_be_seen_does_not_mix_cards(bench: Bench) -> None:
    bench.insert(find("works").make())
    async with bench.reader.visit(wait_ms=WAIT_MS) as visit:
        await visit.run(SocialSecurityCard().read_identity)
        bench.insert(find("works-qingdao").make())
        with pytest.raises(YikatongError) as caught:
            await visit.run(_select)
        assert caught.value.reason in {Reason.CARD_REMOVED, Reason.CARD_MUTE}


@pytest.mark.parametrize("card", BAD_CARDS, ids=lambda card: card.key)
async def test_after_a_bad_card_the_next_one_works(bench: Bench, card: DeckCard) -> None:
    bench.insert(card.make())
    assert await _reason_of_a_visit(bench.reader, wait_ms=WAIT_MS) is card.expected
    bench.remove()
    await _until(bench.reader, lambda state: not state.card_present)
    bench.insert(find("works").make())
    async with bench.reader.visit(wait_ms=WAIT_MS) as visit:
        identity = await visit.run(SocialSecurityCard().read_identity)
    assert identity.card_number.reveal() == find("works").data.card_number


async def test_a_job_that_fails_ends_nothing(bench: Bench) -> None:
    bench.insert(find("works").make())
    async with bench.reader.visit(wait_ms=WAIT_MS) as visit:
        with pytest.raises(ZeroDivisionError):
            await visit.run(lambda _link: 1 // 0)
        assert await visit.run(_select) == bytes.fromhex("611E")


async def test_a_cancelled_visit_lets_the_card_go(bench: Bench) -> None:
    bench.insert(find("works").make())
    inside = asyncio.Event()

    async def stay() -> None:
        async with bench.reader.visit(wait_ms=WAIT_MS) as visit:
            await visit.run(_select)
            inside.set()
            await asyncio.Event().wait()

    staying = asyncio.create_task(stay())
    await inside.wait()
    staying.cancel()
    await asyncio.wait([staying])
    async with bench.reader.visit() as visit:
        assert await visit.run(_select) == bytes.fromhex("611E")


async def test_the_watch_tells_each_change(bench: Bench) -> None:
    seen: list[bool] = []

    async def follow() -> None:
        async with aclosing(bench.reader.watch()) as states:
            async for state in states:
                assert state.name == bench.reader.name
                seen.append(state.card_present)
                if len(seen) == 3:
                    return
                (bench.insert(find("works").make()) if not state.card_present else bench.remove())

    async with asyncio.timeout(WAIT_MS / 1000):
        await follow()
    assert seen == [False, True, False]


async def test_two_may_watch(bench: Bench) -> None:
    both = [asyncio.create_task(_until(bench.reader, lambda state: state.card_present)) for _ in range(2)]
    await asyncio.sleep(0)
    bench.insert(find("works").make())
    assert [state.card_present for state in await asyncio.gather(*both)] == [True, True]
