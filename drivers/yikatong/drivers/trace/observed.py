"""Any reader, observed: watchers see what passes, and what became of each attempt to read a card is told.

It goes round a reader of any kind (PC/SC, vendor's library, simulated): what it sees passes `CardLink.transmit`.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, TypeVar

from yikatong.core.card import ReadAttempt, ReaderState
from yikatong.core.ports import CardLink, CardReader, CardVisit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import ReaderName
from yikatong.drivers.trace.card_notes import CardNotes
from yikatong.drivers.trace.card_trace import CardTrace
from yikatong.drivers.trace.trace import Trace

T = TypeVar("T")

_AT_POWER_ON: Final = frozenset({Reason.CARD_MUTE, Reason.READER_FAILED})
_LATER: Final = frozenset({Reason.CARD_MUTE, Reason.CARD_MALFORMED, Reason.READER_FAILED})
"""What a card that was read well may still show afterwards. That its holder takes it out is no fault."""
_RESET: Final = frozenset({"SCARD_W_RESET_CARD", "SCARD_W_UNPOWERED_CARD"})


class ObservedReader:
    """Implements `core.ports.CardReader` round another one. The first job of a visit is taken to be the reading."""

    def __init__(
        self, reader: CardReader, trace: Trace, told: Callable[[ReadAttempt], None] = lambda attempt: None
    ) -> None:
        """`told` is called in the event loop."""
        self._reader, self._trace, self._told = reader, trace, told
        self._salt = secrets.token_bytes(16)
        self._stay = 0
        self._card_in = False

    @property
    def name(self) -> ReaderName:
        return self._reader.name

    @contextlib.asynccontextmanager
    async def visit(self, *, wait_ms: int = 0) -> AsyncIterator[CardVisit]:
        seen = _Seen(self._reader.name, self._trace, CardNotes(self._salt))
        async with contextlib.AsyncExitStack() as stack:
            try:
                visit = await stack.enter_async_context(self._reader.visit(wait_ms=wait_ms))
            except YikatongError as error:
                if error.reason in _AT_POWER_ON:
                    seen.card.not_powered(error.reason, time.monotonic_ns())
                    self._tell(seen, error)
                raise
            yield _Visit(visit, seen, self._tell)

    async def state(self) -> ReaderState:
        return await self._reader.state()

    async def watch(self) -> AsyncGenerator[ReaderState, None]:
        async with contextlib.aclosing(self._reader.watch()) as states:
            async for state in states:
                if self._card_in and not state.card_present:
                    self._stay += 1
                self._card_in = state.card_present
                yield state

    async def close(self) -> None:
        await self._reader.close()

    def _tell(self, seen: _Seen, error: YikatongError | None, read_ms: int = 0) -> None:
        failure, reset = (error.reason if error else None), _is_reset(error)
        self._told(ReadAttempt(self.name, self._stay, failure, reset, read_ms, seen.notes.batch, seen.notes.tag))
        if (
            failure is Reason.CARD_REMOVED and not reset
        ):  # the next card is another stay, whether or not this one was seen to leave
            self._stay += 1


class _Seen:
    """What is seen of one visit."""

    def __init__(self, device: str, trace: Trace, notes: CardNotes) -> None:
        self.trace, self.notes = trace, notes
        self.card = CardTrace(trace, device)
        self.link: ObservedLink | None = None

    def over(self, link: CardLink) -> ObservedLink:
        """One for the whole visit: what a card may cost in all is counted for its link."""
        if self.link is None:
            self.notes.power(link.atr)
            self.link = ObservedLink(link, self)
            if self.trace.watchers:
                self.card.powered(link.atr, time.monotonic_ns())
        return self.link


class ObservedLink:
    """A powered card, observed; implements `core.ports.CardLink`. Keeps no copy of what it is given."""

    def __init__(self, link: CardLink, seen: _Seen) -> None:
        self._link, self._seen = link, seen

    @property
    def atr(self) -> bytes:
        return self._link.atr

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        seen = self._seen
        if seen.trace.watchers:
            return self._traced(apdu)
        seen.card.forget()
        answer = self._link.transmit(apdu)
        seen.notes.hear(answer)
        return answer

    def _traced(self, apdu: bytes | bytearray) -> bytes:
        began_ns, answer, failure = time.monotonic_ns(), b"", None
        try:
            answer = self._link.transmit(apdu)
        except YikatongError as error:
            failure = error.reason
            raise
        finally:
            self._seen.card.exchanged(apdu, answer, failure, began_ns, time.monotonic_ns())
        self._seen.notes.hear(answer)
        return answer


class _Visit:
    """One card's stay; see the port."""

    def __init__(self, visit: CardVisit, seen: _Seen, tell: Callable[[_Seen, YikatongError | None, int], None]) -> None:
        self._visit, self._seen, self._tell = visit, seen, tell
        self._read = False

    async def run(self, job: Callable[[CardLink], T]) -> T:
        first, self._read = not self._read, True
        began_ns = time.monotonic_ns()
        try:
            result = await self._visit.run(lambda link: job(self._seen.over(link)))
        except YikatongError as error:
            if first or error.reason in _LATER or _is_reset(error):
                self._tell(self._seen, error, 0)
            raise
        if first:
            self._tell(self._seen, None, (time.monotonic_ns() - began_ns) // 1_000_000)
        return result


def _is_reset(error: YikatongError | None) -> bool:
    """Whether the card is still there and has lost its power: its session is gone, or PC/SC says so."""
    if error is None or error.reason is not Reason.CARD_REMOVED:
        return False
    return "sw" in error.facts or error.facts.get("pcsc") in _RESET
