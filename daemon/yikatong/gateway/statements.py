"""Clearing statements (清算单): what a home city owes a treatment city for a month; closed once, then never changed.

A statement takes every claim up to the end of its month that is settled and that no earlier statement has taken. A
debit is settled once it is confirmed, or together with its reversal; an unconfirmed one is carried on. So whatever
comes late goes into the next month, and every claim goes into one statement at most.

A month is closed in slices, between which money moves; statements appear all at once with the last one. A closing that
was cut off is taken up where it was by the next order to close the same month.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Final, Protocol, TypeVar

import apsw
import msgspec

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region
from yikatong.ledger.report import Finding

T = TypeVar("T")

SCHEMA: Final = """
CREATE TABLE statement_draft (
    statement INTEGER PRIMARY KEY,
    month TEXT NOT NULL,
    treatment_region TEXT NOT NULL,
    home_region TEXT NOT NULL,
    UNIQUE (month, treatment_region, home_region)
) STRICT;
CREATE TABLE statement (
    statement INTEGER PRIMARY KEY REFERENCES statement_draft,
    month TEXT NOT NULL,
    treatment_region TEXT NOT NULL,
    home_region TEXT NOT NULL,
    closed_at TEXT NOT NULL,
    totals TEXT NOT NULL,
    digest BLOB NOT NULL,
    UNIQUE (month, treatment_region, home_region)
) STRICT;
CREATE INDEX claim_undone ON claim (transaction_id, accounting_date) WHERE kind = 'CONTRA';
CREATE TABLE statement_line (
    entry INTEGER PRIMARY KEY REFERENCES claim,
    statement INTEGER NOT NULL REFERENCES statement_draft,
    kind TEXT NOT NULL CHECK (kind IN ('DEBIT', 'REVERSAL', 'CANCELLATION', 'REFUND')),
    transaction_id TEXT NOT NULL,
    original TEXT NOT NULL,
    institution TEXT NOT NULL,
    amount_fen INTEGER NOT NULL,
    accounting_date TEXT NOT NULL
) STRICT;
CREATE INDEX statement_line_of ON statement_line (statement, entry);
CREATE TABLE statement_month (month TEXT PRIMARY KEY, closed_at TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TRIGGER statement_is_never_changed BEFORE UPDATE ON statement
BEGIN SELECT RAISE(ABORT, 'a statement is closed once'); END;
CREATE TRIGGER statement_is_never_deleted BEFORE DELETE ON statement
BEGIN SELECT RAISE(ABORT, 'a statement is closed once'); END;
CREATE TRIGGER statement_line_is_never_changed BEFORE UPDATE ON statement_line
BEGIN SELECT RAISE(ABORT, 'a statement is closed once'); END;
CREATE TRIGGER statement_line_is_never_deleted BEFORE DELETE ON statement_line
BEGIN SELECT RAISE(ABORT, 'a statement is closed once'); END;
"""

# A claim's receivable side says it all: treatment city, home city, amount. Settled: a confirmed debit, a debit whose
# reversal is not dated later than the month, that reversal, and every credit.
_SETTLED: Final = """
SELECT c.entry, c.region, substr(c.account, 12), c.transaction_id, c.amount_fen, c.accounting_date,
       CASE c.kind WHEN 'DEBIT' THEN 'DEBIT' WHEN 'CONTRA' THEN 'REVERSAL' ELSE cr.kind END,
       coalesce(cr.original, ''), coalesce(cr.institution, r.institution)
  FROM claim c
  LEFT JOIN route r ON r.transaction_id = c.transaction_id
  LEFT JOIN credit_route cr ON cr.transaction_id = c.transaction_id
 WHERE c.entry BETWEEN ?1 AND ?2 AND c.account LIKE 'receivable:%' AND c.accounting_date <= ?3
   AND (c.kind = 'CREDIT' OR r.state = 'CONFIRMED'
        OR r.state = 'REVDONE' AND NOT EXISTS (
           SELECT 1 FROM claim later WHERE later.transaction_id = c.transaction_id AND later.kind = 'CONTRA'
              AND later.accounting_date > ?3))
   AND c.entry NOT IN (SELECT entry FROM statement_line WHERE entry BETWEEN ?1 AND ?2)
 ORDER BY c.entry"""
_SLICE: Final = 5000
_KINDS: Final = ("DEBIT", "REVERSAL", "CANCELLATION", "REFUND")
_TOTALS: Final = msgspec.json.Decoder(dict[str, tuple[int, int]])
_HEADER: Final = "accounting_date,transaction_id,kind,original,institution,amount_fen"


@dataclass(frozen=True, slots=True)
class Line:
    """One claim in a statement: positive where the home city owes. `original`: of a credit."""

    entry: int
    kind: str
    transaction_id: str
    original: str
    institution: str
    amount_fen: int
    accounting_date: str

    @property
    def csv(self) -> str:
        """As it stands in the details; nothing in it can hold a comma or a quote."""
        who = f"{self.transaction_id},{self.kind},{self.original},{self.institution}"
        return f"{self.accounting_date},{who},{self.amount_fen}"


@dataclass(frozen=True, slots=True)
class Statement:
    """A month of an ordered pair of cities. `totals`: count and fen by kind; `digest`: SM3 over the details."""

    number: int
    month: str
    treatment: Region
    home: Region
    closed_at: str
    digest: bytes
    totals: dict[str, tuple[int, int]]

    @property
    def net_fen(self) -> int:
        return sum(amount_fen for _, amount_fen in self.totals.values())


class Commit(Protocol):
    """The gateway's store. Raises YikatongError STORE_UNAVAILABLE: whether it is on the disk is then unknown."""

    def __call__(self, job: Callable[[apsw.Connection], T], /) -> Awaitable[T]: ...


class Closing:
    """Closes one month for every pair of cities. `at`: ISO 8601, UTC."""

    def __init__(self, commit: Commit, month: str, *, at: str) -> None:
        self._commit, self._month, self._at, self._last = commit, month, at, last_day(month)

    async def run(self, order: Callable[[apsw.Connection], None], *, today: str) -> list[Statement]:
        """Returns the statements; those that stand where the month is closed already.

        `order` is carried out in the commit that begins it. Raises YikatongError NOT_DECIDABLE: the month is not over,
        or a later one is closed, or another one is being closed.
        """
        if self._last >= today:
            raise YikatongError(Reason.NOT_DECIDABLE, "the month is not over", why="MONTH_NOT_OVER")
        end = await self._commit(partial(self._begin, order=order))
        for first in range(1, end + 1, _SLICE):
            await self._commit(partial(self._take, first=first))
        if end >= 0:
            drafts = await self._commit(self._drafts)
            sums = [(number, await self._sum(number, *pair)) for number, *pair in drafts]
            await self._commit(partial(self._close, sums=sums))
        return await self._commit(partial(of_month, month=self._month))

    def _begin(self, connection: apsw.Connection, *, order: Callable[[apsw.Connection], None]) -> int:
        """The last claim there is; -1 where the month is closed already."""
        sql = "SELECT month, closed_at FROM statement_month WHERE month >= ? OR closed_at = ''"
        known = {str(month): str(closed_at) for month, closed_at in connection.execute(sql, (self._month,))}
        if known.get(self._month):
            return -1
        for other, closed_at in known.items():
            if other != self._month:
                why = "LATER_MONTH_CLOSED" if closed_at else "MONTH_BEING_CLOSED"
                raise YikatongError(Reason.NOT_DECIDABLE, "another month is in the way", why=why, month=other)
        if self._month not in known:
            order(connection)
            connection.execute("INSERT INTO statement_month VALUES (?, '')", (self._month,))
        return int(connection.execute("SELECT coalesce(max(entry), 0) FROM claim").fetchall()[0][0] or 0)

    def _take(self, connection: apsw.Connection, *, first: int) -> None:
        """Takes what is settled among the next claims; what an earlier statement or try has taken is passed over."""
        rows = list(connection.execute(_SETTLED, (first, first + _SLICE - 1, self._last)))
        numbers = {pair: self._draft(connection, *pair) for pair in {(row[1], row[2]) for row in rows}}
        connection.executemany(
            "INSERT INTO statement_line VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (entry, numbers[treatment, home], kind, txid, original, institution, amount_fen, day)
                for entry, treatment, home, txid, amount_fen, day, kind, original, institution in rows
            ),
        )

    def _draft(self, connection: apsw.Connection, treatment: str, home: str) -> int:
        values = (self._month, treatment, home)
        sql = """INSERT INTO statement_draft (month, treatment_region, home_region) VALUES (?, ?, ?)
                     ON CONFLICT DO NOTHING"""
        connection.execute(sql, values)
        sql = "SELECT statement FROM statement_draft WHERE (month, treatment_region, home_region) = (?, ?, ?)"
        return int(next(iter(connection.execute(sql, values)))[0])

    def _drafts(self, connection: apsw.Connection) -> list[tuple[int, str, str]]:
        sql = "SELECT statement, treatment_region, home_region FROM statement_draft WHERE month = ?"
        return list(connection.execute(sql, (self._month,)))

    async def _sum(self, number: int, treatment: str, home: str) -> _Sum:
        made, after = _Sum(self._month, treatment, home), 0
        while details := await self._commit(partial(lines, number=number, after=after, limit=_SLICE)):
            made.add(details)
            after = details[-1].entry
        return made

    def _close(self, connection: apsw.Connection, *, sums: list[tuple[int, _Sum]]) -> None:
        connection.executemany(
            """INSERT INTO statement SELECT statement, month, treatment_region, home_region, ?2, ?3, ?4
                 FROM statement_draft WHERE statement = ?1""",
            ((number, self._at, made.text, made.digest) for number, made in sums),
        )
        connection.execute("UPDATE statement_month SET closed_at = ? WHERE month = ?", (self._at, self._month))


