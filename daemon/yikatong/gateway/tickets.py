"""Tickets (工单): debits that need people, and reversals that wait for their city.

A debit needs people where its reversal was refused, or where its terminal is gone. The ticket is opened in the commit
that decides that. It keeps the terminal's own words of the debit, sealed, because
whatever is decided must be carried out with the whole original; they are wiped once that is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

import apsw

from yikatong.core.orders import DebitOrder, Denied, ReversalAnswer, Reversed
from yikatong.core.reasons import Reason
from yikatong.gateway.acts import ActKind, Acts
from yikatong.gateway.route_log import Route
from yikatong.gateway.sealing import PayerSeal
from yikatong.ledger.report import Finding

SCHEMA: Final = """
CREATE TABLE ticket (
    transaction_id TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    terminal_id TEXT NOT NULL,
    institution TEXT NOT NULL,
    treatment_region TEXT NOT NULL,
    amount_fen INTEGER NOT NULL,
    order_no TEXT NOT NULL,
    order_part TEXT NOT NULL,
    opened_at TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    sealed BLOB,
    decision TEXT NOT NULL CHECK (decision IN ('', 'CONFIRM', 'REVERSE')),
    proposed_by TEXT NOT NULL,
    approved_by TEXT NOT NULL CHECK (approved_by = '' OR approved_by <> proposed_by),
    credit_id TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('', 'UPHELD', 'REVERSED')),
    reference TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ticket_open ON ticket (opened_at) WHERE outcome = '';
