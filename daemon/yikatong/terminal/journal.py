"""The terminal's journal (流水): append-only events in a chain of hashes, and the rows that they add up to.

Every record is one durable commit. What `record` has returned from is on the disk; nothing is told before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import apsw
import msgspec

from yikatong.core.bill import Bill
from yikatong.core.reasons import Moved, Reason, YikatongError
from yikatong.core.transaction import Transaction
from yikatong.runtime.store import Job, NotOurFile, OpenStore, Store, StoreFailed
from yikatong.terminal.chain import GENESIS, append
from yikatong.terminal.credit_journal import SCHEMA as CREDIT_SCHEMA
from yikatong.terminal.credit_journal import CreditJournal
from yikatong.terminal.pin_book import PinBook
from yikatong.terminal.proof import Proof
from yikatong.terminal.vault import Vault

APPLICATION_ID: Final = 0x594B544A  # "YKTJ"
VERSION: Final = 3

_SCHEMA: Final = """
CREATE TABLE event(
    number INTEGER PRIMARY KEY, transaction_id TEXT NOT NULL, content BLOB NOT NULL,
    head BLOB NOT NULL, mac BLOB NOT NULL) STRICT;
CREATE TABLE txn(
    transaction_id TEXT PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, order_no TEXT NOT NULL, order_part TEXT NOT NULL,
    state TEXT NOT NULL, self_test INTEGER NOT NULL, open INTEGER NOT NULL, number INTEGER NOT NULL,
    accounting_date TEXT NOT NULL, content BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX txn_of_order ON txn(order_no, order_part);
CREATE INDEX txn_open ON txn(open) WHERE open;
CREATE INDEX txn_by_number ON txn(number);
CREATE INDEX txn_of_date ON txn(accounting_date) WHERE accounting_date <> '';
CREATE TABLE bill(transaction_id TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counter VALUES('epoch', 0), ('sequence', 0);
CREATE TABLE self_test(run_id TEXT PRIMARY KEY, started_at TEXT NOT NULL, content BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""

T = TypeVar("T")

_BY_ORDER: Final = (
    "order_no=?1 AND order_part=?2 ORDER BY state IN ('DECLINED','REVERSED','ABORTED'), number DESC LIMIT 1"
)

_KNOWN: Final = f"""
SELECT 'CREDIT', transaction_id FROM credit WHERE request_id=?3
UNION ALL SELECT 'REQUEST', content FROM txn WHERE request_id=?3
UNION ALL SELECT * FROM (SELECT 'ORDER', content FROM txn WHERE {_BY_ORDER})"""  # noqa: S608 - the journal's own constants
_SLICE: Final = 500
_OF_DATE: Final = (
    "accounting_date=? AND accounting_date<>'' AND NOT self_test AND transaction_id>? ORDER BY transaction_id LIMIT ?"
)
_NEXT_DATE: Final = """
SELECT min(date) FROM (
    SELECT min(accounting_date) AS date FROM txn
     WHERE accounting_date>?1 AND accounting_date<?2 AND accounting_date<>'' AND NOT self_test
    UNION ALL
    SELECT min(accounting_date) FROM credit WHERE accounting_date>?1 AND accounting_date<?2 AND accounting_date<>'')"""

_ROW = msgspec.json.Decoder(Transaction)
_BILL = msgspec.json.Decoder(Bill)


@dataclass(frozen=True, slots=True)
class Head:
    """Where the journal stands: what a sign-in presents. `hash` is 32 bytes."""

    epoch: int
    sequence: int
    number: int
    hash: bytes


class Journal:
    """Opens, proves and appends. Raises YikatongError JOURNAL_UNAVAILABLE where the file can't be trusted or used."""

    def __init__(self, path: Path, open_store: OpenStore = Store) -> None:
        key_path = path.with_suffix(".key")
        self.vault = Vault.open(key_path, may_create=not path.exists())
        try:
            self._store = open_store(
                path, application_id=APPLICATION_ID, version=VERSION, schema=_SCHEMA + CREDIT_SCHEMA
            )
        except NotOurFile as error:
            raise YikatongError(Reason.STORE_NOT_OURS, str(error)) from error
        except StoreFailed as error:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, str(error)) from error
        self.credits = CreditJournal(self._store, self.vault)
        self.pins = PinBook(self._store)
        self.path = path

    @property
    def failed(self) -> bool:
        return self._store.failed

    async def close(self) -> None:
        await self._store.close()

    async def record(self, row: Transaction, bill: Bill | None = None) -> Transaction:
        """Appends the row's new state; the first record of a transaction gives it its sequence. Returns the row.

        Raises StoreFailed: then it is unknown whether it is on the disk.
        """

        def job(connection: apsw.Connection) -> Transaction:
            written = row
            if row.sequence == 0:
                sequence = _bump(connection, "sequence")
                written = replace(row, sequence=sequence)
            content = msgspec.json.encode(written)
            number = append(connection, self.vault.mac, row.transaction_id, content)
            connection.execute(
                "INSERT INTO txn VALUES(?,?,?,?,?,?,?,?,?,?) ON CONFLICT(transaction_id) DO UPDATE SET"
                " state=excluded.state, open=excluded.open, accounting_date=excluded.accounting_date,"
                " content=excluded.content",
                (
                    row.transaction_id,
                    row.request_id,
                    row.order_no,
                    row.order_part,
                    row.state.value,
                    row.self_test,
                    row.needs_work,
                    number,
                    row.accounting_date,
                    content,
                ),
            )
            if bill is not None:
                connection.execute("INSERT INTO bill VALUES(?,?)", (row.transaction_id, msgspec.json.encode(bill)))
            return written

        return await self._store.commit(job)

    async def by_id(self, transaction_id: str) -> Transaction | None:
        return await self._one("transaction_id=?", transaction_id)

    async def by_request(self, request_id: str) -> Transaction | None:
        return await self._one("request_id=?", request_id)

    async def by_order(self, order_no: str, order_part: str) -> Transaction | None:
        """The debit of the order that counts: the one that may have moved money, else the newest."""
        return await self._one(_BY_ORDER, order_no, order_part)

    async def known(
        self, request_id: str, order_no: str, order_part: str
    ) -> tuple[Transaction | None, Transaction | None]:
        """What `by_request` and `by_order` say, in one look. Raises REQUEST_ID_REUSED where a credit has the id."""

        def job(connection: apsw.Connection) -> tuple[Transaction | None, Transaction | None]:
            found = dict(connection.execute(_KNOWN, (order_no, order_part, request_id)))
            if (credit := found.get("CREDIT")) is not None:
                raise YikatongError(
                    Reason.REQUEST_ID_REUSED, "a credit has this request id", field="kind", transaction_id=str(credit)
                )
            by_request, by_order = (
                _ROW.decode(content) if (content := found.get(name)) is not None else None
                for name in ("REQUEST", "ORDER")
            )
            return by_request, by_order

        return await self._said(self._store.look(job))

    async def unresolved(self) -> Sequence[Transaction]:
        """Rows that still need work, oldest first: open outcomes, and confirmations not yet acknowledged."""
        return await self._many("open ORDER BY number")

    async def newest(self, count: int, *, open_only: bool, before: str = "") -> Sequence[Transaction]:
        """At most `count` rows, newest first, without self-tests; `before`: id of the last row of the page before."""
        where = "NOT self_test"
        if open_only:
            where += " AND state NOT IN ('APPROVED','DECLINED','REVERSED','ABORTED')"
        parameters: list[str | int] = []
        if before:
            where += " AND number < (SELECT number FROM txn WHERE transaction_id=?)"
            parameters.append(before)
        return await self._many(f"{where} ORDER BY number DESC LIMIT ?", *parameters, count)

    async def of_date(self, accounting_date: str) -> list[Transaction]:
        """The rows of an accounting date by transaction id, without self-tests; read in slices."""
        rows: list[Transaction] = []
        while True:
            after = rows[-1].transaction_id if rows else ""
            found = await self._many(_OF_DATE, accounting_date, after, _SLICE)
            rows += found
            if len(found) < _SLICE:
                return rows

    async def unreconciled_dates(self, before: str) -> list[str]:
        """Accounting dates with rows after the last one that is noted as reconciled, and before `before`."""

        def job(connection: apsw.Connection) -> list[str]:
            noted = connection.execute("SELECT value FROM counter WHERE name='reconciled'").fetchone()
            date = f"{noted[0]:08d}" if noted else "00000000"
            last, dates = f"{date[:4]}-{date[4:6]}-{date[6:]}", list[str]()
            while found := connection.execute(_NEXT_DATE, (last, before)).fetchone():  # one look for each date
                if found[0] is None:
                    break
                last = str(found[0])
                dates.append(last)
            return dates

        return await self._read(job)

    async def note_reconciled(self, accounting_date: str) -> None:
        """Everything up to this date agrees with the gateway. It is never taken back.

        Raises YikatongError JOURNAL_UNAVAILABLE.
        """
        number = int(accounting_date.replace("-", ""))

        def job(connection: apsw.Connection) -> None:
            connection.execute(
                "INSERT INTO counter VALUES('reconciled', ?) ON CONFLICT(name) DO UPDATE"
                " SET value=max(value, excluded.value)",
                (number,),
            )

        await self._read(job)

    async def bill(self, transaction_id: str) -> Bill:
        def job(connection: apsw.Connection) -> Bill:
            found = connection.execute("SELECT content FROM bill WHERE transaction_id=?", (transaction_id,)).fetchone()
            return _BILL.decode(found[0]) if found else Bill()

        return await self._read(job)

    async def head(self) -> Head:
        def job(connection: apsw.Connection) -> Head:
            counters = {str(row[0]): int(row[1] or 0) for row in connection.execute("SELECT name, value FROM counter")}
            last = connection.execute("SELECT number, head FROM event ORDER BY number DESC LIMIT 1").fetchone()
            number, head = (int(last[0]), bytes(last[1])) if last else (0, GENESIS)
            return Head(counters["epoch"], counters["sequence"], number, head)

        return await self._read(job)

    async def grant(self, epoch: int) -> None:
        """Keeps the epoch of a sign-in before it is used."""

        def job(connection: apsw.Connection) -> None:
            connection.execute("UPDATE counter SET value=? WHERE name='epoch'", (epoch,))

        await self._store.commit(job)

    async def prove(self) -> int:
        """Proves the whole chain and every row, in slices between which the journal works. Returns how many events.

        Raises YikatongError JOURNAL_UNAVAILABLE at a break.
        """
        proof = Proof(self.vault)
        while await self._read(proof.walk):
            pass
        while await self._read(proof.compare):
            pass
        await self._read(proof.settle)
        return proof.events

    async def probe(self) -> None:
        """Writes one value durably, for health and watchdog. Raises YikatongError JOURNAL_UNAVAILABLE."""

        def job(connection: apsw.Connection) -> None:
            connection.execute("INSERT INTO counter VALUES('probe', 1) ON CONFLICT(name) DO UPDATE SET value=value+1")

        try:
            await self._store.commit(job)
        except StoreFailed as error:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, str(error)) from error

    async def keep_self_test(self, run_id: str, started_at: str, content: bytes) -> None:
        """Stores a report (JSON); 52 weeks of them are kept."""

        def job(connection: apsw.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO self_test VALUES(?,?,?)", (run_id, started_at, content))
            connection.execute("DELETE FROM self_test WHERE started_at < datetime(?, '-364 days')", (started_at,))

        await self._store.commit(job)

    async def self_tests(self, count: int, run_id: str = "") -> Sequence[bytes]:
        """Stored reports, newest first; only the named one where `run_id` is given."""

        def job(connection: apsw.Connection) -> Sequence[bytes]:
            rows = connection.execute(
                "SELECT content FROM self_test WHERE ?1='' OR run_id=?1 ORDER BY started_at DESC LIMIT ?2",
                (run_id, count),
            )
            return [row[0] for row in rows]

        return await self._read(job)

    async def _one(self, where: str, *parameters: str) -> Transaction | None:
        rows = await self._many(where, *parameters)
        return rows[0] if rows else None

    async def _many(self, where: str, *parameters: str | int) -> Sequence[Transaction]:
        return await self._read(lambda connection: list(_rows(connection, where, *parameters)))

    async def _read(self, job: Job[T]) -> T:
        return await self._said(self._store.commit(job))

    @staticmethod
    async def _said(asked: Awaitable[T]) -> T:
        """A journal that can't be read says nothing about what has moved: the outcome is open, not "not moved"."""
        try:
            return await asked
        except StoreFailed as error:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, str(error), outcome=Moved.PENDING.value) from error


def _rows(connection: apsw.Connection, where: str, *parameters: str | int) -> Iterator[Transaction]:
    query = f"SELECT content FROM txn WHERE {where}"  # noqa: S608 - the journal's own constants
    for (content,) in connection.execute(query, parameters):
        yield _ROW.decode(content)


def _bump(connection: apsw.Connection, counter: str) -> int:
    row = connection.execute("UPDATE counter SET value=value+1 WHERE name=? RETURNING value", (counter,)).fetchone()
    assert row is not None
    return int(row[0])
