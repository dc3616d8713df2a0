"""What everybody was told, against the journals, the gateway's route log and the cities' ledgers: who is wrong?

Judged when nothing is under way any more. A finding is a sentence that names its transaction or request; there must
be none.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.cashiers import NOTHING, Heard

FINAL: Final = frozenset({"APPROVED", "DECLINED", "REVERSED"})
_LEDGER: Final = """
SELECT transaction_id, sum(kind = 'DEBIT'), sum(kind = 'CONTRA'), -sum(amount_fen) FROM posting
 WHERE account LIKE 'personal:%' AND kind <> 'OPENING' GROUP BY transaction_id"""
_ROUTES: Final = "SELECT transaction_id, state FROM route"
_UNFINISHED: Final = "SELECT transaction_id, state FROM txn WHERE state = 'POSTED'"


@dataclass(frozen=True, slots=True)
class Row:
    """A transaction in a terminal's journal; `state` as a HIS is told it."""

    transaction_id: str
    terminal: str
    request_id: str
    order_no: str
    amount_fen: int
    state: str
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Entries:
    """What a ledger holds of a transaction: numbers of debits and contras, and what the person has paid in the end."""

    debits: int
    contras: int
    taken_fen: int


@dataclass(frozen=True)
class Books:
    """Read from the files of gateway and far city, whose processes must be down."""

    journal: dict[str, Row]
    routes: dict[str, str]
    ledger: dict[str, Entries]
    unconfirmed: set[str]
    """Posted in a ledger, and no confirmation there."""

    @classmethod
    def read(cls, rows: Iterable[Row], gateway: Path, city: Path) -> Books:
        ledger, unconfirmed = {}, set()
        for path in (gateway, city):
            for transaction_id, debits, contras, taken_fen in _rows(path, _LEDGER):
                assert transaction_id not in ledger, "two cities hold one transaction"
                ledger[transaction_id] = Entries(debits, contras, taken_fen)
            unconfirmed |= {transaction_id for transaction_id, _ in _rows(path, _UNFINISHED)}
        return cls({row.transaction_id: row for row in rows}, dict(_rows(gateway, _ROUTES)), ledger, unconfirmed)

    def taken_fen(self, transaction_id: str) -> int:
        entries = self.ledger.get(transaction_id)
        return entries.taken_fen if entries else 0


@dataclass
class Judgement:
    """Findings by class; figures beside them. `sound` where there is no finding at all."""

    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)

    @property
    def findings(self) -> list[str]:
        return [*self.doubled, *self.lost, *self.contradictory, *self.unfinished, *self.unequal]


def judge(heard: Sequence[Heard], books: Books) -> Judgement:
    judgement = Judgement()
    _judge_money(books, judgement)
    _judge_books(books, judgement)
    _judge_told(heard, books, judgement)
    _judge_refused(heard, books, judgement)
    _count(heard, books, judgement)
    return judgement


def _judge_money(books: Books, judgement: Judgement) -> None:
    """Nothing twice: not for a transaction, not for an order. Nothing without a journal row that says so."""
    orders: dict[str, list[Row]] = defaultdict(list)
    for transaction_id, entries in books.ledger.items():
        if entries.debits > 1 or entries.contras > 1 or entries.taken_fen < 0:
            judgement.doubled.append(f"{transaction_id}: {entries}")
        row = books.journal.get(transaction_id)
        if row is None:
            judgement.lost.append(f"{transaction_id}: in a ledger, in no journal: {entries}")
        elif entries.taken_fen:
            orders[row.order_no].append(row)
    for order_no, rows in orders.items():
        if len(rows) > 1:
            judgement.doubled.append(f"order {order_no} was paid {len(rows)} times: {rows}")
    for row in books.journal.values():
        taken_fen = books.taken_fen(row.transaction_id)
        if row.state not in FINAL:
            judgement.unfinished.append(f"{row.transaction_id}: {row.state} in the journal of {row.terminal}")
        elif taken_fen != (row.amount_fen if row.state == "APPROVED" else 0):
            judgement.lost.append(f"{row.transaction_id}: {row.state} in the journal, {taken_fen} fen were taken")


