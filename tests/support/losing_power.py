"""Work on a disk that loses power at any operation, and the proof that what was acknowledged is there afterwards.

A `Subject` works on a store, keeps what it was told is durable (`acknowledged`) beside what it began (`attempted`),
and recovers on what a loss of power has left. `lose_power` draws such disks by the thousand from a seed, and lets the
power fail again inside the recovery, two levels deep.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import apsw
import msgspec

from tests.support.rows import order, row
from yikatong.core import ledger_table
from yikatong.core.bill import Bill, Item
from yikatong.core.orders import City, DebitOrder, ReversalCause
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.values import Fen, Region
from yikatong.ledger import entries, report
from yikatong.ledger.book import Book
from yikatong.ledger.link import BookLink
from yikatong.runtime import store
from yikatong.runtime.clock import SystemClock
from yikatong.runtime.keyfile import PersonKey
from yikatong.runtime.store import DurableStore, Job, OpenStore, Store, StoreFailed
from yikatong.simulators.power_loss import Disk, Moment, Operation, PowerLossVfs
from yikatong.terminal.journal import Journal

T = TypeVar("T")
U = TypeVar("U")

VFS: Final = "power-loss"
WORK_STEPS: Final = 7
IMAGES_OF_A_WORK: Final = 250
DEPTH: Final = 2
"""So often may the power fail again inside the recovery from the failure before."""
_FAILS_AGAIN: Final = 0.1
_AGAIN: Final = 3


class Lost(AssertionError):
    """Something acknowledged is not there any more."""


class StoreInline:
    """The real store's file and transaction without its thread, which takes longer than all the rest of a recovery."""

    def __init__(self, path: Path, *, application_id: int, version: int, schema: str) -> None:
        self.failed = False
        try:
            self._connection = store.open_file(path, application_id, version, schema, VFS)
        except apsw.Error as error:
            raise StoreFailed(f"can't open: {type(error).__name__}") from error

    async def commit(self, job: Job[T]) -> T:
        (outcome,) = store.carry_out(self._connection, [job])
        if outcome.refusal is not None:
            raise outcome.refusal
        done: T = outcome.result
        return done

    async def look(self, job: Job[T]) -> T:
        return await self.commit(job)

    async def commit_then(self, job: Job[T], then: Callable[[T], U]) -> U:
        return then(await self.commit(job))

    async def close(self) -> None:
        self._connection.close()


@dataclass
class Claims:
    """What was begun, and what was acknowledged, each in its order."""

    attempted: list[Any] = field(default_factory=list)
    acknowledged: list[Any] = field(default_factory=list)

    def mark(self) -> tuple[int, int]:
        return len(self.attempted), len(self.acknowledged)

    def until(self, mark: tuple[int, int]) -> Claims:
        return Claims(self.attempted[: mark[0]], self.acknowledged[: mark[1]])


class Subject(Protocol):
    async def work(self, claims: Claims, dice: random.Random, open_store: OpenStore) -> None:
        """Works on the present disk, which is empty; claims."""

    async def recover(self, claims: Claims) -> None:
        """Opens what is on the present disk, compares it with the claims, and does what a start does. Raises Lost."""