def last_day(month: str) -> str:
    """Last date of a month, which is YYYY-MM. Raises YikatongError INVALID_FIELD."""
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise YikatongError(Reason.INVALID_FIELD, "a month is YYYY-MM", field="month") from error
    return ((first + timedelta(days=32)).replace(day=1) - timedelta(days=1)).isoformat()


def of_month(connection: apsw.Connection, month: str) -> list[Statement]:
    """Statements of a month; empty `month`: of all months, the newest first."""
    sql = """SELECT statement, month, treatment_region, home_region, closed_at, totals, digest FROM statement
              WHERE ? IN ('', month) ORDER BY month DESC, treatment_region, home_region"""
    return [
        Statement(row[0], row[1], Region(row[2]), Region(row[3]), row[4], bytes(row[6]), _TOTALS.decode(row[5]))
        for row in connection.execute(sql, (month,))
    ]


def lines(connection: apsw.Connection, number: int, *, after: int, limit: int) -> list[Line]:
    """The details of a statement in the order of the claims."""
    sql = """SELECT entry, kind, transaction_id, original, institution, amount_fen, accounting_date
               FROM statement_line WHERE statement = ? AND entry > ? ORDER BY entry LIMIT ?"""
    return [Line(*row) for row in connection.execute(sql, (number, after, limit))]


