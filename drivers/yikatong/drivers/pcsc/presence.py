"""The device in the watching lane: sees readers and cards come and go, and never touches a card."""

from __future__ import annotations

from yikatong.core.card import ReaderState
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import ReaderName
from yikatong.drivers.pcsc.context import UNAWARE, Context


class Presence:
    """Used in its lane's thread alone."""

    def __init__(self, wanted: ReaderName) -> None:
        self._wanted = wanted
        self._context = Context()
        self._events = UNAWARE

    def look(self) -> ReaderState:
        """The reader as it is now."""
        self._events = UNAWARE
        return self.wait(0)

    def wait(self, wait_ms: int) -> ReaderState:
        """The next state; the present one after `wait_ms` at the latest. Raises PCSCD_NOT_RUNNING, READER_FAILED."""
        try:
            reader = self._context.find_reader(self._wanted)
            self._events = self._context.events(reader, self._events, wait_ms=wait_ms)
        except YikatongError as error:
            if error.reason is not Reason.NO_READER:
                raise
            self._events = UNAWARE
            return absent(self._wanted, error)
        if not self._events.reader_known:
            self._events = UNAWARE
            return ReaderState(self._wanted, present=False, card_present=False, detail=Reason.NO_READER.value)
        present = self._events.card_present
        detail = Reason.CARD_MUTE.value if present and self._events.card_mute else ""
        return ReaderState(self._wanted, present=True, card_present=present, detail=detail)

    def close(self) -> None:
        self._context.close()


def absent(reader: ReaderName, error: YikatongError) -> ReaderState:
    """A reader that cannot be seen, and why."""
    return ReaderState(reader, present=False, card_present=False, detail=error.reason.value, explanation=error.detail)