class JournalSubject:
    """The terminal's journal."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal.db"

    async def work(self, claims: Claims, dice: random.Random, open_store: OpenStore) -> None:
        journal = Journal(self._path, open_store)
        await journal._read(_checkpoint_after(dice))  # a setting of the test's alone
        rows: list[Transaction] = []
        for _ in range(WORK_STEPS):
            what = dice.randrange(5)
            if what == 0 or not rows:
                bill = Bill((Item("阿莫西林", "X1", "L1", 1500, dice.randrange(1, 9999)),), (), 0, "op" * 700)
                rows.append(await self._record(journal, claims, row(State.SENT), bill))
            elif what == 1:
                rows += await asyncio.gather(*(self._record(journal, claims, row(State.SENT)) for _ in range(3)))
            elif what == 2:
                await journal.grant(dice.randrange(1, 99))
            else:
                changed = rows.pop(dice.randrange(len(rows)))
                state = dice.choice((State.APPROVED, State.DECLINED, State.HELD, State.REVERSING, State.REVERSED))
                await self._record(journal, claims, replace(changed, state=state))
        await journal.close()

    async def recover(self, claims: Claims) -> None:
        journal = Journal(self._path, StoreInline)
        try:
            await journal.prove()
            found = await journal._read(_whole_events)  # no public method shows the bytes of an event
            missing = set(claims.acknowledged) - set(found)
            if missing:
                raise Lost(f"{len(missing)} of {len(claims.acknowledged)} acknowledged events")
            begun = {(made.transaction_id, made.state): made for made in claims.attempted}
            for content in set(found) - set(claims.acknowledged):
                read = msgspec.json.decode(content, type=Transaction)
                assert read == replace(begun[read.transaction_id, read.state], sequence=read.sequence), "not whole"
            rows = {msgspec.json.decode(content, type=Transaction).sequence for content in found}
            head = await journal.head()
            assert (head.sequence, head.number) == (len(rows), len(found))
            assert rows == set(range(1, len(rows) + 1))
            for open_row in await journal.unresolved():
                if open_row.state is State.SENT:  # what a start does with it
                    await self._record(journal, claims, replace(open_row, state=State.REVERSING))
        finally:
            await journal.close()

    @staticmethod
    async def _record(journal: Journal, claims: Claims, new: Transaction, bill: Bill | None = None) -> Transaction:
        claims.attempted.append(new)
        written = await journal.record(new, bill)
        claims.acknowledged.append(msgspec.json.encode(written))
        return written


class LedgerSubject:
    """A home city's ledger, behind the same store."""

    _HOME: Final = Region("990001")
    _OPENING: Final = Fen(20_000)

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger.db"
        self._book = Book({self._HOME: City(self._HOME, "甲市", "City A")}, PersonKey(bytes(32)))

    def _open(self, open_store: OpenStore) -> DurableStore:
        return open_store(self._path, application_id=7, version=1, schema=entries.SCHEMA)

    async def work(self, claims: Claims, dice: random.Random, open_store: OpenStore) -> None:
        ledger = self._open(open_store)
        link = BookLink(ledger, self._book, SystemClock())
        await ledger.commit(self._open_account)
        await ledger.commit(_checkpoint_after(dice))
        posted: list[DebitOrder] = []
        for _ in range(WORK_STEPS):
            what = dice.randrange(4)
            asked = replace(order(), home_region=self._HOME, accounting_date="2026-03-02", amount=Fen(6_000))
            if what == 0 or not posted:
                posted.append(asked)
                call = link.debit(asked, attempt=1, ttl_ms=1000)
            elif what == 1:
                call = link.reverse(asked, ReversalCause.TIMEOUT)  # of a debit that never came
            elif what == 2:
                asked = dice.choice(posted)
                call = link.reverse(asked, ReversalCause.TIMEOUT)
            else:
                asked = posted.pop(dice.randrange(len(posted)))
                call = link.confirm(asked)
            await self._ask(ledger, claims, asked, call)
        await ledger.close()

    async def recover(self, claims: Claims) -> None:
        ledger = self._open(StoreInline)
        try:
            found, findings = await ledger.commit(lambda c: (_whole_transactions(c), report.audit(c)))
            assert findings == []
            begun = {asked.transaction_id: asked for asked in claims.attempted}
            last = dict(claims.acknowledged)
            assert set(found) <= set(begun)
            for transaction_id, was in last.items():
                calls = sum(asked.transaction_id == transaction_id for asked in claims.attempted)
                answers = sum(answered == transaction_id for answered, _ in claims.acknowledged)
                if calls > answers:
                    self._require_step(was, found.get(transaction_id))
                elif found.get(transaction_id) != was:
                    raise Lost("an acknowledged state of a transaction")
            link = BookLink(ledger, self._book, SystemClock())
            for transaction_id in set(found) - set(last):  # nobody was told: who asked for it reverses it
                asked = begun[transaction_id]
                await self._ask(ledger, claims, asked, link.reverse(asked, ReversalCause.RECOVERY))
        finally:
            await ledger.close()

    @staticmethod
    def _require_step(was: tuple[Any, ...], now: tuple[Any, ...] | None) -> None:
        if now is None:
            raise Lost("a transaction")
        before, after = ledger_table.State(was[0]), ledger_table.State(now[0])
        assert after in {before} | {move.next for (state, _), move in ledger_table.TABLE.items() if state is before}

    def _open_account(self, connection: apsw.Connection) -> None:
        person = order().payer.social_security_number
        self._book.open_account(
            connection, person, self._HOME, kind="EMPLOYEE", status="ACTIVE", opening=self._OPENING, floor=Fen(0),
            date="2026-03-01",
        )  # fmt: skip

    @staticmethod
    async def _ask(ledger: DurableStore, claims: Claims, asked: DebitOrder, call: Any) -> None:
        claims.attempted.append(asked)
        await call
        now = (await ledger.commit(_whole_transactions))[asked.transaction_id]
        claims.acknowledged.append((asked.transaction_id, now))


