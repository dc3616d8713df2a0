"""The gateway's router over a far city whose answers and silence are scripted: who leaves, what is lost or said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import apsw
import pytest

from tests.gateway_world import FAR, HERE, OTHER_TERMINAL, PHARMACY, TERMINAL, order, person
from yikatong.core.credit_orders import CreditAnswer, CreditKind, CreditOrder
from yikatong.core.orders import (
    Account,
    AlreadyReversed,
    City,
    ConfirmAnswer,
    Confirmed,
    DebitAnswer,
    DebitOrder,
    Declined,
    Payer,
    Posted,
    ReversalAnswer,
    ReversalCause,
    Reversed,
    Tombstoned,
    Undecided,
)
from yikatong.core.reasons import Reason
from yikatong.core.reconciliation import Kind, Row, Standing
from yikatong.core.values import Fen, Region, RequestId, TransactionId
from yikatong.gateway import clearing_book, route_log
from yikatong.gateway.books import Books
from yikatong.gateway.directory import SampleDirectory
from yikatong.gateway.partition import Partition
from yikatong.gateway.reconciliation import Terminals
from yikatong.gateway.registry import Agreement, HomeCity, Member, Registry
from yikatong.gateway.resolution import Resolutions
from yikatong.gateway.resolution_rpc import _row
from yikatong.gateway.router import Waits
from yikatong.gateway.routing import Rules
from yikatong.gateway.tickets import Decision
from yikatong.gateway.unresolved import Unsettled
from yikatong.ledger import entries, seed
from yikatong.ledger.book import Book
from yikatong.ledger.link import BookLink
from yikatong.runtime.clock import SystemClock, accounting_date
from yikatong.runtime.keyfile import PersonKey
from yikatong.runtime.leg import LinkDown, Patience
from yikatong.runtime.store import Asked, Job, Outcome, Store

T = TypeVar("T")
U = TypeVar("U")
TTL = 9_000
WAITS = Waits(Patience(0.3, 0.15, 0.01, 0.02), accept_after_s=0.1, backoff=lambda _: 0.01)
NEAR_CITY, FAR_CITY = City(HERE, "济南", "Jinan"), City(FAR, "威海", "Weihai")
OPENING_FEN = 100_000


class Script:
    """The far city: an honest ledger, whose line can be cut, and whose answers can be replaced."""

    def __init__(self, ledger: BookLink) -> None:
        self.ledger, self.calls = ledger, list[str]()
        self.silent, self.says = False, dict[str, Callable[[DebitAnswer], DebitAnswer]]()

    async def _carry(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(name)
        if self.silent:
            raise LinkDown("silent")
        answer = await call()
        return self.says[name](answer) if name in self.says else answer  # type: ignore[arg-type, return-value]

    async def account(self, payer: Payer, home_region: Region | None) -> Account:
        return await self.ledger.account(payer, home_region)

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        return await self._carry("debit", lambda: self.ledger.debit(order, attempt=attempt, ttl_ms=ttl_ms))

    async def enquire(self, order: DebitOrder) -> DebitAnswer:
        return await self._carry("enquire", lambda: self.ledger.enquire(order))

    async def enquire_id(self, transaction_id: str, region: Region) -> DebitAnswer:
        return await self._carry("enquire_id", lambda: self.ledger.enquire_id(transaction_id, region))

    async def reverse(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer:
        return await self._carry("reverse", lambda: self.ledger.reverse(order, cause))

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer:
        return await self._carry("confirm", lambda: self.ledger.confirm(order))

    async def credit(self, order: CreditOrder, *, attempt: int) -> CreditAnswer:
        return await self._carry("credit", lambda: self.ledger.credit(order, attempt=attempt))


class SlowStore(Store):
    """Commits as ever; the news of it comes late, as from a disk that takes long to sync."""

    late: asyncio.Event | None = None

    def __init__(self, path: Path, *, application_id: int, version: int, schema: str) -> None:
        super().__init__(path, application_id=application_id, version=version, schema=schema)
        self.telling = list[asyncio.Task[None]]()

    async def commit_then(self, job: Job[T], then: Callable[[T], U]) -> U:
        late = self.late
        if late is None:
            return await super().commit_then(job, then)
        asked = Asked(asyncio.get_running_loop().create_future(), job, then)

        async def tell(result: T) -> None:
            await late.wait()
            asked.hand_over(Outcome(result))

        await super().commit_then(job, lambda result: self.telling.append(asyncio.create_task(tell(result))))
        told: U = await asked.slip
        return told

    async def now(self, job: Job[T]) -> T:
        """What is in the file, however late the news."""
        return await super().commit_then(job, lambda result: result)


@dataclass
class Clock(SystemClock):
    days: int = 0

    def now(self) -> datetime:
        return super().now() + timedelta(days=self.days)


@dataclass
class Gate:
    """A gateway whose parts are at hand."""

    folder: Path
    far: Script
    far_store: Store
    clock: Clock = field(default_factory=Clock)
    persons: dict[int, Region] = field(default_factory=lambda: {1: FAR, 2: HERE})
    debit_max: int = 10**8
    fenced: bool = False
    far_state: str = "OPEN"
    partition: Partition | None = None
    registry: Registry | None = None

    async def start(self) -> Partition:
        self.registry = Registry(
            [HomeCity(NEAR_CITY, "OPEN", "", "9", "", ""), HomeCity(FAR_CITY, self.far_state, "", "9", "far", "")],
            [Member(PHARMACY, "测试药店", HERE, Agreement.ACTIVE)],
            {TERMINAL: PHARMACY, OTHER_TERMINAL: PHARMACY},
        )
        self.partition = await Partition.open(
            self.folder / "gateway.db",
            embedded={HERE: NEAR_CITY},
            links={FAR: self.far},
            registry=self.registry,
            directory=SampleDirectory(
                seed.SeedPerson(person(number).reveal(), home.code) for number, home in self.persons.items()
            ),
            rules=Rules(fenced=self.fenced, debit_max=Fen(self.debit_max)),
            clock=self.clock,
            waits=WAITS,
            accounts=[seed.SeedAccount(person(n).reveal(), HERE.code, balance_fen=OPENING_FEN) for n in (1, 2)],
            open_store=SlowStore,
        )
        await self.partition.router.start()
        return self.partition

    async def again(self, *, forget: str = "") -> Partition:
        """A new process; `forget`: which rows are lost with their claims."""
        assert self.partition is not None
        await self.partition.close()
        if forget:
            connection = apsw.Connection(str(self.folder / "gateway.db"))
            connection.execute("DROP TRIGGER claim_is_never_deleted")
            connection.execute(
                f"DELETE FROM claim WHERE transaction_id IN (SELECT transaction_id FROM route WHERE {forget})"
            )
            connection.execute(f"DELETE FROM route WHERE {forget}")
            connection.execute(
                "CREATE TRIGGER claim_is_never_deleted BEFORE DELETE ON claim BEGIN SELECT RAISE(ABORT, ''); END"
            )
            connection.close()
        return await self.start()

    async def rows(self, sql: str) -> list[tuple[object, ...]]:
        assert self.partition is not None
        return await self.partition.store.commit(lambda c: c.execute(sql).fetchall())

    async def far_rows(self, sql: str) -> list[tuple[object, ...]]:
        return await self.far_store.commit(lambda c: c.execute(sql).fetchall())

    async def becomes(self, sql: str, wanted: list[tuple[object, ...]]) -> None:
        try:
            async with asyncio.timeout(2):
                while await self.rows(sql) != wanted:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            assert await self.rows(sql) == wanted


ANY = "state NOT IN ('REV', 'REJECTED')"
"""What the router's table says may be lost without harm."""


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[Gate]:
    far_store = Store(folder / "far.db", application_id=1, version=1, schema=entries.SCHEMA)
    book = Book({FAR: FAR_CITY}, PersonKey(b"k" * 32))
    accounts = [seed.SeedAccount(person(n).reveal(), FAR.code, balance_fen=OPENING_FEN) for n in (1, 2)]
    today = accounting_date(SystemClock().now())
    await far_store.commit(lambda c: seed.open_accounts(c, book, accounts, date=today))
    gate = Gate(folder, Script(BookLink(far_store, book, SystemClock())), far_store)
    await gate.start()
    try:
        yield gate
    finally:
        assert gate.partition is not None
        await gate.partition.close()
        await far_store.close()


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    async with world(tmp_path) as made:
        yield made


