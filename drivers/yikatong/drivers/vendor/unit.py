"""A reading unit behind a vendor's library: one device, several slots, perhaps a keypad (keypad.py)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, TypeVar

from yikatong.core.card import ReaderState
from yikatong.core.ports import CardLink, CardVisit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import ReaderName
from yikatong.drivers.vendor.process import Process, UnitSettings
from yikatong.drivers.vendor.session import VendorLink, card_present
from yikatong.runtime.feed import Feed
from yikatong.runtime.lane import Lane

T = TypeVar("T")

USER_CARD: Final = 0x01
PSAM: Final = 0x11
CONTACTLESS_A: Final = 0x41
CONTACTLESS_B: Final = 0x42
"""Slots (card-facts §9): 01 to 05 user cards, 11 to 15 PSAMs."""

_LOOK_PAUSE_S: Final = 0.3
_ABSENT_PAUSE_S: Final = 2.0
"""Between two looks at a unit that is not there: each starts a process."""


class VendorUnit:
    """The device. Its library runs in a process that is started by the first job and again after a failure."""

    def __init__(self, settings: UnitSettings, *, absent_pause_s: float = _ABSENT_PAUSE_S) -> None:
        self.name = f"{settings.library.stem} {settings.device}"
        self.absent_pause_s = absent_pause_s
        self._closing = threading.Event()
        self._lane: Lane[Process] = Lane(
            f"vendor-{settings.library.stem}",
            lambda: Process(settings, self._closing),
            reopen_after=frozenset({Reason.NO_READER, Reason.READER_FAILED, Reason.DEVICE_BUSY}),
        )

    def reader(self, slot: int = USER_CARD) -> VendorReader:
        """One slot as a `CardReader`; close it before the unit."""
        return VendorReader(self, slot)

    async def run(self, job: Callable[[Process], T]) -> T:
        """Runs `job` in the unit's thread. Raises NO_READER, READER_FAILED and what `job` raises."""
        return await self._lane.run(job)

    async def close(self) -> None:
        """Ends the library's process, also one that hangs."""
        self._closing.set()
        await self._lane.close()


class VendorReader:
    """Implements `core.ports.CardReader` on one slot. One visit at a time.

    A library that crashes, hangs or says garbage ends the visit with READER_FAILED; the next visit has a new process.
    """

    def __init__(self, unit: VendorUnit, slot: int) -> None:
        self._unit, self._slot = unit, slot
        self.name = ReaderName(f"{unit.name} {slot:02X}")
        self._states: Feed[ReaderState] = Feed()
        self._watcher: asyncio.Task[None] | None = None
        self._visited = False

    @contextlib.asynccontextmanager
    async def visit(self, *, wait_ms: int = 0) -> AsyncIterator[CardVisit]:
        if self._visited:
            raise YikatongError(Reason.DEVICE_BUSY, "the reader has a visitor already", reader=self.name)
        self._visited = True
        link: VendorLink | None = None
        try:
            link = await self._open_card(wait_ms / 1000)
            yield _Visit(self._unit, link)
        finally:
            # Shielded: a visit that is cancelled must still let the card go.
            leaving = asyncio.ensure_future(self._leave(link))
            leaving.add_done_callback(self._left)
            with contextlib.suppress(YikatongError):  # a unit that is gone holds no card
                await asyncio.shield(leaving)

    async def state(self) -> ReaderState:
        return self._states.value or await self._look()

    async def watch(self) -> AsyncGenerator[ReaderState, None]:
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._keep_watching(), name=f"watch-{self.name}")
        try:
            async with contextlib.aclosing(self._states.follow()) as states:
                async for state in states:
                    yield state
        finally:
            if not self._states.followed and self._watcher is not None:
                self._watcher.cancel()
                self._watcher = None
                self._states.forget()

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])

    async def _open_card(self, wait_s: float) -> VendorLink:
        """Waits for a card and powers it; goes on waiting where it is pulled out again before it has answered."""
        end = asyncio.get_running_loop().time() + wait_s
        while True:
            try:
                return await self._unit.run(lambda process: VendorLink(process, self._slot))
            except YikatongError as error:
                left_s = end - asyncio.get_running_loop().time()
                if error.reason is not Reason.NO_CARD or left_s <= 0:
                    raise
            await asyncio.sleep(min(left_s, _LOOK_PAUSE_S))

    async def _leave(self, link: VendorLink | None) -> None:
        if link is not None:
            await self._unit.run(link.end)

    def _left(self, leaving: asyncio.Future[None]) -> None:
        self._visited = False
        if not leaving.cancelled():
            leaving.exception()  # looked at: the visit's own error tells more

    async def _look(self) -> ReaderState:
        try:
            present = await self._unit.run(lambda process: card_present(process, self._slot))
        except YikatongError as error:
            return ReaderState(self.name, False, False, detail=error.reason.value, explanation=error.detail)
        return ReaderState(self.name, present=True, card_present=present)

    async def _keep_watching(self) -> None:
        try:
            while True:
                state = await self._look()
                self._states.publish(state)
                await asyncio.sleep(_LOOK_PAUSE_S if state.present else self._unit.absent_pause_s)
        except Exception as error:  # noqa: BLE001 - a defect of ours: followers must not wait for ever
            self._states.fail(error)


class _Visit:
    """One card's stay; see the port."""

    def __init__(self, unit: VendorUnit, link: VendorLink) -> None:
        self._unit, self._link = unit, link

    async def run(self, job: Callable[[CardLink], T]) -> T:
        return await self._unit.run(lambda process: self._link.run(process, job))
