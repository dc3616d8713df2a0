"""A person at a keypad, and the check of the PIN that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.cards import pin
from yikatong.core.ports import CardDocument, PinAttempt, PinEntry
from yikatong.drivers.card import SocialSecurityCard
from yikatong.runtime.clock import Clock, SystemClock
from yikatong.terminal.journal import Journal
from yikatong.terminal.pin_check import PinCheck, PinRules


class Cardholder:
    """Implements `core.ports.PinEntry`: types `pins` in turn, the last one for ever, each after having done `first`."""

    def __init__(self, *pins: str, first: Callable[[], None] = lambda: None) -> None:
        self.pins, self.first = list(pins or ("123456",)), first
        self.entered = 0
        """How many PINs a person has entered."""

    async def enter(self, attempt: PinAttempt, *, timeout_ms: int) -> None:
        del timeout_ms
        self.first()
        typed = self.pins.pop(0) if len(self.pins) > 1 else self.pins[0]
        self.entered += 1
        await attempt.present(pin(typed))

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def pin_check(
    entry: PinEntry,
    journal: Journal,
    *,
    document: CardDocument | None = None,
    clock: Clock | None = None,
    **rules: Any,
) -> PinCheck:
    return PinCheck(entry, document or SocialSecurityCard(), journal, clock or SystemClock(), PinRules(**rules))
