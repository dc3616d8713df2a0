"""The route log: one row a transaction, the guards of ids, and what is known of each terminal's session.

A row keeps no personal data but while its debit may still have to be undone (FWD, POSTED, REV): until then the payer is
kept, sealed, because a reversal names the whole original, and it is wiped in the commit that makes the outcome final.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import apsw

from yikatong.core.orders import DebitOrder
from yikatong.core.router_table import UNFINISHED, State

SCHEMA: Final = """
CREATE TABLE route (
    transaction_id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
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
    balance_fen INTEGER NOT NULL,
    claimed INTEGER NOT NULL,
    undone TEXT NOT NULL,
    undone_reference TEXT NOT NULL,
    sealed BLOB,
    order_no TEXT NOT NULL,
    order_part TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX route_of_terminal ON route (terminal_id, accounting_date);
CREATE INDEX route_of_city ON route (home_region, accounting_date);
CREATE INDEX route_unfinished ON route (state) WHERE state IN ('FWD', 'REV');
CREATE INDEX route_posted ON route (accounting_date) WHERE state = 'POSTED';
CREATE TABLE guard (
    kind TEXT NOT NULL CHECK (kind IN ('REQUEST', 'ORDER', 'SEQUENCE', 'VOUCHER')),
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    part TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    home_region TEXT NOT NULL,
    PRIMARY KEY (kind, owner, name, part)
) STRICT, WITHOUT ROWID;
CREATE TABLE session (
    terminal_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    epoch_used INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    journal_row INTEGER NOT NULL,
    journal_head BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE self_test_report (
    run_id TEXT PRIMARY KEY,
    terminal_id TEXT NOT NULL,
    started_at TEXT NOT NULL,
    passed INTEGER NOT NULL,
    steps TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""

_FIND = "SELECT * FROM route WHERE transaction_id = ?"
_ADD = "INSERT INTO route VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SET = """
UPDATE route SET state = ?, reason = ?, reference = ?, balance_fen = ?, accounting_date = ?, claimed = ?, undone = ?,
                 undone_reference = ?, sealed = ?
 WHERE transaction_id = ?"""
_GUARDS = """
SELECT kind, guard.transaction_id, guard.home_region, state FROM guard LEFT JOIN route USING (transaction_id)
 WHERE (kind, owner, name, part) IN (VALUES ('REQUEST', ?1, ?2, ''), ('ORDER', ?1, ?3, ?4), ('SEQUENCE', ?5, ?6, ?7))"""
# An order passes to the next transaction where its former holder ended without moving money.
_TAKE_GUARDS = """
INSERT INTO guard VALUES
    ('REQUEST', ?1, ?2, '', ?8, ?9), ('ORDER', ?1, ?3, ?4, ?8, ?9), ('SEQUENCE', ?5, ?6, ?7, ?8, ?9)
    ON CONFLICT DO UPDATE SET transaction_id = ?8, home_region = ?9 WHERE kind = 'ORDER'"""


_VOUCHER = """
SELECT guard.transaction_id, guard.home_region, state FROM guard LEFT JOIN route USING (transaction_id)
 WHERE (kind, owner, name, part) = ('VOUCHER', '', ?, '')"""
_TAKE_VOUCHER = "INSERT INTO guard VALUES ('VOUCHER', '', ?, '', ?, ?) ON CONFLICT DO NOTHING"


@dataclass(slots=True)
class Route:
    """A transaction in the route log; fields in the order of the table's columns."""

    transaction_id: str
    state: State
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
    balance_fen: int = 0
    claimed: int = 0
    undone: str = ""
    undone_reference: str = ""
    sealed: bytes | None = None
    order_no: str = ""
    order_part: str = ""

    @classmethod
    def of(cls, order: DebitOrder, *, home_region: str, accounting_date: str) -> Route:
        """A row that is not in the log yet."""
        return cls(
            order.transaction_id,
            State.NONE,
            order.fingerprint,
            order.terminal_id,
            order.institution.code,
            order.treatment_region.code,
            home_region,
            order.amount.count,
            accounting_date,
            order_no=order.order_no,
            order_part=order.order_part,
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a guard, and to which city it went (empty: to none)."""

    transaction_id: str
    home_region: str
    state: State


def find(connection: apsw.Connection, transaction_id: str) -> Route | None:
    row = connection.execute(_FIND, (transaction_id,)).fetchone()
    return Route(row[0], State(row[1]), *row[2:]) if row else None


def add(connection: apsw.Connection, route: Route) -> None:
    connection.execute(
        _ADD,
        (
            route.transaction_id, route.state.value, route.fingerprint, route.terminal_id, route.institution,
            route.treatment_region, route.home_region, route.amount_fen, route.accounting_date, route.reason,
            route.other_transaction, route.reference, route.balance_fen, route.claimed, route.undone,
            route.undone_reference, route.sealed, route.order_no, route.order_part,
        ),
    )  # fmt: skip


def save(connection: apsw.Connection, route: Route) -> None:
    """Writes what may change in a row."""
    connection.execute(
        _SET,
        (
            route.state.value, route.reason, route.reference, route.balance_fen, route.accounting_date, route.claimed,
            route.undone, route.undone_reference, route.sealed, route.transaction_id,
        ),
    )  # fmt: skip


def unfinished(connection: apsw.Connection) -> list[Route]:
    """The rows that a start takes up again."""
    assert {state.value for state in UNFINISHED} == {"FWD", "REV"}  # what the partial index holds
    rows = connection.execute("SELECT * FROM route WHERE state IN ('FWD', 'REV')")
    return [Route(row[0], State(row[1]), *row[2:]) for row in rows]


def unconfirmed_of(connection: apsw.Connection, terminal_id: str) -> list[Route]:
    """The debits of a terminal that only it could have confirmed or reversed."""
    sql = """SELECT * FROM route WHERE terminal_id = ? AND state IN ('FWD', 'POSTED')
                AND transaction_id NOT IN (SELECT transaction_id FROM confirmation_wait)"""
    return [Route(row[0], State(row[1]), *row[2:]) for row in connection.execute(sql, (terminal_id,))]


def open_before(connection: apsw.Connection, accounting_date: str, *, limit: int) -> list[Route]:
    """Debits of earlier accounting dates that nobody has confirmed or reversed, oldest first.

    Each half repeats the condition of a partial index, so that it is used.
    """
    sql = """SELECT * FROM route WHERE state = 'POSTED' AND accounting_date < ?1
             UNION ALL SELECT * FROM route WHERE state IN ('FWD', 'REV') AND state = 'FWD' AND accounting_date < ?1
             ORDER BY accounting_date LIMIT ?2"""
    return [Route(row[0], State(row[1]), *row[2:]) for row in connection.execute(sql, (accounting_date, limit))]


def home_regions(connection: apsw.Connection) -> list[str]:
    """Every city to which a debit has ever gone; one look for each."""
    sql = "SELECT home_region FROM route WHERE home_region > ? ORDER BY home_region LIMIT 1"
    found = list[str]()
    while row := connection.execute(sql, (found[-1] if found else "",)).fetchone():
        found.append(str(row[0]))
    return found


def _guard_values(order: DebitOrder) -> tuple[str, ...]:
    return (
        order.institution.code, order.request_id, order.order_no, order.order_part,
        order.terminal_id, str(order.epoch), str(order.sequence),
    )  # fmt: skip


def guards(connection: apsw.Connection, order: DebitOrder) -> dict[str, Holder]:
    """Which transaction holds this debit's request id (REQUEST), order (ORDER), epoch and sequence (SEQUENCE).

    It may be the debit itself, where its row was lost. A holder whose row is lost counts as forwarded: guards outlive
    rows, and nobody knows how it ended.
    """
    rows = connection.execute(_GUARDS, _guard_values(order))
    return {kind: Holder(holder, home, State(state or State.FWD.value)) for kind, holder, home, state in rows}


def take_guards(connection: apsw.Connection, order: DebitOrder, home_region: str) -> None:
    """In the transaction that writes the row. They outlive it, and know where the debit went (empty: nowhere)."""
    connection.execute(_TAKE_GUARDS, (*_guard_values(order), order.transaction_id, home_region))


def voucher_holder(connection: apsw.Connection, nonce: str) -> Holder | None:
    """Which transaction was admitted with the code of this nonce, wherever in the province; as for `guards`."""
    row = connection.execute(_VOUCHER, (nonce,)).fetchone()
    return None if row is None else Holder(str(row[0]), str(row[1]), State(row[2] or State.FWD.value))


def take_voucher(connection: apsw.Connection, nonce: str, order: DebitOrder, home_region: str) -> None:
    """In the transaction that admits the debit, and never given back: a code pays once, also where that is undone."""
    connection.execute(_TAKE_VOUCHER, (nonce, order.transaction_id, home_region))


def guarded_home(connection: apsw.Connection, order: DebitOrder) -> str:
    """Where this very debit went, as its guards say; empty where it has none, or went nowhere."""
    own = (holder for holder in guards(connection, order).values() if holder.transaction_id == order.transaction_id)
    return next((holder.home_region for holder in own), "")


def file_report(connection: apsw.Connection, values: tuple[str, str, str, int, str]) -> None:
    """Files a self-test: run, terminal, start, passed, steps as JSON. The same run again changes nothing."""
    connection.execute("INSERT INTO self_test_report VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", values)
