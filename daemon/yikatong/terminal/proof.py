"""The proof of a journal: its whole chain, and every row against its last event, in slices.

A terminal's journal grows for years and its store does one thing at a time: walked in one piece, a customer's debit
would wait for all of it. Between two slices the journal works; what changes meanwhile is looked at again at the end.
"""

from __future__ import annotations

from typing import Final

import apsw
import msgspec

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.transaction import Transaction
from yikatong.terminal import credit_journal
from yikatong.terminal.chain import GENESIS, link
from yikatong.terminal.vault import Vault

SLICE: Final = 2000

_ROW: Final = msgspec.json.Decoder(Transaction)
_ROWS: Final = (
    "SELECT transaction_id, content, request_id, order_no, order_part, state, self_test, open, accounting_date FROM txn"
)


class Proof:
    """Repeat `walk`, then `compare`, each while it says that there is more; then `settle` once.

    Each is a job of the store, and raises YikatongError JOURNAL_UNAVAILABLE at the first thing that is not right.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.events = 0
        """How many are proved."""
        self._head = GENESIS
        self._latest: dict[str, int] = {}  # of the last content of each transaction, its hash: years fit into memory
        self._compared = ""
        self._changing: set[str] = set()

    def walk(self, connection: apsw.Connection) -> bool:
        """The next slice of the chain; whether there may be more."""
        begun = self.events
        for number, transaction_id, content, head, mac in connection.execute(
            "SELECT number, transaction_id, content, head, mac FROM event WHERE number>? ORDER BY number LIMIT ?",
            (begun, SLICE),
        ):
            self.events += 1
            if number != self.events or head != link(self._head, number, content) or mac != self._vault.mac(head):
                raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "the journal's chain is broken", row=self.events)
            self._head = head
            self._latest[transaction_id] = hash(content)
        return self.events - begun == SLICE

    def compare(self, connection: apsw.Connection) -> bool:
        """The next slice of rows; whether there may be more. A row that differs may just have changed: see `settle`."""
        seen = 0
        for transaction_id, content, *columns in connection.execute(
            f"{_ROWS} WHERE transaction_id>? ORDER BY transaction_id LIMIT ?", (self._compared, SLICE)
        ):
            seen += 1
            self._compared = transaction_id
            if not self._fits(transaction_id, content, columns):
                self._changing.add(transaction_id)
        return seen == SLICE

    def settle(self, connection: apsw.Connection) -> None:
        """What came since, in one piece: events and rows must be the same transactions, in the same state."""
        while self.walk(connection):
            pass
        for transaction_id in self._changing:
            row = connection.execute(f"{_ROWS} WHERE transaction_id=?", (transaction_id,)).fetchone()
            if row is None or not self._fits(transaction_id, row[1], list(row[2:])):
                raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "a row differs from its last event")
        counted = connection.execute("SELECT count(*) FROM txn").fetchone()
        assert counted is not None, "an aggregate has a row"
        if int(counted[0]) + credit_journal.compare(connection, self._latest) != len(self._latest):
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "an event has no row")

    def _fits(self, transaction_id: str, content: bytes, columns: list[object]) -> bool:
        """Whether a row is its last event, and is found as what it says: by its keys, and among the open ones."""
        if self._latest.get(transaction_id) != hash(content):
            return False
        row = _ROW.decode(content)
        return columns == [
            row.request_id,
            row.order_no,
            row.order_part,
            row.state.value,
            row.self_test,
            row.needs_work,
            row.accounting_date,
        ]
