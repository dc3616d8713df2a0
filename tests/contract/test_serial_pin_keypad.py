"""`PinEntry` over a serial line, against the simulated pad: every ending, every wrong behaviour, every unplug."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import serial

from tests.support.memory import memory_of
from yikatong.core.ports import PinEntry
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin
from yikatong.drivers.serial.pin_keypad import SerialPinKeypad
from yikatong.runtime.handover import PinHandover
from yikatong.simulators.pinpad import CANCELS, DOES_NOTHING, Command, PinPad, Presses, Temper, types

LONG_MS = 30_000


@pytest.fixture
def name(tmp_path: Path) -> Path:
    return tmp_path / "usb-Pad_0001-if00"


@asynccontextmanager
async def opened(name: Path, **settings: int) -> AsyncIterator[SerialPinKeypad]:
    keypad = SerialPinKeypad(name, **settings)
    entry: PinEntry = keypad  # it is one
    try:
        yield keypad
    finally:
        await entry.close()
        assert not [thread for thread in threading.enumerate() if thread.name == f"lane-pin-keypad-{name.name}"]


async def heard(pad: PinPad, command: Command, times: int = 1) -> None:
    await asyncio.to_thread(pad.wait_heard, command, times=times)


async def refused(keypad: SerialPinKeypad, timeout_ms: int = LONG_MS) -> Reason:
    with pytest.raises(YikatongError) as caught:
        (await keypad.ask(timeout_ms=timeout_ms)).wipe()
    return caught.value.reason


@pytest.mark.parametrize("pin", ["1234", "123456", "0000000000000000"])
@pytest.mark.parametrize("temper", [Temper(), Temper(byte_pause_s=0.002)], ids=["quick", "slow"])
async def test_the_typed_pin_arrives_and_the_pad_is_told_to_stop(name: Path, pin: str, temper: Temper) -> None:
    with PinPad(name, [types(pin)], temper=temper) as pad:
        async with opened(name) as keypad:
            with await keypad.ask(timeout_ms=LONG_MS) as entered:
                assert entered.digits == pin.encode()
            assert entered.digits == bytes(len(pin))
        await heard(pad, Command.KEYS_OFF)
        assert pad.heard == [Command.KEYS_ON, Command.ENTER_PASSWORD, Command.KEYS_OFF]


async def test_cancel_on_the_pad(name: Path) -> None:
    with PinPad(name, [CANCELS, Presses(b"12\x1b")]) as pad:
        async with opened(name) as keypad:
            assert await refused(keypad) is Reason.PIN_CANCELLED
            assert await refused(keypad) is Reason.PIN_CANCELLED
        await heard(pad, Command.KEYS_OFF, times=2)


@pytest.mark.parametrize("presses", [DOES_NOTHING, Presses(b"123")], ids=["nothing", "half"])
async def test_nobody_finishes(name: Path, presses: Presses) -> None:
    with PinPad(name, [presses, types("1234")]) as pad:
        async with opened(name) as keypad:
            assert await refused(keypad, timeout_ms=120) is Reason.PIN_TIMEOUT
            await heard(pad, Command.KEYS_OFF)
            with await keypad.ask(timeout_ms=LONG_MS) as entered:
                assert entered.digits == b"1234"  # nothing of the first attempt in it


async def test_someone_who_leaves_in_the_middle_is_not_waited_for(name: Path) -> None:
    with PinPad(name, [Presses(b"12")]):
        async with opened(name, key_gap_ms_max=100) as keypad:
            async with asyncio.timeout(20):
                assert await refused(keypad) is Reason.PIN_TIMEOUT


@pytest.mark.parametrize("wrong", ["", "123", "12345678901234567"])
async def test_a_wrong_length_is_asked_for_again(name: Path, wrong: str) -> None:
    with PinPad(name, [types(wrong), types(wrong), types("654321")]) as pad:
        async with opened(name) as keypad:
            with await keypad.ask(timeout_ms=LONG_MS) as entered:
                assert entered.digits == b"654321"
        assert pad.heard.count(Command.ENTER_PASSWORD_AGAIN) == 2


async def test_noise_within_an_entry_fails_rather_than_guesses(name: Path) -> None:
    with PinPad(name, [types("123456")], temper=Temper(noise_within=b"\xb2")) as pad:
        async with opened(name) as keypad:
            assert await refused(keypad) is Reason.PIN_KEYPAD_FAILED
            await heard(pad, Command.KEYS_OFF)


async def test_what_came_before_the_prompt_is_not_part_of_it(name: Path) -> None:
    with PinPad(name, [types("2222"), types("123456")]) as pad:
        async with opened(name) as keypad:
            (await keypad.ask(timeout_ms=LONG_MS)).wipe()
            await heard(pad, Command.KEYS_OFF)
            pad.make_noise(b"99999\xff\r")
            with await keypad.ask(timeout_ms=LONG_MS) as entered:
                assert entered.digits == b"123456"


async def test_a_flood_of_digits_ends_with_the_time(name: Path) -> None:
    with PinPad(name, [Presses(b"7" * 3000)]):
        async with opened(name) as keypad:
            assert await refused(keypad, timeout_ms=200) is Reason.PIN_TIMEOUT


@pytest.mark.parametrize("presses", [DOES_NOTHING, Presses(b"12")], ids=["nothing typed", "half typed"])
async def test_cancelling_the_task_ends_the_prompt(name: Path, presses: Presses) -> None:
    with PinPad(name, [presses, types("123456")]) as pad:
        async with opened(name) as keypad:
            asking = asyncio.create_task(keypad.ask(timeout_ms=LONG_MS))
            await heard(pad, Command.ENTER_PASSWORD)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await heard(pad, Command.KEYS_OFF)  # long before LONG_MS: wait_heard gives up earlier
            with await keypad.ask(timeout_ms=LONG_MS) as entered:
                assert entered.digits == b"123456"


async def test_closing_ends_the_prompt(name: Path) -> None:
    with PinPad(name) as pad:
        async with opened(name) as keypad:
            asking = asyncio.create_task(refused(keypad))
            await heard(pad, Command.ENTER_PASSWORD)
            await keypad.close()
            assert await asking is Reason.PIN_CANCELLED
            await heard(pad, Command.KEYS_OFF)


async def test_one_prompt_at_a_time(name: Path) -> None:
    with PinPad(name) as pad:
        async with opened(name) as keypad:
            asking = asyncio.create_task(refused(keypad))
            await heard(pad, Command.ENTER_PASSWORD)
            assert await refused(keypad) is Reason.DEVICE_BUSY
            with pytest.raises(YikatongError, match="DEVICE_BUSY"):
                await keypad.check()
            pad.press(b"\x1b")
            assert await asking is Reason.PIN_CANCELLED


@pytest.mark.parametrize(
    "temper", [Temper(), Temper(byte_pause_s=0.005), Temper(noise_before=b"\x00OK\xffO" * 5)], ids=repr
)
async def test_a_pad_that_is_there(name: Path, temper: Temper) -> None:
    with PinPad(name, temper=temper):
        async with opened(name) as keypad:
            await keypad.check()
            await keypad.check()


async def failed_check(keypad: SerialPinKeypad) -> Reason:
    with pytest.raises(YikatongError) as caught:
        await keypad.check()
    return caught.value.reason


async def test_a_pad_that_does_not_answer(name: Path) -> None:
    with PinPad(name, temper=Temper(silent=True)):
        async with opened(name) as keypad:
            assert await failed_check(keypad) is Reason.PIN_KEYPAD_FAILED


async def test_no_pad(name: Path) -> None:
    async with opened(name) as keypad:
        assert await failed_check(keypad) is Reason.NO_PIN_KEYPAD
        assert await refused(keypad) is Reason.NO_PIN_KEYPAD
        with PinPad(name, [types("1234")]):  # and here it comes
            (await keypad.ask(timeout_ms=LONG_MS)).wipe()


@pytest.fixture
def plain_file(name: Path) -> Path:
    name.write_bytes(b"no terminal line")
    return name


async def test_something_else_bears_the_name(plain_file: Path) -> None:
    async with opened(plain_file) as keypad:
        assert await failed_check(keypad) is Reason.PIN_KEYPAD_FAILED


async def test_another_program_holds_the_port(name: Path) -> None:
    with PinPad(name, [types("1234")]):
        async with opened(name) as keypad:
            with serial.Serial(str(name), exclusive=True):
                assert await failed_check(keypad) is Reason.DEVICE_BUSY
            await keypad.check()


async def test_unplugged_during_a_prompt(name: Path) -> None:
    with PinPad(name, [Presses(b"12"), types("123456")]) as pad:
        async with opened(name) as keypad:
            asking = asyncio.create_task(refused(keypad))
            await heard(pad, Command.ENTER_PASSWORD)
            pad.unplug()
            assert await asking is Reason.PIN_KEYPAD_FAILED
            assert await refused(keypad) is Reason.NO_PIN_KEYPAD
            pad.plug()
            with await keypad.ask(timeout_ms=LONG_MS) as entered:
                assert entered.digits == b"123456"


async def test_replugged_between_prompts_costs_no_attempt(name: Path) -> None:
    with PinPad(name, [types("1111"), types("2222")]) as pad:
        async with opened(name) as keypad:
            (await keypad.ask(timeout_ms=LONG_MS)).wipe()
            pad.unplug()
            pad.plug()
            with await keypad.ask(timeout_ms=LONG_MS) as entered:
                assert entered.digits == b"2222"


async def test_asked_for_while_it_is_unplugged(name: Path) -> None:
    with PinPad(name, [types("1111"), types("2222")]) as pad:
        async with opened(name) as keypad:
            (await keypad.ask(timeout_ms=LONG_MS)).wipe()
            pad.unplug()
            assert await refused(keypad) is Reason.NO_PIN_KEYPAD
            assert await failed_check(keypad) is Reason.NO_PIN_KEYPAD
            pad.plug()
            await keypad.check()


async def test_the_cable_moves_to_another_port(name: Path, tmp_path: Path) -> None:
    """The old line is still there, the name points elsewhere: the name counts."""
    first, second = tmp_path / "ttyUSB0", tmp_path / "ttyUSB1"
    with PinPad(first, [types("1111"), types("1111")]), PinPad(second, [types("2222")]):
        link(name, first)
        async with opened(name) as keypad:
            (await keypad.ask(timeout_ms=LONG_MS)).wipe()
            link(name, second)
            with await keypad.ask(timeout_ms=LONG_MS) as entered:
                assert entered.digits == b"2222"


def link(name: Path, target: Path) -> None:
    name.unlink(missing_ok=True)
    name.symlink_to(target)


@pytest.mark.parametrize("first", ["left, then abandoned", "abandoned, then left"])
def test_a_pin_that_nobody_takes_is_wiped(first: str) -> None:
    """A cancellation meets the last key: the thread and the loop do not wait for each other, so both orders happen."""
    prompt, pin = PinHandover(), Pin(bytearray(b"1234"))
    steps = [lambda: prompt.leave(pin), prompt.abandon]
    for step in steps if first.startswith("left") else reversed(steps):
        step()
    assert pin.digits == bytes(4)
    with pytest.raises(YikatongError, match="PIN_CANCELLED"):
        prompt.take()


CHILD = """
import asyncio, sys
from pathlib import Path
from yikatong.core.reasons import YikatongError
from yikatong.drivers.serial.pin_keypad import SerialPinKeypad

