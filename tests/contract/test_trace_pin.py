"""No PIN stays in memory because somebody watches: serial pad, vendor's library, live and recording at once."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.memory import memory_of
from tests.support.vendor import compiled
from yikatong.simulators.card.deck import find
from yikatong.simulators.pinpad import PinPad, types
from yikatong.simulators.vendor_unit import VendorUnit as Simulated

pytestmark = pytest.mark.timeout(90)

CHILD = """
import asyncio, sys
from pathlib import Path
from yikatong.core.reasons import YikatongError
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.serial.pin_keypad import SerialPinKeypad
from yikatong.drivers.trace import LineTrace, ObservedReader, PinPadWords, Trace
from yikatong.drivers.vendor.process import UnitSettings
from yikatong.drivers.vendor.unit import VendorUnit

async def main() -> None:
    library, device, pad, count, habit = sys.argv[1:]
    trace, told = Trace(), []
    watching = [asyncio.create_task(follow(trace, recording, told)) for recording in (False, True)]
    while len(trace.watchers) < 2:
        await asyncio.sleep(0)
    unit = VendorUnit(UnitSettings(Path(library), device))
    reader = ObservedReader(unit.reader(), trace)
    keypad = SerialPinKeypad(Path(pad), observer=LineTrace(trace, pad, PinPadWords()))
    document, kept = SocialSecurityCard(), []
    for _ in range(int(count)):
        try:
            async with reader.visit() as visit:
                await document.read(visit)
                with await keypad.ask(timeout_ms=30000) as pin:
                    if habit == "keep":
                        kept.append(bytes(pin.digits))
                    await visit.run(lambda link: document.verify_pin(link, pin))
        except YikatongError:
            pass
        print("asked", flush=True)
        sys.stdin.readline()
    trace.close()
    await asyncio.gather(*watching)
    print(len(told), flush=True)
    await keypad.close()
    await unit.close()

async def follow(trace, recording, told):
    async for event in trace.watch(recording=recording):
        told.append(event)

asyncio.run(main())
"""


@pytest.mark.parametrize("habit", ["wipe", "keep"])
def test_no_pin_stays_in_memory_while_it_is_traced(tmp_path: Path, habit: str) -> None:
    """ "keep" shows that the search finds."""
    pins = ["".join(secrets.choice("123456789") for _ in range(16)) for _ in range(10)]
    found = []
    with PinPad(tmp_path / "pad", [types(pin) for pin in pins]), Simulated(tmp_path / "unit") as unit:
        unit.insert(find("works").make())
        arguments = [str(compiled(tmp_path)), str(unit.path), str(tmp_path / "pad"), str(len(pins)), habit]
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            for i, pin in enumerate(pins):
                while child.stdout.readline() != "asked\n":
                    assert child.poll() is None
                memory = memory_of(child.pid)
                if pin.encode() in memory or bytes.fromhex(pin) in memory or pin[:12].encode() in memory:
                    found.append(i)
                child.stdin.write("go on\n")
                child.stdin.flush()
            told = [line for line in child.stdout if line.strip().isdigit()]
        assert child.returncode == 0
    # Each of two hears that it begins, and each time: card powered, select, response, EF05, five items, EF06, three
    # items; keys on and off; VERIFY.
    assert told == [f"{2 * (1 + len(pins) * 16)}\n"]
    assert found == ([] if habit == "wipe" else list(range(len(pins))))
