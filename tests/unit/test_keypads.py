"""Which keypad a configuration means, and what is refused even where nobody has checked the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from yikatong.core.reasons import YikatongError
from yikatong.drivers.keyboard.entry import KeyboardEntry
from yikatong.drivers.pcsc import PcscReader
from yikatong.drivers.pcsc.keypad import PcscKeypad
from yikatong.drivers.serial.pin_keypad import SerialPinKeypad
from yikatong.drivers.trace import Trace
from yikatong.simulators.reader import SimulatedReader
from yikatong.terminal.config import PinKeypad
from yikatong.terminal.keypads import keypad_of


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (PinKeypad("/dev/pad"), SerialPinKeypad),
        (PinKeypad("reader"), PcscKeypad),
        (PinKeypad("software", allow_software=True), KeyboardEntry),
    ],
)
async def test_what_is_meant(config: PinKeypad, kind: type, tmp_path: Path) -> None:
    reader = PcscReader("none")
    keypad = keypad_of(config, reader, None, software=tmp_path / "pin.sock", trace=Trace())
    assert type(keypad) is kind
    await keypad.close()
    await reader.close()


@pytest.mark.parametrize("device", ["software", "reader"])
async def test_what_is_refused(device: str, tmp_path: Path) -> None:
    reader = SimulatedReader()
    with pytest.raises(YikatongError, match="CONFIGURATION_INVALID"):
        keypad_of(PinKeypad(device), reader, None, software=tmp_path / "pin.sock", trace=Trace())
    assert not (tmp_path / "pin.sock").exists()
    await reader.close()