def audit(connection: apsw.Connection) -> Iterator[Finding]:
    """Whether each statement still has its digest, and its lines are the claims that they stand for."""
    for statement in of_month(connection, ""):
        pair = statement.treatment.code, statement.home.code
        made, after = _Sum(statement.month, *pair), 0
        while details := lines(connection, statement.number, after=after, limit=_SLICE):
            made.add(details)
            after = details[-1].entry
        if (statement.digest, statement.totals) != (made.digest, made.totals):
            yield Finding("I8", f"{statement.month} {pair[0]}-{pair[1]}", "a closed statement was changed")
    sql = """SELECT l.entry FROM statement_line l JOIN statement s USING (statement)
               LEFT JOIN claim c ON c.entry = l.entry
              WHERE c.amount_fen IS NOT l.amount_fen OR c.transaction_id IS NOT l.transaction_id
                 OR c.region IS NOT s.treatment_region OR c.account IS NOT 'receivable:' || s.home_region"""
    for (entry,) in connection.execute(sql):
        yield Finding("I1", f"claim:{entry}", "a statement's line does not fit the claim")


class _Sum:
    """Totals by kind, and the digest: SM3 over the details as they are handed out, after a line that says of what."""

    def __init__(self, month: str, treatment: str, home: str) -> None:
        self._digest = hashlib.new("sm3", f"{month},{treatment},{home}\n{_HEADER}\n".encode())
        self.totals = dict.fromkeys(_KINDS, (0, 0))

    def add(self, details: Sequence[Line]) -> None:
        self._digest.update("".join(f"{line.csv}\n" for line in details).encode())
        for line in details:
            count, amount_fen = self.totals[line.kind]
            self.totals[line.kind] = (count + 1, amount_fen + line.amount_fen)

    @property
    def digest(self) -> bytes:
        return self._digest.digest()

    @property
    def text(self) -> str:
        """The totals as `_TOTALS` reads them."""
        return msgspec.json.encode(self.totals).decode()
