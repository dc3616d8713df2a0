"""A PC/SC reader with keys of its own, under a real pcscd with a driver of ours: no PIN enters this machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.keypad_reader import compiled
from tests.support.keypads import pin_check
from tests.support.pcscd import empty, private_slots
from tests.support.runner_world import until
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.pcsc import PcscReader
from yikatong.drivers.pcsc.keypad import PcscKeypad
from yikatong.runtime.clock import SystemClock
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.security import TRIES_MAX
from yikatong.simulators.keypad_reader import (
    CANCELS,
    DOES_NOTHING,
    NAME,
    Asked,
    KeypadReader,
    Presses,
    Status,
    types,
)
from yikatong.simulators.pcscd import PrivatePcscd
from yikatong.terminal.desk import Desk
from yikatong.terminal.journal import Journal
from yikatong.terminal.pin_check import PinCheck, PinRules

pytestmark = pytest.mark.timeout(60)

RIGHT, WRONG = "654321", "111111"
WAIT_MS = 10_000


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def running(driver: Path, tmp_path: Path) -> Iterator[tuple[KeypadReader, PrivatePcscd]]:
    """A pcscd for each test: one whose card left in the middle of a prompt did not always see the next card."""
    with (
        KeypadReader(tmp_path / "reader") as reader,
        private_slots(1, others=reader.configuration(driver)) as (pcscd, _),
    ):
        yield reader, pcscd


@dataclass
class Window:
    """The reader with its keys, a card in it, and a desk."""

    device: KeypadReader
    reader: PcscReader
    keypad: PcscKeypad
    check: PinCheck
    desk: Desk
    chip: SimulatedCard

    async def debit(self, *people: Presses, acknowledged: bool = False) -> None:
        self.device.people.extend(people)
        asked = self.desk.identify(wait_ms=WAIT_MS, stage=lambda stage: None, last_try_acknowledged=acknowledged)
        async with asked as presented:
            await presented.demand_same_card()

    async def refused(self, *people: Presses, acknowledged: bool = False) -> tuple[Reason, object]:
        with pytest.raises(YikatongError) as caught:
            await self.debit(*people, acknowledged=acknowledged)
        facts = caught.value.facts
        return caught.value.reason, facts.get("tries_left", facts.get("cause", ""))


@pytest.fixture
async def at(running: tuple[KeypadReader, PrivatePcscd], tmp_path: Path) -> AsyncIterator[Window]:
    device, _ = running
    device.asked.clear()
    device.commands.clear()
    device.people.clear()
    chip = SimulatedCard(find("works").data, pin=RIGHT)
    device.insert(chip)
    reader, document, journal = PcscReader(NAME), SocialSecurityCard(), Journal(tmp_path / "journal.db")
    keypad = PcscKeypad(reader, digits=6)
    check = pin_check(keypad, journal, document=document, timeout_ms=20_000)
    desk = Desk(reader, document, SystemClock(), pin=check)
    yield Window(device, reader, keypad, check, desk, chip)
    device.remove()
    await empty(reader)  # pcscd never again sees a card that comes back before it has looked
    await keypad.close()
    await reader.close()
    await journal.close()


async def test_the_pin_goes_from_the_keys_to_the_card_and_not_through_here(at: Window) -> None:
    await at.debit(types(RIGHT))
    assert at.device.asked == [Asked(20, 15, 6, 6, 3, bytes.fromhex("0020000003FFFFFF"))]
    assert not [command for command in at.device.commands if command[1] == 0x20]
    assert at.chip.security.tries_left == TRIES_MAX


async def test_wrong_pins_are_counted_as_with_any_keypad(at: Window) -> None:
    at.chip.security.tries_left = 3
    assert await at.refused(types(WRONG)) == (Reason.PIN_WRONG, 2)
    assert await at.refused(types(WRONG)) == (Reason.PIN_WRONG, 1)
    assert await at.refused(types(WRONG)) == (Reason.PIN_LAST_TRY, 1)
    assert len(at.device.asked) == 2
    at.device.people.clear()
    assert await at.refused(types(WRONG), acknowledged=True) == (Reason.PIN_BLOCKED, 0)


@pytest.mark.parametrize(
    ("presses", "reason"),
    [
        (CANCELS, Reason.PIN_CANCELLED),
        (DOES_NOTHING, Reason.PIN_TIMEOUT),
        (types("1234"), Reason.PIN_CANCELLED),
        (Presses(instead=bytes.fromhex("6402")), Reason.PIN_KEYPAD_FAILED),
        (Presses(instead=bytes.fromhex("6B80")), Reason.PIN_KEYPAD_FAILED),
    ],
)
async def test_what_the_reader_itself_says_costs_no_try(at: Window, presses: Presses, reason: Reason) -> None:
    at.chip.security.tries_left = 2
    assert await at.refused(types(WRONG)) == (Reason.PIN_WRONG, 1)
    assert await at.refused(presses, acknowledged=True) == (reason, "")
    assert at.chip.security.tries_left == 1
    await at.debit(types(RIGHT), acknowledged=True)


async def test_a_driver_that_fails_after_the_card_had_the_pin_is_unclear(at: Window) -> None:
    assert await at.refused(Presses(WRONG, then=Status.COMMUNICATION_ERROR)) == (Reason.PIN_TRY_UNCLEAR, "CARD_MUTE")
    assert at.chip.security.tries_left == TRIES_MAX - 1
    assert len(at.device.asked) == 1, "not repeated"
    assert await at.refused(types(RIGHT)) == (Reason.PIN_LAST_TRY, 1)


async def test_a_driver_that_does_not_know_the_prompt_costs_no_try(at: Window) -> None:
    """Nobody was asked to type."""
    at.chip.security.tries_left = 2
    assert await at.refused(types(WRONG)) == (Reason.PIN_WRONG, 1)
    assert await at.refused(Presses(then=Status.NOT_SUPPORTED), acknowledged=True) == (Reason.PIN_KEYPAD_FAILED, "")
    assert at.chip.security.tries_left == 1
    await at.debit(types(RIGHT), acknowledged=True)


async def test_the_card_leaves_while_its_pin_is_typed(at: Window) -> None:
    typed = threading.Event()
    paying = asyncio.create_task(at.refused(Presses(RIGHT, until=typed)))
    await until(lambda: bool(at.device.asked))
    at.device.remove()
    typed.set()
    assert await paying == (Reason.PIN_TRY_UNCLEAR, "CARD_MUTE")
    assert at.chip.security.tries_left == TRIES_MAX


async def test_a_driver_that_hangs_with_the_prompt_is_given_up_and_unclear(at: Window) -> None:
    typed = threading.Event()
    reader = PcscReader(NAME, stuck_after_s=3.0)  # reading has to end within it, too
    at.check.entry, at.desk.reader = PcscKeypad(reader, digits=6), reader
    at.check.rules = PinRules(timeout_ms=100)
    assert await at.refused(Presses(WRONG, until=typed)) == (Reason.PIN_TRY_UNCLEAR, "CARD_MUTE")
    assert reader.stuck_calls == 1
    typed.set()
    await until(lambda: reader.stuck_calls == 0)
    assert at.chip.security.tries_left == TRIES_MAX - 1
    await reader.close()


async def test_who_leaves_while_it_is_typed_does_not_end_the_prompt_and_the_card_is_heard(at: Window) -> None:
    typed = threading.Event()
    paying = asyncio.create_task(at.debit(Presses(WRONG, until=typed)))
    await until(lambda: bool(at.device.asked))
    with pytest.raises(YikatongError, match="DEVICE_BUSY"):
        await at.keypad.check()
    paying.cancel()
    await asyncio.wait([paying], timeout=0.05)
    assert await at.refused(types(RIGHT)) == (Reason.DEVICE_BUSY, "")
    at.device.people.clear()
    typed.set()
    await asyncio.wait([paying])
    assert paying.cancelled()
    assert await at.refused(types(WRONG)) == (Reason.PIN_WRONG, TRIES_MAX - 2)
    assert [asked.digits_max for asked in at.device.asked] == [6, 6]


async def test_the_keys_answer_with_and_without_a_card(at: Window) -> None:
    await at.keypad.check()
    async with at.reader.visit(wait_ms=WAIT_MS):
        await at.keypad.check()
    at.device.remove()
    await at.keypad.check()


async def test_a_reader_without_keys(running: tuple[KeypadReader, PrivatePcscd]) -> None:
    _, pcscd = running
    for name, reason in ((pcscd.reader_name, Reason.NO_PIN_KEYPAD), ("nowhere", Reason.NO_PIN_KEYPAD)):
        reader = PcscReader(name)
        with pytest.raises(YikatongError) as caught:
            await PcscKeypad(reader, digits=6).check()
        assert caught.value.reason is reason
        await reader.close()
