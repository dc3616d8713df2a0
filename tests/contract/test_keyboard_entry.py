"""PINs at a computer's keyboard: `yikatong pin` on a real terminal, and the daemon's end of its socket."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.support.memory import memory_of
from tests.support.runner_world import until
from tests.support.terminals import Terminal
from yikatong.core.ports import PinEntry
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.keyboard import frames
from yikatong.drivers.keyboard.entry import KeyboardEntry

pytestmark = pytest.mark.timeout(90)

LONG_MS = 30_000
ASKED = "Social security PIN (not the bank's)"


@pytest.fixture
async def entry(tmp_path: Path) -> AsyncIterator[KeyboardEntry]:
    made = KeyboardEntry(tmp_path / "pin.sock")
    port: PinEntry = made  # it is one
    yield made
    await port.close()
    assert not (tmp_path / "pin.sock").exists()


def configuration(folder: Path) -> Path:
    """What `yikatong pin` needs to know."""
    file = folder / "daemon.toml"
    file.write_bytes(
        msgspec.toml.encode(
            {
                "terminal_id": "t",
                "gateway": {"address": "a:1", "authority": "a", "certificate": "a", "key": "a"},
                "pin_keypad": {"device": "software", "allow_software": True},
                "sockets": {"pin": str(folder / "pin.sock")},
            }
        )
    )
    return file


@asynccontextmanager
async def prompt(entry: KeyboardEntry, folder: Path) -> AsyncIterator[Terminal]:
    async with Terminal("pin", "-c", configuration(folder), "--lang", "en") as terminal:
        await until(lambda: entry._connected is not None)
        yield terminal


async def refused(entry: KeyboardEntry, timeout_ms: int = LONG_MS) -> Reason:
    with pytest.raises(YikatongError) as caught:
        (await entry.ask(timeout_ms=timeout_ms)).wipe()
    return caught.value.reason


async def typed(entry: KeyboardEntry, terminal: Terminal, keys: str, *, times: int = 1) -> str:
    asking = asyncio.create_task(entry.ask(timeout_ms=LONG_MS))
    await terminal.shows(ASKED, times=times)
    terminal.type(keys)
    with await asking as pin:
        return pin.digits.decode()


async def test_what_is_typed_arrives_and_is_not_shown(entry: KeyboardEntry, tmp_path: Path) -> None:
    async with prompt(entry, tmp_path) as terminal:
        await entry.check()
        assert await typed(entry, terminal, "123456\r") == "123456"
        await terminal.shows("******")


async def test_corrections_and_wrong_lengths(entry: KeyboardEntry, tmp_path: Path) -> None:
    async with prompt(entry, tmp_path) as terminal:
        assert await typed(entry, terminal, "12x9\x7f34\b5\r") == "1235"
        asking = asyncio.create_task(entry.ask(timeout_ms=LONG_MS))
        await terminal.shows(ASKED, times=2)
        terminal.type("12\r")
        await terminal.shows("4 to 16 digits")
        terminal.type("654321\r")
        with await asking as pin:
            assert pin.digits == b"654321"
        assert not [digit for digit in "123456789" if digit in terminal.screen.replace("4 to 16 digits", "")]


@pytest.mark.parametrize("keys", ["\x1b", "12\x1b", "\x03"], ids=["Esc", "in the middle", "Ctrl-C"])
async def test_cancelled_at_the_keyboard(entry: KeyboardEntry, tmp_path: Path, keys: str) -> None:
    async with prompt(entry, tmp_path) as terminal:
        asking = asyncio.create_task(refused(entry))
        await terminal.shows(ASKED)
        terminal.type(keys)
        assert await asking is Reason.PIN_CANCELLED
        assert await typed(entry, terminal, "123456\r", times=2) == "123456"


async def test_a_prompt_that_is_over_takes_its_question_away(entry: KeyboardEntry, tmp_path: Path) -> None:
    async with prompt(entry, tmp_path) as terminal:
        assert await refused(entry, timeout_ms=500) is Reason.PIN_TIMEOUT
        await terminal.shows("(over)")
        asking = asyncio.create_task(entry.ask(timeout_ms=LONG_MS))
        await terminal.shows(ASKED, times=2)
        terminal.type("12")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await terminal.shows("(over)", times=2)
        assert await typed(entry, terminal, "654321\r", times=3) == "654321", "nothing of the one before in it"


async def test_a_terminal_that_goes_away_in_the_middle(entry: KeyboardEntry, tmp_path: Path) -> None:
    async with prompt(entry, tmp_path) as terminal:
        asking = asyncio.create_task(refused(entry))
        await terminal.shows(ASKED)
        assert await refused(entry) is Reason.DEVICE_BUSY
        assert terminal.process is not None
        terminal.process.send_signal(signal.SIGKILL)
        assert await asking is Reason.PIN_KEYPAD_FAILED
        assert await refused(entry) is Reason.NO_PIN_KEYPAD
        with pytest.raises(YikatongError, match="NO_PIN_KEYPAD"):
            await entry.check()


async def test_one_prompt_at_a_time_and_ctrl_c_ends_it(entry: KeyboardEntry, tmp_path: Path) -> None:
    async with prompt(entry, tmp_path) as first:
        async with Terminal("pin", "-c", configuration(tmp_path), "--lang", "en") as second:
            await second.shows("another terminal types PINs already")
            assert await second.ended() == 1
        await first.shows("Ctrl-C ends it")
        first.type("\x03")
        assert await first.ended() == 0
        await until(lambda: entry._connected is None)


async def test_it_comes_back_when_the_daemon_does(tmp_path: Path) -> None:
    before = KeyboardEntry(tmp_path / "pin.sock")
    async with prompt(before, tmp_path) as terminal:
        await before.close()
        after = KeyboardEntry(tmp_path / "pin.sock")
        async with asyncio.timeout(30):
            while after._connected is None:
                await asyncio.sleep(0.02)
        assert await typed(after, terminal, "123456\r") == "123456"
        await after.close()


async def test_without_a_daemon_that_wants_it(tmp_path: Path) -> None:
    async with Terminal("pin", "-c", configuration(tmp_path), "--lang", "en") as terminal:
        assert await terminal.ended() == 2
        await terminal.shows("takes no PIN from a computer")


# --- the daemon's end, and prompts that are none


@pytest.fixture
async def line(entry: KeyboardEntry, tmp_path: Path) -> AsyncIterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connected:
        connected.connect(str(tmp_path / "pin.sock"))
        await until(lambda: entry._connected is not None)
        yield connected


async def asked(line: socket.socket) -> int:
    """The number of the question."""
    wanted = frames.wanted(await asyncio.to_thread(line.recv, 100))
    assert wanted is not None
    assert wanted.seconds
    return wanted.number


async def over(line: socket.socket, number: int) -> None:
    assert frames.wanted(await asyncio.to_thread(line.recv, 100)) == frames.Wanted(number, 0)


async def test_a_pin_that_comes_too_late_is_nobodys(entry: KeyboardEntry, line: socket.socket) -> None:
    first = asyncio.create_task(refused(entry, timeout_ms=100))
    late = await asked(line)
    assert await first is Reason.PIN_TIMEOUT
    await over(line, late)
    line.send(frames.entered(late, bytearray(b"111111")))
    second = asyncio.create_task(entry.ask(timeout_ms=LONG_MS))
    number = await asked(line)
    line.send(frames.entered(late, bytearray(b"222222")))
    line.send(frames.cancelled(late))
    line.send(frames.entered(number, bytearray(b"333333")))
    line.send(frames.entered(number, bytearray(b"444444")))
    with await second as pin:
        assert pin.digits == b"333333"
    await over(line, number)


@pytest.mark.parametrize("packet", [b"\x01", b"\x01NNNN12x4", b"\x01NNNN123", b"\x01NNNN" + b"1" * 40, b"\x07NNNN"])
async def test_what_is_no_answer_fails_the_entry(entry: KeyboardEntry, line: socket.socket, packet: bytes) -> None:
    asking = asyncio.create_task(refused(entry))
    number = await asked(line)
    line.send(packet.replace(b"NNNN", number.to_bytes(4, "big")))
    assert await asking is Reason.PIN_KEYPAD_FAILED
    await over(line, number)
    again = asyncio.create_task(entry.ask(timeout_ms=LONG_MS))
    line.send(frames.entered(await asked(line), bytearray(b"123456")))
    with await again as pin:
        assert pin.digits == b"123456"


async def test_closing_ends_the_prompt(entry: KeyboardEntry, line: socket.socket) -> None:
    asking = asyncio.create_task(refused(entry))
    await asked(line)
    await entry.close()
    assert await asking is Reason.PIN_KEYPAD_FAILED


async def test_closing_hangs_up_on_one_who_has_just_come(entry: KeyboardEntry, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(str(tmp_path / "pin.sock"))
        while entry._connected is None:
            await asyncio.sleep(0)  # each turn of the loop: its task is there and has not begun
        await entry.close()
        line.settimeout(10)
        assert await asyncio.to_thread(line.recv, 100) == b""


async def test_only_its_group_may_type(entry: KeyboardEntry, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "pin.sock").stat().st_mode) == 0o660
    (tmp_path / "file").write_text("somebody's")
    with pytest.raises(YikatongError, match="CONFIGURATION_INVALID"):
        KeyboardEntry(tmp_path / "file")


CHILD = """
import asyncio, sys
from pathlib import Path
from yikatong.drivers.keyboard.entry import KeyboardEntry

