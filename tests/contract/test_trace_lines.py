"""What watchers are told of serial devices: commands and states in words; no key, no code, no person, no receipt."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.personal import forms, found_in, spread
from tests.support.tracing import Watching, watched
from yikatong.core.reasons import YikatongError
from yikatong.core.trace import Direction, LineFrame, TraceEvent
from yikatong.drivers.serial.code_scanner import SerialCodeScanner
from yikatong.drivers.serial.customer_display import SerialCustomerDisplay
from yikatong.drivers.serial.id_card_reader import SerialIdCardReader
from yikatong.drivers.serial.pin_keypad import SerialPinKeypad
from yikatong.drivers.serial.port import LineObserver
from yikatong.drivers.serial.receipt_printer import SerialReceiptPrinter
from yikatong.drivers.trace import LineTrace, PinPadWords, Trace
from yikatong.drivers.trace.lines import DisplayWords, IdCardWords, PrinterWords, ScannerWords, Words
from yikatong.simulators.customer_display import CustomerDisplay
from yikatong.simulators.id_card_module import IdCard, IdCardModule
from yikatong.simulators.id_card_module import Temper as IdCardTemper
from yikatong.simulators.pinpad import PinPad, Presses, Temper, types
from yikatong.simulators.receipt_printer import ReceiptPrinter
from yikatong.simulators.scanner import Scanner

LONG_MS = 30_000


@pytest.fixture
def name(tmp_path: Path) -> Path:
    return tmp_path / "device"


@contextlib.asynccontextmanager
async def observed(name: Path, words: Words) -> AsyncIterator[tuple[LineObserver, Watching, Trace]]:
    trace = Trace()
    async with watched(trace) as watching:
        yield LineTrace(trace, str(name), words), watching, trace


def said(events: list[TraceEvent]) -> list[tuple[str, str, int]]:
    """Which way, what, how many bytes."""
    frames = [event for event in events if isinstance(event, LineFrame)]
    assert len(frames) == len(events)
    return [("→" if frame.direction is Direction.SENT else "←", frame.en, frame.length) for frame in frames]


ENTRY = [("→", "keys on (no key is traced), asks for the PIN", 2), ("→", "keys off", 1)]


@pytest.mark.parametrize("pin", ["1234", "8642097531864209"])
async def test_of_a_pin_pad_commands_are_told_and_no_key(name: Path, pin: str) -> None:
    """The same is told of a short PIN and of a long one, also where the keys come one by one."""
    async with observed(name, PinPadWords()) as (observer, watching, trace):
        with PinPad(name, [types(pin)], temper=Temper(byte_pause_s=0.002)):
            keypad = SerialPinKeypad(name, observer=observer)
            await keypad.check()
            (await keypad.ask(timeout_ms=LONG_MS)).wipe()
            await keypad.close()
        events = await watching.rest(trace)
    assert said(events) == [("→", "are you there", 1), ("←", "here I am", 3), *ENTRY]
    assert found_in([piece for event in events for piece in spread(event)], {"PIN": forms(pin)}) == set()


async def test_keys_that_come_outside_a_prompt_are_not_told_either(name: Path) -> None:
    """A pad that sends keys when it should not: with noise in its answer, and behind it."""
    async with observed(name, PinPadWords()) as (observer, watching, trace):
        with PinPad(name, [Presses(b"12\x0d"), types("1234")], temper=Temper(noise_before=b"1234\r56O")):
            keypad = SerialPinKeypad(name, observer=observer)
            await keypad.check()
            (await keypad.ask(timeout_ms=LONG_MS)).wipe()
            await keypad.close()
        events = await watching.rest(trace)
    assert said(events) == [
        ("→", "are you there", 1),
        ("←", "here I am", 3),
        ENTRY[0],
        ("→", "asks for the PIN again", 1),
        ENTRY[1],
    ]


async def test_one_who_comes_while_the_keys_are_on_hears_no_key(name: Path) -> None:
    """The query was seen, the keys were switched on unseen."""
    trace = Trace()
    observer = LineTrace(trace, str(name), PinPadWords())
    with PinPad(name, [Presses()], temper=Temper(silent=False)) as pad:
        keypad = SerialPinKeypad(name, observer=observer)
        async with watched(trace):
            await keypad.check()
        asking = asyncio.create_task(keypad.ask(timeout_ms=LONG_MS))
        await asyncio.to_thread(pad.wait_heard, 0x82)
        async with watched(trace) as watching:
            pad.press(b"8642\x0d")
            (await asking).wipe()
            await keypad.close()
            events = await watching.rest(trace)
    assert said(events) in (ENTRY, ENTRY[1:])  # the pad may have heard it before it was told


def test_unknown_commands_to_a_pad_are_told_by_their_length() -> None:
    words, length = PinPadWords().sent(b"\x82\x01\x02")
    assert (words.en, length) == ("another command", 3)


async def test_of_a_scanner_the_length(name: Path) -> None:
    code = "MADE-UP-28-CHARACTERS-000001"
    async with observed(name, ScannerWords()) as (observer, watching, trace):
        with Scanner(name) as device:
            scanner = SerialCodeScanner(name, observer=observer)
            listening = threading.Event()
            scanning = asyncio.create_task(scanner.scan(timeout_ms=LONG_MS, listening=listening.set))
            await asyncio.to_thread(listening.wait, 10)
            await asyncio.to_thread(device.present, code)
            assert (await scanning).reveal() == code
            await scanner.close()
        events = await watching.rest(trace)
    told = said(events)
    assert {(way, what) for way, what, _ in told} == {("←", "what was scanned (not shown)")}
    assert sum(length for _, _, length in told) == len(code) + 2
    assert found_in([piece for event in events for piece in spread(event)], {"code": forms(code)}) == set()


@pytest.mark.parametrize("pause_s", [0.0, 0.0001], ids=["quick", "byte by byte"])
async def test_of_an_identity_card_commands_statuses_and_lengths(name: Path, pause_s: float) -> None:
    card = IdCard()
    async with observed(name, IdCardWords()) as (observer, watching, trace):
        with IdCardModule(name, card, temper=IdCardTemper(byte_pause_s=pause_s, noise_before=b"\xaa\x00")):
            reader = SerialIdCardReader(name, observer=observer)
            await reader.check()
            assert (await reader.read(timeout_ms=LONG_MS)).number.reveal() == card.number
            await reader.close()
        events = await watching.rest(trace)
    assert said(events) == [
        ("→", "are you well", 10),
        ("←", "done", 0),
        ("→", "looks for a card", 10),
        ("←", "a card is there", 4),
        ("→", "selects it", 10),
        ("←", "done", 8),
        ("→", "reads it (text and photo)", 10),
        ("←", "done", 4 + 256 + 1024),
    ]
    person = {"number": forms(card.number[6:14]), "name": forms(card.name, charset="gb18030")}
    assert found_in([piece for event in events for piece in spread(event)], person) == set()


def test_a_status_that_nobody_knows_is_not_shown() -> None:
    words = IdCardWords()
    told = words.received(memoryview(b"\xaa\xaa\xaa\x96\x69\x00\x08" + "甲乙".encode("utf-16-le")))
    assert told is not None
    assert (told[0].en, told[1]) == ("unknown status", 4)
    assert words.received(memoryview("丙丁".encode("utf-16-le"))) is None
    assert words.sent(b"\x00" * 10)[0].en == "another command"


async def test_of_a_printer_questions_states_and_lengths(name: Path) -> None:
    receipt = "姓名 Name: 测**\n卡号 Card: T*****01X"
    async with observed(name, PrinterWords()) as (observer, watching, trace):
        with ReceiptPrinter(name) as device:
            printer = SerialReceiptPrinter(name, observer=observer)
            await printer.print_receipt(receipt)
            device.new_roll(paper=0)
            with pytest.raises(YikatongError):
                await printer.check()
            await printer.close()
        events = await watching.rest(trace)
    told = [(way, what) for way, what, _ in said(events)]
    ready = [("→", "asks for its state"), ("←", "well"), ("→", "asks why it is offline"), ("←", "well")]
    ready += [("→", "asks for paper"), ("←", "well")]
    done = [("→", "what is printed (not shown)"), ("→", "asks whether it is done"), ("←", "well")]
    assert told[: len(ready) + len(done) + len(ready)] == ready + done + ready
    assert ("←", "The receipt printer is out of paper.") in told[-6:]
    assert found_in([piece for event in events for piece in spread(event)], {"receipt": forms("T*****01X")}) == set()


def test_what_no_printer_answers_is_told_by_its_length() -> None:
    words = PrinterWords()
    assert words.received(memoryview(b"\x12"))[0].en == "another answer"
    words.sent(b"\x10\x04\x01")
    assert words.received(memoryview(b"\xff\xff")) == (words.received(memoryview(b""))[0], 2)


async def test_of_a_display_that_it_shows_something(name: Path) -> None:
    async with observed(name, DisplayWords()) as (observer, watching, trace):
        with CustomerDisplay(name):
            display = SerialCustomerDisplay(name, observer=observer)
            await display.show("测试人", "余额 120.00 元")
            await display.clear()
            await display.close()
        events = await watching.rest(trace)
    assert [(way, what) for way, what, _ in said(events)] == [("→", "two lines (not shown)"), ("→", "clears")]
    assert (
        found_in([piece for event in events for piece in spread(event)], {"line": forms("测试人", charset="gb18030")})
        == set()
    )
    assert DisplayWords().received(memoryview(b"??"))[1] == 2


async def test_nobody_watches_and_nothing_is_said() -> None:
    class Deaf:
        def sent(self, command: bytes) -> None:
            raise AssertionError("nobody watches")

        def received(self, piece: memoryview) -> None:
            raise AssertionError("nobody watches")

    observer = LineTrace(Trace(), "device", Deaf())
    observer.sent(b"\x82")
    observer.received(memoryview(b"1"))
