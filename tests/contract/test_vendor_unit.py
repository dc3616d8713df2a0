"""Readers behind a vendor's library: it crashes, hangs and lies, and the daemon's side stays well. PIN entry."""

from __future__ import annotations

import asyncio
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.memory import memory_of
from tests.support.vendor import compiled
from yikatong.core.pin import PinRight
from yikatong.core.ports import CardLink, PinEntry
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.vendor.keypad import VendorKeypad
from yikatong.drivers.vendor.process import UnitSettings
from yikatong.drivers.vendor.unit import PSAM, VendorReader, VendorUnit
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.files import SSSE_AID
from yikatong.simulators.vendor_unit import CANCELS, DOES_NOTHING, Call, Fault, Manner, Presses, types
from yikatong.simulators.vendor_unit import VendorUnit as Simulated

pytestmark = pytest.mark.timeout(60)

LONG_MS = 30_000
SELECT = bytes.fromhex("00A40400") + bytes((len(SSSE_AID),)) + SSSE_AID


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("library"))


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Simulated]:
    with Simulated(tmp_path / "unit") as simulated:
        simulated.insert(find("works").make())
        yield simulated


@asynccontextmanager
async def opened(library: Path, device: Path, *, call_ms_max: int = LONG_MS) -> AsyncIterator[VendorUnit]:
    unit = VendorUnit(UnitSettings(library, str(device), call_ms_max))
    try:
        yield unit
    finally:
        await unit.close()
        assert children() == []
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane-vendor")]


