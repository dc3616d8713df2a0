"""A traced reader with cards of the test's, and what its watchers are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from tests.support.authentication import direct
from yikatong.core.card import CardAlgorithm, CardIdentity, ReadAttempt
from yikatong.core.ports import CardLink, CardVisit
from yikatong.core.reasons import YikatongError
from yikatong.core.trace import CardExchange, Missed, TraceBegun, TraceEvent
from yikatong.core.values import ReaderName
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.card.authentication import CardAtHand
from yikatong.drivers.card.psam import PsamAuthenticator
from yikatong.drivers.trace import ObservedReader, Trace
from yikatong.simulators.card import issuer
from yikatong.simulators.card.personalisation import SM4, TRIPLE_DES
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.reader import SimulatedReader

T = TypeVar("T")
Step = Callable[[CardVisit], Awaitable[T]]


class EitherPsam:
    """Opens gated cards of both algorithms, and asks none whether it is genuine: a recorded one could not prove it."""

    def __init__(self) -> None:
        self._old, self._new = (PsamAuthenticator(direct(issuer.psam(algorithm))) for algorithm in (TRIPLE_DES, SM4))

    async def authenticate(self, card: CardAtHand, *, opening: bool) -> None:
        psam = self._new if card.known.algorithm is CardAlgorithm.SM4 else self._old
        await psam.authenticate(card, opening=opening)


async def read(visit: CardVisit) -> CardIdentity:
    """Reads the card, authenticated where it wants that."""
    return await SocialSecurityCard(authenticator=EitherPsam()).read(visit)


def on_link(job: Callable[[CardLink], T]) -> Step[T]:
    """A step that is one job."""

    async def step(visit: CardVisit) -> T:
        return await visit.run(job)

    return step


class Watching:
    """One who watches: `events` after `close`, or so far as they are asked for."""

    def __init__(self, trace: Trace, *, recording: bool) -> None:
        self._events = trace.watch(recording=recording)

    async def begin(self) -> None:
        assert await anext(self._events) == TraceBegun()

    async def take(self, count: int) -> list[TraceEvent]:
        async with asyncio.timeout(20):
            return [await anext(self._events) for _ in range(count)]

    async def rest(self, trace: Trace) -> list[TraceEvent]:
        """What is left, after an end for everybody."""
        trace.close()
        return [event async for event in self._events]

    async def leave(self) -> None:
        await self._events.aclose()


@contextlib.asynccontextmanager
async def watched(trace: Trace, *, recording: bool = False) -> AsyncIterator[Watching]:
    watching = Watching(trace, recording=recording)
    await watching.begin()
    try:
        yield watching
    finally:
        await watching.leave()


class Bench:
    """A simulated reader, observed."""

    def __init__(self, **trace: int) -> None:
        self.trace = Trace(**trace)
        self.simulated = SimulatedReader()
        self.attempts: list[ReadAttempt] = []
        self.reader = ObservedReader(self.simulated, self.trace, self.attempts.append)

    async def visit(self, card: PretendCard, *steps: Step[Any]) -> list[Any]:
        """What each step gave or raised, in one visit to a card that is put in for it and taken out again."""
        self.simulated.insert(card)
        given: list[Any] = []
        try:
            async with self.reader.visit() as visit:
                for step in steps:
                    try:
                        given.append(await step(visit))
                    except YikatongError as error:
                        given.append(error)
        except YikatongError as error:
            given.append(error)
        self.simulated.remove()
        return given


@contextlib.asynccontextmanager
async def bench(**trace: int) -> AsyncIterator[Bench]:
    made = Bench(**trace)
    yield made
    await made.reader.close()


def exchanges(events: list[TraceEvent]) -> list[CardExchange]:
    return [event for event in events if isinstance(event, CardExchange)]


def missed(events: list[TraceEvent]) -> int:
    return sum(event.count for event in events if isinstance(event, Missed))


NAME = ReaderName("simulated")
