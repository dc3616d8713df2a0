"""What only a real pcscd can show: it restarts, others hold the card, readers have names."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing

import pytest

from tests.support.pcscd import private_pcscd
from yikatong.core.card import ReaderState
from yikatong.core.ports import CardLink
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.pcsc import PcscReader
from yikatong.drivers.pcsc.presence import Presence
from yikatong.simulators.card.deck import find
from yikatong.simulators.pcscd import READER_NAME, PrivatePcscd
from yikatong.simulators.vpcd import VirtualSlot

pytestmark = pytest.mark.timeout(60)

WAIT_MS = 10_000
HOLD_THE_CARD = """
import sys
from smartcard import scard
_, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
code, card, _ = scard.SCardConnect(context, sys.argv[1], scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_T0)
print(code, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[PrivatePcscd, VirtualSlot]]:
    with private_pcscd() as running:
        yield running


@pytest.fixture
def pcscd(running: tuple[PrivatePcscd, VirtualSlot]) -> PrivatePcscd:
    return running[0]


@pytest.fixture
def slot(running: tuple[PrivatePcscd, VirtualSlot]) -> Iterator[VirtualSlot]:
    yield running[1]
    running[1].remove()


@pytest.fixture
async def reader(pcscd: PrivatePcscd) -> AsyncIterator[PcscReader]:
    reader = PcscReader(pcscd.reader_name)
    yield reader
    await reader.close()


async def _until(reader: PcscReader, wanted: Callable[[ReaderState], bool]) -> ReaderState:
    async with asyncio.timeout(WAIT_MS / 1000), aclosing(reader.watch()) as states:
        async for state in states:
            if wanted(state):
                return state
    raise AssertionError("the watch ended")


async def _read(reader: PcscReader) -> str:
    async with reader.visit(wait_ms=WAIT_MS) as visit:
        return (await visit.run(SocialSecurityCard().read_identity)).card_number.reveal()


async def _refusal(reader: PcscReader) -> YikatongError:
    with pytest.raises(YikatongError) as caught:
        await _read(reader)
    return caught.value


async def test_a_restart_of_pcscd_is_survived(pcscd: PrivatePcscd, slot: VirtualSlot, reader: PcscReader) -> None:
    slot.insert(find("works").make())
    states: list[ReaderState] = []
    async with asyncio.timeout(4 * WAIT_MS / 1000), aclosing(reader.watch()) as watch:
        async for state in watch:
            states.append(state)
            if state.card_present:
                break
        assert await _read(reader) == find("works").data.card_number
        pcscd.stop()
        gone = await anext(watch)
        assert (gone.present, gone.detail) == (False, "PCSCD_NOT_RUNNING")
        async with asyncio.timeout(WAIT_MS / 1000):
            with pytest.raises(YikatongError) as caught:
                async with reader.visit():
                    raise AssertionError("there is no pcscd")
        assert caught.value.reason is Reason.PCSCD_NOT_RUNNING
        assert caught.value.facts["service"] == "pcscd"
        pcscd.start()
        while not (await anext(watch)).card_present:
            pass
        assert await _read(reader) == find("works").data.card_number


async def test_a_restart_in_the_middle_of_a_visit_ends_it(
    pcscd: PrivatePcscd, slot: VirtualSlot, reader: PcscReader
) -> None:
    slot.insert(find("works").make())

    def restart(link: CardLink) -> bytes:
        pcscd.stop()
        pcscd.start()
        return link.transmit(bytes.fromhex("0084000008"))

    async with reader.visit(wait_ms=WAIT_MS) as visit:
        for job in (restart, lambda link: link.transmit(bytes.fromhex("0084000008"))):
            with pytest.raises(YikatongError) as caught:
                await visit.run(job)
            assert caught.value.reason in {Reason.PCSCD_NOT_RUNNING, Reason.READER_FAILED, Reason.CARD_REMOVED}
    assert await _read(reader) == find("works").data.card_number


async def test_a_card_that_somebody_else_holds(slot: VirtualSlot, reader: PcscReader) -> None:
    slot.insert(find("works").make())
    await _read(reader)
    with subprocess.Popen(  # noqa: ASYNC220 - it starts at once, and is waited for in a thread
        [sys.executable, "-c", HOLD_THE_CARD, reader.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == b"0\n"
        assert (await _refusal(reader)).reason is Reason.DEVICE_BUSY
        other.stdin.close()
        assert await asyncio.to_thread(other.wait) == 0
    assert await _read(reader) == find("works").data.card_number


@pytest.mark.parametrize(
    ("name", "matching"), [("Virtual PCD", 2), ("Virtual", 2), ("No such reader", 0)], ids=["both", "part", "none"]
)
async def test_a_name_that_is_not_one_readers(pcscd: PrivatePcscd, name: str, matching: int) -> None:
    reader = PcscReader(name)
    with pytest.raises(YikatongError) as caught:
        async with reader.visit():
            raise AssertionError("which reader would that be?")
    assert (caught.value.reason, caught.value.facts["matching"]) == (Reason.NO_READER, matching)
    assert str(caught.value.facts["readers"]) == "Virtual PCD 00 00; Virtual PCD 00 01"
    state = await reader.state()
    assert (state.present, state.card_present, state.detail) == (False, False, "NO_READER")
    assert "Virtual PCD 00 00; Virtual PCD 00 01" in state.explanation
    await reader.close()


async def test_a_part_of_a_name_will_do(slot: VirtualSlot) -> None:
    slot.insert(find("works").make())
    reader = PcscReader("PCD 00 00")
    assert await _read(reader) == find("works").data.card_number
    await reader.close()


async def test_the_watch_does_not_spin(reader: PcscReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the slot are counted: while nothing changes each waits for its time."""
    looks = 0
    look = Presence.wait

    def counting(slot: Presence, wait_ms: int) -> ReaderState:
        nonlocal looks
        looks += 1
        return look(slot, wait_ms)

    await _until(reader, lambda state: not state.card_present)
    monkeypatch.setattr(Presence, "wait", counting)
    async with aclosing(reader.watch()) as states:
        await anext(states)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await anext(states)
    assert looks <= 5


async def test_no_thread_is_left_behind(pcscd: PrivatePcscd) -> None:
    before = threading.active_count()
    reader = PcscReader(READER_NAME)
    await _until(reader, lambda state: state.present)
    await reader.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("lane-")] == []
    assert threading.active_count() == before