def children() -> list[int]:
    """Processes that this one has started and that run the library."""
    own = [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return [pid for pid in own if b"yikatong.drivers.vendor.host" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def reads(reader: VendorReader) -> None:
    async with reader.visit() as visit:
        identity = await visit.run(SocialSecurityCard().read_identity)
    assert identity.card_number.reveal() == find("works").data.card_number


async def refused(reader: VendorReader) -> Reason:
    with pytest.raises(YikatongError) as caught:
        await reads(reader)
    return caught.value.reason


FAULTS = [
    *(Fault(call, Manner.CRASH) for call in (Call.STATUS, Call.POWER_ON, Call.APPLICATION)),
    *(Fault(call, Manner.OVERRUN) for call in (Call.POWER_ON, Call.APPLICATION)),
    *(Fault(Call.STATUS, status=status) for status in (-11, -12, -13, -14, -15, -77)),
    *(Fault(Call.POWER_ON, status=status) for status in (1, 34, 100_000, 2**31 - 1, -12, -77, -(2**31))),
    *(Fault(Call.APPLICATION, status=status) for status in (0, 1, 100_000, 2**31 - 1, -13, -15, -77)),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_after_any_fault_of_the_library_the_next_card_reads(
    library: Path, simulated: Simulated, fault: Fault
) -> None:
    async with opened(library, simulated.path) as unit:
        reader = unit.reader()
        simulated.fail(fault)
        assert await refused(reader) is Reason.READER_FAILED
        await reads(reader)


@pytest.mark.parametrize("call", [Call.STATUS, Call.APPLICATION])
async def test_a_library_that_hangs_is_ended(library: Path, simulated: Simulated, call: Call) -> None:
    async with opened(library, simulated.path, call_ms_max=1_500) as unit:
        reader = unit.reader()
        await reads(reader)
        hanging = children()
        simulated.fail(Fault(call, Manner.HANG))
        assert await refused(reader) is Reason.READER_FAILED
        assert not set(children()) & set(hanging)
        await reads(reader)


async def test_closing_ends_a_library_that_hangs(library: Path, simulated: Simulated) -> None:
    async with opened(library, simulated.path) as unit:
        simulated.fail(Fault(Call.STATUS, Manner.HANG))
        reading = asyncio.create_task(refused(unit.reader()))
        while Call.STATUS not in simulated.heard:
            await asyncio.sleep(0.01)
        await unit.close()  # long before LONG_MS: no thread and no process is left
        assert await reading is Reason.DEVICE_BUSY


async def test_what_the_library_prints_disturbs_nothing(library: Path, simulated: Simulated) -> None:
    async with opened(library, simulated.path) as unit:
        simulated.fail(Fault(Call.POWER_ON, Manner.CHATTER))
        await reads(unit.reader())


@pytest.mark.parametrize(
    ("status", "reason"), [(-2, Reason.CARD_REMOVED), (-3, Reason.CARD_REMOVED), (-4, Reason.CARD_MUTE)]
)
async def test_what_the_library_says_of_the_card(
    library: Path, simulated: Simulated, status: int, reason: Reason
) -> None:
    async with opened(library, simulated.path) as unit:
        simulated.fail(Fault(Call.APPLICATION, status=status, data=b""))
        assert await refused(unit.reader()) is reason
        await reads(unit.reader())


async def test_no_answer_of_a_short_command_is_taken_as_whole(library: Path, simulated: Simulated) -> None:
    """More than 258 bytes for a short command: the document refuses what the link passes on."""
    async with opened(library, simulated.path) as unit:
        simulated.fail(Fault(Call.APPLICATION, status=5000, data=bytes(4998) + b"\x90\x00"))
        assert await refused(unit.reader()) is Reason.CARD_MALFORMED


async def test_a_visit_does_not_outlive_the_librarys_process(library: Path, simulated: Simulated) -> None:
    async with opened(library, simulated.path) as unit, unit.reader().visit() as visit:
        simulated.fail(Fault(Call.APPLICATION, Manner.CRASH))
        with pytest.raises(YikatongError, match="READER_FAILED"):
            await visit.run(lambda link: link.transmit(SELECT))
        with pytest.raises(YikatongError, match="CARD_REMOVED"):
            await visit.run(lambda link: link.transmit(SELECT))


async def test_a_visit_that_is_over_does_not_reach_the_next_ones_card(library: Path, simulated: Simulated) -> None:
    async with opened(library, simulated.path) as unit:
        reader = unit.reader()
        async with reader.visit() as before:
            pass
        async with reader.visit():
            with pytest.raises(YikatongError, match="CARD_REMOVED"):
                await before.run(lambda link: link.transmit(SELECT))


async def test_two_slots_of_one_unit(library: Path, simulated: Simulated) -> None:
    def select(link: CardLink) -> bytes:
        return link.transmit(SELECT)

    async with opened(library, simulated.path) as unit:
        user, psam = unit.reader(), unit.reader(PSAM)
        assert await refused(psam) is Reason.NO_CARD
        simulated.insert(find("works-qingdao").make(), PSAM)
        async with user.visit() as at_user, psam.visit() as at_psam:
            assert await at_user.run(select) == await at_psam.run(select) == bytes.fromhex("611E")
            simulated.remove(PSAM)
            assert await at_user.run(select) == bytes.fromhex("611E")
            with pytest.raises(YikatongError, match="CARD_REMOVED"):
                await at_psam.run(select)
        assert len({user.name, psam.name}) == 2


async def test_unplugged_and_back(library: Path, simulated: Simulated) -> None:
    async with opened(library, simulated.path) as unit:
        reader = unit.reader()
        await reads(reader)
        simulated.unplug()
        assert await refused(reader) is Reason.READER_FAILED
        assert await refused(reader) is Reason.NO_READER
        state = await reader.state()
        assert (state.present, state.detail) == (False, "NO_READER")
        simulated.plug()
        await reads(reader)


@pytest.mark.parametrize("kind", ["missing", "text", "another library"])
async def test_what_is_no_library_of_the_family(simulated: Simulated, tmp_path: Path, kind: str) -> None:
    path = Path("libc.so.6") if kind == "another library" else tmp_path / "lib.so"
    if kind == "text":
        path.write_text("no library")
    async with opened(path, simulated.path) as unit:
        assert await refused(unit.reader()) is Reason.READER_FAILED


CHILD = """
import sys, threading
from pathlib import Path
from yikatong.drivers.vendor.process import Process, UnitSettings
process = Process(UnitSettings(Path(sys.argv[1]), sys.argv[2]), threading.Event())
print(process._child.pid, flush=True)
process.call(1, 1)
"""


def test_a_hanging_library_does_not_outlive_a_killed_daemon(library: Path, simulated: Simulated) -> None:
    simulated.fail(Fault(Call.STATUS, Manner.HANG))
    arguments = [sys.executable, "-c", CHILD, str(library), str(simulated.path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        host = os.pidfd_open(int(daemon.stdout.readline()))
        daemon.send_signal(signal.SIGKILL)
    poll = select.poll()
    poll.register(host)
    assert poll.poll(20_000), "it has ended"
    os.close(host)


# --- PIN entry


async def pin_refused(keypad: VendorKeypad, timeout_ms: int = LONG_MS) -> Reason:
    with pytest.raises(YikatongError) as caught:
        (await keypad.ask(timeout_ms=timeout_ms)).wipe()
    return caught.value.reason


@pytest.mark.parametrize(
    "presses",
    [
        [types("123456")],
        [Presses(bytes((1, 2, 3, 4, 5, 6)))],  # programs differ in what a digit is
        [types("12"), types(""), types("123456")],  # asked again
    ],
    ids=["ASCII", "values", "too short"],
)
async def test_the_typed_pin_arrives_and_opens_the_card(library: Path, tmp_path: Path, presses: list[Presses]) -> None:
    with Simulated(tmp_path / "unit", presses) as simulated:
        simulated.insert(find("works").make())
        async with opened(library, simulated.path) as unit:
            keypad = VendorKeypad(unit)
            entry: PinEntry = keypad  # it is one
            await entry.check()
            async with unit.reader().visit() as visit:
                document = SocialSecurityCard()
                await visit.run(document.read_identity)
                with await keypad.ask(timeout_ms=LONG_MS) as pin:
                    assert pin.digits == b"123456"
                    assert await visit.run(lambda link: document.verify_pin(link, pin)) == PinRight()
                assert pin.digits == bytes(6)
        assert simulated.heard.count(Call.SOUND) == len(presses)


@pytest.mark.parametrize(
    ("presses", "reason"),
    [
        (CANCELS, Reason.PIN_CANCELLED),
        (DOES_NOTHING, Reason.PIN_TIMEOUT),
        (Presses(b"12x456"), Reason.PIN_KEYPAD_FAILED),
        (Presses(status=-12), Reason.PIN_KEYPAD_FAILED),
        (Presses(status=-13), Reason.NO_PIN_KEYPAD),
    ],
)
async def test_how_else_an_entry_ends(library: Path, tmp_path: Path, presses: Presses, reason: Reason) -> None:
    with Simulated(tmp_path / "unit", [presses, types("1234")]) as simulated:
        async with opened(library, simulated.path) as unit:
            keypad = VendorKeypad(unit)
            assert await pin_refused(keypad) is reason
            with await keypad.ask(timeout_ms=LONG_MS) as pin:
                assert pin.digits == b"1234"


async def test_a_crash_during_the_entry(library: Path, simulated: Simulated) -> None:
    async with opened(library, simulated.path) as unit:
        simulated.fail(Fault(Call.INPUT_PASS, Manner.CRASH))
        assert await pin_refused(VendorKeypad(unit)) is Reason.PIN_KEYPAD_FAILED
        simulated.unplug()
        assert await pin_refused(VendorKeypad(unit)) is Reason.NO_PIN_KEYPAD
        with pytest.raises(YikatongError, match="NO_PIN_KEYPAD"):
            await VendorKeypad(unit).check()


async def test_a_library_without_pin_entry(simulated: Simulated, tmp_path: Path) -> None:
    async with opened(compiled(tmp_path, "-DWITHOUT_KEYPAD"), simulated.path) as unit:
        assert await pin_refused(VendorKeypad(unit)) is Reason.NO_PIN_KEYPAD
        await reads(unit.reader())


async def test_cancelling_and_closing_end_the_prompt(library: Path, simulated: Simulated) -> None:
    async with opened(library, simulated.path) as unit, asyncio.timeout(20):  # long before LONG_MS
        keypad = VendorKeypad(unit)
        for times in (1, 2):
            simulated.fail(Fault(Call.INPUT_PASS, Manner.HANG))
            asking = asyncio.create_task(keypad.ask(timeout_ms=LONG_MS))
            while simulated.heard.count(Call.INPUT_PASS) < times:
                await asyncio.sleep(0.01)
            assert await pin_refused(keypad) is Reason.DEVICE_BUSY
            if times == 1:
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            else:
                await keypad.close()
                with pytest.raises(YikatongError, match="DEVICE_BUSY"):
                    await asking
        await reads(unit.reader())


ASKING = """
import asyncio, sys
from pathlib import Path
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.vendor.keypad import VendorKeypad
from yikatong.drivers.vendor.process import UnitSettings
from yikatong.drivers.vendor.unit import VendorUnit

async def main() -> None:
    unit = VendorUnit(UnitSettings(Path(sys.argv[1]), sys.argv[2]))
    keypad, document, kept = VendorKeypad(unit), SocialSecurityCard(), []
    for _ in range(int(sys.argv[3])):
        pin = await keypad.ask(timeout_ms=30000)
        kept.append(pin)
        async with unit.reader().visit() as visit:
            await visit.run(lambda link: document.verify_pin(link, pin))
        if sys.argv[4] == "wipe":
            pin.wipe()
        print(await unit.run(lambda process: process._child.pid), flush=True)
        sys.stdin.readline()
    await unit.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("habit", ["wipe", "keep"])
def test_no_pin_stays_in_either_process(library: Path, tmp_path: Path, habit: str) -> None:
    """Digits and VERIFY commands, in daemon and library; "keep" shows that the search finds."""
    pins = ["".join(secrets.choice("123456789") for _ in range(12)) for _ in range(10)]
    found = []
    with Simulated(tmp_path / "unit", [types(pin) for pin in pins]) as simulated:
        simulated.insert(find("works").make())
        arguments = [sys.executable, "-c", ASKING, str(library), str(simulated.path), str(len(pins)), habit]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as daemon:
            assert daemon.stdin is not None
            assert daemon.stdout is not None
            for i, pin in enumerate(pins):
                host = int(daemon.stdout.readline())
                for pid in (daemon.pid, host):
                    memory = memory_of(pid)
                    if pin.encode() in memory or bytes.fromhex(pin) in memory:
                        found.append((i, pid == host))
                daemon.stdin.write("go on\n")
                daemon.stdin.flush()
        assert daemon.returncode == 0
        assert simulated.heard.count(Call.APPLICATION) >= 2 * len(pins), "select and verify"
    assert found == ([] if habit == "wipe" else [(i, False) for i in range(len(pins))])
