"""The judge of the campaigns: sound books pass, and every planted wrong is found, in its class."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.cashiers import NOTHING, Heard
from tests.support.judgement import Books, Entries, Row, judge

PAID = Row("t-paid", "daemon", "r-paid", "o-paid", 5, "APPROVED", confirmed=True)
UNDONE = Row("t-undone", "daemon", "r-undone", "o-undone", 7, "REVERSED", confirmed=False)
REFUSED = Row("t-refused", "daemon-2", "r-refused", "o-refused", 3, "DECLINED", confirmed=False)


def sound() -> Books:
    return Books(
        {row.transaction_id: row for row in (PAID, UNDONE, REFUSED)},
        {"t-paid": "CONFIRMED", "t-undone": "REVDONE", "t-refused": "DECLINED"},
        {"t-paid": Entries(1, 0, 5), "t-undone": Entries(1, 1, 0)},
        set(),
    )


def told(row: Row, word: str, outcome: str, *, at: int = 10, **more: object) -> Heard:
    made = Heard("Debit", row.terminal, row.request_id, row.order_no, at, at + 1, word, outcome)
    return replace(made, transaction_id=row.transaction_id, **more)  # type: ignore[arg-type]  # fields of Heard


def test_true_answers_and_equal_books_pass() -> None:
    heard = [
        told(PAID, "APPROVED", "MOVED", confirmed=True),
        told(PAID, "APPROVED", "MOVED", confirmed=False),  # before the HIS confirmed
        told(UNDONE, "PENDING", "PENDING", resolves_to="REVERSED"),
        told(UNDONE, "APPROVED", "MOVED", confirmed=False),  # and never confirmed
        told(UNDONE, "REVERSED", "NOT_MOVED"),
        told(REFUSED, "DECLINED", "NOT_MOVED"),
        replace(told(PAID, "ORDER_ALREADY_PAID", "MOVED"), request_id="r-second-click"),
        Heard("Debit", "daemon", "r-paid", "o-paid", 1, 2, "GATEWAY_UNREACHABLE", "NOT_MOVED"),  # and tried again
        Heard("Debit", "daemon", "r-paid", "o-paid", 3, 4, NOTHING),
    ]
    judgement = judge(heard, sound())
    assert judgement.findings == []
    assert judgement.figures["orders paid"] == 1
    assert judgement.figures["fen taken"] == 5
    assert judgement.figures["calls that heard nothing"] == 1


@pytest.mark.parametrize(
    ("transaction_id", "entries", "found"),
    [
        ("t-paid", Entries(2, 0, 10), {"doubled", "lost"}),
        ("t-undone", Entries(1, 2, -7), {"doubled", "lost"}),
        ("t-undone", Entries(1, 0, 7), {"lost"}),
        ("t-refused", Entries(1, 0, 3), {"lost"}),
        ("t-unknown", Entries(1, 0, 3), {"lost"}),
    ],
)
def test_money_that_no_journal_explains_is_found(transaction_id: str, entries: Entries, found: set[str]) -> None:
    books = sound()
    books.ledger[transaction_id] = entries
    assert _classes([], books) == found


def test_money_that_a_journal_says_and_no_ledger_has_is_found() -> None:
    books = sound()
    del books.ledger["t-paid"]
    assert _classes([], books) == {"lost"}


def test_an_order_that_was_paid_twice_is_found() -> None:
    books = sound()
    books.journal["t-again"] = replace(PAID, transaction_id="t-again", request_id="r-again", terminal="daemon-2")
    books.routes["t-again"] = "CONFIRMED"
    books.ledger["t-again"] = Entries(1, 0, 5)
    assert _classes([], books) == {"doubled"}


@pytest.mark.parametrize(
    ("transaction_id", "state"),
    [("t-paid", "POSTED"), ("t-paid", "REVDONE"), ("t-undone", "REV"), ("t-refused", "FWD"), ("t-nobody", "DECLINED")],
)
def test_a_route_that_does_not_fit_is_found(transaction_id: str, state: str) -> None:
    books = sound()
    books.routes[transaction_id] = state
    assert _classes([], books) == {"unequal"}


def test_what_is_still_open_is_found() -> None:
    books = sound()
    books.journal["t-undone"] = replace(UNDONE, state="PENDING")
    assert _classes([], books) == {"unfinished"}
    books = sound()
    books.unconfirmed.add("t-paid")
    assert _classes([], books) == {"unfinished"}


@pytest.mark.parametrize(
    "wrong",
    [
        told(PAID, "DECLINED", "NOT_MOVED"),
        told(PAID, "REVERSED", "NOT_MOVED"),
        told(PAID, "PENDING", "PENDING", resolves_to="REVERSED"),
        told(UNDONE, "APPROVED", "MOVED", confirmed=True),
        told(REFUSED, "REVERSED", "NOT_MOVED"),
    ],
)
def test_an_answer_that_did_not_stay_is_found(wrong: Heard) -> None:
    assert _classes([wrong], sound()) == {"contradictory"}


def test_an_approval_of_which_no_journal_knows_is_found() -> None:
    gone = told(replace(PAID, transaction_id="t-gone"), "APPROVED", "MOVED", confirmed=True)
    assert _classes([gone], sound()) == {"lost"}


@pytest.mark.parametrize("word", ["NOT_SIGNED_IN", "TRANSACTION_NOT_FOUND"])
def test_cash_that_was_taken_on_a_false_word_is_found(word: str) -> None:
    earlier = Heard("Debit", "daemon", "r-paid", "o-paid", 1, 2, NOTHING)
    method = "GetTransaction" if word == "TRANSACTION_NOT_FOUND" else "Debit"
    refused = Heard(method, "daemon", "r-paid", "o-paid", 3, 4, word, "NOT_MOVED")
    assert _classes([earlier, refused], sound()) == {"contradictory"}
    at_once = replace(earlier, ended=4)  # the other call was still on its way
    assert _classes([at_once, refused], sound()) == set()


def _classes(heard: list[Heard], books: Books) -> set[str]:
    judgement = judge(heard, books)
    names = ("doubled", "lost", "contradictory", "unfinished", "unequal")
    return {name for name in names if getattr(judgement, name)}
