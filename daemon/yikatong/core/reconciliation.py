"""Reconciliation (对账): totals with a hash total, the matching of details, and what each kind of difference means.

Pure, and streaming: a side is rows sorted by transaction id, so a day of any size is matched in bounded memory. Sides
stand in the order in which a caller was told: HIS, terminal, gateway, home city. The last one is the book: it is right
about money, and every side before it is compared with it.

A day is the accounting date that the gateway stamps and the city records, never a clock's; rows whose money did not
move carry none and are in no total. They count all the same where the book says that it did move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple


class Kind(Enum):
    """What a transaction is."""

    DEBIT = "DEBIT"
    CANCELLATION = "CANCELLATION"
    REFUND = "REFUND"


class Standing(Enum):
    """How a side sees a transaction: its money moved, did not (declined, reversed), or that is still open."""

    MOVED = "MOVED"
    NOT_MOVED = "NOT_MOVED"
    OPEN = "OPEN"


class Row(NamedTuple):
    """One transaction as one side has it. What a leg does not carry is empty on both of its sides.

    `state` is the side's own word and `since` when it began (ISO 8601, UTC): for people, never compared.
    """

    transaction_id: str
    kind: Kind
    standing: Standing
    amount_fen: int
    accounting_date: str = ""
    order_no: str = ""
    order_part: str = ""
    fingerprint: str = ""
    state: str = ""
    since: str = ""


_COMPARED: Final = Row._fields.index("state")
"""How many of the fields, from the first, two sides must have alike."""
_ORDER: Final = slice(Row._fields.index("order_no"), Row._fields.index("order_part") + 1)


# --- totals -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Total:
    """Number and sum of one kind's transactions whose money moved."""

    count: int
    amount_fen: int


@dataclass(frozen=True, slots=True)
class Totals:
    """A day in a few numbers. `hash_total` (32 bytes) tells equal sums of different rows apart, in whatever order."""

    kinds: dict[Kind, Total]
    hash_total: bytes


_SM3: Final = hashlib.new("sm3")
_MODULUS: Final = 1 << 256
_MOVED, _OPEN, _DEBIT = Standing.MOVED, Standing.OPEN, Kind.DEBIT


def add_up(rows: Iterable[Row]) -> Totals:
    """Totals of the rows whose money moved. The hash total is the sum of their SM3 digests modulo 2^256.

    What is digested is the row's canonical text: its compared fields but for the standing, joined by line feeds. None
    of them can hold one: ids and orders are printable, the rest is ours.
    """
    tallies: dict[Kind, list[int]] = {}  # count and sum
    hash_total = 0
    present, name, tally = None, "", [0, 0]
    for transaction_id, kind, standing, amount_fen, date, order_no, order_part, fingerprint, _, _ in rows:
        if standing is not _MOVED:
            continue
        if kind is not present:  # a look-up by an enumeration's member costs as much as all the rest
            present, name = kind, kind.value
            tally = tallies.setdefault(kind, [0, 0])
        tally[0] += 1
        tally[1] += amount_fen
        digest = _SM3.copy()
        digest.update(
            f"{transaction_id}\n{name}\n{amount_fen}\n{date}\n{order_no}\n{order_part}\n{fingerprint}".encode()
        )
        hash_total += int.from_bytes(digest.digest(), "big")
    kinds = {kind: Total(*tallies[kind]) for kind in Kind if kind in tallies}
    return Totals(kinds, (hash_total % _MODULUS).to_bytes(32, "big"))


# --- details ----------------------------------------------------------------------------------------------------


class Class(Enum):
    """The six kinds of difference; the value is the design's number."""

    MERCHANT_LOSS = "R1"
    CUSTOMER_LOSS = "R2"
    UNKNOWN_TO_TELLER = "R3"
    CONTENT_DIFFERS = "R4"
    STILL_OPEN = "R5"
    DUPLICATE_ORDER = "R6"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What a class means and what is done about it. `severity` 1 is the worst.

    `automatic`: a debit that was told as not approved and is posted is reversed without asking anybody. It is the
    only repair that can't take money from anyone who was told otherwise; everything else is for people.
    """

    severity: int
    automatic: bool
    alarm: bool
    zh: str
    en: str
    action_zh: str
    action_en: str


TREATMENT: Final = {
    Class.MERCHANT_LOSS: Treatment(
        1,
        automatic=False,
        alarm=True,
        zh="已告知扣款成功，但账上没有入账（商户资损）。",
        en="Told as paid, but not posted: the institution's loss.",
        action_zh="立即人工核查并查明根因；补记账须两人复核。",
        action_en="Look into it now and find the cause; two persons decide on a booking.",
    ),
    Class.CUSTOMER_LOSS: Treatment(
        2,
        automatic=True,
        alarm=False,
        zh="已告知未扣款，但账上已入账（参保人资损）。",
        en="Told as not paid, but posted: the insured person's loss.",
        action_zh="终端自动冲正；冲正被拒绝时人工退款。",
        action_en="The terminal reverses it by itself; where that is denied, refund it by hand.",
    ),
    Class.UNKNOWN_TO_TELLER: Treatment(
        2,
        automatic=False,
        alarm=False,
        zh="账上已入账，但终端（或网关）没有这笔记录。",
        en="Posted, but the terminal (or the gateway) has no record of it.",
        action_zh="按单据号向 HIS 核实：已记账的予以确认，未记账的退款。",
        action_en="Ask the HIS by its order: confirm it where it is booked, else refund it.",
    ),
    Class.CONTENT_DIFFERS: Treatment(
        2,
        automatic=False,
        alarm=True,
        zh="两边的金额、卡、单据或记账日不一致。",
        en="Amount, card, order or accounting date differ.",
        action_zh="冻结该笔交易，由两人复核处理；可能是篡改或程序错误。",
        action_en="Freeze it; two persons decide. It is tampering or a defect.",
    ),
    Class.STILL_OPEN: Treatment(
        4,
        automatic=False,
        alarm=False,
        zh="日终时结果未定，结转次日。",
        en="Still open at the end of the day: carried over.",
        action_zh="次日自动再次核对；超过一天仍未定的请查看线路和参保地系统。",
        action_en="It is compared again on the next day; look at link and city where it takes longer.",
    ),
    Class.DUPLICATE_ORDER: Treatment(
        3,
        automatic=False,
        alarm=False,
        zh="同一单据扣款不止一次。",
        en="One order was debited more than once.",
        action_zh="与机构核实后退还多扣的一笔。",
        action_en="Ask the institution, then refund the debit that is too much.",
    ),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A transaction that does not fit. `rows`: what each side has, None where it has nothing.

    A duplicate has one row, its own, and names the first debit of the order.
    """

    found: Class
    transaction_id: str
    rows: tuple[Row | None, ...]
    other_transaction: str = ""

    @property
    def treatment(self) -> Treatment:
        return TREATMENT[self.found]

    @property
    def repairable(self) -> bool:
        """Whether it is reversed without asking anybody. A credit never is: reversing it would debit again."""
        return self.treatment.automatic and all(row is not None and row.kind is _DEBIT for row in self.rows)

    @property
    def told(self) -> Row | None:
        return self.rows[0]

    @property
    def booked(self) -> Row | None:
        """What the book has; a duplicate is the book's own row."""
        return self.rows[-1]


