"""The serial PIN pad as the port `PinEntry`: the cardholder types on it, and the digits exist in one buffer only.

The documented pad sends keys in clear (card-facts §9.2): the line between pad and host is inside the counter, and
nothing on the host keeps what ran over it. Where the institution owns an encrypting pad, that one is to be preferred.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin
from yikatong.drivers.serial import pin_pad_protocol as pad
from yikatong.drivers.serial.patience import STOP_LOOK_MS, Patience, pieces
from yikatong.drivers.serial.port import LineObserver, PortReasons, SerialPort, SerialSettings
from yikatong.runtime.handover import PinHandover
from yikatong.runtime.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from yikatong.core.ports import PinAttempt

REASONS: Final = PortReasons(missing=Reason.NO_PIN_KEYPAD, failed=Reason.PIN_KEYPAD_FAILED)

KEY_GAP_MS_MAX: Final = 15_000
"""Longest pause between two keys (assumption): the person has left, and what was typed must not stand there."""
_ANSWERING: Final = Patience(first_ms=2_000)


class SerialPinKeypad:
    """A `PinEntry` on a serial line. One prompt at a time; a second one meanwhile is refused with DEVICE_BUSY."""

    def __init__(
        self,
        path: Path,
        *,
        baud: int = pad.BAUD,
        key_gap_ms_max: int = KEY_GAP_MS_MAX,
        observer: LineObserver | None = None,
    ) -> None:
        """`path` is a name that survives replugging, as udev makes it. Nothing is opened before it is needed."""
        settings = SerialSettings(path, baud)
        self._key_gap_ms_max = key_gap_ms_max
        self._prompt: _Prompt | None = None
        self._lane = Lane(
            f"pin-keypad-{path.name}",
            lambda: SerialPort(settings, REASONS, observer),
            reopen_after=frozenset({REASONS.missing, REASONS.failed}),
        )

    async def enter(self, attempt: PinAttempt, *, timeout_ms: int) -> None:
        """See the port. Cancelling ends the prompt on the pad within `STOP_LOOK_MS` and wipes what was typed."""
        await attempt.present(await self.ask(timeout_ms=timeout_ms))

    async def ask(self, *, timeout_ms: int) -> Pin:
        """What was typed, the caller's to wipe. Raises as `enter` does."""
        prompt = _Prompt(timeout_ms, self._key_gap_ms_max)
        with self._alone(prompt):
            try:
                await self._lane.run(prompt.run)
                return prompt.entered.take()
            finally:
                prompt.entered.abandon()

    async def check(self) -> None:
        """See `PinEntry.check`. Raises DEVICE_BUSY during a prompt: the query would disturb it."""
        if self._prompt is not None:
            raise _busy()
        await self._lane.run(_query)

    async def close(self) -> None:
        """Ends a running prompt and gives the port back."""
        if self._prompt is not None:
            self._prompt.entered.abandon()
        await self._lane.close()

    @contextmanager
    def _alone(self, prompt: _Prompt) -> Iterator[None]:
        if self._prompt is not None:
            raise _busy()
        self._prompt = prompt
        try:
            yield
        finally:
            self._prompt = None


class _Prompt:
    """One entry of a PIN: runs in the lane's thread; the task that asked takes or abandons what was `entered`."""

    def __init__(self, timeout_ms: int, key_gap_ms_max: int) -> None:
        self._timeout_ms, self._key_gap_ms_max = timeout_ms, key_gap_ms_max
        self.entered = PinHandover()

    def run(self, port: SerialPort) -> None:
        """In the lane's thread: prompts, collects, leaves the PIN in `entered`. Always tells the pad to stop."""
        entry = pad.PinEntryBuffer()
        port.ready()
        try:
            port.write(pad.OPEN + pad.ASK)
            try:
                self._collect(port, entry)
            finally:
                port.write(pad.CLOSE)
                port.discard()
            self.entered.leave(Pin(entry.take()))
        finally:
            entry.wipe()

    def _collect(self, port: SerialPort, entry: pad.PinEntryBuffer) -> None:
        """Fills `entry`. Raises PIN_CANCELLED, PIN_TIMEOUT, PIN_KEYPAD_FAILED."""
        now = time.monotonic()
        end = next_key_by = now + self._timeout_ms / 1000  # the first key may take as long as the whole entry
        keys = bytearray(pad.DIGITS_MAX)
        try:
            while (now := time.monotonic()) < min(end, next_key_by):
                if self.entered.unwanted.is_set():
                    raise YikatongError(Reason.PIN_CANCELLED, "the prompt was given up by those who asked")
                with memoryview(keys) as view:
                    count = port.read_into(view, wait_ms=STOP_LOOK_MS)
                    ended = entry.feed(view[:count])
                if count:
                    next_key_by = now + self._key_gap_ms_max / 1000
                match ended:
                    case None:
                        continue
                    case pad.Entry.ENTERED:
                        return
                    case pad.Entry.LENGTH_REFUSED:
                        entry.start()
                        port.write(pad.ASK_AGAIN)
                    case pad.Entry.CANCELLED:
                        raise YikatongError(Reason.PIN_CANCELLED, "the cardholder pressed cancel")
                    case pad.Entry.GARBLED:
                        raise YikatongError(REASONS.failed, "the pad sent a byte that no key sends")
            raise YikatongError(Reason.PIN_TIMEOUT, "no complete PIN in time")
        finally:
            for i in range(len(keys)):
                keys[i] = 0


def _query(port: SerialPort) -> None:
    """In the lane's thread. Raises PIN_KEYPAD_FAILED where the pad stays silent or does not answer as one."""
    port.ready()
    port.write(pad.QUERY)
    answer = pad.AliveAnswer()
    if not any(answer.feed(piece) for piece in pieces(port, _ANSWERING)):
        raise YikatongError(REASONS.failed, "the pad does not answer the query")


def _busy() -> YikatongError:
    return YikatongError(Reason.DEVICE_BUSY, "the PIN keypad is being used")
