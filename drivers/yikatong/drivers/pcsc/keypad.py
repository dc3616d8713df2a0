"""The keys of a PC/SC reader as the port `PinEntry`: the PIN goes to the card without entering this machine."""

from __future__ import annotations

from typing import Final

from yikatong.core.ports import PinAttempt
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.keypads import of_the_keypad
from yikatong.drivers.pcsc import part10
from yikatong.drivers.pcsc.reader import PcscReader

KEY_GAP_MS_MAX: Final = 15_000
"""As at a serial keypad: the person has left."""
_NOT_SHOWN: Final = {
    part10.TIMED_OUT: (Reason.PIN_TIMEOUT, "no complete PIN in time"),
    part10.CANCELLED: (Reason.PIN_CANCELLED, "the cardholder pressed cancel"),
    part10.MISMATCH: (Reason.PIN_KEYPAD_FAILED, "the reader says that two PINs differ, and there is only one"),
    part10.WRONG_LENGTH: (Reason.PIN_CANCELLED, "a PIN of another length was typed"),
    part10.NOT_UNDERSTOOD: (Reason.PIN_KEYPAD_FAILED, "the reader does not understand how the PIN is to be asked for"),
}


class PcscKeypad:
    """Its prompt can't be ended from here: who leaves stops waiting, and the reader asks on until it has done."""

    def __init__(self, reader: PcscReader, *, digits: int) -> None:
        """`digits`: how many a PIN has here."""
        self._reader, self._digits = reader, digits

    async def enter(self, attempt: PinAttempt, *, timeout_ms: int) -> None:
        """See the port."""

        async def typed(header: bytes) -> bytes:
            structure = part10.verify_structure(
                header, digits=self._digits, timeout_ms=timeout_ms, key_gap_ms_max=KEY_GAP_MS_MAX
            )
            answer = await self._reader.verify_on_keys(structure, timeout_ms=timeout_ms)
            if (reason := _NOT_SHOWN.get(answer)) is not None:
                raise YikatongError(*reason)
            return answer

        await attempt.leave_to(typed)

    async def check(self) -> None:
        """See the port. Raises DEVICE_BUSY during a prompt, and where another program holds the reader."""
        try:
            await self._reader.demand_keys()
        except YikatongError as error:
            raise of_the_keypad(error) from error

    async def close(self) -> None:
        """The reader is closed by whoever has opened it."""