def classify(told: Row | None, booked: Row | None) -> Class | None:
    """How what was told and what is booked differ; None where they agree about the money."""
    moved = booked is not None and booked.standing is Standing.MOVED
    if told is None:
        if booked is None or booked.standing is Standing.NOT_MOVED:
            return None
        return Class.UNKNOWN_TO_TELLER if moved else Class.STILL_OPEN
    if told.standing is Standing.MOVED and not moved:
        return Class.MERCHANT_LOSS
    if booked is not None and not _same_content(told, booked):
        return Class.CONTENT_DIFFERS
    if told.standing is Standing.OPEN or (booked is not None and booked.standing is Standing.OPEN):
        return Class.STILL_OPEN
    return Class.CUSTOMER_LOSS if moved and told.standing is Standing.NOT_MOVED else None


def _same_content(told: Row, booked: Row) -> bool:
    """The accounting date counts where both sides say that money moved: only then both have learned it."""
    if told.standing is booked.standing is Standing.MOVED and told.accounting_date != booked.accounting_date:
        return False
    return _content(told) == _content(booked)


def _content(row: Row) -> tuple[object, ...]:
    """What both sides know however the transaction stands: kind, amount, order, fingerprint."""
    return (row.kind, row.amount_fen, *row[_ORDER.start : _COMPARED])


def differences(*sides: Iterable[Row]) -> Iterator[Difference]:
    """What does not fit, in the order of ids; of several classes of one transaction the worst.

    Each side is sorted by transaction id, without a repetition; raises ValueError where one is not.
    """
    for rows in _side_by_side(sides):
        booked = rows[-1]
        if _agreed(rows):
            continue  # nearly every row: the classes need not be asked
        found = [c for row in rows[:-1] if (c := classify(row, booked)) is not None]
        if found:
            known = next(row for row in rows if row is not None)
            worst = min(found, key=lambda c: (TREATMENT[c].severity, c.value))
            yield Difference(worst, known.transaction_id, rows)


def _agreed(rows: tuple[Row | None, ...]) -> bool:
    """Whether every side has the same, and nothing is open."""
    booked = rows[-1]
    if booked is None or booked.standing is _OPEN:
        return False
    content = booked[:_COMPARED]
    for row in rows:  # noqa: SIM110 - all() would cost twice as much, a million times
        if row is None or row[:_COMPARED] != content:
            return False
    return True


def _side_by_side(sides: tuple[Iterable[Row], ...]) -> Iterator[tuple[Row | None, ...]]:
    """One tuple for each id that any side has."""
    streams = [iter(side) for side in sides]
    heads = [next(stream, None) for stream in streams]
    while waiting := [head[0] for head in heads if head is not None]:
        lowest = min(waiting)
        rows = tuple([head if head is not None and head[0] == lowest else None for head in heads])
        yield rows
        for number, row in enumerate(rows):
            if row is not None:
                heads[number] = following = next(streams[number], None)
                if following is not None and following[0] <= lowest:
                    raise ValueError("a side is not sorted by transaction id, or has one twice")


def duplicates(rows: Iterable[Row]) -> Iterator[Difference]:
    """Orders of one institution that were debited more than once. `rows` is one side, sorted by order and part.

    The smallest id is the order's own debit: ids begin with their time. Rows without an order are left out.
    """
    debits = (r for r in rows if r.standing is _MOVED and r.kind is _DEBIT and r.order_no)
    for _, group in groupby(debits, key=itemgetter(_ORDER)):
        first, *others = sorted(group, key=itemgetter(0))
        for row in others:
            yield Difference(Class.DUPLICATE_ORDER, row.transaction_id, (row,), first.transaction_id)
