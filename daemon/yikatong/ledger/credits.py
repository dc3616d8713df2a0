"""Credits in a ledger: what a cancellation or a refund does to its original's row, to accounts and entries.

Like `Book`, whose accounts these are, it runs inside its caller's transaction. A credit goes to the account that the
person has now, whatever its number was when the debit was made and whether or not it is frozen; where that is closed,
to the city's suspense account.
"""

from __future__ import annotations

from typing import Final

import apsw
import structlog

from yikatong.core.credit_ledger_table import CreditWeighed, Verdict, credit_ledger_step
from yikatong.core.credit_orders import CreditAnswer, CreditDeclined, Credited, CreditKind, CreditOrder
from yikatong.core.ledger_table import State
from yikatong.core.orders import Conflict, Undecided
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, Region
from yikatong.ledger import entries
from yikatong.ledger.book import Book, Row

_log = structlog.get_logger(__name__)

_TAKES_CREDITS: Final = frozenset({"ACTIVE", "FROZEN"})


class CreditBook:
    """The credits of `book`'s cities."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def credit(self, connection: apsw.Connection, order: CreditOrder, open_date: str) -> CreditAnswer:
        """Credits on the open accounting date or declines, once and for ever; Undecided stores nothing.

        Whether a cancellation is in time is said by the gateway's stamp: to wait for a closed city is nobody's loss.
        Raises YikatongError INVALID_FIELD where the order is not stamped.
        """
        region = self._book.region_of(order.original)
        if not order.accounting_date:
            raise YikatongError(Reason.INVALID_FIELD, "the credit is not stamped", field="accounting_date")
        if (known := self._known(connection, order, region)) is not None:
            return known
        row = self._book.find(connection, order.original.transaction_id, region)
        credited_fen = self._credited_fen(connection, order)
        state = row.state if row else State.NONE
        move = credit_ledger_step(state, _weigh(order, row, credited_fen))
        if move.alarm:
            _log.error(
                "credit alarm", transaction_id=order.transaction_id, state=state.value, reason=_code(move.reason)
            )
        if move.verdict is Verdict.WAIT:
            return Undecided()
        if move.verdict is Verdict.DECLINE:
            assert move.reason is not None, "a decline has its reason"
            values = ("DECLINED", "", order.amount.count, None, 0, open_date, move.reason.value, "")
            self._add(connection, order, region, values)
            return CreditDeclined(move.reason)
        assert row is not None, "what is credited was posted"
        if move.next is not state:
            changed = (move.next.value, row.undone_reference, order.original.transaction_id)
            connection.execute(entries.SET_TXN, changed)
        refundable = row.amount_fen - credited_fen - order.amount.count
        return self._post(connection, order, region, row, refundable, max(open_date, order.accounting_date))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _known(self, connection: apsw.Connection, order: CreditOrder, region: Region) -> CreditAnswer | None:
        """The answer that this id has had; Conflict where it had it for other content, or is a debit's."""
        found = connection.execute(entries.FIND_CREDIT, (order.transaction_id, region.code)).fetchone()
        if found is None:
            return Conflict() if self._book.find(connection, order.transaction_id, region) else None
        fingerprint, state, account, amount_fen, balance_fen, refundable_fen, date, reason, reference = found
        if fingerprint != order.fingerprint:
            _log.error("credit alarm", transaction_id=order.transaction_id, state=state, reason="CONFLICT")
            return Conflict()
        if state == "DECLINED":
            return CreditDeclined(Reason(reason))
        balance = None if account == entries.SUSPENSE else Fen(balance_fen)
        return Credited(reference, Fen(amount_fen), fingerprint, date, Fen(refundable_fen), balance)

    @staticmethod
    def _credited_fen(connection: apsw.Connection, order: CreditOrder) -> int:
        row = connection.execute(entries.CREDITED_FEN, (order.original.transaction_id,)).fetchone()
        assert row is not None, "an aggregate has a row"
        return int(row[0])

    def _post(
        self, connection: apsw.Connection, order: CreditOrder, region: Region, row: Row, refundable_fen: int, date: str
    ) -> Credited:
        """Two entries, the account's balance and the credit's row."""
        found = self._book.account_of(connection, order.original.payer.social_security_number, region)
        balance_fen, account = None, entries.SUSPENSE
        if found is not None and found[1] in _TAKES_CREDITS:
            number, _, _, before_fen = found
            balance_fen, account = before_fen + order.amount.count, f"personal:{number}"
            connection.execute(entries.MOVE_BALANCE, (order.amount.count, number))
        else:
            _log.warning("credit to the suspense account", transaction_id=order.transaction_id, region=region.code)
        date = max(date, row.accounting_date)
        payable = f"payable:{row.treatment_region}"
        values = (order.transaction_id, region.code, "CREDIT", account, payable, order.amount.count, date)
        connection.execute(entries.ADD_POSTINGS, values)
        reference = f"{region}-{connection.last_insert_rowid()}"
        stored = ("CREDITED", account, order.amount.count, balance_fen, refundable_fen, date, "", reference)
        self._add(connection, order, region, stored)
        balance = None if balance_fen is None else Fen(balance_fen)
        return Credited(reference, order.amount, order.fingerprint, date, Fen(refundable_fen), balance)

    @staticmethod
    def _add(
        connection: apsw.Connection,
        order: CreditOrder,
        region: Region,
        decided: tuple[str, str, int, int | None, int, str, str, str],
    ) -> None:
        """`decided`: state, account, amount, balance, refundable (fen), accounting date, reason, reference."""
        names = (order.transaction_id, region.code, order.fingerprint, order.original.transaction_id, order.kind.value)
        connection.execute(entries.ADD_CREDIT, (*names, *decided))


def _weigh(order: CreditOrder, row: Row | None, credited_fen: int) -> CreditWeighed:
    if row is not None and row.fingerprint != order.original.fingerprint:
        return CreditWeighed.ORIGINAL_DIFFERS
    if order.kind is CreditKind.CANCELLATION:
        in_time = row is not None and order.accounting_date == row.accounting_date and credited_fen == 0
        return CreditWeighed.CANCEL if in_time else CreditWeighed.CANCEL_TOO_LATE
    fits = row is not None and credited_fen + order.amount.count <= row.amount_fen
    return CreditWeighed.REFUND if fits else CreditWeighed.REFUND_TOO_MUCH


def _code(reason: Reason | None) -> str:
    return reason.value if reason else ""