CREATE INDEX ticket_reversed ON ticket (terminal_id) WHERE decision = 'REVERSE';
CREATE TABLE reversal_wait (transaction_id TEXT PRIMARY KEY, since TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


class Decision(Enum):
    """CONFIRM: the debit stands. REVERSE: the money goes back."""

    CONFIRM = "CONFIRM"
    REVERSE = "REVERSE"


class Outcome(Enum):
    """How a ticket ended."""

    UPHELD = "UPHELD"
    REVERSED = "REVERSED"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A debit that people decide; fields in the order of the table's columns. `decision` and `outcome` may be empty.

    `reason`: NEEDS_OPERATOR where the debit was confirmed, TRANSACTION_ID_REUSED where the two sides' content differs,
    TERMINAL_REPLACED where nobody is left who could confirm or reverse it.
    """

    transaction_id: str
    reason: str
    fingerprint: bytes
    terminal_id: str
    institution: str
    treatment_region: str
    amount_fen: int
    order_no: str
    order_part: str
    opened_at: str
    asked_at: str
    sealed: bytes | None
    decision: str
    proposed_by: str
    approved_by: str
    credit_id: str
    outcome: str
    reference: str
    why: str


class Tickets:
    """Every method runs inside the caller's transaction on `connection`."""

    def __init__(self, seal: PayerSeal) -> None:
        self._seal = seal

    def file(self, connection: apsw.Connection, order: DebitOrder, reason: Reason, *, at: str) -> None:
        """A reversal is refused: opens the ticket, or notes that the terminal still asks."""
        connection.execute(
            """INSERT INTO ticket VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?10, ?10, ?, '', '', '', '', '', '', '')
                   ON CONFLICT DO UPDATE SET asked_at = ?10""",
            (
                order.transaction_id, reason.value, order.fingerprint, order.terminal_id, order.institution.code,
                order.treatment_region.code, order.amount.count, order.order_no, order.order_part, at,
                self._seal.close(order),
            ),
        )  # fmt: skip

    def adopt(self, connection: apsw.Connection, route: Route, *, at: str) -> None:
        """The terminal of an unconfirmed debit is gone: opens the ticket with what the route has kept."""
        order = self._seal.open(route)
        self.file(connection, order, Reason.TERMINAL_REPLACED, at=at)
        # Whatever was refused under this id before, for example to somebody else: this is what people decide now. What
        # was adopted already keeps its proposal.
        connection.execute(
            """UPDATE ticket SET reason = ?, fingerprint = ?, sealed = ?, decision = '', proposed_by = '', why = ''
                WHERE transaction_id = ? AND approved_by = '' AND reason <> ?1""",
            (Reason.TERMINAL_REPLACED.value, order.fingerprint, self._seal.close(order), order.transaction_id),
        )

    def answer(self, connection: apsw.Connection, order: DebitOrder) -> ReversalAnswer | None:
        """What people have decided about this very debit; None where they have not.

        While it is being carried out the refusal stands, and the tables are left alone.
        """
        ticket = find(connection, order.transaction_id)
        if ticket is None or not ticket.approved_by or ticket.fingerprint != order.fingerprint:
            return None
        match ticket.outcome:
            case Outcome.REVERSED.value:
                return Reversed(ticket.reference)
            case Outcome.UPHELD.value:
                return Denied(Reason.UPHELD_BY_OPERATORS)
            case _:
                return Denied(Reason.NEEDS_OPERATOR)

    def order(self, ticket: Ticket) -> DebitOrder:
        """The debit in the terminal's words. Raises YikatongError STORE_UNAVAILABLE, INVALID_FIELD."""
        assert ticket.sealed is not None, "kept until the ticket is done"
        return self._seal.opened(ticket.sealed, ticket.transaction_id)


def find(connection: apsw.Connection, transaction_id: str) -> Ticket | None:
    row = connection.execute("SELECT * FROM ticket WHERE transaction_id = ?", (transaction_id,)).fetchone()
    return Ticket(*row) if row else None


def standing(connection: apsw.Connection) -> list[Ticket]:
    """Those that are not done, oldest first."""
    return [Ticket(*row) for row in connection.execute("SELECT * FROM ticket WHERE outcome = '' ORDER BY opened_at")]


def propose(connection: apsw.Connection, transaction_id: str, decision: Decision, *, operator: str, why: str) -> None:
    _propose(connection, transaction_id, decision.value, operator, why)


def withdraw(connection: apsw.Connection, transaction_id: str) -> None:
    _propose(connection, transaction_id, "", "", "")


def _propose(connection: apsw.Connection, transaction_id: str, decision: str, operator: str, why: str) -> None:
    sql = "UPDATE ticket SET decision = ?, proposed_by = ?, why = ? WHERE transaction_id = ? AND approved_by = ''"
    connection.execute(sql, (decision, operator, why, transaction_id))


def approve(connection: apsw.Connection, transaction_id: str, *, operator: str) -> None:
    sql = "UPDATE ticket SET approved_by = ? WHERE transaction_id = ? AND decision <> ''"
    connection.execute(sql, (operator, transaction_id))


def note_credit(connection: apsw.Connection, transaction_id: str, credit_id: str) -> None:
    """Before the refund that carries out the decision leaves."""
    connection.execute("UPDATE ticket SET credit_id = ? WHERE transaction_id = ?", (credit_id, transaction_id))


def close(connection: apsw.Connection, transaction_id: str, outcome: Outcome, reference: str) -> None:
    """It is carried out: the payer is wiped."""
    sql = "UPDATE ticket SET outcome = ?, reference = ?, sealed = NULL WHERE transaction_id = ?"
    connection.execute(sql, (outcome.value, reference, transaction_id))


def note_ended(connection: apsw.Connection, transaction_id: str, outcome: Outcome, reference: str) -> None:
    """An adopted debit has ended without people, by what its old machine had sent: there is nothing left to decide."""
    connection.execute(
        """UPDATE ticket SET outcome = ?, reference = ?, sealed = NULL
            WHERE transaction_id = ? AND reason = 'TERMINAL_REPLACED' AND approved_by = '' AND outcome = ''""",
        (outcome.value, reference, transaction_id),
    )


def hidden_from(connection: apsw.Connection, terminal_id: str) -> tuple[frozenset[str], frozenset[str]]:
    """What people have done at a terminal's place: its debits that they reversed, and the refunds that did it.

    The terminal has the first as reversed, and knows nothing of the second.
    """
    sql = "SELECT transaction_id, credit_id, outcome FROM ticket WHERE terminal_id = ? AND decision = 'REVERSE'"
    rows = connection.execute(sql, (terminal_id,)).fetchall()
    return (
        frozenset(str(row[0]) for row in rows if row[2] == Outcome.REVERSED.value),
        frozenset(str(row[1]) for row in rows),
    )


def is_reversed(connection: apsw.Connection, transaction_id: str) -> bool:
    """Whether people have reversed this debit: its order is free again."""
    sql = "SELECT 1 FROM ticket WHERE transaction_id = ? AND outcome = 'REVERSED'"
    return connection.execute(sql, (transaction_id,)).fetchone() is not None


def audit(connection: apsw.Connection, acts: Acts) -> Iterator[Finding]:
    """Whether each approved ticket stands on the chain: proposed by one person and approved, alike, by another."""
    said = {act.subject: act for act in acts.of(connection, ActKind.PROPOSED, ActKind.WITHDRAWN)}
    agreed = {act.subject: act for act in acts.of(connection, ActKind.APPROVED)}
    for row in connection.execute("SELECT * FROM ticket WHERE approved_by <> '' OR outcome <> ''"):
        ticket = Ticket(*row)
        if ticket.reason == Reason.TERMINAL_REPLACED.value and not ticket.approved_by:
            continue  # it ended without people
        first, second = said.get(ticket.transaction_id), agreed.get(ticket.transaction_id)
        if (
            first is None
            or second is None
            or first.kind is not ActKind.PROPOSED
            or (first.value, second.value) != (ticket.decision, ticket.decision)
            or (first.operator, second.operator) != (ticket.proposed_by, ticket.approved_by)
            or first.operator == second.operator
        ):
            yield Finding("I8", ticket.transaction_id, "a decision does not stand on record with two persons")


# --- reversals that wait ----------------------------------------------------------------------------------------


def note_waiting(connection: apsw.Connection, transaction_id: str, *, since: str) -> None:
    """A reversal is on its way to its city; the first time counts."""
    connection.execute("INSERT INTO reversal_wait VALUES (?, ?) ON CONFLICT DO NOTHING", (transaction_id, since))


def note_settled(connection: apsw.Connection, transaction_id: str) -> None:
    connection.execute("DELETE FROM reversal_wait WHERE transaction_id = ?", (transaction_id,))


@dataclass(frozen=True, slots=True)
class Waiting:
    """A reversal that its city has not acknowledged; `since` is ISO 8601, UTC."""

    transaction_id: str
    since: str


def waiting_reversals(connection: apsw.Connection) -> list[Waiting]:
    """Oldest first; without those that were refused, which have a ticket."""
    sql = """SELECT transaction_id, since FROM reversal_wait JOIN route USING (transaction_id)
              WHERE state = 'REV' AND transaction_id NOT IN (SELECT transaction_id FROM ticket) ORDER BY since"""
    return [Waiting(*row) for row in connection.execute(sql)]


class Undelivered(NamedTuple):
    """How much a city has not acknowledged."""

    reversals: int = 0
    confirmations: int = 0
    credits: int = 0


def waiting(connection: apsw.Connection) -> dict[str, Undelivered]:
    """By home region."""
    sql = """SELECT home_region, sum(kind = 'REVERSAL'), sum(kind = 'CONFIRMATION'), sum(kind = 'CREDIT') FROM (
                 SELECT home_region, 'REVERSAL' AS kind FROM route WHERE state = 'REV'
                 UNION ALL SELECT home_region, 'CONFIRMATION' FROM confirmation_wait JOIN route USING (transaction_id)
                  WHERE state = 'POSTED'
                 UNION ALL SELECT home_region, 'CREDIT' FROM credit_route WHERE state = 'FWD') GROUP BY home_region"""
    return {region: Undelivered(*counts) for region, *counts in connection.execute(sql)}
