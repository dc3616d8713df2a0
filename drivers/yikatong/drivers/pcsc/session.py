"""The device in the reader's lane: our context, and the card that is being visited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from yikatong.core.ports import CardLink
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.pcsc import part10
from yikatong.drivers.pcsc.context import Context, Events

T = TypeVar("T")

_NOT_BEGUN: Final = frozenset({"SCARD_E_UNSUPPORTED_FEATURE", "SCARD_E_INVALID_PARAMETER", "SCARD_E_INVALID_VALUE"})
"""After these nobody was asked to type. After any other failure the card may have seen a PIN."""
_NOTICED_WITHIN_MS: Final = 1000
"""pcscd looks at a reader every 0.4 s: so long after a silent card it is known whether it left."""


@dataclass(slots=True)
class Prompt:
    """A PIN to be typed on a reader's keys, as PC/SC part 10 puts it; `begun`: somebody may have been asked to."""

    structure: bytes
    begun: bool = False


class Session:
    """Used in the lane's thread alone. At most one card is connected."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._context = Context()
        self._link: PcscLink | None = None

    def open_card(self) -> PcscLink:
        """Powers the card. Raises NO_CARD, CARD_MUTE, NO_READER, DEVICE_BUSY, READER_FAILED, PCSCD_NOT_RUNNING."""
        self.leave_card()  # of a visit whose caller was cancelled at the wrong moment
        reader = self._context.find_reader(self._wanted)
        events = self._context.events(reader)
        if events.reader_known and not events.card_present:
            # One that is put in at this moment would be connected to, and be counted afterwards as if it had left.
            raise YikatongError(Reason.NO_CARD, "no card is in the reader")
        try:
            handle, protocol, atr = self._context.connect(reader)
        except YikatongError as error:
            if error.reason is not Reason.CARD_REMOVED:
                raise
            events, handle, protocol, atr = self._connect_again(reader, events, error)
        self._link = PcscLink(self._context, reader, handle, protocol, atr, events.counter)
        return self._link

    def _connect_again(self, reader: str, before: Events, error: YikatongError) -> tuple[Events, int, int, bytes]:
        """The card could not be powered: it is dead, or it was swapped more quickly than pcscd looks.

        A second attempt, when pcscd has looked, tells. Raises NO_CARD, CARD_MUTE, and what connecting raises.
        """
        events = self._context.events(reader, before, wait_ms=_NOTICED_WITHIN_MS)
        if not events.card_present:
            raise YikatongError(Reason.NO_CARD, "the card has just left the reader") from error
        try:
            return events, *self._context.connect(reader)
        except YikatongError as again:
            if again.reason is not Reason.CARD_REMOVED:
                raise
            raise YikatongError(Reason.CARD_MUTE, "the card cannot be powered") from again

    def run(self, link: PcscLink, job: Callable[[CardLink], T]) -> T:
        """Runs `job` if `link` is still the card's, and answers only if it still is afterwards. Raises CARD_REMOVED."""
        if link is not self._link:
            raise YikatongError(Reason.CARD_REMOVED, "the visit to this card is over")
        link.demand_presence()
        result = job(link)
        link.demand_presence()
        return result

    def verify_on_keys(self, prompt: Prompt) -> bytes:
        """Has a PIN typed on the reader's keys and shown to the card that is visited: its answer, or nothing.

        Raises NO_PIN_KEYPAD, and CARD_REMOVED where there is no visit: then nobody was asked to type.
        """
        if self._link is None:
            raise YikatongError(Reason.CARD_REMOVED, "the visit to this card is over")
        self._link.demand_presence()
        handle = self._link.handle
        code = _verify_code(self._context.features(handle))
        prompt.begun = True
        try:
            return self._context.control(handle, code, prompt.structure)
        except YikatongError as error:
            prompt.begun = error.facts.get("pcsc") not in _NOT_BEGUN
            if prompt.begun:
                return b""
            raise YikatongError(Reason.PIN_KEYPAD_FAILED, error.detail, **error.facts) from error

    def demand_keys(self) -> None:
        """Raises NO_PIN_KEYPAD, NO_READER, DEVICE_BUSY."""
        if self._link is not None:
            _verify_code(self._context.features(self._link.handle))
            return
        handle = self._context.connect_to_reader(self._context.find_reader(self._wanted))
        try:
            _verify_code(self._context.features(handle))
        finally:
            self._context.disconnect_from_reader(handle)

    def leave_card(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._context.disconnect(link.handle)

    def close(self) -> None:
        self.leave_card()
        self._context.close()


def _verify_code(features: bytes) -> int:
    code = part10.control_code(features, part10.VERIFY_PIN_DIRECT)
    if code is None:
        raise YikatongError(Reason.NO_PIN_KEYPAD, "the reader has no keys that show a PIN to the card")
    return code


class PcscLink:
    """A powered card, held exclusively; implements `core.ports.CardLink`."""

    def __init__(self, context: Context, reader: str, handle: int, protocol: int, atr: bytes, counter: int) -> None:
        self._context, self._reader, self.handle, self._protocol = context, reader, handle, protocol
        self._counter = counter
        self.atr = atr

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        try:
            answer = self._context.transmit(self.handle, self._protocol, apdu)
        except YikatongError as error:
            if error.reason is not Reason.CARD_MUTE:
                raise
            raise self._silence() from error
        if not answer:
            raise self._silence()
        return answer

    def demand_presence(self) -> None:
        """Raises CARD_REMOVED where the card has left since it was powered, even for a moment."""
        if self._has_left(self._context.events(self._reader)):
            raise YikatongError(Reason.CARD_REMOVED, "the card left the reader")

    def _silence(self) -> YikatongError:
        """No answer: the card left, or it is mute. The reader's events tell, when pcscd has had time to look."""
        events = self._context.events(self._reader)
        if not self._has_left(events):
            events = self._context.events(self._reader, events, wait_ms=_NOTICED_WITHIN_MS)
        if self._has_left(events):
            return YikatongError(Reason.CARD_REMOVED, "the card left the reader")
        return YikatongError(Reason.CARD_MUTE, "the card does not answer")

    def _has_left(self, events: Events) -> bool:
        return not events.card_present or events.counter != self._counter
