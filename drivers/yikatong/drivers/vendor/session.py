"""One slot's card in the lane's thread: the library's codes become reasons here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from yikatong.core.ports import CardLink
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.vendor.process import Process
from yikatong.drivers.vendor.wire import Call, Code

T = TypeVar("T")

ATR_MIN, ATR_MAX = 2, 33
_LEFT: Final = frozenset({Code.NO_CARD, Code.NOT_POWERED})
"""What a slot says whose card was powered by us and is there no more, or there again as another stay."""


class VendorLink:
    """A powered card; implements `core.ports.CardLink`. It belongs to one process and one stay."""

    def __init__(self, process: Process, slot: int) -> None:
        """Powers the card. Raises NO_CARD, CARD_MUTE, READER_FAILED."""
        self._process, self._slot, self._over = process, slot, False
        if not card_present(process, slot):
            raise YikatongError(Reason.NO_CARD, "there is no card in the slot")
        status, atr = process.call(Call.POWER_ON, slot)
        if status == Code.NO_CARD:
            raise YikatongError(Reason.NO_CARD, "the card has just left the slot")
        if status in {Code.NO_RESPONSE, Code.WRONG_TYPE, Code.OK}:
            raise YikatongError(Reason.CARD_MUTE, "the card gave no answer to reset")
        if status < 0 or not ATR_MIN <= len(atr) <= ATR_MAX:
            raise _failed("the card can't be powered", status)
        self.atr = bytes(atr)

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        status, answer = self._process.call(Call.APPLICATION, self._slot, apdu)
        if status in _LEFT:
            raise _removed()
        if status == Code.NO_RESPONSE:
            self.demand_presence()
            raise YikatongError(Reason.CARD_MUTE, "the card does not answer")
        if status < 2:
            raise _failed("the reader could not send the command", status)
        return bytes(answer)

    def demand_presence(self) -> None:
        """Raises CARD_REMOVED where the card has left since it was powered: another stay begins without power."""
        status, _ = self._process.call(Call.STATUS, self._slot)
        if status in _LEFT:
            raise _removed()
        if status < 0:
            raise _failed("the slot's state can't be told", status)

    def run(self, process: Process, job: Callable[[CardLink], T]) -> T:
        """Runs `job`, and answers only if the card was there all the time. Raises CARD_REMOVED.

        After the library was started anew nobody knows what happened to the card meanwhile.
        """
        if self._over or self._process is not process:
            raise _removed()
        self.demand_presence()
        result = job(self)
        self.demand_presence()
        return result

    def end(self, process: Process) -> None:
        """The visit is over: the card loses its power and its rights, and this link its card."""
        self._over = True
        if self._process is process:
            process.call(Call.POWER_OFF, self._slot)


def card_present(process: Process, slot: int) -> bool:
    """Raises READER_FAILED."""
    status, _ = process.call(Call.STATUS, slot)
    if status < 0 and status not in _LEFT | {Code.NO_RESPONSE, Code.WRONG_TYPE}:
        raise _failed("the slot's state can't be told", status)
    return status != Code.NO_CARD


def _removed() -> YikatongError:
    return YikatongError(Reason.CARD_REMOVED, "the card left the reader")


def _failed(detail: str, status: int) -> YikatongError:
    """After this the lane starts the library anew: what it says makes no sense."""
    return YikatongError(Reason.READER_FAILED, detail, code=status)
