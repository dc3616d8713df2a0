"""The double-entry ledger of one or more home cities in a SQLite file.

A `Book` runs the ledger table inside its caller's transaction: it neither begins nor commits. So a city that lies in
the gateway's own database shares one commit with the route log, and a city of its own has one commit a call.

Whose account it is stands there as a keyed digest alone (see PersonKey): a copy of the file names nobody. Amounts are
fen; an entry is positive where the account gains. Opening balances are entries too, against `opening`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import apsw
import structlog

from yikatong.core import ledger_table
from yikatong.core.ledger_table import Entries, Event, Reply, State
from yikatong.core.orders import (
    Account,
    AlreadyReversed,
    City,
    ConfirmAnswer,
    Confirmed,
    ConfirmedTooLate,
    Conflict,
    DebitAnswer,
    DebitOrder,
    Declined,
    Denied,
    NotFound,
    Payer,
    Posted,
    ReversalAnswer,
    Reversed,
    Tombstoned,
    Undecided,
    WasDeclined,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, Region, SocialSecurityNumber
from yikatong.ledger import entries
from yikatong.runtime.keyfile import PersonKey

PERSONAL_ACCOUNT: Final = "EMPLOYEE"
"""The one kind of insurance that comes with a personal account; residents' insurance has none."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Row:
    """A transaction in the ledger."""

    fingerprint: bytes
    state: State
    account: int | None
    amount_fen: int
    balance_fen: int
    treatment_region: str
    accounting_date: str
    reason: str
    reference: str
    undone_reference: str


