"""Clearing statements (清算单): what a home city owes a treatment city for a month; closed once, then never changed.

A statement takes every claim up to the end of its month that is settled and that no earlier statement has taken. A
debit is settled once it is confirmed, or together with its reversal; an unconfirmed one is carried on. So whatever
comes late goes into the next month, and every claim goes into one statement at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import apsw

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region
from yikatong.ledger.report import Finding

SCHEMA: Final = """
CREATE TABLE statement (
    statement INTEGER PRIMARY KEY,
    month TEXT NOT NULL,
    treatment_region TEXT NOT NULL,
    home_region TEXT NOT NULL,
    closed_at TEXT NOT NULL,
    digest BLOB NOT NULL,
    UNIQUE (month, treatment_region, home_region)
) STRICT;
CREATE TABLE statement_line (
    entry INTEGER PRIMARY KEY REFERENCES claim,
    statement INTEGER NOT NULL REFERENCES statement,
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
# reversal lies in the same month, that reversal, and every credit.
_SETTLED: Final = """
WITH reversed_later AS (SELECT transaction_id FROM claim WHERE kind = 'CONTRA' AND accounting_date > ?1)
SELECT c.entry, c.region AS treatment_region, substr(c.account, 12) AS home_region, c.transaction_id, c.amount_fen,
       c.accounting_date,
       CASE c.kind WHEN 'DEBIT' THEN 'DEBIT' WHEN 'CONTRA' THEN 'REVERSAL' ELSE cr.kind END AS kind,
       coalesce(cr.original, '') AS original, coalesce(cr.institution, r.institution) AS institution
  FROM claim c
  LEFT JOIN statement_line l ON l.entry = c.entry
  LEFT JOIN route r ON r.transaction_id = c.transaction_id
  LEFT JOIN credit_route cr ON cr.transaction_id = c.transaction_id
 WHERE l.entry IS NULL AND c.account LIKE 'receivable:%' AND c.accounting_date <= ?1
   AND (c.kind = 'CREDIT' OR r.state = 'CONFIRMED'
        OR r.state = 'REVDONE' AND c.transaction_id NOT IN (SELECT transaction_id FROM reversed_later))
 ORDER BY treatment_region, home_region, c.entry"""
_KINDS: Final = ("DEBIT", "REVERSAL", "CANCELLATION", "REFUND")
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


def close_month(connection: apsw.Connection, month: str, *, today: str, at: str) -> list[Statement]:
    """Closes the month for every pair of cities; in one transaction. Closing it again returns what stands.

    Raises YikatongError NOT_DECIDABLE: the month is not over, or a later one is closed already.
    """
    last = last_day(month)
    if last >= today:
        raise YikatongError(Reason.NOT_DECIDABLE, "the month is not over")
    if connection.execute("SELECT 1 FROM statement_month WHERE month >= ?", (month,)).fetchone():
        if connection.execute("SELECT 1 FROM statement_month WHERE month = ?", (month,)).fetchone():
            return of_month(connection, month)
        raise YikatongError(
            Reason.NOT_DECIDABLE, "a later month is closed already: what is late goes into the next one"
        )
    connection.execute("INSERT INTO statement_month VALUES (?, ?)", (month, at))
    pairs: dict[tuple[str, str], list[Line]] = {}
    for entry, treatment, home, txid, amount_fen, day, kind, original, institution in connection.execute(
        _SETTLED, (last,)
    ):
        line = Line(entry, kind, txid, original, institution, amount_fen, day)
        pairs.setdefault((treatment, home), []).append(line)
    for (treatment, home), lines in pairs.items():
        connection.execute(
            """INSERT INTO statement (month, treatment_region, home_region, closed_at, digest)
               VALUES (?, ?, ?, ?, ?)""",
            (month, treatment, home, at, _digest(month, treatment, home, lines)),
        )
        number = connection.last_insert_rowid()
        connection.executemany(
            "INSERT INTO statement_line VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    line.entry, number, line.kind, line.transaction_id, line.original, line.institution,
                    line.amount_fen, line.accounting_date,
                )
                for line in lines
            ),
        )  # fmt: skip
    return of_month(connection, month)


def last_day(month: str) -> str:
    """Last date of a month, which is YYYY-MM. Raises YikatongError INVALID_FIELD."""
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise YikatongError(Reason.INVALID_FIELD, "a month is YYYY-MM", field="month") from error
    return ((first + timedelta(days=32)).replace(day=1) - timedelta(days=1)).isoformat()


def of_month(connection: apsw.Connection, month: str) -> list[Statement]:
    """Statements of a month; empty `month`: of all months, the newest first."""
    sql = """SELECT statement, month, treatment_region, home_region, closed_at, digest FROM statement
              WHERE ? IN ('', month) ORDER BY month DESC, treatment_region, home_region"""
    return [
        Statement(row[0], row[1], Region(row[2]), Region(row[3]), row[4], bytes(row[5]), _totals(connection, row[0]))
        for row in list(connection.execute(sql, (month,)))
    ]


def lines(connection: apsw.Connection, number: int, *, after: int = 0, limit: int = -1) -> list[Line]:
    """The details of a statement in the order of the claims."""
    sql = """SELECT entry, kind, transaction_id, original, institution, amount_fen, accounting_date
               FROM statement_line WHERE statement = ? AND entry > ? ORDER BY entry LIMIT ?"""
    return [Line(*row) for row in connection.execute(sql, (number, after, limit))]


def audit(connection: apsw.Connection) -> Iterator[Finding]:
    """Whether each statement still has its digest, and its lines are the claims that they stand for."""
    for statement in of_month(connection, ""):
        pair = statement.treatment.code, statement.home.code
        if statement.digest != _digest(statement.month, *pair, lines(connection, statement.number)):
            yield Finding("I8", f"{statement.month} {pair[0]}-{pair[1]}", "a closed statement was changed")
    sql = """SELECT l.entry FROM statement_line l JOIN statement s USING (statement)
               LEFT JOIN claim c ON c.entry = l.entry
              WHERE c.amount_fen IS NOT l.amount_fen OR c.transaction_id IS NOT l.transaction_id
                 OR c.region IS NOT s.treatment_region OR c.account IS NOT 'receivable:' || s.home_region"""
    for (entry,) in connection.execute(sql):
        yield Finding("I1", f"claim:{entry}", "a statement's line does not fit the claim")


def _totals(connection: apsw.Connection, number: int) -> dict[str, tuple[int, int]]:
    sql = "SELECT kind, count(*), sum(amount_fen) FROM statement_line WHERE statement = ? GROUP BY kind"
    found = {kind: (count, amount_fen) for kind, count, amount_fen in connection.execute(sql, (number,))}
    return {kind: found.get(kind, (0, 0)) for kind in _KINDS}


def _digest(month: str, treatment: str, home: str, details: list[Line]) -> bytes:
    """SM3 over the details as they are handed out, after a line that says what they are."""
    digest = hashlib.new("sm3", f"{month},{treatment},{home}\n{_HEADER}\n".encode())
    for line in details:
        digest.update(f"{line.csv}\n".encode())
    return digest.digest()
