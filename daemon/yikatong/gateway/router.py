"""The router: records through `Routing`, sends to the home city, records what came back, replies.

Each transaction has at most one task that asks its city (a debit) or insists there (a reversal); callers wait on it
and may leave, the task goes on. Nothing is sent and nothing is told before the record that guards it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import apsw
import structlog

from yikatong.core.orders import (
    Accepted,
    Account,
    AlreadyReversed,
    ConfirmAnswer,
    Confirmed,
    ConfirmedTooLate,
    DebitAnswer,
    DebitOrder,
    Denied,
    NotFound,
    Payer,
    Posted,
    ReversalAnswer,
    ReversalCause,
    Reversed,
    Tombstoned,
    Undecided,
    WasDeclined,
)
from yikatong.core.reasons import Moved, Reason, YikatongError
from yikatong.core.router_table import Effect, Reply, State
from yikatong.core.values import Region
from yikatong.gateway import route_log
from yikatong.gateway.answers import REFUSALS, debit_told, reversal_answer, reversal_told
from yikatong.gateway.credit_router import CreditRouter
from yikatong.gateway.directory import Directory
from yikatong.gateway.registry import Registry
from yikatong.gateway.routing import Routing, Turn
from yikatong.gateway.tickets import Tickets, note_settled, note_waiting
from yikatong.ledger.book import Book
from yikatong.ledger.link import LedgerLink
from yikatong.runtime.clock import Clock, accounting_date
from yikatong.runtime.leg import CITY_PATIENCE, Backoff, LinkDown, Patience, WhileOpen, ask, city_backoff, insist
from yikatong.runtime.store import DurableStore, StoreFailed
from yikatong.runtime.whole import WholeWork, heard

_log = structlog.get_logger(__name__)

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Waits:
    """How long the router waits for a city. `accept_after_s`: then a reversal is answered with a durable promise."""

    patience: Patience = CITY_PATIENCE
    accept_after_s: float = 10.0
    backoff: Backoff = city_backoff


WAITS: Final = Waits()


class Router:
    """One partition's transactions on their way between terminals and home cities."""

    def __init__(
        self,
        store: DurableStore,
        routing: Routing,
        book: Book,
        links: Mapping[Region, LedgerLink],
        registry: Registry,
        directory: Directory,
        clock: Clock,
        waits: Waits = WAITS,
        *,
        tickets: Tickets,
    ) -> None:
        self._store = store
        self._tickets = tickets
        self._routing = routing
        self._book = book
        self._links = links
        self._registry = registry
        self._directory = directory
        self._clock = clock
        self._waits = waits
        self._asking: dict[str, asyncio.Task[DebitAnswer]] = {}
        self._undoing: dict[str, asyncio.Task[ReversalAnswer]] = {}
        self._nudges: dict[str, asyncio.Event] = {}  # one for each of `_undoing`, and as long
        self._enquiring: dict[str, asyncio.Task[None]] = {}
        self._confirming: dict[str, asyncio.Task[ConfirmAnswer]] = {}
        self._work = WholeWork()
        self.credits = CreditRouter(
            self.commit,
            self.commit_then,
            routing.credits,
            links,
            lambda: self.today,
            self._work,
            call_s=waits.patience.call_s,
            accept_after_s=waits.accept_after_s,
            backoff=waits.backoff,
        )
        self.store_failed = asyncio.Event()
        """Set where a commit's outcome is unknown: the gateway then leaves the service and reads the file again."""

    @property
    def today(self) -> str:
        """The accounting date that a debit gets now."""
        return accounting_date(self._clock.now())

    async def start(self) -> None:
        """Takes up what the last run left: reversals are insisted on, forwarded debits are enquired about.

        Raises YikatongError CONFIGURATION_INVALID where a city that has transactions is not there any more.
        """
        today = self.today
        for region in await self.commit(route_log.home_regions):
            if Region(region) not in self._links and Region(region) not in self._book.cities:
                raise YikatongError(
                    Reason.CONFIGURATION_INVALID, f"city {region} has transactions, and is not listed", key="cities"
                )
        turns = await self.commit(lambda c: self._routing.unfinished(c, today=today))
        for turn in turns:
            if turn.effect is Effect.REVERSE and turn.order is not None:
                self._insist(turn.order, ReversalCause.RECOVERY)
            elif turn.effect is Effect.ENQUIRE:
                self._enquire(turn)
        if turns:
            _log.info("unfinished transactions taken up", count=len(turns))
        for order in await self.commit(self._routing.waiting_confirmations):
            self._confirm_until_heard(order)
        await self.credits.start()

    def nudge(self) -> None:
        """A city has been opened: reversals that waited for it are sent now."""
        for nudge in self._nudges.values():
            nudge.set()

    async def close(self) -> None:
        """Ends the waiting. What is recorded is taken up by the next start."""
        await self._work.close()

    # --- what a terminal asks -------------------------------------------------------------------------------------

    async def account(self, payer: Payer) -> Account:
        """The personal account in its home city. Raises YikatongError where there is none to ask, or no answer."""
        home = self._directory.home_of(payer)
        if isinstance(home, Reason):
            raise YikatongError(home)
        city = self._registry.city(home)
        closed = Reason.CITY_NOT_OPEN if city is None else city.closed(self.today) or city.refuses(payer)
        if closed is not None:
            raise YikatongError(closed)
        if home in self._book.cities:
            return await self.commit(lambda c: self._book.account(c, payer, home))
        try:
            async with asyncio.timeout(self._waits.patience.call_s):
                return await self._links[home].account(payer, home)
        except (LinkDown, TimeoutError) as error:
            raise YikatongError(Reason.CITY_UNREACHABLE, region=home.code) from error

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        """Raises YikatongError STORE_UNAVAILABLE: then nothing is known."""
        today = self.today
        said = await self.commit_then(
            lambda c: self._noted(c, self._routing.debit(c, order, attempt=attempt, in_time=ttl_ms > 0, today=today)),
            self._begin_debit,
        )
        try:
            return await heard(said)
        except asyncio.CancelledError:
            if not (isinstance(said, asyncio.Task) and said.cancelled()):
                raise  # the caller leaves
            # A reversal was decided, which ended the asking, and is not done; or we are closing. Nothing is known.
            return Undecided()

    def _begin_debit(self, turn: Turn) -> DebitAnswer | asyncio.Task[DebitAnswer]:
        if turn.effect is None:
            return debit_told(turn, self._registry)
        order = turn.order
        assert order is not None, "what is sent is stamped"
        if turn.effect is Effect.TOMBSTONE:
            return self._work.begin(order.transaction_id, self._tombstoned(order))
        if turn.effect is Effect.ENQUIRE:
            return self._work.begin(order.transaction_id, self._asked_or_enquired(turn))
        asking = self._asking.get(order.transaction_id)
        return asking or self._keep(self._asking, order.transaction_id, self._ask(order))

    async def _asked_or_enquired(self, turn: Turn) -> DebitAnswer:
        """The same debit may have come twice at once, and the other one be asking by now."""
        asking = self._asking.get(turn.route.transaction_id)
        return await self._enquired(turn) if asking is None else await heard(asking)

    async def _tombstoned(self, order: DebitOrder) -> DebitAnswer:
        undone = await self._undone_in_time(order, ReversalCause.TIMEOUT)
        return AlreadyReversed() if isinstance(undone, Reversed | Tombstoned | WasDeclined) else Undecided()

    async def enquire(self, transaction_id: str, terminal_id: str) -> DebitAnswer:
        """What the city says now; where it says nothing it is asked on without the caller."""
        today = self.today
        return await heard(
            await self.commit_then(
                lambda c: self._routing.enquire(c, transaction_id, terminal_id, today=today), self._begin_enquiry
            )
        )

    def _begin_enquiry(self, turn: Turn | None) -> DebitAnswer | asyncio.Task[DebitAnswer]:
        if turn is None:
            return NotFound()
        return debit_told(turn, self._registry) if turn.effect is None else self._begin_asking(turn)

    def _begin_asking(self, turn: Turn) -> asyncio.Task[DebitAnswer]:
        return self._work.begin(turn.route.transaction_id, self._enquired(turn))

    async def _enquired(self, turn: Turn) -> DebitAnswer:
        """Asks its city once; where that is silent, it is asked on without the caller."""
        transaction_id, today = turn.route.transaction_id, self.today
        if transaction_id in self._asking:
            return Undecided()
        answer = await self._once(lambda link, region: link.enquire_id(transaction_id, region), turn)
        turn = await self.commit(lambda c: self._routing.answered(c, transaction_id, answer, today=today))
        if isinstance(answer, Undecided | None) and turn.route.state is State.FWD:
            self._enquire(turn)
        return debit_told(turn, self._registry)

    async def recall(self, order: DebitOrder) -> None:
        """Makes the row of a debit anew where it was lost, from what its city says of it."""
        today = self.today
        await heard(
            await self.commit_then(lambda c: self._routing.recall(c, order, today=today), self._begin_recall),
        )

    def _begin_recall(self, turn: Turn | None) -> DebitAnswer | asyncio.Task[DebitAnswer | None] | None:
        return None if turn is None or turn.effect is None else self._begin_asking(turn)

    async def reverse(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer:
        """A refusal opens a ticket in the same commit; once people have decided, their decision is the answer."""
        today, order = self.today, order.unproven

        def job(connection: apsw.Connection) -> Turn | ReversalAnswer:
            decided = self._tickets.answer(connection, order)
            if decided is not None:
                return decided
            return self._noted(connection, self._routing.reverse(connection, order, today=today), order)

        return await heard(await self.commit_then(job, lambda turn: self._begin_reversal(turn, cause)))

    async def undo(self, order: DebitOrder) -> ReversalAnswer:
        """What people have decided of a debit whose terminal is gone: as `reverse`, but their ticket is no answer."""
        today = self.today
        return await heard(
            await self.commit_then(
                lambda c: self._noted(c, self._routing.reverse(c, order, today=today), order),
                lambda turn: self._begin_reversal(turn, ReversalCause.RECOVERY),
            )
        )

    def _begin_reversal(
        self, turn: Turn | ReversalAnswer, cause: ReversalCause
    ) -> ReversalAnswer | asyncio.Task[ReversalAnswer]:
        if not isinstance(turn, Turn):
            return turn
        if turn.effect is None:
            return reversal_told(turn)
        assert turn.order is not None, "what is sent is stamped"
        return self._work.begin(turn.order.transaction_id, self._undone_in_time(turn.order, cause))

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer:
        """Undecided: its city is closed or silent, and the confirmation of what is posted is kept, and sent again."""
        today, order = self.today, order.unproven
        return await heard(
            await self.commit_then(
                lambda c: self._routing.confirm(c, order, today=today),
                lambda turn: _confirmation_told(turn) if turn.effect is None else self._begin_confirming(order, turn),
            )
        )

    def _begin_confirming(self, order: DebitOrder, turn: Turn) -> asyncio.Task[ConfirmAnswer]:
        return self._work.begin(order.transaction_id, self._confirmed(order, turn))

    async def _confirmed(self, order: DebitOrder, turn: Turn) -> ConfirmAnswer:
        stamped, today = turn.order, self.today
        heard_of = None if stamped is None else await self._once(lambda link, _: link.confirm(stamped), turn)
        answer = heard_of or Undecided()
        turn = await self.commit(lambda c: self._routing.confirm_answered(c, order, answer, today=today))
        if turn.reply is Reply.UNDECIDED and turn.route.state is State.POSTED and stamped is not None:
            self._confirm_until_heard(stamped)
        return _confirmation_told(turn)

    def _confirm_until_heard(self, order: DebitOrder) -> None:
        """Goes on confirming until the city has answered, whether or not the terminal does."""
        assert order.home_region is not None, "what is sent is stamped"
        transaction_id, region, waits = order.transaction_id, order.home_region, self._waits

        async def send() -> ConfirmAnswer:
            return Undecided() if self._routing.waits(region, self.today) else await self.confirm(order)

        if transaction_id not in self._confirming:
            work = insist(send, waits.backoff, call_s=2 * waits.patience.call_s)
            self._keep(self._confirming, transaction_id, work)

    async def settle_refused(self, transaction_id: str) -> route_log.Route | None:
        """The transaction's row once it says what the ledger says, also where the ledger has refused to reverse it.

        None: it does not yet, for example because the city is closed or silent.
        """
        route = await self.commit(lambda c: route_log.find(c, transaction_id))
        if route is None or route.state is not State.REV:
            return None if route is None or route.state is State.FWD else route
        region, today = Region(route.home_region), self.today
        if transaction_id in self._undoing or self._routing.waits(region, today):
            return None
        if region in self._book.cities:
            answer: DebitAnswer | None = await self.commit(lambda c: self._book.enquire(c, transaction_id, region))
        else:
            turn = Turn(route, Effect.ENQUIRE, None)
            answer = await self._once(lambda link, home: link.enquire_id(transaction_id, home), turn)
        if not isinstance(answer, Posted) or not answer.confirmed or answer.fingerprint != route.fingerprint:
            return None
        posted = answer
        return (await self.commit(lambda c: self._routing.upheld(c, transaction_id, posted, today=today))).route

    # --- towards the city -----------------------------------------------------------------------------------------

    async def _ask(self, order: DebitOrder) -> DebitAnswer:
        assert order.home_region is not None, "what is sent is stamped"
        region = order.home_region
        link = WhileOpen(self._links[region], lambda: not self._routing.waits(region, self.today))
        answer = await ask(link, order, self._waits.patience)
        today = self.today
        turn = await self._recorded(lambda c: self._routing.answered(c, order.transaction_id, answer, today=today))
        if turn.route.state is State.FWD:
            self._enquire(turn)
        return debit_told(turn, self._registry)

    def _enquire(self, turn: Turn) -> None:
        """A debit whose terminal may never ask again would hold its order for ever: we ask."""
        transaction_id = turn.route.transaction_id
        if transaction_id not in self._enquiring:
            self._keep(self._enquiring, transaction_id, self._enquire_until_heard(turn))

    async def _enquire_until_heard(self, turn: Turn) -> None:
        """The debit is not sent again, so its city is asked until it says how it stands, or that it knows nothing."""
        attempt, transaction_id = 0, turn.route.transaction_id
        while isinstance(
            answer := await self._once(lambda link, region: link.enquire_id(transaction_id, region), turn),
            Undecided | None,
        ):
            attempt += 1
            await asyncio.sleep(self._waits.backoff(attempt))
        today = self.today
        debit_told(
            await self._recorded(lambda c: self._routing.answered(c, transaction_id, answer, today=today)),
            self._registry,
        )

    async def _undone_in_time(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer:
        """The city's answer to the reversal, or ACCEPTED where it takes longer than a terminal should wait."""
        task, today, transaction_id = self._insist(order, cause), self.today, order.transaction_id
        assert order.home_region is not None, "what is sent is stamped"
        patience_s = 0.0 if self._routing.waits(order.home_region, today) else self._waits.accept_after_s
        try:
            async with asyncio.timeout(patience_s):
                return await asyncio.shield(task)
        except TimeoutError:
            return reversal_told(
                await self.commit(lambda c: self._routing.undone(c, transaction_id, None, today=today))
            )

    def _insist(self, order: DebitOrder, cause: ReversalCause) -> asyncio.Task[ReversalAnswer]:
        transaction_id = order.transaction_id
        task = self._undoing.get(transaction_id)
        if task is None:
            nudge = self._nudges[transaction_id] = asyncio.Event()
            task = self._keep(self._undoing, transaction_id, self._undo(order, cause, nudge))
            task.add_done_callback(lambda _: self._nudges.pop(transaction_id))
        else:
            self._nudges[transaction_id].set()
        if (asking := self._asking.get(transaction_id)) is not None:
            asking.cancel()  # the door is shut: this debit is not sent again
        return task

    async def _undo(self, order: DebitOrder, cause: ReversalCause, nudge: asyncio.Event) -> ReversalAnswer:
        assert order.home_region is not None, "what is sent is stamped"
        region, transaction_id = order.home_region, order.transaction_id

        async def send() -> ReversalAnswer:
            today = self.today
            if self._routing.waits(region, today):
                return Undecided()
            if region in self._book.cities:
                turn = await self.commit(lambda c: self._routing.reverse(c, order, today=today))
                return Undecided() if turn.effect is not None else reversal_answer(turn)
            answer = await self._links[region].reverse(order, cause)
            return Undecided() if isinstance(answer, Accepted) else answer  # a promise is not the deed

        answer = await insist(send, self._waits.backoff, call_s=self._waits.patience.call_s, nudge=nudge)
        today = self.today
        return reversal_told(
            await self._recorded(
                lambda c: self._noted(c, self._routing.undone(c, transaction_id, answer, today=today), order)
            )
        )

    async def _once(self, call: Callable[[LedgerLink, Region], Awaitable[T]], turn: Turn) -> T | None:
        """One call to the row's city; None where it did not answer, or is closed: then it is sent nothing.

        None too where it is ours, and was closed until just now: it is asked in the next commit.
        """
        region = Region(turn.route.home_region)
        if self._routing.waits(region, self.today) or region in self._book.cities:
            return None
        try:
            async with asyncio.timeout(self._waits.patience.call_s):
                return await call(self._links[region], region)
        except (LinkDown, TimeoutError):
            return None

    # --- inside ---------------------------------------------------------------------------------------------------

    def _noted(self, connection: apsw.Connection, turn: Turn, order: DebitOrder | None = None) -> Turn:
        """Keeps, with the turn's own record, since when its reversal waits, and that people must look at a refusal."""
        at, transaction_id = self._clock.now().isoformat(), turn.route.transaction_id
        if turn.effect in (Effect.REVERSE, Effect.TOMBSTONE):
            note_waiting(connection, transaction_id, since=at)
        elif turn.route.state is State.REVDONE:
            note_settled(connection, transaction_id)
        if order is not None and turn.reply in REFUSALS and order.terminal_id == turn.route.terminal_id:
            answer = reversal_answer(turn)
            assert isinstance(answer, Denied), "a refusal is told as one"
            self._tickets.file(connection, order, answer.reason, at=at)
        return turn

    async def commit(self, job: Callable[[apsw.Connection], T]) -> T:
        """Raises YikatongError STORE_UNAVAILABLE: whether the record is on the disk is then unknown."""
        return await self.commit_then(job, lambda result: result)

    async def commit_then(self, job: Callable[[apsw.Connection], T], then: Callable[[T], U]) -> U:
        """As `commit`; `then` begins what the record demands, also where the caller has left (see DurableStore)."""
        try:
            return await self._store.commit_then(job, then)
        except asyncio.CancelledError:  # who leaves would not hear that the commit failed: we look after it
            self._work.begin("", self.commit(lambda connection: None))
            raise
        except StoreFailed as error:
            if self._store.failed:
                self.store_failed.set()
            raise YikatongError(Reason.STORE_UNAVAILABLE, str(error), outcome=Moved.PENDING.value) from error

    async def _recorded(self, job: Callable[[apsw.Connection], T]) -> T:
        """What a city has said is recorded, however much there is to do: nobody else might ever ask again."""
        attempt = 0
        while True:
            try:
                return await self.commit(job)
            except YikatongError:
                if self._store.failed:
                    raise
            attempt += 1
            await asyncio.sleep(self._waits.backoff(attempt))

    def _keep(
        self, tasks: dict[str, asyncio.Task[T]], transaction_id: str, work: Coroutine[Any, Any, T]
    ) -> asyncio.Task[T]:
        """Begins the transaction's one task of its kind."""
        task = tasks[transaction_id] = self._work.begin(transaction_id, work)
        task.add_done_callback(lambda _: tasks.pop(transaction_id))
        return task


def _confirmation_told(turn: Turn) -> ConfirmAnswer:
    if turn.reply is Reply.CONFIRMED:
        transaction_id = turn.route.transaction_id
        asyncio.get_running_loop().call_soon(partial(_log.info, "confirmed", transaction_id=transaction_id))
        return Confirmed()
    return ConfirmedTooLate() if turn.reply is Reply.TOO_LATE else Undecided()
