"""The credits of the terminal's journal: rows of their own, in the same chain of events as the debits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import apsw
import msgspec

from yikatong.core.credit_table import DECIDED
from yikatong.core.credit_transaction import Credit
from yikatong.core.reasons import Moved, Reason, YikatongError
from yikatong.core.transaction import Transaction
from yikatong.runtime.store import DurableStore, Job, StoreFailed
from yikatong.terminal.chain import append
from yikatong.terminal.vault import Vault

SCHEMA: Final = """
CREATE TABLE credit(
    transaction_id TEXT PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, original TEXT NOT NULL, kind TEXT NOT NULL,
    state TEXT NOT NULL, amount_fen INTEGER NOT NULL, open INTEGER NOT NULL, number INTEGER NOT NULL,
    accounting_date TEXT NOT NULL, content BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX credit_of_original ON credit(original);
CREATE INDEX credit_open ON credit(open) WHERE open;
CREATE INDEX credit_by_number ON credit(number);
CREATE INDEX credit_of_date ON credit(accounting_date) WHERE accounting_date <> '';
CREATE VIEW shown AS
    SELECT transaction_id, 'DEBIT' AS kind, state NOT IN ('APPROVED','DECLINED','REVERSED','ABORTED') AS open, number,
           content FROM txn WHERE NOT self_test
    UNION ALL SELECT transaction_id, kind, open, number, content FROM credit;
"""

T = TypeVar("T")

_CREDIT: Final = msgspec.json.Decoder(Credit)
_DEBIT: Final = msgspec.json.Decoder(Transaction)


class CreditJournal:
    """Over the journal's own store and keys. Every record is one durable commit."""

    def __init__(self, store: DurableStore, vault: Vault) -> None:
        self._store, self._vault = store, vault

    async def record(self, row: Credit) -> None:
        """Appends the row's new state. Raises StoreFailed: then it is unknown whether it is on the disk.

        Raises YikatongError REQUEST_ID_REUSED, and keeps nothing, where a debit has its request id.
        """

        def job(connection: apsw.Connection) -> None:
            debit = "SELECT transaction_id FROM txn WHERE request_id=?"
            if (found := connection.execute(debit, (row.request_id,)).fetchone()) is not None:
                raise YikatongError(
                    Reason.REQUEST_ID_REUSED, "a debit has this request id", field="kind", transaction_id=str(found[0])
                )
            content = msgspec.json.encode(row)
            number = append(connection, self._vault.mac, row.transaction_id, content)
            connection.execute(
                "INSERT INTO credit VALUES(?,?,?,?,?,?,?,?,?,?) ON CONFLICT(transaction_id) DO UPDATE SET"
                " state=excluded.state, open=excluded.open, accounting_date=excluded.accounting_date,"
                " content=excluded.content",
                (
                    row.transaction_id,
                    row.request_id,
                    row.original,
                    row.kind.value,
                    row.state.value,
                    row.amount_fen,
                    row.state not in DECIDED,
                    number,
                    row.accounting_date,
                    content,
                ),
            )

        await self._store.commit(job)

    async def by_id(self, transaction_id: str) -> Credit | None:
        found = await self._many("transaction_id=?", transaction_id)
        return found[0] if found else None

    async def by_request(self, request_id: str) -> Credit | None:
        found = await self._many("request_id=?", request_id)
        return found[0] if found else None

    async def of(self, original: str) -> Sequence[Credit]:
        """The credits of a debit, in the order in which they were asked for."""
        return await self._many("original=? ORDER BY number", original)

    async def open_rows(self) -> Sequence[Credit]:
        """What is not decided yet, oldest first."""
        return await self._many("open ORDER BY number")

    async def of_date(self, accounting_date: str) -> Sequence[Credit]:
        """The credits that were posted on an accounting date; far fewer than its debits."""
        return await self._many("accounting_date=? AND accounting_date<>'' ORDER BY transaction_id", accounting_date)

    async def given_back(self, originals: Iterable[str]) -> dict[str, int]:
        """How much of each debit is credited, or is being credited, in fen; debits without credits are left out."""
        names = list(originals)

        def job(connection: apsw.Connection) -> dict[str, int]:
            marks = ",".join("?" * len(names))
            query = f"SELECT original, sum(amount_fen) FROM credit WHERE state<>'DECLINED' AND original IN ({marks})"  # noqa: S608 - marks alone
            return {str(row[0]): int(row[1] or 0) for row in connection.execute(query + " GROUP BY original", names)}

        return await self._read(job)

    async def newest(self, count: int, *, open_only: bool, before: str = "") -> Sequence[Transaction | Credit]:
        """At most `count` debits and credits, newest first, without self-tests; `before`: id of the last row shown."""

        def job(connection: apsw.Connection) -> Sequence[Transaction | Credit]:
            rows = connection.execute(
                "SELECT kind, content FROM shown WHERE (open OR NOT ?1) AND"
                " (?2='' OR number < (SELECT number FROM shown WHERE transaction_id=?2))"
                " ORDER BY number DESC LIMIT ?3",
                (open_only, before, count),
            )
            return [(_DEBIT if kind == "DEBIT" else _CREDIT).decode(content) for kind, content in rows]

        return await self._read(job)

    async def _many(self, where: str, *parameters: str) -> Sequence[Credit]:
        query = f"SELECT content FROM credit WHERE {where}"  # noqa: S608 - the journal's own constants
        return await self._read(lambda c: [_CREDIT.decode(row[0]) for row in c.execute(query, parameters)])

    async def _read(self, job: Job[T]) -> T:
        """A journal that can't be read says nothing about what has moved."""
        try:
            return await self._store.commit(job)
        except StoreFailed as error:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, str(error), outcome=Moved.PENDING.value) from error


def compare(connection: apsw.Connection, latest: Mapping[str, int]) -> int:
    """Proves every credit's row against the hash of its last event (`latest`); returns how many there are.

    Raises YikatongError JOURNAL_UNAVAILABLE.
    """
    seen = 0
    fields = "request_id, original, kind, state, amount_fen, open, accounting_date"
    query = f"SELECT transaction_id, content, {fields} FROM credit"  # noqa: S608 - the names above
    for transaction_id, content, *columns in connection.execute(query):
        seen += 1
        row = _CREDIT.decode(content)
        keys = [
            *(row.request_id, row.original, row.kind.value, row.state.value, row.amount_fen),
            *(row.state not in DECIDED, row.accounting_date),
        ]
        if latest.get(transaction_id) != hash(content) or columns != keys:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "a credit's row differs from its last event")
    return seen
