"""A debit belongs to the card that was read: out of the reader, even for a moment, and nothing is asked for.

The reader in process, and a real one over a real pcscd, which looks at its slots only every 0.4 s: most of these swaps
it never sees. Nothing is stood in for but the cardholder at the keypad and the far end of the line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.support.far_end import FarEnd
from tests.support.keypads import Cardholder, pin_check
from tests.support.pcscd import clear, empty, private_slots
from tests.support.rows import request
from yikatong.core.bill import Bill
from yikatong.core.ports import CardReader
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.session import Granted
from yikatong.core.terminal_table import State
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.pcsc import PcscReader
from yikatong.runtime.clock import SystemClock
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import Manner
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.pcscd import PrivatePcscd
from yikatong.simulators.reader import SimulatedReader
from yikatong.simulators.vpcd import VirtualSlot
from yikatong.terminal.desk import Desk
from yikatong.terminal.events import Hub
from yikatong.terminal.journal import Journal
from yikatong.terminal.runner import Runner
from yikatong.terminal.session import Session
from yikatong.terminal.who_pays import WhoPays

pytestmark = pytest.mark.timeout(60)

WAIT_MS = 10_000
GRANTED = Granted(1, datetime.now(UTC), "P99000200001", "测试药店", "990002", "1", "2", "2026-01-02")


@dataclass(frozen=True)
class Bench:
    """A reader, and the hand that puts cards in and takes them out."""

    reader: PcscReader | SimulatedReader
    insert: Callable[[PretendCard], None]
    remove: Callable[[], None]


Benches = Callable[[int], list[Bench]]


@pytest.fixture(scope="module")
def pcscd() -> Iterator[tuple[PrivatePcscd, list[VirtualSlot]]]:
    with private_slots(4) as running:
        yield running


@pytest.fixture(params=["in process", "pcscd"])
async def benches(request: pytest.FixtureRequest) -> AsyncIterator[Benches]:
    """So many benches as are asked for: what one must wait for happens on all of them at once."""
    made: list[Bench] = []

    def make(count: int) -> list[Bench]:
        if request.param == "in process":
            simulated = [SimulatedReader(str(number)) for number in range(count)]
            made.extend(Bench(reader, reader.insert, reader.remove) for reader in simulated)
        else:
            running, virtual = request.getfixturevalue("pcscd")
            for slot, hand in zip(running.slots[:count], virtual, strict=False):
                made.append(Bench(PcscReader(slot.name), hand.insert, hand.remove))
        return made

    yield make
    for bench in made:
        bench.remove()
    await asyncio.gather(*(empty(bench.reader) for bench in made))
    for bench in made:
        await bench.reader.close()


def _twin() -> PretendCard:
    """Another chip with the same number on it."""
    return SimulatedCard(replace(find("works").data, serial=b"\x00\x00\x00\x63"))


def _works() -> PretendCard:
    return find("works").make()


def _anothers() -> PretendCard:
    return find("works-qingdao").make()


@dataclass(frozen=True)
class Swap:
    """The card goes out, for `away_s`; then comes `next`: the same card ("same"), another one, or none."""

    next: Callable[[], PretendCard] | str | None
    away_s: float = 0.0

    def do(self, bench: Bench, card: PretendCard) -> None:
        bench.remove()
        time.sleep(self.away_s)  # this is waiting for nothing: so long the card is out
        if self.next is not None:
            bench.insert(card if isinstance(self.next, str) else self.next())


SWAPS = [
    Swap(None),
    *(Swap(following, away_s) for following in ("same", _anothers, _twin) for away_s in (0.0, 0.2)),
]


class Till:
    """A terminal's runner over this reader, with a journal of its own."""

    def __init__(self, reader: CardReader, folder: Path, holder: Cardholder) -> None:
        self.far_end, self.journal = FarEnd(), Journal(folder / "journal.db")
        document = SocialSecurityCard()
        check = pin_check(holder, self.journal, document=document)
        self.desk = Desk(reader, document, SystemClock(), pin=check)
        session = SimpleNamespace(
            terminal_id="P99000200001-01", fenced=False, require=lambda: GRANTED, fence=lambda: None
        )
        self.runner = Runner(
            self.journal,
            self.far_end,
            cast("Session", session),
            WhoPays(self.desk),
            Hub(),
            SystemClock(),
            leave=lambda reason: None,
        )

    async def debit(self) -> State:
        return (await self.runner.debit(request(), Bill(), wait_ms=WAIT_MS, patience_s=None)).state

    async def close(self) -> None:
        await self.runner.close()
        await self.journal.close()


async def test_a_swap_after_reading_and_pin_is_refused(benches: Benches, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")

    async def refused(bench: Bench, swap: Swap) -> list[Reason]:
        card = _works()
        await asyncio.to_thread(bench.insert, card)
        document = SocialSecurityCard()
        desk = Desk(bench.reader, document, SystemClock(), pin=pin_check(Cardholder(), journal, document=document))
        reasons = []
        async with desk.identify(wait_ms=WAIT_MS, stage=lambda stage: None) as presented:
            await presented.demand_same_card()
            await asyncio.to_thread(swap.do, bench, card)
            for _ in range(2):
                try:
                    await presented.demand_same_card()
                except YikatongError as error:
                    reasons.append(error.reason)
        return reasons

    told = await asyncio.gather(*(refused(*both) for both in zip(benches(len(SWAPS)), SWAPS, strict=True)))
    assert {
        swap: reasons for swap, reasons in zip(SWAPS, told, strict=True) if reasons != [Reason.CARD_REMOVED] * 2
    } == {}
    await journal.close()


class _Counting(Manner):
    """Counts the PINs that it is shown."""

    pins = 0

    def execute(self, apdu: bytes) -> bytes:
        self.pins += apdu[1:2] == b"\x20"
        return super().execute(apdu)


async def test_a_debit_whose_card_is_swapped_at_the_keypad_asks_for_nothing(benches: Benches, tmp_path: Path) -> None:
    [bench] = benches(1)
    card, other = _works(), _Counting(_anothers())
    bench.insert(card)
    holder = Cardholder(first=lambda: Swap(lambda: other).do(bench, card))
    till = Till(bench.reader, tmp_path, holder)
    with pytest.raises(YikatongError) as caught:
        await till.debit()
    assert caught.value.reason is Reason.CARD_REMOVED
    assert other.pins == 0, "it would have learned the PIN, or lost a try"
    assert till.far_end.calls == []
    assert (await till.journal.head()).number == 0
    holder.first = lambda: None
    assert await till.debit() is State.APPROVED, "the card that lies there now, from its beginning"
    await till.close()


async def test_a_restart_of_pcscd_at_the_keypad_asks_for_nothing(
    pcscd: tuple[PrivatePcscd, list[VirtualSlot]], tmp_path: Path
) -> None:
    """Whether the card was swapped while nobody looked cannot be known."""
    running, [slot, *_] = pcscd
    reader = PcscReader(running.reader_name)

    def restart() -> None:
        running.stop()
        running.start()

    slot.insert(_works())
    holder = Cardholder(first=restart)
    till = Till(reader, tmp_path, holder)
    with pytest.raises(YikatongError) as caught:
        await till.debit()
    assert caught.value.reason in {Reason.PCSCD_NOT_RUNNING, Reason.READER_FAILED, Reason.CARD_REMOVED}
    assert till.far_end.calls == []
    assert (await till.journal.head()).number == 0
    holder.first = lambda: None
    assert await till.debit() is State.APPROVED
    await till.close()
    clear(running, slot)
    await reader.close()
