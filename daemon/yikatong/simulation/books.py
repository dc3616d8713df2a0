"""What a journal's file says, read from outside."""

from __future__ import annotations

from typing import Final

import apsw
import msgspec

from yikatong.core.credit_transaction import Credit
from yikatong.core.transaction import Transaction

_ROW: Final = msgspec.json.Decoder(Transaction)
_CREDIT: Final = msgspec.json.Decoder(Credit)


def rows_of(journal: apsw.Connection) -> list[Transaction]:
    """Every row of a journal, oldest first."""
    return [_ROW.decode(content) for (content,) in journal.execute("SELECT content FROM txn ORDER BY number")]


def credits_of(journal: apsw.Connection) -> list[Credit]:
    """Every credit of a journal, oldest first."""
    return [_CREDIT.decode(content) for (content,) in journal.execute("SELECT content FROM credit ORDER BY number")]


def acknowledged(journal: apsw.Connection) -> set[str]:
    """The debits that a journal knows to be confirmed at their ledgers."""
    return {row.transaction_id for row in rows_of(journal) if row.confirm_acknowledged}
