"""Which keypad the configuration means: like `main`, a place that names concrete adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yikatong.core.pin import InitialPins
from yikatong.core.ports import CardReader, PinEntry
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.trace import LineTrace, PinPadWords, Trace
from yikatong.terminal.config import READER_KEYS, SOFTWARE, PinKeypad
from yikatong.terminal.pin_check import PinRules

if TYPE_CHECKING:
    from yikatong.drivers.vendor.unit import VendorUnit


def keypad_of(
    config: PinKeypad, reader: CardReader, unit: VendorUnit | None, *, software: Path, trace: Trace
) -> PinEntry:
    """`unit`: the device behind a vendor's library, where `reader` is a slot of one; `software`: `sockets.pin`.

    Those who watch `trace` see what a serial keypad is sent, and no other one. Raises CONFIGURATION_INVALID.
    """
    if config.device == READER_KEYS:
        return _keys_of(reader, unit, digits=config.digits)
    if config.device == SOFTWARE:
        if not config.allow_software:
            raise YikatongError(Reason.CONFIGURATION_INVALID, "PINs typed on a computer need allow_software = true")
        from yikatong.drivers.keyboard.entry import KeyboardEntry

        return KeyboardEntry(software)
    from yikatong.drivers.serial.pin_keypad import SerialPinKeypad

    return SerialPinKeypad(Path(config.device), observer=LineTrace(trace, config.device, PinPadWords()))


def rules_of(config: PinKeypad) -> PinRules:
    return PinRules(
        config.timeout_ms,
        card_tells_tries=config.card_tells_tries,
        initial=InitialPins(tuple(config.initial_pins)),
        initial_refused=config.on_initial_pin == "refuse",
    )


def _keys_of(reader: CardReader, unit: VendorUnit | None, *, digits: int) -> PinEntry:
    if unit is not None:
        from yikatong.drivers.vendor.keypad import VendorKeypad

        return VendorKeypad(unit)
    from yikatong.drivers.pcsc import PcscReader
    from yikatong.drivers.pcsc.keypad import PcscKeypad

    if not isinstance(reader, PcscReader):
        raise YikatongError(Reason.CONFIGURATION_INVALID, "a simulated reader has no keys")
    return PcscKeypad(reader, digits=digits)
