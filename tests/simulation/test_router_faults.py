"""Router and far ledger under a seed's faults: links that lose, delay and repeat, a gateway that dies and forgets.

Real code and real SQLite files, two of them: no transaction spans the route log and the far city's ledger. Each seed
decides who asks what and what is lost. Once the faults stop, every transaction is final, what was told is what is in
the ledger, nothing has moved twice, and both cities' books agree.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import apsw
import pytest

from tests.gateway_world import FAR, HERE, PHARMACY, TERMINAL, order, payer, person
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
    WasDeclined,
)
from yikatong.core.values import Fen, Region
from yikatong.gateway import clearing_book, route_log
from yikatong.gateway.directory import SampleDirectory
from yikatong.gateway.partition import Partition
from yikatong.gateway.registry import Agreement, HomeCity, Member, Registry
from yikatong.gateway.router import Waits
from yikatong.gateway.routing import Rules
from yikatong.ledger import entries, report, seed
from yikatong.ledger.book import Book
from yikatong.ledger.link import BookLink
from yikatong.runtime.clock import SystemClock, accounting_date
from yikatong.runtime.keyfile import PersonKey
from yikatong.runtime.leg import LinkDown, Patience, ask, insist
from yikatong.runtime.store import Store

T = TypeVar("T")
SEEDS = range(int(os.environ.get("YIKATONG_SEEDS", "24")))
"""Some in every run; thousands on demand. A seed decides the faults, not the machine's own timing."""
DEBITS = 14
OPENING_FEN = 300_000
PATIENCE = Patience(total_s=0.06, call_s=0.03, resend_s=0.002, enquire_s=0.004)
WAITS = Waits(PATIENCE, accept_after_s=0.02, backoff=lambda _: 0.004)
NEAR_CITY, FAR_CITY = City(HERE, "济南", "Jinan"), City(FAR, "威海", "Weihai")
SEED_ACCOUNTS = [
    seed.SeedAccount(person(number).reveal(), home.code, balance_fen=OPENING_FEN)
    for number, home in ((1, FAR), (2, HERE))
]


