"""Credits on their way from terminals to home cities: recorded, pushed without limit, told.

Each credit has at most one task that pushes it. A terminal waits for it for a while and then hears ACCEPTED, which is
true because the row is durable; the task goes on, and the next start takes it up again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import apsw
import structlog

from yikatong.core.credit_orders import CreditAccepted, CreditAnswer, CreditOrder
from yikatong.core.orders import Undecided, Unfit
from yikatong.core.values import Region
from yikatong.gateway.credit_routing import CreditRouting, CreditTurn
from yikatong.runtime.leg import Backoff, CreditLink, insist
from yikatong.runtime.whole import WholeWork, heard

_log = structlog.get_logger(__name__)

T = TypeVar("T")
U = TypeVar("U")


class Commit(Protocol):
    """The partition's store. Raises YikatongError STORE_UNAVAILABLE: whether it is on the disk is then unknown."""

    def __call__(self, job: Callable[[apsw.Connection], T], /) -> Awaitable[T]: ...


class CommitThen(Protocol):
    """The same, and what follows is begun with the record. See `DurableStore.commit_then`."""

    def __call__(self, job: Callable[[apsw.Connection], T], then: Callable[[T], U], /) -> Awaitable[U]: ...


class CreditRouter:
    """One partition's credits. `today` says the accounting date; `accept_after_s`: then a promise is the answer."""

    def __init__(
        self,
        commit: Commit,
        commit_then: CommitThen,
        routing: CreditRouting,
        links: Mapping[Region, CreditLink],
        today: Callable[[], str],
        work: WholeWork,
        *,
        call_s: float,
        accept_after_s: float,
        backoff: Backoff,
    ) -> None:
        self._commit, self._commit_then = commit, commit_then
        self._routing = routing
        self._links = links
        self._today = today
        self._work = work
        self._call_s = call_s
        self._accept_after_s = accept_after_s
        self._backoff = backoff
        self._pushing: dict[str, asyncio.Task[CreditAnswer]] = {}
        self._nudges: dict[str, asyncio.Event] = {}  # one for each of `_pushing`, and as long

    async def start(self) -> None:
        """Takes up what the last run left."""
        orders = await self._commit(self._routing.unfinished)
        for order in orders:
            self._push(order)
        if orders:
            _log.info("unfinished credits taken up", count=len(orders))

    async def credit(self, order: CreditOrder, *, attempt: int) -> CreditAnswer:
        """Raises YikatongError STORE_UNAVAILABLE: then nothing is known."""
        today = self._today()
        return await heard(
            await self._commit_then(
                lambda c: self._routing.credit(c, order, attempt=attempt, today=today), self._begin_credit
            )
        )

    def _begin_credit(self, turn: CreditTurn) -> CreditAnswer | asyncio.Task[CreditAnswer]:
        order = turn.order
        return _told(turn) if order is None else self._work.begin(order.transaction_id, self._decided_in_time(order))

    async def _decided_in_time(self, order: CreditOrder) -> CreditAnswer:
        """What the city decides, or the promise where it takes longer than a terminal should wait."""
        today = self._today()
        try:
            async with asyncio.timeout(self._accept_after_s):
                return await asyncio.shield(self._push(order))
        except TimeoutError:
            return _told(await self._commit(lambda c: self._routing.answered(c, order, None, today=today)))

    # --- towards the city -----------------------------------------------------------------------------------------

    def _push(self, order: CreditOrder) -> asyncio.Task[CreditAnswer]:
        transaction_id = order.transaction_id
        task = self._pushing.get(transaction_id)
        if task is not None:
            self._nudges[transaction_id].set()
            return task
        nudge = self._nudges[transaction_id] = asyncio.Event()
        task = self._pushing[transaction_id] = self._work.begin(transaction_id, self._until_decided(order, nudge))

        def done(_: asyncio.Task[CreditAnswer]) -> None:
            del self._pushing[transaction_id], self._nudges[transaction_id]

        task.add_done_callback(done)
        return task

    async def _until_decided(self, order: CreditOrder, nudge: asyncio.Event) -> CreditAnswer:
        async def send() -> CreditAnswer:
            turn = await self._deliver(order)
            return Undecided() if turn is None else _told(turn)

        return await insist(send, self._backoff, call_s=self._call_s, nudge=nudge)

    async def _deliver(self, order: CreditOrder) -> CreditTurn | None:
        """One delivery and the record of its answer; None where nothing was learned, or the city is closed."""
        region, today = order.original.home_region, self._today()
        assert region is not None, "what is pushed is stamped"
        if self._routing.closed(region, today):
            return None
        if self._routing.embedded(region):
            turn = await self._commit(lambda c: self._routing.push(c, order, today=today))
            return turn if turn.order is None else None
        answer = await self._links[region].credit(order, attempt=1)
        if isinstance(answer, Undecided | CreditAccepted):
            return None
        turn = await self._commit(lambda c: self._routing.answered(c, order, answer, today=today))
        return (
            None if isinstance(answer, Unfit) else turn
        )  # nothing to believe: a person looks, the city is asked again


def _told(turn: CreditTurn) -> CreditAnswer:
    """The answer, and the credit's line in the log."""
    assert turn.answer is not None, "what is told is an answer"
    route = turn.route
    _log.info(
        "credit",
        transaction_id=route.transaction_id,
        original=route.original,
        kind=route.kind,
        terminal_id=route.terminal_id,
        state=route.state.value,
        answer=type(turn.answer).__name__,
        reason=route.reason,
        amount_fen=route.amount_fen,
        home_region=route.home_region,
    )
    return turn.answer