async def leave_while_it_is_written(gate: Gate, call: Awaitable[object]) -> None:
    """The caller leaves (its process dies, its line breaks) between the commit and the news of it."""
    assert gate.partition is not None
    store = gate.partition.store
    assert isinstance(store, SlowStore)
    store.late = asyncio.Event()
    asking = asyncio.ensure_future(call)
    async with asyncio.timeout(2):
        while not await store.now(lambda c: c.execute("SELECT 1 FROM route WHERE state IN ('FWD','REV')").fetchall()):
            await asyncio.sleep(0.005)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    store.late.set()
    store.late = None


# --- who works on what is written -------------------------------------------------------------------------------


async def test_a_debit_whose_caller_leaves_while_it_is_written_is_asked_about(gate: Gate) -> None:
    """FWD is durable, nobody asks the city: if the terminal stays away the order is held until the next start."""
    assert gate.partition is not None
    debit = order(1)
    await leave_while_it_is_written(gate, gate.partition.router.debit(debit, attempt=1, ttl_ms=TTL))
    await asyncio.sleep(0.3)
    assert gate.far.calls, "nobody works on a debit that is recorded as forwarded"


async def test_a_reversal_whose_caller_leaves_while_it_is_written_is_insisted_on(gate: Gate) -> None:
    """REV is durable: the money has to go back whether or not the terminal ever comes again."""
    assert gate.partition is not None
    router, debit = gate.partition.router, order(1)
    assert isinstance(await router.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    await leave_while_it_is_written(gate, router.reverse(debit, ReversalCause.TIMEOUT))
    await gate.becomes("SELECT state FROM route", [("REVDONE",)])


async def test_a_decision_of_people_whose_caller_leaves_is_carried_out(gate: Gate) -> None:
    """`undo` for an adopted debit: the operator's tool is interrupted just then."""
    assert gate.partition is not None
    router, debit = gate.partition.router, order(1)
    assert isinstance(await router.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    await leave_while_it_is_written(gate, router.undo(debit))
    await gate.becomes("SELECT state FROM route", [("REVDONE",)])


# --- DEBIT_SEEN -------------------------------------------------------------------------------------------------


async def seen(gate: Gate, debit: DebitOrder, *, confirm: bool = True, forget: str = ANY) -> Posted:
    assert gate.partition is not None
    posted = await gate.partition.router.debit(debit, attempt=1, ttl_ms=TTL)
    assert isinstance(posted, Posted)
    if confirm:
        assert await gate.partition.router.confirm(debit) == Confirmed()
    await gate.again(forget=forget)
    return posted


async def test_a_seen_debit_is_asked_on_when_its_caller_leaves_before_the_city_answers(gate: Gate) -> None:
    """`_enquired` begins the asking only after its own call came back: a caller who leaves takes it along."""
    debit = order(1)
    await seen(gate, debit)
    assert gate.partition is not None
    stuck, enquire = asyncio.Event(), gate.far.enquire_id

    async def hanging(transaction_id: str, region: Region) -> DebitAnswer:
        gate.far.calls.append("hanging")
        await stuck.wait()
        raise LinkDown("hung")

    gate.far.enquire_id = hanging  # type: ignore[method-assign]
    asking = asyncio.create_task(gate.partition.router.debit(debit, attempt=1, ttl_ms=0))
    async with asyncio.timeout(2):
        while "hanging" not in gate.far.calls:
            await asyncio.sleep(0.005)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gate.far.enquire_id = enquire  # type: ignore[method-assign]
    await gate.becomes("SELECT state FROM route", [("CONFIRMED",)])


async def test_a_seen_debit_is_asked_on_while_its_city_does_not_know_yet(gate: Gate) -> None:
    """A city that says UNKNOWN (it works on it) has said nothing: the row stays open, and nobody asks again."""
    debit = order(1)
    await seen(gate, debit)
    assert gate.partition is not None
    gate.far.says["enquire_id"] = lambda answer: Undecided()
    assert await gate.partition.router.debit(debit, attempt=1, ttl_ms=0) == Undecided()
    del gate.far.says["enquire_id"]
    await gate.becomes("SELECT state FROM route", [("CONFIRMED",)])


async def test_a_forwarded_debit_is_asked_on_while_its_city_does_not_know_yet(gate: Gate) -> None:
    """The same without anything lost: the city posts, its answers are lost, then it says UNKNOWN for a while."""
    assert gate.partition is not None
    debit = order(1)

    def lost(answer: DebitAnswer) -> DebitAnswer:
        raise LinkDown("lost")

    gate.far.says = {"debit": lost, "enquire": lost, "enquire_id": lambda answer: Undecided()}
    assert await gate.partition.router.debit(debit, attempt=1, ttl_ms=TTL) == Undecided()
    async with asyncio.timeout(2):
        while "enquire_id" not in gate.far.calls:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    gate.far.says = {}
    await gate.becomes("SELECT state FROM route", [("POSTED",)])


@pytest.mark.parametrize("attempt", [1, 2])
async def test_what_was_here_is_not_declined_when_its_person_is_no_longer_listed(gate: Gate, attempt: int) -> None:
    """No home is found any more: the debit that is posted is REJECTED, and its terminal told DECLINED."""
    debit = order(1)
    gate.persons = {1: FAR}
    await seen(gate, debit, confirm=False)
    assert gate.partition is not None
    gate.persons = {2: HERE}
    router = (await gate.again()).router
    answer = await router.debit(debit, attempt=attempt, ttl_ms=TTL)
    assert await gate.far_rows("SELECT state FROM txn") == [("POSTED",)]
    assert not isinstance(answer, Declined), "told as not moved, and it is posted"


async def test_what_was_here_is_not_posted_in_a_second_city(gate: Gate) -> None:
    """Row lost, person moved: its guards say that it was here, and it is forwarded as new to another ledger."""
    debit = order(1)
    gate.persons = {1: FAR}
    await seen(gate, debit)
    gate.persons = {1: HERE}
    router = (await gate.again()).router
    await router.debit(debit, attempt=2, ttl_ms=TTL)
    assert await gate.far_rows("SELECT state FROM txn") == [("CONFIRMED",)]
    assert await gate.rows("SELECT state FROM txn WHERE state IN ('POSTED', 'CONFIRMED')") == []


async def test_a_seen_debit_keeps_its_order_from_others_and_claims_once_on_its_own_date(gate: Gate) -> None:
    """On another day: the claim is booked once, on the ledger's date, and the order stays paid."""
    debit = order(1)
    posted = await seen(gate, debit)
    gate.clock.days, gate.debit_max = 1, 100
    router = (await gate.again()).router
    answers = await asyncio.gather(*(router.debit(debit, attempt=1, ttl_ms=0) for _ in range(4)))
    assert set(answers) == {replace(posted, confirmed=True)}
    assert await gate.rows("SELECT accounting_date, state, claimed FROM route") == [
        (posted.accounting_date, "CONFIRMED", 1)
    ]
    assert await gate.rows("SELECT kind, amount_fen, accounting_date FROM claim ORDER BY amount_fen DESC") == [
        ("DEBIT", 3_650, posted.accounting_date), ("DEBIT", -3_650, posted.accounting_date)
    ]  # fmt: skip
    twin = order(1, order_no=debit.order_no, terminal_id=OTHER_TERMINAL, amount_fen=50)
    assert await router.debit(twin, attempt=1, ttl_ms=TTL) == Declined(Reason.ORDER_ALREADY_PAID, debit.transaction_id)
    assert gate.partition is not None
    assert await gate.partition.store.commit(clearing_book.audit) == []


async def test_a_seen_debit_whose_order_was_passed_on_is_told_its_own_end(gate: Gate) -> None:
    """It was declined by its city, another transaction took the order and paid; its row is lost, and it comes again."""
    assert gate.partition is not None
    router, first = gate.partition.router, order(1, amount_fen=OPENING_FEN + 1)
    assert await router.debit(first, attempt=1, ttl_ms=TTL) == Declined(Reason.INSUFFICIENT_BALANCE)
    second = order(1, order_no=first.order_no)
    assert isinstance(await router.debit(second, attempt=1, ttl_ms=TTL), Posted)
    router = (await gate.again(forget=f"transaction_id = '{first.transaction_id}'")).router
    for _ in range(2):
        assert await router.debit(first, attempt=1, ttl_ms=TTL) == Declined(Reason.INSUFFICIENT_BALANCE)
    third = order(1, order_no=first.order_no)
    paid = Declined(Reason.ORDER_ALREADY_PAID, second.transaction_id)
    assert await router.debit(third, attempt=1, ttl_ms=TTL) == paid


async def test_a_seen_debit_while_its_city_is_closed_is_settled_once_it_opens(gate: Gate) -> None:
    debit = order(1)
    await seen(gate, debit)
    gate.far_state = "CLOSED_FOR_MAINTENANCE"
    router = (await gate.again()).router
    assert await router.debit(debit, attempt=1, ttl_ms=TTL) == Undecided()
    assert gate.registry is not None
    gate.registry.cities[FAR] = replace(gate.registry.cities[FAR], state="OPEN")
    await gate.becomes("SELECT state FROM route", [("CONFIRMED",)])


async def test_a_seen_debit_that_is_reversed_and_forgotten_is_told_as_reversed_without_a_claim(gate: Gate) -> None:
    assert gate.partition is not None
    router, debit = gate.partition.router, order(1)
    assert isinstance(await router.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    assert isinstance(await router.reverse(debit, ReversalCause.TIMEOUT), Reversed)
    router = (await gate.again(forget=ANY)).router
    assert await router.debit(debit, attempt=1, ttl_ms=0) == AlreadyReversed()
    assert isinstance(await router.reverse(debit, ReversalCause.TIMEOUT), Reversed | Tombstoned)
    assert await gate.rows("SELECT state, claimed FROM route") == [("REVDONE", 0)]
    assert await gate.rows("SELECT 1 FROM claim") == []


# --- a city's word ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["", "20260102", "2026-02-30", "tomorrow"])
async def test_a_city_whose_accounting_date_is_none_does_not_end_the_gateway(gate: Gate, date: str) -> None:
    """The list of what does not settle reads every posted row's date; where that raises the gateway leaves for good."""
    assert gate.partition is not None
    assert gate.registry is not None
    router = gate.partition.router
    gate.far.says["debit"] = lambda a: replace(a, accounting_date=date) if isinstance(a, Posted) else a
    await router.debit(order(1), attempt=1, ttl_ms=TTL)
    books = Books(gate.partition.store, gate.registry, {}, gate.partition.acts)
    gate.clock.days = 400
    unsettled = Unsettled(router, gate.registry, books, gate.clock)
    looking = asyncio.create_task(unsettled.run())
    await asyncio.sleep(0.2)
    ended = looking.done()
    looking.cancel()
    await asyncio.wait({looking})
    assert not ended, "a background task that ends takes the whole gateway out of service, again at each start"


async def test_what_its_city_has_never_heard_of_is_listed_when_its_terminal_stays_away(gate: Gate) -> None:
    """FWD, NOT_FOUND, no terminal: it holds its order for ever, and nobody is told of it."""
    assert gate.partition is not None
    assert gate.registry is not None
    router, debit = gate.partition.router, order(1)
    gate.far.silent = True
    assert await router.debit(debit, attempt=1, ttl_ms=TTL) == Undecided()
    gate.far.silent = False
    await asyncio.sleep(0.1)
    gate.clock.days = 3
    again = order(1, order_no=debit.order_no, terminal_id=OTHER_TERMINAL)
    blocked = Declined(Reason.ORDER_IN_PROGRESS, debit.transaction_id)
    assert await router.debit(again, attempt=1, ttl_ms=TTL) == blocked
    books = Books(gate.partition.store, gate.registry, {}, gate.partition.acts)
    rows = await router.commit(Unsettled(router, gate.registry, books, gate.clock)._own)
    assert [row.transaction_id for row in rows] == [debit.transaction_id]


async def test_what_was_here_is_not_told_as_undone_when_its_person_is_no_longer_listed(gate: Gate) -> None:
    """The reversal of an unanswered debit finds no home: TOMBSTONED by a gateway that knows it was here."""
    debit = order(1)
    gate.persons = {1: FAR}
    await seen(gate, debit, confirm=False)
    gate.persons = {2: HERE}
    router = (await gate.again()).router
    told = await router.reverse(debit, ReversalCause.TIMEOUT)
    assert isinstance(told, Reversed)
    assert await gate.far_rows("SELECT state FROM txn") == [("REVERSED",)]


async def test_the_reversal_of_what_was_here_goes_where_it_was_posted(gate: Gate) -> None:
    """Row lost, person moved, terminal never heard where it went: tombstoned in the new city, posted in the old one."""
    debit = order(1)
    gate.persons = {1: FAR}
    await seen(gate, debit, confirm=False)
    gate.persons = {1: HERE}
    router = (await gate.again()).router
    told = await router.reverse(debit, ReversalCause.TIMEOUT)
    assert await gate.far_rows("SELECT state FROM txn") == [("REVERSED",)], told


async def test_a_confirmation_that_meets_the_opening_of_its_city_is_no_internal_error(gate: Gate) -> None:
    """Closed as it is recorded, open as it is sent: an embedded city has no link to send to."""
    assert gate.partition is not None
    assert gate.registry is not None
    router, store, debit = gate.partition.router, gate.partition.store, order(2)
    assert isinstance(store, SlowStore)
    assert isinstance(await router.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    near = gate.registry.cities[HERE]
    gate.registry.cities[HERE] = replace(near, state="CLOSED_FOR_MAINTENANCE")
    store.late = asyncio.Event()
    confirming = asyncio.create_task(router.confirm(debit))
    await asyncio.sleep(0.1)
    gate.registry.cities[HERE] = near
    store.late.set()
    assert await confirming in (Confirmed(), Undecided())
    await gate.becomes("SELECT state FROM route", [("CONFIRMED",)])


async def test_a_reversal_that_comes_as_people_uphold_the_debit_is_no_internal_error(gate: Gate) -> None:
    """`settle_refused` asks the city while nobody insists; then a reversal begins, and the row says CONFIRMED."""
    assert gate.partition is not None
    router, debit = gate.partition.router, order(1)
    assert isinstance(await router.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    await gate.far.ledger.confirm(replace(debit, home_region=FAR))  # by a copy of the terminal
    await router.reverse(debit, ReversalCause.TIMEOUT)
    asked, answer, enquire = asyncio.Event(), asyncio.Event(), gate.far.enquire_id

    async def later(transaction_id: str, region: Region) -> DebitAnswer:
        asked.set()
        await answer.wait()
        return await enquire(transaction_id, region)

    gate.far.enquire_id = later  # type: ignore[method-assign]
    settling = asyncio.create_task(router.settle_refused(debit.transaction_id))
    await asked.wait()
    gate.far.silent = True
    reversing = asyncio.create_task(router.reverse(debit, ReversalCause.TIMEOUT))
    await asyncio.sleep(0.02)
    gate.far.silent = False
    answer.set()
    route = await settling
    assert route is not None
    assert route.state is route_log.State.CONFIRMED
    await reversing


async def test_a_credit_whose_caller_leaves_while_it_is_written_is_pushed(gate: Gate) -> None:
    """FWD is durable, nobody pushes it: what the patient is owed waits for the terminal, or for the next start."""
    assert gate.partition is not None
    router, store, debit = gate.partition.router, gate.partition.store, order(1)
    assert isinstance(store, SlowStore)
    assert isinstance(await router.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    assert await router.confirm(debit) == Confirmed()
    ids = TransactionId("018f0000-0000-7000-8000-000000000001"), RequestId("refund-1")
    store.late = asyncio.Event()
    giving = asyncio.create_task(
        router.credits.credit(CreditOrder(ids[0], CreditKind.REFUND, debit, Fen(650), ids[1]), attempt=1)
    )
    async with asyncio.timeout(2):
        while not await store.now(lambda c: c.execute("SELECT 1 FROM credit_route").fetchall()):
            await asyncio.sleep(0.005)
    giving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await giving
    store.late.set()
    store.late = None
    await gate.becomes("SELECT state FROM credit_route", [("CREDITED",)])


async def test_an_adopted_debit_whose_row_is_lost_can_still_be_decided(gate: Gate) -> None:
    """Its ticket has the whole order; its terminal is gone and never asks again; so nobody ever makes the row anew."""
    assert gate.partition is not None
    debit = order(1)
    assert isinstance(await gate.partition.router.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    at, filed = gate.clock.now().isoformat(), gate.partition.tickets

    def adopt(connection: apsw.Connection) -> None:
        for route in route_log.unconfirmed_of(connection, TERMINAL):
            filed.adopt(connection, route, at=at)

    await gate.partition.store.commit(adopt)
    again = await gate.again(forget=ANY)
    resolutions = Resolutions(again.router, again.tickets, again.acts, gate.clock, again_s=0.05)
    for name in ("ann", "ben"):
        ticket = await resolutions.decide(debit.transaction_id, Decision.REVERSE, operator=name, why="test")
    assert ticket.outcome == "REVERSED"


async def test_a_terminals_own_word_does_not_hide_the_list(gate: Gate) -> None:
    """`since` is a terminal's text of up to 40 characters; where it is no time, no operator sees any row at all."""
    assert gate.partition is not None
    assert gate.registry is not None
    router, debit = gate.partition.router, order(1)
    assert isinstance(await router.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    today = router.today
    gate.clock.days = 1
    told = Row(
        debit.transaction_id, Kind.DEBIT, Standing.OPEN, 3_650, today, debit.order_no, "", debit.fingerprint.hex(),
        "MANUAL", "since this morning",
    )  # fmt: skip
    judged = await Terminals(router, gate.registry, gate.clock).judge(TERMINAL, today, {debit.transaction_id: told})
    assert [difference.found for difference in judged.found]
    books = Books(gate.partition.store, gate.registry, {}, gate.partition.acts)
    rows = await router.commit(Unsettled(router, gate.registry, books, gate.clock)._own)
    assert len([_row(row) for row in rows]) == 1