async def main() -> None:
    keypad = SerialPinKeypad(Path(sys.argv[1]))
    kept = []
    for _ in range(int(sys.argv[2])):
        try:
            pin = await keypad.ask(timeout_ms=30000)
            kept.append(pin)
            if sys.argv[3] == "wipe":
                pin.wipe()
        except YikatongError:
            pass
        print("asked", flush=True)
        sys.stdin.readline()
    await keypad.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("habit", ["wipe", "keep"])
def test_no_pin_stays_in_memory(name: Path, habit: str) -> None:
    """Searches all that a process holds for the PINs that it was given; "keep" shows that the search finds."""
    pins = ["".join(secrets.choice("0123456789") for _ in range(16)) for _ in range(20)]
    presses = [types(pin) if i % 2 else gives_up(pin) for i, pin in enumerate(pins)]
    arguments = [sys.executable, "-c", CHILD, str(name), str(len(pins)), habit]
    found = []
    with (
        PinPad(name, presses),
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        for i, pin in enumerate(pins):
            assert child.stdout.readline() == "asked\n"
            memory = memory_of(child.pid)
            if any(pin[start : start + 8].encode() in memory for start in range(9)):  # half of one is a find, too
                found.append(i)
            child.stdin.write("go on\n")
            child.stdin.flush()
    assert child.returncode == 0
    assert found == ([] if habit == "wipe" else list(range(1, 20, 2)))


def gives_up(pin: str) -> Presses:
    return Presses(pin.encode() + b"\x1b")