class Trouble:
    """A line: loses calls and answers, delays and repeats them, until it is told to be well."""

    def __init__(self, dice: random.Random, rate: float) -> None:
        self._dice = dice
        self.rate = rate
        self.stragglers: set[asyncio.Task[object]] = set()

    async def carry(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._dice.random() < self.rate:  # a copy that arrives later, when everything may be over
            straggler: asyncio.Task[object] = asyncio.create_task(self._later(call))
            self.stragglers.add(straggler)
        if self._dice.random() < self.rate:
            raise LinkDown("the call was lost")
        answer = await call()
        if self._dice.random() < self.rate:
            raise LinkDown("the answer was lost")
        return answer

    async def _later(self, call: Callable[[], Awaitable[T]]) -> object:
        await asyncio.sleep(self._dice.random() * 0.3)
        try:
            return await call()
        except LinkDown:
            return None

    async def drain(self) -> None:
        await asyncio.gather(*self.stragglers)


class LossyLedger:
    """The far city, over a troubled line."""

    def __init__(self, ledger: BookLink, line: Trouble) -> None:
        self._ledger, self._line = ledger, line

    async def account(self, payer: Payer, home_region: Region | None) -> Account:
        return await self._line.carry(lambda: self._ledger.account(payer, home_region))

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        return await self._line.carry(lambda: self._ledger.debit(order, attempt=attempt, ttl_ms=ttl_ms))

    async def enquire(self, order: DebitOrder) -> DebitAnswer:
        return await self._line.carry(lambda: self._ledger.enquire(order))

    async def enquire_id(self, transaction_id: str, region: Region) -> DebitAnswer:
        return await self._line.carry(lambda: self._ledger.enquire_id(transaction_id, region))

    async def reverse(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer:
        return await self._line.carry(lambda: self._ledger.reverse(order, cause))

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer:
        return await self._line.carry(lambda: self._ledger.confirm(order))


class Gateway:
    """A gateway that can die, come back, and forget; and the terminal's troubled line to it."""

    def __init__(self, folder: Path, far: LossyLedger, line: Trouble) -> None:
        self._folder, self._far, self._line = folder, far, line
        self._calls: set[asyncio.Task[object]] = set()
        self.partition: Partition | None = None
        self.forgot = False

    async def start(self) -> None:
        registry = Registry(
            [HomeCity(NEAR_CITY, "OPEN", "", "9", "", ""), HomeCity(FAR_CITY, "OPEN", "", "9", "far", "")],
            [Member(PHARMACY, "测试药店", HERE, Agreement.ACTIVE)],
            {TERMINAL: PHARMACY},
        )
        self.partition = await Partition.open(
            self._folder / "gateway.db",
            embedded={HERE: NEAR_CITY},
            links={FAR: self._far},
            registry=registry,
            directory=SampleDirectory(
                seed.SeedPerson(account.social_security_number, account.home_region) for account in SEED_ACCOUNTS
            ),
            rules=Rules(fenced=False, debit_max=Fen(10**8)),
            clock=SystemClock(),
            waits=WAITS,
            accounts=SEED_ACCOUNTS,
        )
        await self.partition.router.start()

    async def die(self, *, forget: bool) -> None:
        """Every call and every task ends in the middle. `forget`: route rows (never guards or promises) are lost."""
        assert self.partition is not None
        partition, self.partition = self.partition, None
        for call in list(self._calls):
            call.cancel()
        await partition.close()
        if forget:
            self.forgot = True
            connection = apsw.Connection(str(self._folder / "gateway.db"))
            connection.execute("DROP TRIGGER claim_is_never_deleted")
            connection.execute(
                "DELETE FROM claim WHERE transaction_id IN (SELECT transaction_id FROM route "
                "WHERE state NOT IN ('REV', 'REVDONE', 'REJECTED'))"
            )
            connection.execute("DELETE FROM route WHERE state NOT IN ('REV', 'REVDONE', 'REJECTED')")
            connection.execute(
                "CREATE TRIGGER claim_is_never_deleted BEFORE DELETE ON claim BEGIN SELECT RAISE(ABORT, ''); END"
            )
            connection.close()
        await self.start()

    async def _call(self, call: Callable[[Partition], Awaitable[T]]) -> T:
        async def received() -> T:
            if self.partition is None:
                raise LinkDown("the gateway is down")
            task = asyncio.ensure_future(call(self.partition))
            self._calls.add(task)  # type: ignore[arg-type]  # a task of something
            task.add_done_callback(self._calls.discard)
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():
                    raise LinkDown("the gateway died") from None
                raise

        return await self._line.carry(received)

    async def account(self, payer: Payer, home_region: Region | None) -> Account:
        return await self._call(lambda p: p.router.account(payer))

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        return await self._call(lambda p: p.router.debit(order, attempt=attempt, ttl_ms=ttl_ms))

    async def enquire(self, order: DebitOrder) -> DebitAnswer:
        return await self._call(lambda p: p.router.enquire(order.transaction_id, order.terminal_id))

    async def reverse(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer:
        return await self._call(lambda p: p.router.reverse(order, cause))

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer:
        return await self._call(lambda p: p.router.confirm(order))


async def one_debit(gateway: Gateway, debit: DebitOrder, dice: random.Random) -> str:
    """A terminal's way through one debit; what the caller is told in the end."""
    patience = Patience(total_s=dice.choice([0.02, 0.15]), call_s=0.08, resend_s=0.003, enquire_s=0.005)
    answer = await ask(gateway, debit, patience)
    if isinstance(answer, Declined | AlreadyReversed):
        return "DECLINED"
    assert isinstance(answer, Posted | None), answer
    if isinstance(answer, Posted) and dice.random() < 0.6:
        confirmed = await insist(lambda: gateway.confirm(debit), lambda _: 0.005, call_s=0.2)
        assert confirmed == Confirmed()
        return "APPROVED"
    while True:
        undone = await insist(lambda: gateway.reverse(debit, ReversalCause.TIMEOUT), lambda _: 0.005, call_s=0.2)
        if isinstance(undone, Reversed | Tombstoned | WasDeclined):
            return "REVERSED"
        assert not isinstance(undone, Undecided)
        await asyncio.sleep(0.005)  # ACCEPTED: asked again until the proof is there


@pytest.mark.parametrize("number", SEEDS)
async def test_whatever_is_lost_money_moves_once_or_not_at_all(number: int, tmp_path: Path) -> None:
    dice = random.Random(number)
    far_store = Store(tmp_path / "far.db", application_id=1, version=1, schema=entries.SCHEMA)
    book = Book({FAR: FAR_CITY}, PersonKey(b"k" * 32))
    today = accounting_date(SystemClock().now())
    await far_store.commit(lambda c: seed.open_accounts(c, book, SEED_ACCOUNTS, date=today))
    to_city, to_gateway = Trouble(dice, dice.uniform(0, 0.6)), Trouble(dice, dice.uniform(0, 0.4))
    gateway = Gateway(tmp_path, LossyLedger(BookLink(far_store, book, SystemClock()), to_city), to_gateway)
    await gateway.start()

    debits = [order(dice.choice([1, 2]), amount_fen=dice.choice([100, 30_000, 90_000])) for _ in range(DEBITS)]

    async def deaths() -> None:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(dice.random() * 0.15)
            await gateway.die(forget=dice.random() < 0.4)

    # Deaths end before the waiting does: a promise needs someone who keeps it.
    told, _ = await asyncio.gather(
        asyncio.gather(*(one_debit(gateway, debit, dice) for debit in debits)),
        deaths(),
    )
    to_city.rate = to_gateway.rate = 0.0
    await to_gateway.drain()
    await to_city.drain()
    assert gateway.partition is not None
    partition = gateway.partition
    while await partition.store.commit(lambda c: [r for r in route_log.unfinished(c) if r.state.value == "REV"]):
        await asyncio.sleep(0.005)

    near = await partition.store.commit(lambda c: dict(c.execute("SELECT transaction_id, state FROM txn")))
    far = await far_store.commit(lambda c: dict(c.execute("SELECT transaction_id, state FROM txn")))
    for debit, outcome in zip(debits, told, strict=True):
        state = {**near, **far}.get(debit.transaction_id, "NONE")
        if outcome == "APPROVED":
            assert state == "CONFIRMED"
        else:
            assert state in ("NONE", "DECLINED", "REVERSED", "TOMBSTONE"), outcome
    for store, number_, region in ((far_store, 1, FAR), (partition.store, 2, HERE)):
        approved = sum(
            debit.amount.count
            for debit, outcome in zip(debits, told, strict=True)
            if outcome == "APPROVED" and debit.payer == payer(number_)
        )
        totals = await store.commit(lambda c, region=region: report.totals(c, region))
        assert totals.personal == Fen(OPENING_FEN - approved)
        assert await store.commit(report.audit) == []
        assert totals.payable.get(HERE.code, Fen(0)) == Fen(approved)
        if not gateway.forgot:  # lost claims are found again by reconciliation, from the cities' entries
            claims = await partition.store.commit(lambda c: clearing_book.balances(c, HERE.code))
            assert claims.get(f"receivable:{region}", Fen(0)) == Fen(approved)
    assert await partition.store.commit(clearing_book.audit) == []
    await partition.close()
    await far_store.close()