class Book:
    """The ledger of `cities`. Every method runs inside the caller's transaction on `connection`."""

    def __init__(self, cities: Mapping[Region, City], person_key: PersonKey) -> None:
        self._cities = cities
        self._person_key = person_key

    @property
    def cities(self) -> Mapping[Region, City]:
        return self._cities

    # --- the table's events ---------------------------------------------------------------------------------------

    def debit(self, connection: apsw.Connection, order: DebitOrder, *, closed: Reason | None = None) -> DebitAnswer:
        """Posts the debit or declines it, once and for ever. `order` carries home region and accounting date.

        `closed`: why the city takes no new debit at present, None where it does.
        """
        region = self.region_of(order)
        row = self.find(connection, order.transaction_id, region)
        if row is not None:
            event = Event.DEBIT_AGAIN if row.fingerprint == order.fingerprint else Event.DEBIT_DIFFERS
            move = self._move(order.transaction_id, row.state, event)
            return self._told(region, row, move.reply)
        account, balance_fen, refusal = (None, 0, closed) if closed else self._weigh(connection, order, region)
        move = self._move(order.transaction_id, State.NONE, Event.DEBIT_REFUSED if refusal else Event.DEBIT_GRANTED)
        row = Row(
            order.fingerprint, move.next, account, order.amount.count, balance_fen, order.treatment_region.code,
            order.accounting_date, refusal.value if refusal else "", "", "",
        )  # fmt: skip
        if move.entries is Entries.DEBIT:
            row.balance_fen -= row.amount_fen
            row.reference = self._post(connection, order.transaction_id, region, row, "DEBIT", order.accounting_date)
        self._add(connection, order, region, row)
        return self._told(region, row, move.reply)

    def reverse(self, connection: apsw.Connection, order: DebitOrder, open_date: str) -> ReversalAnswer:
        """Undoes the posting on the open accounting date, or leaves a tombstone where there is none."""
        region = self.region_of(order)
        row = self.find(connection, order.transaction_id, region)
        if row is None:
            move = self._move(order.transaction_id, State.NONE, Event.REVERSAL)
            row = Row(
                order.fingerprint, move.next, None, order.amount.count, 0, order.treatment_region.code,
                order.accounting_date or open_date, "", "", f"{region}-T-{order.transaction_id}",
            )  # fmt: skip
            self._add(connection, order, region, row)
            return self._undone(row, move.reply)
        event = Event.REVERSAL if row.fingerprint == order.fingerprint else Event.REVERSAL_DIFFERS
        move = self._move(order.transaction_id, row.state, event)
        if move.entries is Entries.CONTRA:
            date = max(open_date, row.accounting_date)
            row.undone_reference = self._post(connection, order.transaction_id, region, row, "CONTRA", date)
            connection.execute(entries.SET_TXN, (move.next.value, row.undone_reference, order.transaction_id))
        return self._undone(row, move.reply)

    def confirm(self, connection: apsw.Connection, order: DebitOrder) -> ConfirmAnswer:
        """Makes a posting final for the terminal's role."""
        row = self.find(connection, order.transaction_id, self.region_of(order))
        state = row.state if row else State.NONE
        same = row is None or row.fingerprint == order.fingerprint
        move = self._move(order.transaction_id, state, Event.CONFIRM if same else Event.CONFIRM_DIFFERS)
        if row is not None and move.next is not state:
            connection.execute(entries.SET_TXN, (move.next.value, row.undone_reference, order.transaction_id))
        if move.reply is Reply.CONFIRMED:
            return Confirmed()
        return ConfirmedTooLate() if move.reply is Reply.TOO_LATE else Undecided()

    def enquire(self, connection: apsw.Connection, transaction_id: str, region: Region) -> DebitAnswer:
        """How the transaction stands."""
        row = self.find(connection, transaction_id, region)
        move = self._move(transaction_id, row.state if row else State.NONE, Event.QUERY)
        return self._told(region, row, move.reply) if row else NotFound()

    # --- accounts -------------------------------------------------------------------------------------------------

    def account(self, connection: apsw.Connection, payer: Payer, region: Region) -> Account:
        """State and balance of the personal account; the reason is NO_PERSONAL_ACCOUNT where there is none."""
        city = self._city(region)
        found = self.account_of(connection, payer.social_security_number, region)
        if found is None:
            return Account(Fen(0), city, Reason.NO_PERSONAL_ACCOUNT)
        _, status, _, balance_fen = found
        return Account(Fen(balance_fen), city, _STATUS_REASON[status])

    def open_account(
        self,
        connection: apsw.Connection,
        person: SocialSecurityNumber,
        region: Region,
        *,
        kind: str,
        status: str,
        opening: Fen,
        floor: Fen,
        date: str,
    ) -> bool:
        """Opens an account with its opening balance as an entry; False where it exists, which leaves it as it is."""
        key = self._person_key(person.reveal())
        sql = "SELECT 1 FROM account WHERE region = ? AND person = ? AND kind = ?"
        if connection.execute(sql, (region.code, key, kind)).fetchone():
            return False
        sql = "INSERT INTO account (region, person, kind, status, floor_fen, balance_fen) VALUES (?, ?, ?, ?, ?, ?)"
        connection.execute(sql, (region.code, key, kind, status, floor.count, opening.count))
        account = connection.last_insert_rowid()
        if opening.count:
            label = f"opening:{account}"
            values = (label, region.code, "OPENING", f"personal:{account}", "opening", opening.count, date)
            connection.execute(entries.ADD_POSTINGS, values)
        return True

    # --- inside ---------------------------------------------------------------------------------------------------

    def _city(self, region: Region) -> City:
        city = self._cities.get(region)
        if city is None:
            raise YikatongError(Reason.INVALID_FIELD, "this ledger does not keep that city", field="home_region")
        return city

    def region_of(self, order: DebitOrder) -> Region:
        """The order's home city. Raises YikatongError INVALID_FIELD where it is none of this book's."""
        if order.home_region is None:
            raise YikatongError(Reason.INVALID_FIELD, "the order names no home city", field="home_region")
        self._city(order.home_region)
        return order.home_region

    @staticmethod
    def _move(transaction_id: str, state: State, event: Event) -> ledger_table.Step:
        move = ledger_table.step(state, event)
        if move.alarm:
            _log.error("ledger alarm", transaction_id=transaction_id, state=state.value, ledger_event=event.value)
        return move

    @staticmethod
    def find(connection: apsw.Connection, transaction_id: str, region: Region) -> Row | None:
        """The debit's row; None where the ledger has none."""
        found = connection.execute(entries.FIND_TXN, (transaction_id, region.code)).fetchone()
        return Row(found[0], State(found[1]), *found[2:]) if found else None

    def account_of(
        self, connection: apsw.Connection, person: SocialSecurityNumber, region: Region
    ) -> tuple[int, str, int, int] | None:
        """Number, status, floor and balance of the person's personal account; None where there is none."""
        row = connection.execute(entries.FIND_ACCOUNT, (region.code, self._person_key(person.reveal()))).fetchone()
        return (row[0], row[1], row[2], row[3]) if row else None

    def _weigh(
        self, connection: apsw.Connection, order: DebitOrder, region: Region
    ) -> tuple[int | None, int, Reason | None]:
        """Account, balance before, and the reason to refuse, None where there is none."""
        found = self.account_of(connection, order.payer.social_security_number, region)
        if found is None:
            return None, 0, Reason.NO_PERSONAL_ACCOUNT
        account, status, floor_fen, balance_fen = found
        if reason := _STATUS_REASON[status]:
            return account, balance_fen, reason
        if balance_fen - order.amount.count < floor_fen:
            return account, balance_fen, Reason.INSUFFICIENT_BALANCE
        return account, balance_fen, None

    @staticmethod
    def _post(connection: apsw.Connection, transaction_id: str, region: Region, row: Row, kind: str, date: str) -> str:
        """Two entries and the account's balance; returns the ledger's reference."""
        amount_fen = -row.amount_fen if kind == "DEBIT" else row.amount_fen
        personal, payable = f"personal:{row.account}", f"payable:{row.treatment_region}"
        values = (transaction_id, region.code, kind, personal, payable, amount_fen, date)
        connection.execute(entries.ADD_POSTINGS, values)
        reference = f"{region}-{connection.last_insert_rowid()}"
        connection.execute(entries.MOVE_BALANCE, (amount_fen, row.account))
        return reference

    @staticmethod
    def _add(connection: apsw.Connection, order: DebitOrder, region: Region, row: Row) -> None:
        connection.execute(
            entries.ADD_TXN,
            (
                order.transaction_id, region.code, row.fingerprint, row.state.value, row.account, row.amount_fen,
                row.balance_fen, row.treatment_region, order.institution.code, row.accounting_date, row.reason,
                row.reference, row.undone_reference,
            ),
        )  # fmt: skip

    def _told(self, region: Region, row: Row, reply: Reply) -> DebitAnswer:
        match reply:
            case Reply.POSTED:
                return Posted(
                    row.reference,
                    Fen(row.amount_fen),
                    row.fingerprint,
                    Fen(row.balance_fen),
                    self._city(region),
                    row.accounting_date,
                    row.state in (State.CONFIRMED, State.CANCELLED),
                )
            case Reply.DECLINED:
                return Declined(Reason(row.reason))
            case Reply.ALREADY_REVERSED:
                return AlreadyReversed()
            case Reply.CONFLICT:
                return Conflict()
            case _:
                raise AssertionError(f"{reply} is no answer to a debit")

    @staticmethod
    def _undone(row: Row, reply: Reply) -> ReversalAnswer:
        match reply:
            case Reply.REVERSED:
                return Reversed(row.undone_reference)
            case Reply.TOMBSTONED:
                return Tombstoned(row.undone_reference)
            case Reply.WAS_DECLINED:
                return WasDeclined()
            case Reply.DENIED_CONFIRMED:
                return Denied(Reason.NEEDS_OPERATOR)
            case Reply.DENIED_CONFLICT:
                return Denied(Reason.TRANSACTION_ID_REUSED)
            case _:
                raise AssertionError(f"{reply} is no answer to a reversal")


_STATUS_REASON: Final[dict[str, Reason | None]] = {
    "ACTIVE": None,
    "FROZEN": Reason.ACCOUNT_FROZEN,
    "CLOSED": Reason.NO_PERSONAL_ACCOUNT,
}
