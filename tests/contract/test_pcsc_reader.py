"""What only a real pcscd can show: it restarts, others hold the card, readers have names."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.support.authentication import by_centre
from tests.support.pcscd import clear, private_slots
from yikatong.core.card import ReaderState
from yikatong.core.ports import CardLink
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.pcsc import PcscReader
from yikatong.drivers.pcsc.clients import Client, clients
from yikatong.drivers.pcsc.presence import Presence
from yikatong.drivers.pcsc.worker import STUCK_MAX
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import Contactless, Stuck
from yikatong.simulators.pcscd import READER_NAME, SOCKET_VARIABLE, PrivatePcscd
from yikatong.simulators.vpcd import VirtualSlot

pytestmark = pytest.mark.timeout(60)

WAIT_MS = 10_000
CHALLENGE = bytes.fromhex("0084000008")
TELL_THE_STATE = """
import asyncio
from yikatong.drivers.pcsc import PcscReader

async def tell():
    reader = PcscReader("any")
    state = await reader.state()
    print(f"{state.detail}: {state.explanation}")
    await reader.close()

asyncio.run(tell())
"""
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
    with private_slots(2) as (pcscd, slots):
        pcscd.stop()
        pcscd.plugged = 1
        pcscd.start()
        yield pcscd, slots[0]


@pytest.fixture
def pcscd(running: tuple[PrivatePcscd, VirtualSlot]) -> PrivatePcscd:
    return running[0]


@pytest.fixture
def slot(running: tuple[PrivatePcscd, VirtualSlot]) -> Iterator[VirtualSlot]:
    yield running[1]
    clear(*running)


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


async def _read_soon(reader: PcscReader) -> str:
    """Once what was there before is noticed: the first attempts may meet it."""
    async with asyncio.timeout(WAIT_MS / 1000):
        while True:
            try:
                return await _read(reader)
            except YikatongError:
                await asyncio.sleep(0.05)


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


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
        return link.transmit(CHALLENGE)

    async with reader.visit(wait_ms=WAIT_MS) as visit:
        for job in (restart, lambda link: link.transmit(CHALLENGE)):
            with pytest.raises(YikatongError) as caught:
                await visit.run(job)
            assert caught.value.reason in {Reason.PCSCD_NOT_RUNNING, Reason.READER_FAILED, Reason.CARD_REMOVED}
    assert await _read(reader) == find("works").data.card_number


async def test_twenty_restarts_in_the_middle_of_reads(
    pcscd: PrivatePcscd, slot: VirtualSlot, reader: PcscReader
) -> None:
    """Each time the visit ends with a reason, the watch sees reader and card go and come, and the next read works."""

    def restart(link: CardLink) -> bytes:
        link.transmit(CHALLENGE)
        pcscd.stop()
        pcscd.start()
        return link.transmit(CHALLENGE)

    async def once(watch: AsyncIterator[ReaderState]) -> Reason:
        async with reader.visit(wait_ms=WAIT_MS) as visit:
            with pytest.raises(YikatongError) as caught:
                await visit.run(restart)
        while (await anext(watch)).card_present:
            pass
        while not (await anext(watch)).card_present:
            pass
        assert await _read(reader) == find("works").data.card_number
        return caught.value.reason

    slot.insert(find("works").make())
    async with asyncio.timeout(6 * WAIT_MS / 1000), aclosing(reader.watch()) as watch:
        while not (await anext(watch)).card_present:
            pass
        reasons = {await once(watch)}
        before = (threading.active_count(), _descriptors())
        for _ in range(20):
            reasons.add(await once(watch))
        assert (threading.active_count(), _descriptors()) == before
    assert reasons <= {Reason.PCSCD_NOT_RUNNING, Reason.READER_FAILED, Reason.CARD_REMOVED}


async def test_readers_are_plugged_in_and_out(pcscd: PrivatePcscd) -> None:
    """Each by its name: a second one changes nothing for the first, and is the same when it comes back."""
    other = PcscReader(pcscd.slots[2].name)
    first = PcscReader(pcscd.slots[0].name)
    async with aclosing(other.watch()) as others:
        for plugged in (2, 1, 2):
            pcscd.stop()
            pcscd.plugged = plugged
            pcscd.start()
            async with asyncio.timeout(WAIT_MS / 1000):
                while (await anext(others)).present != (plugged == 2):
                    pass
            assert (await _until(first, lambda state: state.present)).name == pcscd.slots[0].name
    await other.close()
    await first.close()
    pcscd.stop()
    pcscd.plugged = 1
    pcscd.start()


async def test_a_card_that_holds_the_driver_for_ever(pcscd: PrivatePcscd, slot: VirtualSlot) -> None:
    """The call is given up and told of, the rest goes on, and all heals."""
    before = threading.active_count()
    stuck = Stuck(find("works").make())
    slot.insert(stuck)
    reader = PcscReader(pcscd.reader_name, stuck_after_s=0.3)
    try:
        told = [await _refusal(reader) for _ in range(3)]
        assert (await _until(reader, lambda state: state.present)).present
    finally:
        stuck.released.set()
    for error in told:  # the card is held by the call that hangs, and by nobody else
        assert (error.reason, error.facts["stuck_calls"]) == (Reason.READER_FAILED, 1)
        assert "did not come back" in error.detail
    async with asyncio.timeout(WAIT_MS / 1000):
        while reader.stuck_calls:
            await asyncio.sleep(0.01)
    slot.insert(find("works-qingdao").make())
    patient = PcscReader(pcscd.reader_name)
    assert await _read_soon(patient) == find("works-qingdao").data.card_number
    await patient.close()
    await reader.close()
    slot.remove()
    assert threading.active_count() == before


async def test_a_pcscd_that_hangs_is_told_and_comes_back(pcscd: PrivatePcscd, slot: VirtualSlot) -> None:
    slot.insert(find("works").make())
    reader = PcscReader(pcscd.reader_name, stuck_after_s=0.6)
    async with asyncio.timeout(3 * WAIT_MS / 1000), aclosing(reader.watch()) as watch:
        while not (await anext(watch)).card_present:
            pass
        pcscd.pause()
        try:
            hung = await anext(watch)
            assert (hung.present, hung.detail) == (False, "READER_FAILED")
            assert "did not come back" in hung.explanation
            refused = [await _refusal(reader) for _ in range(STUCK_MAX + 2)]
            assert {error.reason for error in refused} == {Reason.READER_FAILED}
            assert reader.stuck_calls <= 2 * STUCK_MAX
            assert not (await reader.state()).present
        finally:
            pcscd.resume()
        while not (await anext(watch)).card_present:
            pass
        assert await _read_soon(reader) == find("works").data.card_number
    await reader.close()


async def test_a_pcscd_that_hangs_up_on_us_was_told_to_by_polkit(tmp_path: Path) -> None:
    """What pcscd 2 does to a user whom polkit does not let use it: it listens, and closes each connection."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    path = str(tmp_path / "pcscd.comm")
    async with await asyncio.start_unix_server(hang_up, path):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", TELL_THE_STATE),
            env={**os.environ, SOCKET_VARIABLE: path},
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate()
    assert out.decode().split(": ") == ["PCSCD_REFUSED", "polkit did not let pcscd open a session for this user\n"]


