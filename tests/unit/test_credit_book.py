"""Credits in the double-entry ledger, over real SQLite: serialised on the original, proved by the audit."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway_world import BALANCE_FEN, FAR, HERE, order, payer, person
from yikatong.core.credit_orders import CreditDeclined, Credited, CreditKind, CreditOrder
from yikatong.core.orders import City, Confirmed, Conflict, DebitOrder, Denied, Posted, Undecided
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.ledger import entries, report, seed
from yikatong.ledger.book import Book
from yikatong.ledger.credits import CreditBook
from yikatong.runtime.keyfile import PersonKey

TODAY, TOMORROW = "2026-11-22", "2026-11-23"
CITY = City(FAR, "威海", "Weihai")


class Made:
    def __init__(self) -> None:
        self.connection = apsw.Connection(":memory:")
        self.connection.execute(entries.SCHEMA)
        self.book = Book({FAR: CITY}, PersonKey(b"k" * 32))
        self.credits = CreditBook(self.book)
        account = seed.SeedAccount(person(1).reveal(), FAR.code, balance_fen=BALANCE_FEN)
        seed.open_accounts(self.connection, self.book, [account], date=TODAY)

    def debit(self, *, confirmed: bool = True, **changes: object) -> DebitOrder:
        debit = replace(order(1, **changes), home_region=FAR, accounting_date=TODAY)
        assert isinstance(self.book.debit(self.connection, debit), Posted)
        if confirmed:
            assert self.book.confirm(self.connection, debit) == Confirmed()
        return debit

    def credit(self, credit: CreditOrder, today: str = TODAY) -> object:
        return self.credits.credit(self.connection, credit, today)

    @property
    def balance(self) -> int:
        return self.book.account(self.connection, payer(1), FAR).balance.count

    def status(self, status: str) -> None:
        self.connection.execute("UPDATE account SET status = ?", (status,))


@pytest.fixture
def made() -> Iterator[Made]:
    world = Made()
    yield world
    assert report.audit(world.connection) == []
    world.connection.close()


def refund(debit: DebitOrder, fen: int, date: str = TODAY) -> CreditOrder:
    request = RequestId(str(uuid.uuid4()))
    return CreditOrder(TransactionId(str(uuid.uuid4())), CreditKind.REFUND, debit, Fen(fen), request, date)


def cancel(debit: DebitOrder, date: str = TODAY) -> CreditOrder:
    return replace(refund(debit, debit.amount.count, date), kind=CreditKind.CANCELLATION)


def test_a_cancellation_gives_everything_back_once(made: Made) -> None:
    debit = made.debit()
    credit = cancel(debit)
    first = made.credit(credit)
    assert isinstance(first, Credited)
    assert first == Credited(first.reference, Fen(3_650), credit.fingerprint, TODAY, Fen(0), Fen(BALANCE_FEN))
    assert made.credit(credit, TOMORROW) == first, "the same answer, for ever"
    assert made.balance == BALANCE_FEN
    assert made.credit(cancel(debit)) == CreditDeclined(Reason.NOT_CANCELLABLE)
    assert made.credit(refund(debit, 1)) == CreditDeclined(Reason.REFUND_EXCEEDS_DEBIT)
    posted = made.book.enquire(made.connection, debit.transaction_id, FAR)
    assert isinstance(posted, Posted)
    assert posted.confirmed
    assert isinstance(made.book.reverse(made.connection, debit, TODAY), Denied), "a credit is not undone by a reversal"
    assert made.balance == BALANCE_FEN
    assert report.totals(made.connection, FAR).payable == {HERE.code: Fen(0)}


def test_refunds_up_to_the_debit_on_any_day(made: Made) -> None:
    debit = made.debit()
    first = made.credit(refund(debit, 1_000))
    assert isinstance(first, Credited)
    assert first.refundable == Fen(2_650)
    assert made.credit(cancel(debit)) == CreditDeclined(Reason.NOT_CANCELLABLE), "something was refunded"
    too_much = refund(debit, 2_651, TOMORROW)
    assert made.credit(too_much, TOMORROW) == CreditDeclined(Reason.REFUND_EXCEEDS_DEBIT)
    last = made.credit(refund(debit, 2_650, TOMORROW), TOMORROW)
    assert isinstance(last, Credited)
    assert (last.refundable, last.accounting_date) == (Fen(0), TOMORROW)
    assert made.credit(too_much, TOMORROW) == CreditDeclined(Reason.REFUND_EXCEEDS_DEBIT)
    assert made.balance == BALANCE_FEN


def test_a_cancellation_is_in_time_by_its_stamp_and_posted_on_the_open_date(made: Made) -> None:
    waited = made.credit(cancel(made.debit(), TODAY), TOMORROW)
    assert isinstance(waited, Credited)
    assert waited.accounting_date == TOMORROW
    late = made.debit()
    assert made.credit(cancel(late, TOMORROW), TOMORROW) == CreditDeclined(Reason.NOT_CANCELLABLE)


def test_other_content_is_never_executed(made: Made) -> None:
    debit = made.debit()
    credit = refund(debit, 100)
    made.credit(credit)
    assert made.credit(replace(credit, amount=Fen(101))) == Conflict()
    assert made.credit(replace(refund(debit, 1), transaction_id=debit.transaction_id)) == Conflict()
    forged = replace(debit, amount=Fen(9_000))
    assert made.credit(refund(forged, 9_000)) == CreditDeclined(Reason.TRANSACTION_ID_REUSED)
    assert made.balance == BALANCE_FEN - 3_650 + 100


def test_what_is_not_confirmed_waits_and_nothing_is_stored(made: Made) -> None:
    debit = made.debit(confirmed=False)
    credit = refund(debit, 3_650)
    assert made.credit(credit) == Undecided()
    assert made.balance == BALANCE_FEN - 3_650
    made.book.confirm(made.connection, debit)
    assert isinstance(made.credit(credit), Credited)


def test_nothing_is_given_back_for_what_was_never_taken(made: Made) -> None:
    unknown = replace(order(1), home_region=FAR, accounting_date=TODAY)
    credit = refund(unknown, 1)
    assert made.credit(credit) == CreditDeclined(Reason.TRANSACTION_NOT_FOUND)
    assert made.credit(credit) == CreditDeclined(Reason.TRANSACTION_NOT_FOUND)
    reversed_one = made.debit(confirmed=False)
    made.book.reverse(made.connection, reversed_one, TODAY)
    assert made.credit(refund(reversed_one, 1)) == CreditDeclined(Reason.ALREADY_REVERSED)
    assert made.balance == BALANCE_FEN


def test_a_frozen_account_is_credited(made: Made) -> None:
    debit = made.debit()
    made.status("FROZEN")
    answer = made.credit(refund(debit, 3_650))
    assert isinstance(answer, Credited)
    assert answer.balance == Fen(BALANCE_FEN)
    assert made.balance == BALANCE_FEN


def test_a_closed_account_is_credited_through_the_suspense_account(made: Made) -> None:
    debit = made.debit()
    made.status("CLOSED")
    credit = refund(debit, 650)
    answer = made.credit(credit)
    assert isinstance(answer, Credited)
    assert answer.balance is None
    made.status("ACTIVE")
    assert made.credit(credit) == answer
    assert made.balance == BALANCE_FEN - 3_650
    totals = report.totals(made.connection, FAR)
    assert [(e.transaction_id, e.amount) for e in totals.suspense] == [(credit.transaction_id, Fen(650))]
    assert totals.payable == {HERE.code: Fen(3_000)}


def test_a_renumbered_account_is_found_by_its_person(made: Made) -> None:
    debit = made.debit()
    made.connection.execute("UPDATE account SET status='CLOSED', kind='OLD'")
    account = seed.SeedAccount(person(1).reveal(), FAR.code, balance_fen=7)
    seed.open_accounts(made.connection, made.book, [account], date=TODAY)
    answer = made.credit(refund(debit, 3_650))
    assert isinstance(answer, Credited)
    assert answer.balance == Fen(3_657)


def test_a_credit_must_be_stamped_and_for_a_city_of_ours(made: Made) -> None:
    debit = made.debit()
    with pytest.raises(YikatongError) as error:
        made.credit(refund(debit, 1, ""))
    assert error.value.facts == {"field": "accounting_date"}
    with pytest.raises(YikatongError) as error:
        made.credit(refund(replace(debit, home_region=HERE), 1))
    assert error.value.facts == {"field": "home_region"}


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        ("DELETE FROM credit", "I2"),
        ("UPDATE credit SET amount_fen = amount_fen + 1", "I2"),
        ("UPDATE credit SET state = 'DECLINED'", "I2"),
        ("UPDATE credit SET kind = 'CANCELLATION'", "I3"),
        ("UPDATE txn SET state = 'CANCELLED'", "I3"),
        ("UPDATE txn SET amount_fen = 1", "I3"),
        ("UPDATE txn SET state = 'REVERSED'", "I3"),
        ("INSERT INTO txn SELECT 'x', region, fingerprint, 'CANCELLED', account, amount_fen, balance_fen,"
         " treatment_region, institution, accounting_date, reason, reference, undone_reference FROM txn", "I3"),
    ],
)  # fmt: skip
def test_the_audit_finds_what_does_not_fit(damage: str, invariant: str) -> None:
    world = Made()
    assert isinstance(world.credit(refund(world.debit(), 3_000)), Credited)
    assert report.audit(world.connection) == []
    world.connection.execute(damage)
    assert invariant in {finding.invariant for finding in report.audit(world.connection)}
    world.connection.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["cancel", "refund", "confirm", "again", "freeze", "close", "open", "midnight"]),
            st.integers(1, 4_000),
        ),
        max_size=14,
    )
)
def test_whatever_comes_the_debit_is_given_back_at_most_once(steps: list[tuple[str, int]]) -> None:
    world, today, asked = Made(), TODAY, list[CreditOrder]()
    debit = world.debit(confirmed=False)
    for what, fen in steps:
        match what:
            case "cancel" | "refund":
                asked.append(cancel(debit, today) if what == "cancel" else refund(debit, fen, today))
                world.credit(asked[-1], today)
            case "again" if asked:
                again = asked[fen % len(asked)]
                first, second = world.credit(again, today), world.credit(again, today)
                assert first == second
            case "confirm":
                world.book.confirm(world.connection, debit)
            case "freeze" | "close" | "open":
                world.status({"freeze": "FROZEN", "close": "CLOSED", "open": "ACTIVE"}[what])
            case "midnight":
                today = TOMORROW
        assert report.audit(world.connection) == []
    given_fen = sum(c.amount.count for c in map(world.credit, asked) if isinstance(c, Credited))
    suspense = sum(entry.amount.count for entry in report.totals(world.connection, FAR).suspense)
    assert given_fen <= 3_650
    assert world.balance + suspense == BALANCE_FEN - 3_650 + given_fen
    world.connection.close()
