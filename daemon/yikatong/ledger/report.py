"""What a ledger can show of itself: its entries, its totals, and the proof that it is right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import apsw

from yikatong.core.values import Fen, Region


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a double entry.

    `account` is `personal:<number>`, `payable:<treatment region>`, `opening` or `suspense`.
    """

    number: int
    transaction_id: str
    account: str
    amount: Fen
    accounting_date: str


@dataclass(frozen=True, slots=True)
class Totals:
    """A city's books in one look; `payable` by treatment region, positive where this city owes.

    `suspense`: each credit whose account was closed.
    """

    personal: Fen
    opening: Fen
    payable: dict[str, Fen]
    entries: int
    suspense: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, sums: dict[str, tuple[int, int]], suspense: Iterable[Entry]) -> Totals:
        """From sum and number of entries by account, where `personal` stands for all personal accounts."""
        return cls(
            personal=Fen(sums.get("personal", (0, 0))[0]),
            opening=Fen(sums.get("opening", (0, 0))[0]),
            payable={
                account.removeprefix("payable:"): Fen(amount)
                for account, (amount, _) in sorted(sums.items())
                if account.startswith("payable:")
            },
            entries=sum(count for _, count in sums.values()),
            suspense=tuple(suspense),
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be. `invariant` is the design's number, `subject` a transaction, account or city."""

    invariant: str
    subject: str
    detail: str


def list_entries(
    connection: apsw.Connection, region: Region, *, date: str = "", after: int = 0, limit: int = 1000
) -> list[Entry]:
    """Entries of a city in the order in which they were made; `date` empty for all."""
    where = "region = ? AND entry > ? AND ? IN ('', accounting_date) ORDER BY entry LIMIT ?"
    return _entries(connection, where, region.code, after, date, limit)


def _entries(connection: apsw.Connection, where: str, *values: str | int) -> list[Entry]:
    sql = "SELECT entry, transaction_id, account, amount_fen, accounting_date FROM posting WHERE " + where  # noqa: S608 - ours
    rows = connection.execute(sql, values)
    return [Entry(number, txid, account, Fen(amount), day) for number, txid, account, amount, day in rows]


def totals(connection: apsw.Connection, region: Region) -> Totals:
    """Sums over all entries of a city."""
    sql = """SELECT iif(account LIKE 'personal:%', 'personal', account) AS name, sum(amount_fen), count(*)
               FROM posting WHERE region = ? GROUP BY name"""
    sums = {name: (amount, count) for name, amount, count in connection.execute(sql, (region.code,))}
    return Totals.of(sums, _entries(connection, "region = ? AND account = 'suspense' ORDER BY entry", region.code))


_PROOFS = (
    (
        "I1",
        "the entries of a transaction do not add up to zero",
        "SELECT transaction_id FROM posting GROUP BY transaction_id HAVING sum(amount_fen) <> 0",
    ),
    (
        "I1",
        "a balance is not the sum of its entries",
        """SELECT 'personal:' || a.account FROM account a
             LEFT JOIN (SELECT account, sum(amount_fen) AS total FROM posting
                         WHERE account LIKE 'personal:%' GROUP BY account) p
               ON p.account = 'personal:' || a.account
            WHERE a.balance_fen <> coalesce(p.total, 0)""",
    ),
    (
        "I1",
        "entries of an account that is not there",
        """SELECT DISTINCT account FROM posting WHERE account LIKE 'personal:%'
            AND CAST(substr(account, 10) AS INTEGER) NOT IN (SELECT account FROM account)""",
    ),
    (
        "I2",
        "the entries of a transaction do not fit its state",
        """SELECT t.transaction_id FROM txn t
             LEFT JOIN (SELECT transaction_id, sum(kind = 'DEBIT') AS debits, sum(kind = 'CONTRA') AS contras,
                               sum(iif(account LIKE 'personal:%' AND kind = 'DEBIT', -amount_fen, 0)) AS taken,
                               sum(iif(account LIKE 'personal:%' AND kind = 'CONTRA', amount_fen, 0)) AS given
                          FROM posting WHERE kind <> 'OPENING' GROUP BY transaction_id) p USING (transaction_id)
            WHERE coalesce(debits, 0) <> iif(state IN ('POSTED', 'CONFIRMED', 'REVERSED', 'CANCELLED'), 2, 0)
               OR coalesce(contras, 0) <> iif(state = 'REVERSED', 2, 0)
               OR coalesce(taken, 0) <> iif(state IN ('POSTED', 'CONFIRMED', 'REVERSED', 'CANCELLED'), amount_fen, 0)
               OR coalesce(given, 0) <> iif(state = 'REVERSED', amount_fen, 0)""",
    ),
    (
        "I2",
        "entries of a transaction that is not there",
        """SELECT DISTINCT transaction_id FROM posting
            WHERE kind IN ('DEBIT', 'CONTRA') AND transaction_id NOT IN (SELECT transaction_id FROM txn)
               OR kind = 'CREDIT' AND transaction_id NOT IN (SELECT transaction_id FROM credit)""",
    ),
    (
        "I2",
        "the entries of a credit do not fit it",
        """SELECT c.transaction_id FROM credit c
             LEFT JOIN (SELECT transaction_id, count(*) AS credits, sum(kind <> 'CREDIT') AS others FROM posting
                         GROUP BY transaction_id) p USING (transaction_id)
             LEFT JOIN posting given
               ON given.transaction_id = c.transaction_id AND given.account = c.account
            WHERE coalesce(credits, 0) <> iif(state = 'CREDITED', 2, 0)
               OR coalesce(others, 0) <> 0
               OR coalesce(given.amount_fen, 0) <> iif(state = 'CREDITED', c.amount_fen, 0)""",
    ),
    (
        "I3",
        "the credits of a debit do not fit it",
        """SELECT c.original FROM credit c LEFT JOIN txn t ON t.transaction_id = c.original
            WHERE c.state = 'CREDITED' GROUP BY c.original
           HAVING coalesce(t.state, '') NOT IN ('CONFIRMED', 'CANCELLED')
               OR sum(c.amount_fen) > t.amount_fen
               OR sum(c.kind = 'CANCELLATION') <> (t.state = 'CANCELLED')
               OR t.state = 'CANCELLED' AND (count(*) <> 1 OR sum(c.amount_fen) <> t.amount_fen)""",
    ),
    (
        "I3",
        "a debit is cancelled without a credit",
        """SELECT transaction_id FROM txn WHERE state = 'CANCELLED'
            AND transaction_id NOT IN (SELECT original FROM credit WHERE state = 'CREDITED')""",
    ),
    ("I7", "an account is below its floor", "SELECT 'personal:' || account FROM account WHERE balance_fen < floor_fen"),
)


def audit(connection: apsw.Connection) -> list[Finding]:
    """Proves the ledger from its own rows: I1, I2, I3 and I7 of the design. Empty where all holds."""
    return [
        Finding(invariant, subject, detail)
        for invariant, detail, sql in _PROOFS
        for (subject,) in connection.execute(sql)
    ]
