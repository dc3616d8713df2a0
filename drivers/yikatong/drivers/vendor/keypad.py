"""The keypad of a unit behind a vendor's library as the port `PinEntry`."""

from __future__ import annotations

import time
from typing import Final

from yikatong.core.ports import PinAttempt
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin
from yikatong.drivers.keypads import of_the_keypad
from yikatong.drivers.vendor.process import Process
from yikatong.drivers.vendor.unit import VendorUnit
from yikatong.drivers.vendor.wire import Call, Code, InputCode
from yikatong.runtime.handover import PinHandover

_PROMPT_S_MAX: Final = 255
_DIGITS_MIN: Final = 4


class VendorKeypad:
    """Implements `core.ports.PinEntry` on the unit's own keys, with its voice prompt.

    The library hands the PIN over in clear, as these units do: it crosses one socket between two processes of this
    machine, and every buffer of ours is wiped. What the library itself keeps dies with its process.
    """

    def __init__(self, unit: VendorUnit) -> None:
        self._unit = unit
        self._prompt: _Prompt | None = None

    async def enter(self, attempt: PinAttempt, *, timeout_ms: int) -> None:
        """See the port. Cancelling ends the library's process: nothing else ends its prompt."""
        await attempt.present(await self.ask(timeout_ms=timeout_ms))

    async def ask(self, *, timeout_ms: int) -> Pin:
        """What was typed, the caller's to wipe. Raises as `enter` does."""
        if self._prompt is not None:
            raise YikatongError(Reason.DEVICE_BUSY, "the PIN keypad is being used")
        prompt = self._prompt = _Prompt(timeout_ms)
        try:
            await self._unit.run(prompt.run)
            return prompt.entered.take()
        except YikatongError as error:
            raise of_the_keypad(error) from error
        finally:
            prompt.entered.abandon()
            self._prompt = None

    async def check(self) -> None:
        """See `PinEntry.check`: that the library opens its device is all that can be known."""
        try:
            await self._unit.run(lambda process: None)
        except YikatongError as error:
            raise of_the_keypad(error) from error

    async def close(self) -> None:
        """Ends a running prompt."""
        if self._prompt is not None:
            self._prompt.entered.abandon()


class _Prompt:
    """One entry: runs in the unit's thread; the task that asked takes or abandons what was `entered`."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_s = timeout_ms / 1000
        self.entered = PinHandover()

    def run(self, process: Process) -> None:
        """Asks again where fewer digits came than a PIN has. Raises PIN_CANCELLED, PIN_TIMEOUT, PIN_KEYPAD_FAILED."""
        by = time.monotonic() + self._timeout_s
        while (left_s := by - time.monotonic()) > 0:
            seconds = min(max(round(left_s), 1), _PROMPT_S_MAX)
            request = bytes((seconds,))
            given_up = self.entered.unwanted
            status, digits = process.call(Call.INPUT_PASS, 0, request, extra_ms=seconds * 1000, given_up=given_up)
            _require_done(status)
            if len(digits) >= _DIGITS_MIN:
                return self.entered.leave(_pin(digits))
        raise YikatongError(Reason.PIN_TIMEOUT, "no complete PIN in time")


def _pin(digits: bytearray) -> Pin:
    """ASCII digits, or (programs differ) their values. Raises PIN_KEYPAD_FAILED."""
    for i, digit in enumerate(digits):
        if digit <= 9:
            digits[i] = digit + ord("0")
    try:
        return Pin(digits)
    except ValueError:  # it has wiped them
        raise YikatongError(Reason.PIN_KEYPAD_FAILED, "the library's PIN is no digits") from None


def _require_done(status: int) -> None:
    match status:
        case Code.OK:
            return
        case InputCode.CANCELLED:
            raise YikatongError(Reason.PIN_CANCELLED, "the cardholder pressed cancel")
        case InputCode.TIMED_OUT:
            raise YikatongError(Reason.PIN_TIMEOUT, "no PIN in time")
        case Code.BAD_COMMAND:
            raise YikatongError(Reason.NO_PIN_KEYPAD, "the library has no PIN entry")
        case _:
            raise YikatongError(Reason.PIN_KEYPAD_FAILED, "the PIN entry failed", code=status)
