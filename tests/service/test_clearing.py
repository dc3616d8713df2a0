"""Monthly clearing over real mTLS: every claim in one statement, late ones in the next month, nothing changed later."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.gateway_world import FAR, HERE, World, order, world
from tests.support.operators import asked, ops
from tests.support.terminal_world import ClockOff
from yikatong.core.credit_orders import Credited, CreditKind, CreditOrder
from yikatong.core.orders import Confirmed, DebitOrder, Posted, ReversalCause, Reversed
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.runtime.clock import accounting_date
from yikatong.terminal.gateway_client import MoneyLink

FAR_PERSON, NEAR_PERSON = 1, 2
TTL, DEBIT_FEN = 30_000, 3_650
WHY = "--reason=月结"
NOW = datetime.now(UTC)
MONTH = accounting_date(NOW)[:7]
AFTER, LATER = ClockOff(timedelta(days=32)), ClockOff(timedelta(days=64))
"""32 days on, in the next month or the one after; and once more. So each time the month before is over."""


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def paid(link: MoneyLink, debit: DebitOrder, *, confirm: bool = True) -> DebitOrder:
    assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    if confirm:
        assert await link.confirm(debit) == Confirmed()
    return debit


async def credited(link: MoneyLink, debit: DebitOrder, kind: CreditKind, fen: int) -> None:
    transaction_id = TransactionId(str(uuid4()))
    credit = CreditOrder(transaction_id, kind, debit, Fen(fen), RequestId(f"credit-{transaction_id}"))
    assert isinstance(await link.credit(credit, attempt=1), Credited)


def shown(told: dict[str, Any]) -> dict[tuple[str, str], dict[str, tuple[int, int]]]:
    return {
        (statement["month"], statement["home_region"]): {
            total["kind"]: (int(total["count"]), int(total["amount_fen"]))
            for total in statement["totals"]
            if int(total["count"])
        }
        | {"net": (1, int(statement["net_fen"]))}
        for statement in told["statements"]
    }


async def test_a_month_is_closed_once_and_what_is_late_goes_into_the_next(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        near = await paid(link, order(NEAR_PERSON))
        for _ in range(2):
            await paid(link, order(FAR_PERSON))
        taken_back = await paid(link, order(FAR_PERSON))
        await credited(link, taken_back, CreditKind.CANCELLATION, DEBIT_FEN)
        await credited(link, near, CreditKind.REFUND, 1_000)
        wrong = await paid(link, order(FAR_PERSON), confirm=False)
        assert isinstance(await link.reverse(wrong, ReversalCause.TIMEOUT), Reversed)
        open_one = await paid(link, order(FAR_PERSON), confirm=False)
        undone_later = await paid(link, order(FAR_PERSON), confirm=False)
        status, out, _ = await ops(province, port, "clearing", "close", MONTH, WHY, "--json")
        assert (status, json.loads(out)["error"]["reason"]) == (1, "NOT_DECIDABLE"), "it is not over"
    first = {
        (MONTH, HERE.code): {"DEBIT": (1, DEBIT_FEN), "REFUND": (1, -1_000), "net": (1, DEBIT_FEN - 1_000)},
        (MONTH, FAR.code): {
            "DEBIT": (4, 4 * DEBIT_FEN),
            "REVERSAL": (1, -DEBIT_FEN),
            "CANCELLATION": (1, -DEBIT_FEN),
            "net": (1, 2 * DEBIT_FEN),
        },
    }
    async with province.gateway(clock=AFTER) as port:
        link = province.link(port)
        closed = await asked(province, port, "clearing", "close", MONTH, WHY)
        assert shown(closed) == first
        assert await link.confirm(open_one) == Confirmed()
        assert isinstance(await link.reverse(undone_later, ReversalCause.UNCONFIRMED), Reversed)
        await credited(link, near, CreditKind.REFUND, 500)
        assert await asked(province, port, "clearing", "close", MONTH, WHY, name="operator-2") == closed, "for ever"
    async with province.gateway(clock=LATER) as port:
        following = accounting_date(AFTER.now())[:7]
        second = shown(await asked(province, port, "clearing", "close", following, WHY))
        assert second == {
            (following, HERE.code): {"REFUND": (1, -500), "net": (1, -500)},
            (following, FAR.code): {"DEBIT": (2, 2 * DEBIT_FEN), "REVERSAL": (1, -DEBIT_FEN), "net": (1, DEBIT_FEN)},
        }
        assert shown(await asked(province, port, "clearing")) == first | second
        assert shown(await asked(province, port, "clearing", "--month", MONTH)) == first
        books = await province.books(port)
        payables = sum(balance.amount_fen for city in books.values() for balance in city.payables)
        assert sum(totals["net"][1] for totals in (first | second).values()) == payables, "statements equal the ledger"
        status, _, error = await ops(province, port, "clearing", "close", "2020-01", WHY)
        assert (status, "NOT_DECIDABLE" in error) == (1, True), "nothing is closed behind what is closed"


async def test_the_details_prove_the_digest_and_a_change_is_found(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debits = [await paid(link, order(FAR_PERSON)) for _ in range(3)]
    file = province.folder / "details.csv"
    show = ["clearing", "show", MONTH, HERE.code, FAR.code]
    async with province.gateway(clock=AFTER) as port:
        status, _, error = await ops(province, port, *show)
        assert (status, "INVALID_FIELD" in error) == (1, True), "it is not closed yet"
        await asked(province, port, "clearing", "close", MONTH, WHY)
        status, out, _ = await ops(province, port, *show, "--csv", str(file), lang="zh")
        assert (status, "应付" in out, "109.50" in out) == (0, True, True)
        rows = list(csv.DictReader(file.read_text().splitlines()))
        assert [row["transaction_id"] for row in rows] == [debit.transaction_id for debit in debits]
        assert {row["amount_fen"] for row in rows} == {str(DEBIT_FEN)}
        assert (await ops(province, port, "audit"))[0] == 0
    province.change_gateway(
        "DROP TRIGGER statement_line_is_never_changed",
        f"UPDATE statement_line SET amount_fen = 1 WHERE transaction_id = '{debits[0].transaction_id}'",
    )
    async with province.gateway(clock=AFTER) as port:
        assert (await ops(province, port, *show))[0] == 1
        status, out, _ = await ops(province, port, "audit")
        assert status == 1
        assert {line.split()[1] for line in out.splitlines() if line.startswith("✗")} == {"I1", "I8"}
        assert f"{MONTH} {HERE.code}-{FAR.code}" in out


async def test_a_statement_is_never_changed(province: World) -> None:
    async with province.gateway() as port:
        await paid(await province.signed_in(port), order(NEAR_PERSON))
    async with province.gateway(clock=AFTER) as port:
        await asked(province, port, "clearing", "close", MONTH, WHY)
    for statement in (
        "DELETE FROM statement",
        "DELETE FROM statement_line",
        "UPDATE statement SET month = '2020-01'",
        "UPDATE statement_line SET amount_fen = 0",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            province.change_gateway(statement)
