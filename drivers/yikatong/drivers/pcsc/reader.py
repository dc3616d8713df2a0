"""A PC/SC reader as the terminal's port: visits to cards, and the watch over the slot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, TypeVar

from yikatong.core.card import ReaderState
from yikatong.core.ports import CardLink, CardVisit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import ReaderName
from yikatong.drivers.pcsc.presence import Presence, absent
from yikatong.drivers.pcsc.session import PcscLink, Prompt, Session
from yikatong.drivers.pcsc.worker import Worker
from yikatong.runtime.feed import Feed

T = TypeVar("T")

_BROKEN: Final = frozenset({Reason.PCSCD_NOT_RUNNING, Reason.READER_FAILED, Reason.NO_READER})
"""After these the service may have forgotten us: the next job opens a new context."""
STUCK_AFTER_S: Final = 20.0
"""A card may take 15 s in all (drivers.card.chain): a single call that takes longer does not come back."""
_LEAVE_S: Final = 5.0
_LOOK_MS: Final = 400
"""How long one look at the slot waits for a change; also what closing may have to wait for."""
_PAUSE_S: Final = 0.4
"""Between looks at a reader or a service that is not there."""


class PcscReader:
    """Implements `core.ports.CardReader` over pcscd.

    `name` is the reader's PC/SC name, or a part of it that no other reader's name has. Survives a restart of pcscd and
    the reader's absence: the visit that they hit fails, the next one works. One visit at a time.

    A driver that does not come back within `stuck_after_s` ends the visit with READER_FAILED, which says where; the
    hanging thread is left alone.
    """

    def __init__(self, name: str, *, stuck_after_s: float = STUCK_AFTER_S) -> None:
        self.name, self._stuck_after_s = ReaderName(name), stuck_after_s
        self._card: Worker[Session] = Worker(f"pcsc-{name}", lambda: Session(name), reopen_after=_BROKEN)
        self._slot: Worker[Presence] = Worker(f"pcsc-watch-{name}", lambda: Presence(self.name), reopen_after=_BROKEN)
        self._states: Feed[ReaderState] = Feed()
        self._watcher: asyncio.Task[None] | None = None
        self._visited = False
        self._person_s = 0.0

    @property
    def stuck_calls(self) -> int:
        """How many calls into the driver have not come back and were given up."""
        return self._card.stuck + self._slot.stuck

    @contextlib.asynccontextmanager
    async def visit(self, *, wait_ms: int = 0) -> AsyncIterator[CardVisit]:
        if self._visited:
            raise YikatongError(Reason.DEVICE_BUSY, "the reader has a visitor already", reader=self.name)
        self._visited = True
        lane = self._card.lane
        try:
            yield _Visit(self, await self._open_card(wait_ms / 1000))
        finally:
            # Shielded: a visit that is cancelled must still let the card go. It waits behind a job that runs.
            leaving = asyncio.ensure_future(self._leave_card(lane))
            leaving.add_done_callback(self._left)
            with contextlib.suppress(YikatongError):  # a reader that is gone holds no card
                await asyncio.shield(leaving)

    async def state(self) -> ReaderState:
        if self._states.value is not None:
            return self._states.value
        try:
            return await self._on_slot(Presence.look)
        except YikatongError as error:
            return absent(self.name, error)

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
        await self._slot.close()
        await self._card.close()

    async def on_card(self, job: Callable[[Session], T], action: str) -> T:
        """Runs `job` in the thread that holds the card; `action` is for people."""
        return await self._card.run(job, limit_s=self._stuck_after_s + self._person_s, action=action)

    async def verify_on_keys(self, structure: bytes, *, timeout_ms: int) -> bytes:
        """See `Session.verify_on_keys`: the card's answer, or nothing where none came. `timeout_ms`: of the person.

        Where it raises nobody was asked to type.
        """
        prompt = Prompt(structure)
        self._person_s = timeout_ms / 1000
        try:
            return await self.on_card(lambda session: session.verify_on_keys(prompt), "have a PIN typed")
        except YikatongError:
            if prompt.begun:  # the driver did not come back
                return b""
            raise
        finally:
            self._person_s = 0.0

    async def demand_keys(self) -> None:
        """Raises NO_PIN_KEYPAD where it has no keys, DEVICE_BUSY while they are used, NO_READER, READER_FAILED."""
        if self._person_s:
            raise YikatongError(Reason.DEVICE_BUSY, "a PIN is being typed", reader=self.name)
        await self.on_card(Session.demand_keys, "tell whether it has keys")

    async def _on_slot(self, job: Callable[[Presence], T]) -> T:
        return await self._slot.run(job, limit_s=self._stuck_after_s, action="tell the reader's state")

    async def _leave_card(self, lane: object) -> None:
        """Where the visit's thread hangs in the driver there is nobody who could: it does it when it comes back."""
        if lane is self._card.lane:
            limit_s = min(self._stuck_after_s, _LEAVE_S) + self._person_s
            await self._card.run(Session.leave_card, limit_s=limit_s, action="let the card go")

    def _left(self, leaving: asyncio.Future[None]) -> None:
        self._visited = False
        if not leaving.cancelled():
            leaving.exception()  # looked at: the visit's own error tells more

    async def _open_card(self, wait_s: float) -> PcscLink:
        """Waits for a card and powers it; goes on waiting where it is pulled out again before it has answered."""
        end = asyncio.get_running_loop().time() + wait_s
        while True:
            try:
                return await self.on_card(Session.open_card, "power the card")
            except YikatongError as error:
                left_s = end - asyncio.get_running_loop().time()
                if error.reason is not Reason.NO_CARD or left_s <= 0:
                    raise
            await self._wait_for_card(left_s)

    async def _wait_for_card(self, wait_s: float) -> None:
        """Returns when a card is there, and at the latest after `wait_s`: opening it then says what is wrong."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s), contextlib.aclosing(self.watch()) as states:
                async for state in states:
                    if state.card_present:
                        return

    async def _keep_watching(self) -> None:
        try:
            while True:
                try:
                    state = await self._on_slot(lambda slot: slot.wait(_LOOK_MS))
                except YikatongError as error:
                    state = absent(self.name, error)
                self._states.publish(state)
                if not state.present:
                    await asyncio.sleep(_PAUSE_S)
        except Exception as error:  # noqa: BLE001 - a defect of ours: followers must not wait for ever
            self._states.fail(error)


class _Visit:
    """One card's stay; see the port."""

    def __init__(self, reader: PcscReader, link: PcscLink) -> None:
        self._reader, self._link = reader, link

    async def run(self, job: Callable[[CardLink], T]) -> T:
        return await self._reader.on_card(lambda session: session.run(self._link, job), "talk to the card")
