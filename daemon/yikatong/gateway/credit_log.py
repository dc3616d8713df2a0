"""The credits' part of the route log: one row a credit.

A row keeps no personal data but while the credit is on its way (FWD): then the whole credit is kept, sealed, because
it names the payer, and is wiped in the commit that decides it. Request ids are guarded together with the debits'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import apsw

from yikatong.core.credit_orders import CreditOrder
from yikatong.core.credit_router_table import CreditRouteState

SCHEMA: Final = """
CREATE TABLE credit_route (
    transaction_id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('FWD', 'CREDITED', 'DECLINED')),
    kind TEXT NOT NULL CHECK (kind IN ('CANCELLATION', 'REFUND')),
    original TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    terminal_id TEXT NOT NULL,
    institution TEXT NOT NULL,
    treatment_region TEXT NOT NULL,
    home_region TEXT NOT NULL,
    amount_fen INTEGER NOT NULL,
    accounting_date TEXT NOT NULL,
    reason TEXT NOT NULL,
    other_transaction TEXT NOT NULL,
    reference TEXT NOT NULL,
    booked_on TEXT NOT NULL,
    refundable_fen INTEGER NOT NULL,
    balance_fen INTEGER,
    sealed BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX credit_route_unfinished ON credit_route (state) WHERE state = 'FWD';
CREATE INDEX credit_route_of_terminal ON credit_route (terminal_id, booked_on);
CREATE INDEX credit_route_of_city ON credit_route (home_region, booked_on);
"""

_FIND = "SELECT * FROM credit_route WHERE transaction_id = ?"
_ADD = "INSERT INTO credit_route VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SET = """
UPDATE credit_route SET state = ?, reason = ?, other_transaction = ?, reference = ?, booked_on = ?, refundable_fen = ?,
                        balance_fen = ?, sealed = ?
 WHERE transaction_id = ?"""
_UNFINISHED = "SELECT * FROM credit_route WHERE state = 'FWD' ORDER BY transaction_id"
_HOLDER = "SELECT transaction_id FROM guard WHERE (kind, owner, name, part) = ('REQUEST', ?, ?, '')"
_GUARD = "INSERT INTO guard VALUES ('REQUEST', ?, ?, '', ?, '') ON CONFLICT DO NOTHING"


@dataclass(slots=True)
class CreditRoute:
    """A credit in the route log; fields in the order of the table's columns.

    `accounting_date` is the stamp, `booked_on` the date on which its city has posted it.
    """

    transaction_id: str
    state: CreditRouteState
    kind: str
    original: str
    fingerprint: bytes
    terminal_id: str
    institution: str
    treatment_region: str
    home_region: str
    amount_fen: int
    accounting_date: str
    reason: str = ""
    other_transaction: str = ""
    reference: str = ""
    booked_on: str = ""
    refundable_fen: int = 0
    balance_fen: int | None = None
    sealed: bytes | None = None

    @classmethod
    def of(cls, order: CreditOrder, *, home_region: str, accounting_date: str) -> CreditRoute:
        """A row that is not in the log yet."""
        original = order.original
        return cls(
            order.transaction_id,
            CreditRouteState.NONE,
            order.kind.value,
            original.transaction_id,
            order.fingerprint,
            original.terminal_id,
            original.institution.code,
            original.treatment_region.code,
            home_region,
            order.amount.count,
            accounting_date,
        )


def find(connection: apsw.Connection, transaction_id: str) -> CreditRoute | None:
    row = connection.execute(_FIND, (transaction_id,)).fetchone()
    return CreditRoute(row[0], CreditRouteState(row[1]), *row[2:]) if row else None


def add(connection: apsw.Connection, route: CreditRoute) -> None:
    connection.execute(
        _ADD,
        (
            route.transaction_id, route.state.value, route.kind, route.original, route.fingerprint, route.terminal_id,
            route.institution, route.treatment_region, route.home_region, route.amount_fen, route.accounting_date,
            route.reason, route.other_transaction, route.reference, route.booked_on, route.refundable_fen,
            route.balance_fen, route.sealed,
        ),
    )  # fmt: skip


def save(connection: apsw.Connection, route: CreditRoute) -> None:
    """Writes what may change in a row."""
    connection.execute(
        _SET,
        (
            route.state.value, route.reason, route.other_transaction, route.reference, route.booked_on,
            route.refundable_fen, route.balance_fen, route.sealed, route.transaction_id,
        ),
    )  # fmt: skip


def unfinished(connection: apsw.Connection) -> list[CreditRoute]:
    """The credits that a start takes up again."""
    return [CreditRoute(row[0], CreditRouteState(row[1]), *row[2:]) for row in connection.execute(_UNFINISHED)]


def request_holder(connection: apsw.Connection, order: CreditOrder) -> str:
    """Which other transaction, debit or credit, holds this credit's request id; empty where none does."""
    row = connection.execute(_HOLDER, (order.original.institution.code, order.request_id)).fetchone()
    return "" if row is None or row[0] == order.transaction_id else str(row[0])


def take_guard(connection: apsw.Connection, order: CreditOrder) -> None:
    """In the transaction that writes the row."""
    connection.execute(_GUARD, (order.original.institution.code, order.request_id, order.transaction_id))