async def main() -> None:
    entry, kept = KeyboardEntry(Path(sys.argv[1])), []
    while entry._connected is None:
        await asyncio.sleep(0.01)
    for _ in range(int(sys.argv[2])):
        pin = await entry.ask(timeout_ms=30000)
        kept.append(pin)
        if sys.argv[3] == "wipe":
            pin.wipe()
        print("asked", flush=True)
        sys.stdin.readline()
    await entry.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("habit", ["wipe", "keep"])
async def test_no_pin_stays_in_either_process(tmp_path: Path, habit: str) -> None:
    """Halves of sixteen digits, in daemon and prompt; "keep" shows that the search finds."""
    pins = ["".join(secrets.choice("123456789") for _ in range(16)) for _ in range(8)]
    found = []
    arguments = [sys.executable, "-c", CHILD, str(tmp_path / "pin.sock"), str(len(pins)), habit]
    pipe = asyncio.subprocess.PIPE
    daemon = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe)
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    await until((tmp_path / "pin.sock").exists)
    async with Terminal("pin", "-c", configuration(tmp_path), "--lang", "en") as terminal:
        assert terminal.process is not None
        for i, pin in enumerate(pins):
            await terminal.shows(ASKED, times=i + 1)
            terminal.type(pin + "\r")
            assert await daemon.stdout.readline() == b"asked\n"
            for pid in (daemon.pid, terminal.process.pid):
                memory = memory_of(pid)
                if any(pin[start : start + 8].encode() in memory for start in range(9)):
                    found.append((i, pid == daemon.pid))
            daemon.stdin.write(b"go on\n")
    assert await daemon.wait() == 0
    assert found == ([] if habit == "wipe" else [(i, True) for i in range(len(pins))])
