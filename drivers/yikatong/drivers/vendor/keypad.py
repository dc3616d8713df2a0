"""The keypad of a unit behind a vendor's library as the port `PinEntry`."""

from __future__ import annotations

import threading
import time
from typing import Final

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin
from yikatong.drivers.vendor.process import Process
from yikatong.drivers.vendor.unit import VendorUnit
from yikatong.drivers.vendor.wire import Call, Code, InputCode

_PROMPT_S_MAX: Final = 255
_DIGITS_MIN: Final = 4
_OF_THE_KEYPAD: Final = {
    Reason.NO_READER: Reason.NO_PIN_KEYPAD,
    Reason.READER_FAILED: Reason.PIN_KEYPAD_FAILED,
}


class VendorKeypad:
    """Implements `core.ports.PinEntry` on the unit's own keys, with its voice prompt.

    The library hands the PIN over in clear, as these units do: it crosses one socket between two processes of this
    machine, and every buffer of ours is wiped. What the library itself keeps dies with its process.
    """

    def __init__(self, unit: VendorUnit) -> None:
        self._unit = unit
        self._prompt: _Prompt | None = None

    async def ask(self, *, timeout_ms: int) -> Pin:
        """See `PinEntry.ask`. Cancelling ends the library's process: nothing else ends its prompt."""
        if self._prompt is not None:
            raise YikatongError(Reason.DEVICE_BUSY, "the PIN keypad is being used")
        prompt = self._prompt = _Prompt(timeout_ms)
        try:
            await self._unit.run(prompt.run)
            return prompt.take()
        except YikatongError as error:
            raise _of_the_keypad(error) from error
        finally:
            prompt.abandon()
            self._prompt = None

    async def check(self) -> None:
        """See `PinEntry.check`: that the library opens its device is all that can be known."""
        try:
            await self._unit.run(lambda process: None)
        except YikatongError as error:
            raise _of_the_keypad(error) from error

    async def close(self) -> None:
        """Ends a running prompt."""
        if self._prompt is not None:
            self._prompt.abandon()


class _Prompt:
    """One entry: runs in the unit's thread, is taken or abandoned by the task that asked (see serial.pin_keypad)."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_s = timeout_ms / 1000
        self._lock = threading.Lock()
        self._unwanted = threading.Event()
        self._pin: Pin | None = None

    def run(self, process: Process) -> None:
        """Asks again where fewer digits came than a PIN has. Raises PIN_CANCELLED, PIN_TIMEOUT, PIN_KEYPAD_FAILED."""
        by = time.monotonic() + self._timeout_s
        while (left_s := by - time.monotonic()) > 0:
            seconds = min(max(round(left_s), 1), _PROMPT_S_MAX)
            request = bytes((seconds,))
            status, digits = process.call(Call.INPUT_PASS, 0, request, extra_ms=seconds * 1000, given_up=self._unwanted)
            _require_done(status)
            if len(digits) >= _DIGITS_MIN:
                return self._leave(_pin(digits))
        raise YikatongError(Reason.PIN_TIMEOUT, "no complete PIN in time")

    def take(self) -> Pin:
        with self._lock:
            pin, self._pin = self._pin, None
        assert pin is not None, "run() either leaves a PIN or raises"
        return pin

    def abandon(self) -> None:
        """Nobody waits any more: a PIN that is or comes here is wiped."""
        with self._lock:
            self._unwanted.set()
            if self._pin is not None:
                self._pin.wipe()
                self._pin = None

    def _leave(self, pin: Pin) -> None:
        with self._lock:
            if self._unwanted.is_set():
                pin.wipe()
            else:
                self._pin = pin


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


def _of_the_keypad(error: YikatongError) -> YikatongError:
    """To one who asked for a PIN the unit is the keypad."""
    return YikatongError(_OF_THE_KEYPAD.get(error.reason, error.reason), error.detail, **error.facts)
