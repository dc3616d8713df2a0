"""Rows of several sides in a temporary SQLite file, so that a day of any size is sorted and matched in bounded memory.

The file has no name and goes with its connection. It holds ids, amounts and orders, no personal data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final

import apsw

from yikatong.core.reconciliation import Kind, Row, Standing

_SCHEMA: Final = """
CREATE TABLE side (
    side INTEGER NOT NULL, transaction_id TEXT NOT NULL, kind TEXT NOT NULL, standing TEXT NOT NULL,
    amount_fen INTEGER NOT NULL, accounting_date TEXT NOT NULL, order_no TEXT NOT NULL, order_part TEXT NOT NULL,
    fingerprint TEXT NOT NULL, state TEXT NOT NULL, since TEXT NOT NULL,
    PRIMARY KEY (side, transaction_id)) WITHOUT ROWID
"""
_ADD: Final = """
INSERT INTO side VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET amount_fen = amount_fen + excluded.amount_fen"""
_REPLACE: Final = "INSERT OR REPLACE INTO side VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FIELDS: Final = ", ".join(Row._fields)
_KINDS: Final = {kind.value: kind for kind in Kind}
_STANDINGS: Final = {standing.value: standing for standing in Standing}


class Spool:
    """A context manager. Its methods may be called from any thread, one at a time."""

    def __init__(self) -> None:
        self._connection = apsw.Connection("")  # SQLite's name for a temporary file
        self._connection.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384")
        self._connection.execute(_SCHEMA)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self._connection.close()

    def add(self, side: int, rows: Iterable[Row]) -> None:
        """Adds rows in any order. An id that comes again adds its amount: the sums stay right, and the row is found."""
        with self._connection:
            self._connection.executemany(_ADD, (_values(side, row) for row in rows))

    def replace(self, side: int, row: Row) -> None:
        """Puts `row` in the place of the one with its id, or adds it."""
        self._connection.execute(_REPLACE, _values(side, row))

    def remove(self, side: int, transaction_id: str) -> None:
        self._connection.execute("DELETE FROM side WHERE side = ? AND transaction_id = ?", (side, transaction_id))

    def known(self, side: int, transaction_ids: Iterable[str]) -> set[str]:
        """Which of these ids the side has."""
        sql = "SELECT 1 FROM side WHERE side = ? AND transaction_id = ?"
        return {key for key in transaction_ids if self._connection.execute(sql, (side, key)).fetchone() is not None}

    def undo(self, side: int, transaction_ids: Iterable[str]) -> None:
        """The money of these did not move in the end; ids that the side does not have are passed over."""
        sql = "UPDATE side SET standing = ? WHERE side = ? AND transaction_id = ?"
        values = ((Standing.NOT_MOVED.value, side, transaction_id) for transaction_id in transaction_ids)
        with self._connection:
            self._connection.executemany(sql, values)

    def rows(self, side: int) -> Iterator[Row]:
        """The side's rows by transaction id."""
        return self._read("side = ? ORDER BY transaction_id", side)

    def repeated_orders(self, side: int) -> Iterator[Row]:
        """The side's rows whose order comes more than once, by order and part."""
        return self._read(
            """side = ?1 AND (order_no, order_part) IN (
                SELECT order_no, order_part FROM side WHERE side = ?1 AND order_no <> ''
                 GROUP BY order_no, order_part HAVING count(*) > 1)
               ORDER BY order_no, order_part""",
            side,
        )

    def _read(self, where: str, side: int) -> Iterator[Row]:
        query = f"SELECT {_FIELDS} FROM side WHERE {where}"  # noqa: S608 - this class's own constants
        kinds, standings, make = _KINDS, _STANDINGS, Row._make
        for row in self._connection.execute(query, (side,)):
            yield make((row[0], kinds[row[1]], standings[row[2]], *row[3:]))


def _values(side: int, row: Row) -> tuple[int | str, ...]:
    return (side, row[0], row[1]._value_, row[2]._value_, *row[3:])
