"""A reader in this process, for a machine without PC/SC and for tests: the same port as the real one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

from yikatong.core.card import ReaderState
from yikatong.core.ports import CardLink, CardVisit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import ReaderName
from yikatong.runtime.feed import Feed
from yikatong.runtime.lane import Lane
from yikatong.simulators.card.port import CardPulledError, PretendCard

T = TypeVar("T")


class SimulatedReader:
    """Implements `core.ports.CardReader`. Cards are put in and taken out from any thread."""

    def __init__(self, name: str = "simulated") -> None:
        self.name = ReaderName(name)
        self._slot = _Slot()
        self._lane: Lane[_Slot] = Lane(f"reader-{name}", lambda: self._slot)
        self._states: Feed[ReaderState] = Feed(ReaderState(self.name, present=True, card_present=False))
        self._visited = False

    def insert(self, card: PretendCard) -> None:
        """Puts `card` in, and the one before out."""
        self._slot.put(card)
        self._show()

    def remove(self) -> None:
        self._slot.put(None)
        self._show()

    @contextlib.asynccontextmanager
    async def visit(self, *, wait_ms: int = 0) -> AsyncIterator[CardVisit]:
        if self._visited:
            raise YikatongError(Reason.DEVICE_BUSY, "the reader has a visitor already", reader=self.name)
        self._visited = True
        try:
            await self._wait_for_card(wait_ms)
            link = await self._lane.run(lambda slot: _Link(slot, self._show))
        except BaseException:
            self._visited = False
            raise
        try:
            yield _Visit(self._lane, link)
        finally:
            # As a real reader: shielded, and behind a job that runs.
            leaving = asyncio.ensure_future(self._lane.run(lambda _slot: link.end()))
            leaving.add_done_callback(self._left)
            with contextlib.suppress(YikatongError):  # it is being closed
                await asyncio.shield(leaving)

    async def state(self) -> ReaderState:
        state = self._states.value
        assert state is not None
        return state

    def watch(self) -> AsyncGenerator[ReaderState, None]:
        return self._states.follow()

    async def close(self) -> None:
        await self._lane.close()

    def _left(self, leaving: asyncio.Future[None]) -> None:
        self._visited = False
        if not leaving.cancelled():
            leaving.exception()

    async def _wait_for_card(self, wait_ms: int) -> None:
        if wait_ms and not (await self.state()).card_present:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000), contextlib.aclosing(self.watch()) as states:
                    async for state in states:
                        if state.card_present:
                            return

    def _show(self) -> None:
        self._states.publish(ReaderState(self.name, present=True, card_present=self._slot.card is not None))


class _Slot:
    """Where the card is; `stay` counts insertions and removals, so that no visit survives one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.card: PretendCard | None = None
        self.stay = 0

    def put(self, card: PretendCard | None) -> None:
        with self._lock:
            before, self.card = self.card, card
            self.stay += 1
            if before is not None:
                before.power_off()

    def close(self) -> None:
        self.put(None)


class _Link:
    """A powered card. Ends with its stay."""

    def __init__(self, slot: _Slot, show: Callable[[], None]) -> None:
        self._slot, self._show, self._stay = slot, show, slot.stay
        card = slot.card
        if card is None:
            raise YikatongError(Reason.NO_CARD, "there is no card in the simulated reader")
        card.power_on()
        self._card = card
        self.atr = card.atr
        if not self.atr:
            raise YikatongError(Reason.CARD_MUTE, "the card gave no answer to reset")

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        self.demand_presence()
        try:
            answer = self._card.execute(bytes(apdu))
        except CardPulledError as error:
            self._slot.put(None)
            self._show()
            raise YikatongError(Reason.CARD_REMOVED, "the card left the reader") from error
        self.demand_presence()
        if not answer:
            raise YikatongError(Reason.CARD_MUTE, "the card does not answer")
        return answer

    def demand_presence(self) -> None:
        if self._slot.stay != self._stay:
            raise YikatongError(Reason.CARD_REMOVED, "the card left the reader")

    def end(self) -> None:
        """The visit is over: the card loses its power, and this link its card."""
        if self._slot.stay == self._stay:
            self._card.power_off()
        self._stay = -1


class _Visit:
    def __init__(self, lane: Lane[_Slot], link: _Link) -> None:
        self._lane, self._link = lane, link

    async def run(self, job: Callable[[CardLink], T]) -> T:
        return await self._lane.run(lambda _slot: self._guarded(job))

    def _guarded(self, job: Callable[[CardLink], T]) -> T:
        self._link.demand_presence()
        result = job(self._link)
        self._link.demand_presence()
        return result