async def test_a_card_that_somebody_else_holds(slot: VirtualSlot, reader: PcscReader) -> None:
    slot.insert(find("works").make())
    await _read(reader)
    with subprocess.Popen(  # noqa: ASYNC220 - it starts at once, and is waited for in a thread
        [sys.executable, "-c", HOLD_THE_CARD, reader.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == b"0\n"
        refused = await _refusal(reader)
        assert (refused.reason, refused.facts["pcsc"]) == (Reason.DEVICE_BUSY, "SCARD_E_SHARING_VIOLATION")
        assert "another program" in refused.detail
        named = clients()
        assert Client(other.pid, Path(sys.executable).name) in named.found
        assert os.getpid() not in {client.pid for client in named.found}
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


@pytest.mark.parametrize("key", ["works", "third-generation", "third-generation-gated"])
async def test_a_card_through_its_antenna(running: tuple[PrivatePcscd, VirtualSlot], key: str) -> None:
    """A contactless reader is one more PC/SC reader, with an ATR that it makes itself; T=1."""
    pcscd, slot = running
    clear(pcscd, slot)
    card = Contactless(find(key).make())
    reader = PcscReader(pcscd.reader_name)
    await asyncio.to_thread(slot.insert, card)
    async with reader.visit(wait_ms=WAIT_MS) as visit:
        read = await SocialSecurityCard(authenticator=by_centre()).read(visit)
    assert read.card_number.reveal() == find(key).data.card_number
    assert read.atr == card.atr != find(key).data.atr
    await reader.close()
    slot.remove()
