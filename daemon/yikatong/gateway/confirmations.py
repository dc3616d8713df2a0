"""Confirmations that wait for their city: kept here, and sent until it has answered, also without their terminal.

A row is written in the commit that records the city's silence. From then on the debit is as good as confirmed for its
terminal: a reversal of it comes from a copy of the journal, and is refused. The payer stands in the route, sealed.
"""

from __future__ import annotations

from typing import Final

import apsw

SCHEMA: Final = """
CREATE TABLE confirmation_wait (transaction_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"""


def hold(connection: apsw.Connection, transaction_id: str) -> None:
    connection.execute("INSERT INTO confirmation_wait VALUES (?) ON CONFLICT DO NOTHING", (transaction_id,))


def release(connection: apsw.Connection, transaction_id: str) -> None:
    connection.execute("DELETE FROM confirmation_wait WHERE transaction_id = ?", (transaction_id,))


def held(connection: apsw.Connection, transaction_id: str) -> bool:
    sql = "SELECT 1 FROM confirmation_wait WHERE transaction_id = ?"
    return connection.execute(sql, (transaction_id,)).fetchone() is not None


def waiting(connection: apsw.Connection) -> list[str]:
    """The transactions whose confirmation their city has not answered."""
    sql = "SELECT transaction_id FROM confirmation_wait JOIN route USING (transaction_id) WHERE state = 'POSTED'"
    return [str(row[0]) for row in connection.execute(sql)]
