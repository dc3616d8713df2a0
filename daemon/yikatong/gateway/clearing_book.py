"""The treatment city's books: what a home city owes it, and what it owes its institutions. Double entry, added only.

A claim is booked in the commit that records the home city's posting (G2), and its contra entries in the one that
records the reversal (G4), or the credit. So once everything is settled, what a treatment city claims of a home city
equals what that home city's ledger shows as payable to it.
"""

from __future__ import annotations

from typing import Final

import apsw

from yikatong.core.values import Fen
from yikatong.gateway.credit_log import CreditRoute
from yikatong.gateway.route_log import Route
from yikatong.ledger.report import Finding

SCHEMA: Final = """
CREATE TABLE claim (
    entry INTEGER PRIMARY KEY,
    transaction_id TEXT NOT NULL,
    region TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('DEBIT', 'CONTRA', 'CREDIT')),
    account TEXT NOT NULL,
    amount_fen INTEGER NOT NULL,
    accounting_date TEXT NOT NULL
) STRICT;
CREATE TRIGGER claim_is_never_changed BEFORE UPDATE ON claim
BEGIN SELECT RAISE(ABORT, 'claims are only added'); END;
CREATE TRIGGER claim_is_never_deleted BEFORE DELETE ON claim
BEGIN SELECT RAISE(ABORT, 'claims are only added'); END;
"""

_ADD: Final = """
INSERT INTO claim (transaction_id, region, kind, account, amount_fen, accounting_date)
VALUES (?1, ?2, ?3, 'receivable:' || ?4, ?6, ?7), (?1, ?2, ?3, 'payable:' || ?5, -?6, ?7)"""


def book(connection: apsw.Connection, route: Route, *, date: str, contra: bool) -> None:
    """Books the claim of a posted debit, or takes it back."""
    amount_fen = -route.amount_fen if contra else route.amount_fen
    kind = "CONTRA" if contra else "DEBIT"
    values = (
        route.transaction_id, route.treatment_region, kind, route.home_region, route.institution, amount_fen, date,
    )  # fmt: skip
    connection.execute(_ADD, values)


def book_credit(connection: apsw.Connection, route: CreditRoute) -> None:
    """Takes back what a credit gave, on the date on which its city has posted it, under the credit's own id."""
    values = (
        route.transaction_id, route.treatment_region, "CREDIT", route.home_region, route.institution,
        -route.amount_fen, route.booked_on,
    )  # fmt: skip
    connection.execute(_ADD, values)


def balances(connection: apsw.Connection, region: str) -> dict[str, Fen]:
    """`receivable:<home region>` (positive) and `payable:<institution>` (negative) of a treatment city."""
    sql = "SELECT account, sum(amount_fen) FROM claim WHERE region = ? GROUP BY account ORDER BY account DESC"
    return {account: Fen(amount) for account, amount in connection.execute(sql, (region,))}


_PROOFS: Final = (
    (
        "I1",
        "the claims of a transaction do not add up to zero",
        "SELECT transaction_id FROM claim GROUP BY transaction_id HAVING sum(amount_fen) <> 0",
    ),
    (
        "I2",
        "the claims of a transaction do not fit its route",
        """SELECT transaction_id FROM route
             LEFT JOIN (SELECT transaction_id, sum(kind = 'DEBIT') AS debits, sum(kind = 'CONTRA') AS contras,
                               sum(iif(account LIKE 'receivable:%', amount_fen, 0)) AS claimed_fen
                          FROM claim GROUP BY transaction_id) USING (transaction_id)
            WHERE coalesce(debits, 0) <> 2 * claimed
               OR coalesce(contras, 0) <> iif(state = 'REVDONE', 2 * claimed, 0)
               OR coalesce(claimed_fen, 0) <> iif(claimed AND state <> 'REVDONE', amount_fen, 0)
               OR state IN ('POSTED', 'CONFIRMED') AND NOT claimed""",
    ),
    (
        "I2",
        "the claims of a credit do not fit its route",
        """SELECT transaction_id FROM credit_route
             LEFT JOIN (SELECT transaction_id, sum(kind = 'CREDIT') AS credits, sum(kind <> 'CREDIT') AS others,
                               sum(iif(account LIKE 'receivable:%', amount_fen, 0)) AS claimed_fen
                          FROM claim GROUP BY transaction_id) USING (transaction_id)
            WHERE coalesce(credits, 0) <> iif(state = 'CREDITED', 2, 0)
               OR coalesce(others, 0) <> 0
               OR coalesce(claimed_fen, 0) <> iif(state = 'CREDITED', -amount_fen, 0)""",
    ),
    (
        "I3",
        "the credits of a debit are more than the debit",
        """SELECT original FROM credit_route c LEFT JOIN route r ON r.transaction_id = c.original
            WHERE c.state = 'CREDITED' GROUP BY original HAVING sum(c.amount_fen) > max(r.amount_fen)""",
    ),
    (
        "I5",
        "an order was debited more than once",
        """SELECT min(transaction_id) FROM route WHERE state IN ('POSTED', 'CONFIRMED') AND order_no <> ''
              AND transaction_id NOT IN (SELECT transaction_id FROM ticket WHERE outcome = 'REVERSED')
            GROUP BY institution, order_no, order_part HAVING count(*) > 1""",
    ),
)


def audit(connection: apsw.Connection) -> list[Finding]:
    """Proves the claims against the route log. Empty where everything holds."""
    return [
        Finding(invariant, subject, detail)
        for invariant, detail, sql in _PROOFS
        for (subject,) in connection.execute(sql)
    ]