def _checkpoint_after(dice: random.Random) -> Job[None]:
    """The write-ahead log goes into the file as seldom as in earnest, or after every few pages."""
    pages = dice.choice((1000, 20, 5))
    return lambda connection: connection.wal_autocheckpoint(pages)


def _require_whole(connection: apsw.Connection) -> None:
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def _whole_events(connection: apsw.Connection) -> list[bytes]:
    _require_whole(connection)
    return [content for (content,) in connection.execute("SELECT content FROM event ORDER BY number")]


def _whole_transactions(connection: apsw.Connection) -> dict[str, tuple[Any, ...]]:
    """State, every column and the entries of each transaction."""
    _require_whole(connection)
    posted: dict[str, list[tuple[Any, ...]]] = {}
    for transaction_id, *entry in connection.execute("SELECT transaction_id, * FROM posting ORDER BY entry"):
        posted.setdefault(transaction_id, []).append(tuple(entry))
    rows = connection.execute("SELECT transaction_id, state, * FROM txn")
    return {transaction_id: (*values, posted.get(transaction_id)) for transaction_id, *values in rows}


# --- losing power ---------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Disks that were recovered, by depth; how many differed; and, where that is asked for, how many failed how."""

    images: list[int] = field(default_factory=lambda: [0] * (DEPTH + 1))
    distinct: set[int] = field(default_factory=set)
    lost: int = 0
    broken: int = 0

    @property
    def total(self) -> int:
        return sum(self.images)


def watch(disk: Disk, claims: Claims) -> list[tuple[Moment, tuple[int, int]]]:
    """From now on, keeps what the disk and the claims are before every operation that changes the disk."""
    moments = [(disk.moment(), claims.mark())]

    def before(operation: Operation, name: str) -> None:
        if operation is not Operation.READ:
            moments.append((disk.moment(), claims.mark()))

    disk.before = before
    return moments


@contextmanager
def losing_power() -> Iterator[PowerLossVfs]:
    """Registers the file system with SQLite, on an empty disk, and takes it out again."""
    vfs = PowerLossVfs(VFS, Disk())
    try:
        yield vfs
    finally:
        vfs.unregister()


async def lose_power(
    subject: Subject,
    seeds: range,
    *,
    images: int = IMAGES_OF_A_WORK,
    depth: int = DEPTH,
    count_failures: bool = False,
    make_disk: Callable[[], Disk] = Disk,
) -> Tally:
    """`images` disks for each seed's work. Raises what `recover` raises, noting the seed, or counts it."""
    tally = Tally()
    with losing_power() as vfs:
        for seed in seeds:
            dice = random.Random(seed)
            claims = Claims()
            vfs.disk = make_disk()
            moments = watch(vfs.disk, claims)
            await subject.work(claims, dice, partial(Store, vfs=VFS))
            moments.append((vfs.disk.moment(), claims.mark()))
            goal = tally.total + images
            while tally.total < goal:
                moment, mark = dice.choice(moments)
                try:
                    await _recover(vfs, subject, moment.files(dice), claims.until(mark), dice, depth, tally)
                except Exception as error:
                    if not count_failures:
                        error.add_note(f"{type(subject).__name__}: seed {seed}")
                        raise
                    tally.lost += isinstance(error, Lost)
                    tally.broken += not isinstance(error, Lost)
    return tally


async def _recover(
    vfs: PowerLossVfs,
    subject: Subject,
    files: dict[str, bytes],
    claims: Claims,
    dice: random.Random,
    depth: int,
    tally: Tally,
) -> None:
    disk = vfs.disk = Disk(files)
    tally.images[DEPTH - depth] += 1
    tally.distinct.add(hash(tuple(sorted(files.items()))))
    again = depth > 0 and dice.random() < _FAILS_AGAIN
    moments = watch(disk, claims) if again else []
    await subject.recover(claims)
    for _ in range(_AGAIN if again else 0):
        moment, mark = dice.choice(moments)
        await _recover(vfs, subject, moment.files(dice), claims.until(mark), dice, depth - 1, tally)
