"""The double-entry ledger, over real SQLite files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway_world import BALANCE_FEN, FAR, HERE, order, payer, person
from yikatong.core.orders import (
    AlreadyReversed,
    City,
    Confirmed,
    ConfirmedTooLate,
    Conflict,
    DebitOrder,
    Declined,
    Denied,
    NotFound,
    Posted,
    Reversed,
    Tombstoned,
    Undecided,
    WasDeclined,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, Region
from yikatong.ledger import entries, report, seed
from yikatong.ledger.book import Book
from yikatong.runtime.keyfile import PersonKey

TODAY, TOMORROW = "2026-11-22", "2026-11-23"
CITY = City(FAR, "威海", "Weihai")


def new_book() -> tuple[Book, apsw.Connection]:
    """Person 1 has BALANCE_FEN, 3 is frozen, 5 has closed the account, 7 may overdraw by 10.00, 9 is a resident."""
    connection = apsw.Connection(":memory:")
    connection.execute(entries.SCHEMA)
    book = Book({FAR: CITY}, PersonKey(b"k" * 32))
    for number, status, floor, kind in (
        (1, "ACTIVE", 0, "EMPLOYEE"),
        (3, "FROZEN", 0, "EMPLOYEE"),
        (5, "CLOSED", 0, "EMPLOYEE"),
        (7, "ACTIVE", -1_000, "EMPLOYEE"),
        (9, "ACTIVE", 0, "RESIDENT"),
    ):
        account = seed.SeedAccount(
            person(number).reveal(), FAR.code, kind=kind, balance_fen=BALANCE_FEN, status=status, floor_fen=floor
        )
        assert seed.open_accounts(connection, book, [account], date=TODAY) == 1
        assert seed.open_accounts(connection, book, [account], date=TODAY) == 0
    return book, connection


@pytest.fixture
def made() -> Iterator[tuple[Book, apsw.Connection]]:
    book, connection = new_book()
    yield book, connection
    assert report.audit(connection) == []
    connection.close()


def stamped(number: int = 1, **changes: object) -> DebitOrder:
    return replace(order(number, **changes), home_region=FAR, accounting_date=TODAY)


def balance(book: Book, connection: apsw.Connection, number: int = 1) -> Fen:
    return book.account(connection, payer(number), FAR).balance


def test_a_debit_moves_the_amount_once(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    debit = stamped()
    first = book.debit(connection, debit)
    assert isinstance(first, Posted)
    assert first == Posted(first.reference, Fen(3_650), debit.fingerprint, Fen(96_350), CITY, TODAY)
    assert book.debit(connection, debit) == first
    assert book.enquire(connection, debit.transaction_id, FAR) == first
    assert balance(book, connection) == Fen(96_350)
    totals = report.totals(connection, FAR)
    assert totals.payable == {HERE.code: Fen(3_650)}
    assert totals.personal + totals.opening + totals.payable[HERE.code] == Fen(0)


@pytest.mark.parametrize(
    ("number", "amount_fen", "reason"),
    [
        (1, BALANCE_FEN + 1, Reason.INSUFFICIENT_BALANCE),
        (3, 1, Reason.ACCOUNT_FROZEN),
        (5, 1, Reason.NO_PERSONAL_ACCOUNT),
        (7, BALANCE_FEN + 1_001, Reason.INSUFFICIENT_BALANCE),
        (9, 1, Reason.NO_PERSONAL_ACCOUNT),
        (11, 1, Reason.NO_PERSONAL_ACCOUNT),
    ],
)
def test_a_refusal_is_stored(made: tuple[Book, apsw.Connection], number: int, amount_fen: int, reason: Reason) -> None:
    book, connection = made
    debit = stamped(number, amount_fen=amount_fen)
    assert book.debit(connection, debit) == Declined(reason)
    connection.execute("UPDATE account SET status = 'ACTIVE', floor_fen = -1000000")
    assert book.debit(connection, debit) == Declined(reason), "the same id is never weighed again"
    assert book.enquire(connection, debit.transaction_id, FAR) == Declined(reason)
    assert book.reverse(connection, debit, TODAY) == WasDeclined()
    assert book.confirm(connection, debit) == ConfirmedTooLate()


def test_the_last_fen_and_the_floor_can_be_spent(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    assert isinstance(book.debit(connection, stamped(1, amount_fen=BALANCE_FEN)), Posted)
    overdrawn = book.debit(connection, stamped(7, amount_fen=BALANCE_FEN + 1_000))
    assert isinstance(overdrawn, Posted)
    assert overdrawn.balance == Fen(-1_000)


def test_a_closed_city_declines_for_good(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    debit = stamped()
    declined = Declined(Reason.CITY_CLOSED_FOR_MAINTENANCE)
    assert book.debit(connection, debit, closed=declined.reason) == declined
    assert book.debit(connection, debit) == declined


def test_a_reversal_gives_everything_back_once(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    debit = stamped()
    book.debit(connection, debit)
    undone = book.reverse(connection, debit, TOMORROW)
    assert isinstance(undone, Reversed)
    assert book.reverse(connection, debit, TOMORROW) == undone
    assert balance(book, connection) == Fen(BALANCE_FEN)
    assert book.debit(connection, debit) == AlreadyReversed()
    assert book.enquire(connection, debit.transaction_id, FAR) == AlreadyReversed()
    assert book.confirm(connection, debit) == ConfirmedTooLate()
    dates = {entry.amount.count: entry.accounting_date for entry in report.list_entries(connection, FAR)}
    assert dates[3_650] == TOMORROW, "the contra entries stand on the open date"


def test_a_reversal_never_stands_before_its_debit(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    debit = replace(stamped(), accounting_date=TOMORROW)
    book.debit(connection, debit)
    book.reverse(connection, debit, TODAY)
    last = report.list_entries(connection, FAR)[-1]
    assert last.accounting_date == TOMORROW


def test_a_reversal_that_comes_first_wins_for_ever(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    debit = stamped()
    tombstone = book.reverse(connection, debit, TODAY)
    assert isinstance(tombstone, Tombstoned)
    assert book.debit(connection, debit) == AlreadyReversed()
    assert book.reverse(connection, debit, TODAY) == tombstone
    assert book.confirm(connection, debit) == ConfirmedTooLate()
    assert balance(book, connection) == Fen(BALANCE_FEN)


def test_what_is_confirmed_stays(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    debit = stamped()
    first = book.debit(connection, debit)
    assert book.confirm(connection, debit) == Confirmed()
    assert book.confirm(connection, debit) == Confirmed()
    assert isinstance(first, Posted)
    assert book.debit(connection, debit) == replace(first, confirmed=True)
    assert book.reverse(connection, debit, TODAY) == Denied(Reason.NEEDS_OPERATOR)
    assert balance(book, connection) == Fen(96_350)


def test_the_same_id_with_other_content_changes_nothing(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    debit = stamped()
    book.debit(connection, debit)
    other = replace(debit, amount=Fen(1))
    assert book.debit(connection, other) == Conflict()
    assert book.reverse(connection, other, TODAY) == Denied(Reason.TRANSACTION_ID_REUSED)
    assert book.confirm(connection, other) == Undecided()
    assert balance(book, connection) == Fen(96_350)


def test_what_it_never_saw(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    debit = stamped()
    assert book.enquire(connection, debit.transaction_id, FAR) == NotFound()
    assert book.confirm(connection, debit) == Undecided()


def test_other_cities_people_are_not_ours(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    for region in (HERE, None):
        with pytest.raises(YikatongError) as caught:
            book.debit(connection, replace(stamped(), home_region=region))
        assert caught.value.reason is Reason.INVALID_FIELD


def test_the_file_names_nobody(tmp_path: Path) -> None:
    book, connection = new_book()
    book.debit(connection, stamped())
    book.reverse(connection, stamped(), TODAY)
    path = tmp_path / "copy.db"
    connection.execute("VACUUM INTO ?", (str(path),))
    connection.close()
    content = path.read_bytes()
    assert person(1).reveal().encode() not in content
    assert payer(1).card_number.reveal().encode() not in content


def test_entries_are_only_added(made: tuple[Book, apsw.Connection]) -> None:
    _, connection = made
    for sql in ("UPDATE posting SET amount_fen = 0", "DELETE FROM posting"):
        with pytest.raises(apsw.ConstraintError, match="only added"):
            connection.execute(sql)


PLANTED = {
    "I1 balance": "UPDATE account SET balance_fen = balance_fen + 1 WHERE account = 1",
    "I1 sum": "INSERT INTO posting VALUES (NULL, 'opening:1', '371000', 'OPENING', 'opening', 5, '2026-11-22')",
    "I1 account": "INSERT INTO posting VALUES (NULL, 'opening:9', '371000', 'OPENING', 'personal:99', 0, '')",
    "I2 twice": "INSERT INTO posting SELECT NULL, transaction_id, region, kind, account, amount_fen, accounting_date"
    " FROM posting WHERE kind = 'DEBIT'",
    "I2 state": "UPDATE txn SET state = 'REVERSED' WHERE state = 'POSTED'",
    "I2 amount": "UPDATE txn SET amount_fen = amount_fen + 1 WHERE state = 'POSTED'",
    "I2 row": "DELETE FROM txn",
    "I7 floor": "UPDATE account SET floor_fen = 200000 WHERE account = 1",
}


@pytest.mark.parametrize("planted", PLANTED)
def test_the_audit_finds_what_is_planted(planted: str) -> None:
    book, connection = new_book()
    book.debit(connection, stamped())
    assert report.audit(connection) == []
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(PLANTED[planted])
    assert planted[:2] in {finding.invariant for finding in report.audit(connection)}
    connection.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("DRCQX"), st.integers(1, 60_000)), max_size=40))
def test_whatever_arrives_in_whatever_order_the_books_hold(calls: list[tuple[int, str, int]]) -> None:
    """Four transactions of one person, every call in any order and repeated: net zero or minus the amount, once."""
    book, connection = new_book()
    debits = {n: stamped(1, amount_fen=20_000 + 10_000 * n) for n in range(4)}
    for number, call, amount_fen in calls:
        debit = debits[number]
        match call:
            case "D":
                book.debit(connection, debit)
            case "R":
                book.reverse(connection, debit, TODAY)
            case "C":
                book.confirm(connection, debit)
            case "Q":
                book.enquire(connection, debit.transaction_id, FAR)
            case "X":
                book.debit(connection, replace(debit, amount=Fen(amount_fen), order_no="other"))
        assert report.audit(connection) == []
    answers = [book.enquire(connection, debit.transaction_id, FAR) for debit in debits.values()]
    posted = sum(answer.amount.count for answer in answers if isinstance(answer, Posted))
    assert balance(book, connection) == Fen(BALANCE_FEN - posted)
    connection.close()


def test_totals_and_lists_are_of_one_city(made: tuple[Book, apsw.Connection]) -> None:
    book, connection = made
    book.debit(connection, stamped())
    assert report.totals(connection, Region("370600")).entries == 0
    assert report.list_entries(connection, Region("370600")) == []
    listed = report.list_entries(connection, FAR)
    assert [entry.number for entry in listed] == sorted(entry.number for entry in listed)
    assert report.list_entries(connection, FAR, after=listed[1].number, limit=1) == [listed[2]]
    assert report.list_entries(connection, FAR, date=TOMORROW) == []