_ROUTE_OF: Final = {
    "APPROVED": {"CONFIRMED"},
    "DECLINED": {"DECLINED", "REJECTED", "REVDONE"},
    "REVERSED": {"REVDONE", "REJECTED"},
}
"""The states of the route log that go with a journal's. REJECTED where a refused debit was reversed."""


def _judge_books(books: Books, judgement: Judgement) -> None:
    """Gateway and journals agree, and nothing waits anywhere."""
    for transaction_id, state in books.routes.items():
        row = books.journal.get(transaction_id)
        if row is None:
            judgement.unequal.append(f"{transaction_id}: {state} at the gateway, in no journal")
        elif row.state in FINAL and state not in _ROUTE_OF[row.state]:
            judgement.unequal.append(f"{transaction_id}: {state} at the gateway, {row.state} in the journal")
    for row in books.journal.values():
        if row.transaction_id not in books.routes:
            judgement.unequal.append(f"{row.transaction_id}: {row.state} in the journal, unknown to the gateway")
    for transaction_id in books.unconfirmed:
        judgement.unfinished.append(f"{transaction_id}: its ledger has no confirmation")


def _judge_told(heard: Sequence[Heard], books: Books, judgement: Judgement) -> None:
    """An answer that was final once stays for ever, and a promise is kept."""
    for one in heard:
        row = books.journal.get(one.transaction_id) if one.transaction_id else None
        if row is None:
            if one.outcome == "MOVED" or one.told in FINAL:
                judgement.lost.append(f"{one}: told, and in no journal")
            continue
        own = row.request_id == one.request_id  # else it names the transaction that holds the order
        held = not (one.confirmed or row.confirmed)  # approved on condition that the HIS confirms
        final = one.told if own and one.told in FINAL and not (one.told == "APPROVED" and held) else ""
        if final and row.state != final:
            judgement.contradictory.append(f"{one}: the journal says {row.state}")
        if one.resolves_to and row.state in FINAL and row.state != one.resolves_to:
            judgement.contradictory.append(f"{one}: resolved to {row.state}")
        if one.outcome == "MOVED" and row.state != "APPROVED" and not held:
            judgement.contradictory.append(f"{one}: the journal says {row.state}")


def _judge_refused(heard: Sequence[Heard], books: Books, judgement: Judgement) -> None:
    """Who was told "not moved" and never asked again may take cash.

    A request that was refused before anything was sent may be sent again. So money may have moved for it only through
    another call, which was not over yet when the refused one began.
    """
    paid = {row.request_id: row for row in books.journal.values() if books.taken_fen(row.transaction_id)}
    calls: dict[str, list[Heard]] = defaultdict(list)
    for one in heard:
        if one.method == "Debit":
            calls[one.request_id].append(one)
    for one in heard:
        names_another = (
            one.transaction_id
            and one.transaction_id in books.journal
            and (books.journal[one.transaction_id].request_id != one.request_id)
        )
        if one.outcome != "NOT_MOVED" or one.request_id not in paid or names_another or one.told in FINAL:
            continue
        if not any(other is not one and other.ended > one.began for other in calls[one.request_id]):
            judgement.contradictory.append(f"{one}: paid by {paid[one.request_id].transaction_id}")


def _count(heard: Sequence[Heard], books: Books, judgement: Judgement) -> None:
    figures = judgement.figures
    figures["orders"] = len({one.order_no for one in heard})
    figures["calls"] = len(heard)
    figures["debit calls"] = sum(one.method == "Debit" for one in heard)
    figures["calls that heard nothing"] = sum(one.told == NOTHING for one in heard)
    figures["transactions"] = len(books.journal)
    for row in books.journal.values():
        figures[f"transactions {row.state}"] += 1
    for one in heard:
        figures[f"told {one.told}"] += 1
    figures["orders paid"] = len({row.order_no for row in books.journal.values() if row.state == "APPROVED"})
    figures["fen taken"] = sum(entries.taken_fen for entries in books.ledger.values())
    figures["debits undone in a ledger"] = sum(entries.contras for entries in books.ledger.values())


def _rows(path: Path, sql: str) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()
