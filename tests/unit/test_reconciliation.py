"""Reconciliation: totals, the six classes, and that planted breaks are found and nothing else is."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.core.reconciliation import (
    TREATMENT,
    Class,
    Difference,
    Kind,
    Row,
    Standing,
    Total,
    add_up,
    classify,
    differences,
    duplicates,
)

MOVED, NOT_MOVED, OPEN = Standing.MOVED, Standing.NOT_MOVED, Standing.OPEN
DATE = "2026-03-31"


def row(number: int = 1, standing: Standing = MOVED, **changes: object) -> Row:
    made = Row(f"{number:032x}", Kind.DEBIT, standing, 3_650, DATE, f"order-{number}", "", "a1")
    return made._replace(**changes)  # type: ignore[arg-type]  # tests name fields of the row


# --- totals -----------------------------------------------------------------------------------------------------


def test_totals_count_what_moved_by_kind() -> None:
    rows = [row(1), row(2, amount_fen=100), row(3, NOT_MOVED), row(4, OPEN), row(5, kind=Kind.REFUND, amount_fen=7)]
    totals = add_up(rows)
    assert totals.kinds == {Kind.DEBIT: Total(2, 3_750), Kind.REFUND: Total(1, 7)}
    assert add_up([]) == add_up([row(3, NOT_MOVED)])
    assert add_up([]).hash_total == bytes(32)


def test_the_hash_total_is_the_sum_of_the_rows_digests() -> None:
    text = f"{1:032x}\nDEBIT\n3650\n{DATE}\norder-1\n\na1"
    digest = int.from_bytes(hashlib.new("sm3", text.encode()).digest(), "big")
    assert add_up([row(1)]).hash_total == digest.to_bytes(32, "big")
    assert add_up([row(1)] * 3).hash_total == (3 * digest % 2**256).to_bytes(32, "big")


@pytest.mark.parametrize(
    "change",
    [
        {"transaction_id": f"{9:032x}"}, {"kind": Kind.REFUND}, {"accounting_date": "2026-04-01"},
        {"order_no": "order-9"}, {"order_part": "2"}, {"fingerprint": "a2"},
    ],
)  # fmt: skip
def test_equal_sums_of_different_rows_are_told_apart(change: dict[str, object]) -> None:
    assert add_up([row(1), row(2)]).hash_total != add_up([row(1)._replace(**change), row(2)]).hash_total  # type: ignore[arg-type]  # fields of the row


def test_two_amounts_that_were_exchanged_are_told_apart() -> None:
    one = add_up([row(1, amount_fen=100), row(2, amount_fen=200)])
    other = add_up([row(1, amount_fen=200), row(2, amount_fen=100)])
    assert one.kinds == other.kinds
    assert one.hash_total != other.hash_total


@given(st.permutations([row(n, amount_fen=n * 7 + 1) for n in range(8)]))
def test_totals_do_not_depend_on_the_order(shuffled: list[Row]) -> None:
    assert add_up(shuffled) == add_up(sorted(shuffled))


# --- classes ----------------------------------------------------------------------------------------------------

_AGREE = None
_CLASSES = [
    # told, booked, class
    (MOVED, MOVED, _AGREE),
    (MOVED, NOT_MOVED, Class.MERCHANT_LOSS),
    (MOVED, OPEN, Class.MERCHANT_LOSS),
    (MOVED, None, Class.MERCHANT_LOSS),
    (NOT_MOVED, MOVED, Class.CUSTOMER_LOSS),
    (NOT_MOVED, NOT_MOVED, _AGREE),
    (NOT_MOVED, OPEN, Class.STILL_OPEN),
    (NOT_MOVED, None, _AGREE),
    (OPEN, MOVED, Class.STILL_OPEN),
    (OPEN, NOT_MOVED, Class.STILL_OPEN),
    (OPEN, OPEN, Class.STILL_OPEN),
    (OPEN, None, Class.STILL_OPEN),
    (None, MOVED, Class.UNKNOWN_TO_TELLER),
    (None, NOT_MOVED, _AGREE),
    (None, OPEN, Class.STILL_OPEN),
    (None, None, _AGREE),
]


def test_the_table_of_classes_is_complete() -> None:
    every = [*Standing, None]
    assert sorted(map(str, ((t, b) for t, b, _ in _CLASSES))) == sorted(map(str, itertools.product(every, every)))


@pytest.mark.parametrize(("told", "booked", "expected"), _CLASSES)
def test_classes(told: Standing | None, booked: Standing | None, expected: Class | None) -> None:
    rows = row(1, told) if told else None, row(1, booked) if booked else None
    assert classify(*rows) is expected
    found = list(differences(*([r] if r else [] for r in rows)))
    assert [d.found for d in found] == ([expected] if expected else [])
    for difference in found:
        assert (difference.told, difference.booked) == rows
        assert difference.treatment is TREATMENT[difference.found]


@pytest.mark.parametrize(
    "change",
    [{"kind": Kind.REFUND}, {"amount_fen": 1}, {"order_no": "x"}, {"order_part": "2"}, {"fingerprint": "a2"}],
)
@pytest.mark.parametrize(("told", "booked"), [(MOVED, MOVED), (NOT_MOVED, MOVED), (OPEN, MOVED), (NOT_MOVED, OPEN)])
def test_other_content_goes_to_people_and_is_never_repaired(
    change: dict[str, object], told: Standing, booked: Standing
) -> None:
    found = classify(row(1, told)._replace(**change), row(1, booked))  # type: ignore[arg-type]  # fields of the row
    assert found is Class.CONTENT_DIFFERS
    assert not TREATMENT[found].automatic


def test_the_accounting_date_is_compared_where_both_have_learned_it() -> None:
    assert classify(row(1), row(1, accounting_date="2026-04-01")) is Class.CONTENT_DIFFERS
    assert classify(row(1, NOT_MOVED, accounting_date=""), row(1)) is Class.CUSTOMER_LOSS
    assert classify(row(1, OPEN, accounting_date=""), row(1)) is Class.STILL_OPEN


def test_the_sides_own_words_are_not_compared() -> None:
    assert not list(differences([row(1, state="APPROVED", since="a")], [row(1, state="CONFIRMED")]))


def test_a_merchants_loss_outweighs_other_content() -> None:
    assert classify(row(1, amount_fen=1), row(1, NOT_MOVED)) is Class.MERCHANT_LOSS


def test_only_one_repair_is_automatic_and_the_worst_class_is_the_merchants_loss() -> None:
    assert set(TREATMENT) == set(Class)
    assert [c for c in Class if TREATMENT[c].automatic] == [Class.CUSTOMER_LOSS]
    assert [c for c in Class if TREATMENT[c].severity == 1] == [Class.MERCHANT_LOSS]
    assert TREATMENT[Class.MERCHANT_LOSS].alarm


def test_a_debit_is_repaired_and_a_credit_never() -> None:
    (debit,) = differences([row(1, NOT_MOVED)], [row(1)])
    (credit,) = differences([row(1, NOT_MOVED, kind=Kind.REFUND)], [row(1, kind=Kind.REFUND)])
    assert debit.found is credit.found is Class.CUSTOMER_LOSS
    assert debit.repairable
    assert not credit.repairable, "reversing it would debit again"
    assert not Difference(Class.CUSTOMER_LOSS, "x", (None, row(1))).repairable
    assert not Difference(Class.MERCHANT_LOSS, "x", (row(1), row(1))).repairable


def test_three_sides_are_each_compared_with_the_book() -> None:
    lost_in_between = list(differences([row(1)], [], [row(1)]))
    assert [(d.found, d.rows) for d in lost_in_between] == [(Class.UNKNOWN_TO_TELLER, (row(1), None, row(1)))]
    terminal, gateway, city = [row(1), row(2), row(3, NOT_MOVED)], [row(1), row(2, OPEN)], [row(1), row(3)]
    found = {d.transaction_id[-1]: d for d in differences(terminal, gateway, city)}
    assert {number: d.found for number, d in found.items()} == {
        "2": Class.MERCHANT_LOSS,  # the gateway's open row alone would be R5
        "3": Class.CUSTOMER_LOSS,  # that the gateway has lost its row is the lesser trouble
    }
    assert found["3"].rows == (row(3, NOT_MOVED), None, row(3))


def test_a_side_must_be_sorted() -> None:
    with pytest.raises(ValueError, match="sorted"):
        list(differences([row(2), row(1)], []))
    with pytest.raises(ValueError, match="twice"):
        list(differences([row(1)], [row(1), row(1)]))


def test_duplicates_are_all_but_the_first_debit_of_an_order() -> None:
    same = {"order_no": "order-1"}
    rows = [
        row(9, **same), row(1), row(3, NOT_MOVED, **same), row(4, OPEN, **same), row(5, kind=Kind.REFUND, **same),
        row(6, order_part="2", **same), row(2, **same), row(7, order_no=""), row(8, order_no=""),
    ]  # fmt: skip
    found = list(duplicates(sorted(rows, key=lambda r: (r.order_no, r.order_part))))
    assert [(d.found, d.transaction_id[-1], d.other_transaction[-1]) for d in found] == [
        (Class.DUPLICATE_ORDER, "2", "1"),
        (Class.DUPLICATE_ORDER, "9", "1"),
    ]
    assert found[0].rows == (row(2, **same),)


# --- planted breaks ---------------------------------------------------------------------------------------------


@dataclass
class Day:
    """A day of two sides that agree but for what was planted."""

    told: list[Row]
    booked: list[Row]
    planted: dict[str, Class]


def plant(day: Day, number: int, kind: Class | None) -> None:
    clean = row(number, amount_fen=100 + number)
    told: Row | None = clean
    booked: Row | None = clean
    match kind:
        case Class.MERCHANT_LOSS:
            booked = [None, clean._replace(standing=NOT_MOVED)][number % 2]
        case Class.CUSTOMER_LOSS:
            told = clean._replace(standing=NOT_MOVED, accounting_date="")
        case Class.UNKNOWN_TO_TELLER:
            told = None
        case Class.CONTENT_DIFFERS:
            told = clean._replace(amount_fen=clean.amount_fen + 1)
        case Class.STILL_OPEN:
            told = clean._replace(standing=OPEN, accounting_date="")
        case Class.DUPLICATE_ORDER:
            twin = clean._replace(transaction_id=f"{number + 1_000_000:032x}")
            day.told.append(twin)
            day.booked.append(twin)
            day.planted[twin.transaction_id] = Class.DUPLICATE_ORDER
        case None if number % 3 == 0:  # declined on both sides: no difference
            told = booked = clean._replace(standing=NOT_MOVED)
        case None if number % 5 == 0:  # declined by the terminal, and never seen by anybody else
            told, booked = clean._replace(standing=NOT_MOVED), None
        case None:
            pass
    day.told += [told] if told else []
    day.booked += [booked] if booked else []
    if kind is not None and kind is not Class.DUPLICATE_ORDER:
        day.planted[clean.transaction_id] = kind


def by_order(side: list[Row]) -> list[Row]:
    return sorted(side, key=lambda r: (r.order_no, r.order_part))


@given(st.lists(st.sampled_from([None, None, *Class]), max_size=60))
def test_planted_breaks_are_all_found_and_nothing_else(kinds: list[Class | None]) -> None:
    day = Day([], [], {})
    for number, kind in enumerate(kinds, start=1):
        plant(day, number, kind)
    found: list[Difference] = [
        *differences(sorted(day.told), sorted(day.booked)),
        *duplicates(by_order(day.booked)),
    ]
    assert {d.transaction_id: d.found for d in found} == day.planted
    assert len(found) == len(day.planted)
    unequal = any(c is not Class.DUPLICATE_ORDER for c in day.planted.values())
    assert (add_up(day.told) != add_up(day.booked)) is unequal
