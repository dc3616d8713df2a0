"""Debits that people decide, over real mTLS: two operators, carried out once, told to the terminal, on record."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import structlog.testing

from tests.gateway_world import BALANCE_FEN, FAR, HERE, TERMINAL, World, order, payer, world
from tests.support.operators import asked, ops
from tests.support.terminal_world import ClockOff
from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.api.money.v1 import reconciliation_pb2 as money
from yikatong.core.credit_orders import Credited, CreditKind, CreditOrder
from yikatong.core.orders import (
    Accepted,
    Confirmed,
    DebitOrder,
    Declined,
    Denied,
    Posted,
    ReversalCause,
    Reversed,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.gateway import tickets
from yikatong.runtime.clock import SystemClock, accounting_date
from yikatong.terminal.gateway_client import MoneyLink

FAR_PERSON, NEAR_PERSON = 1, 2
BOTH = pytest.mark.parametrize("person", [FAR_PERSON, NEAR_PERSON])
TTL, DEBIT_FEN = 30_000, 3_650
WHY = "--reason=与药店核实"
ANN, BEN, EVE = "operator-ann", "operator-ben", "operator-eve"


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def disputed(link: MoneyLink, debit: DebitOrder) -> None:
    """Approved and confirmed; then the terminal, from a journal that knows less, wants to reverse it."""
    assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    assert await link.confirm(debit) == Confirmed()
    assert await link.reverse(debit, ReversalCause.RECOVERY) == Denied(Reason.NEEDS_OPERATOR)


async def decide(province: World, port: int, debit: DebitOrder, decision: str, name: str) -> dict[str, Any]:
    words = ["resolve", debit.transaction_id, "--decision", decision, WHY]
    told: dict[str, Any] = (await asked(province, port, *words, name=name))["resolution"]
    return told


async def refused(province: World, port: int, debit: DebitOrder, decision: str, name: str) -> dict[str, Any]:
    words = ["resolve", debit.transaction_id, "--decision", decision, WHY, "--json"]
    status, out, _ = await ops(province, port, *words, name=name)
    assert status == 1
    told: dict[str, Any] = json.loads(out)["error"]
    return told


async def unresolved(province: World, port: int) -> list[dict[str, Any]]:
    status, out, error = await ops(province, port, "unresolved", "--json")
    listed: list[dict[str, Any]] = json.loads(out)["unresolved"]
    assert (status, error) == (int(bool(listed)), "")
    return listed


async def owed(province: World, port: int) -> int:
    """What the home cities owe; the treatment city claims as much, and the audit has no finding."""
    books = await province.books(port)
    payables = sum(balance.amount_fen for city in books.values() for balance in city.payables)
    claims = {claim.account: claim.amount_fen for claim in books[HERE.code].claims}
    assert sum(fen for account, fen in claims.items() if account.startswith("receivable:")) == payables
    return payables


async def balance(link: MoneyLink, person: int) -> int:
    return (await link.account(payer(person), None)).balance.count


@BOTH
async def test_two_persons_uphold_a_debit(province: World, person: int) -> None:
    debit = order(person)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        await disputed(link, debit)
        (row,) = await unresolved(province, port)
        assert (row["kind"], row["urgency"], row["reason"]) == (
            "UNRESOLVED_KIND_REVERSAL_DENIED", "URGENCY_ALARM", "NEEDS_OPERATOR",
        )  # fmt: skip
        assert (row["gateway"]["state"], row["terminal"]["state"]) == ("CONFIRMED", "MANUAL")
        assert row["gateway"]["fingerprint"] == row["terminal"]["fingerprint"]
        proposed = await decide(province, port, debit, "confirm", ANN)
        assert (proposed["progress"], proposed["proposed_by"]) == ("PROGRESS_PROPOSED", ANN)
        assert "与药店核实" in (await ops(province, port, "unresolved"))[1], "the second person reads why"
        again = await refused(province, port, debit, "confirm", ANN)
        assert again["reason"] == "SECOND_PERSON_NEEDED"
        other = await refused(province, port, debit, "reverse", BEN)
        assert (other["reason"], other["facts"]["decision"], other["facts"]["proposed_by"]) == (
            "DECISION_DIFFERS", "CONFIRM", ANN,
        )  # fmt: skip
        assert await link.reverse(debit, ReversalCause.RECOVERY) == Denied(Reason.NEEDS_OPERATOR), "one is not enough"
        done = await decide(province, port, debit, "confirm", BEN)
        assert (done["progress"], done["approved_by"]) == ("PROGRESS_CARRIED_OUT", BEN)
    async with province.gateway() as port:
        link = province.link(port)
        for _ in range(2):
            assert await link.reverse(debit, ReversalCause.RECOVERY) == Denied(Reason.UPHELD_BY_OPERATORS)
        assert await decide(province, port, debit, "confirm", EVE) == done, "for ever"
        assert (await refused(province, port, debit, "reverse", EVE))["reason"] == "DECISION_DIFFERS"
        assert await unresolved(province, port) == []
        assert await balance(link, person) == BALANCE_FEN - DEBIT_FEN
        assert await owed(province, port) == DEBIT_FEN
        status, out, _ = await ops(province, port, "audit")
        assert (status, "acts: 2" in out) == (0, True)


@BOTH
async def test_two_persons_give_the_money_back(province: World, person: int) -> None:
    debit = order(person)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        await disputed(link, debit)
        await decide(province, port, debit, "reverse", ANN)
        done = await decide(province, port, debit, "reverse", BEN)
        assert done["progress"] == "PROGRESS_CARRIED_OUT"
    async with province.gateway() as port:
        link = province.link(port)
        for _ in range(2):
            assert isinstance(await link.reverse(debit, ReversalCause.RECOVERY), Reversed)
            assert await decide(province, port, debit, "reverse", EVE) == done
        assert await balance(link, person) == BALANCE_FEN
        assert await owed(province, port) == 0
        again = order(person, order_no=debit.order_no)
        assert isinstance(await link.debit(again, attempt=1, ttl_ms=TTL), Posted), "the order is free again"
        assert await owed(province, port) == DEBIT_FEN
    assert province.gateway_rows("SELECT count(*) FROM ticket WHERE sealed IS NOT NULL") == [(0,)], "wiped once done"


@BOTH
@pytest.mark.parametrize("decision", ["confirm", "reverse"])
async def test_a_debit_that_the_gateway_forgot_is_decided_as_the_ledger_has_it(
    province: World, person: int, decision: str
) -> None:
    debit = order(person)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
        assert await link.confirm(debit) == Confirmed()
    province.change_gateway("DROP TRIGGER claim_is_never_deleted", "DELETE FROM claim", "DELETE FROM route")
    async with province.gateway() as port:
        link = province.link(port)
        assert await link.reverse(debit, ReversalCause.RECOVERY) == Denied(Reason.NEEDS_OPERATOR)
        assert await link.reverse(debit, ReversalCause.RECOVERY) == Denied(Reason.NEEDS_OPERATOR)
        (row,) = await unresolved(province, port)
        assert (row["gateway"]["state"], row["kind"]) == ("REV", "UNRESOLVED_KIND_REVERSAL_DENIED")
        await decide(province, port, debit, decision, ANN)
        assert (await decide(province, port, debit, decision, BEN))["progress"] == "PROGRESS_CARRIED_OUT"
        told = await link.reverse(debit, ReversalCause.RECOVERY)
        if decision == "confirm":
            assert told == Denied(Reason.UPHELD_BY_OPERATORS)
        else:
            assert isinstance(told, Reversed)
        left = DEBIT_FEN if decision == "confirm" else 0
        assert await balance(link, person) == BALANCE_FEN - left
        assert await owed(province, port) == left, "the claim that was lost is there again"
        assert await unresolved(province, port) == []


@BOTH
async def test_a_decision_waits_for_a_closed_city_and_outlives_restarts(province: World, person: int) -> None:
    debit, region = order(person), (FAR if person == FAR_PERSON else HERE).code
    async with province.gateway() as port:
        link = await province.signed_in(port)
        await disputed(link, debit)
        await asked(province, port, "cities", "close", region, WHY)
        await decide(province, port, debit, "reverse", ANN)
        approved = await decide(province, port, debit, "reverse", BEN)
        assert approved["progress"] == "PROGRESS_APPROVED"
        assert await link.reverse(debit, ReversalCause.RECOVERY) == Denied(Reason.NEEDS_OPERATOR)
        (row,) = await unresolved(province, port)
        assert (row["urgency"], row["city_closed"]) == ("URGENCY_NOTICE", True)
    async with province.gateway() as port:
        link = province.link(port)
        assert await owed(province, port) == DEBIT_FEN
        await asked(province, port, "cities", "open", region, WHY)
        async with asyncio.timeout(30):
            while not isinstance(await link.reverse(debit, ReversalCause.RECOVERY), Reversed):
                await asyncio.sleep(0.05)
        assert await balance(link, person) == BALANCE_FEN
        assert await owed(province, port) == 0


@BOTH
async def test_a_death_between_the_refund_and_its_record_refunds_once(
    province: World, person: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    debit = order(person)

    def die(*_: object) -> None:
        raise YikatongError(Reason.STORE_UNAVAILABLE)

    async with province.gateway() as port:
        link = await province.signed_in(port)
        await disputed(link, debit)
        await decide(province, port, debit, "reverse", ANN)
        with monkeypatch.context() as patch:
            patch.setattr(tickets, "close", die)
            words = ["resolve", debit.transaction_id, "--decision", "reverse", WHY]
            status, _, error = await ops(province, port, *words, name=BEN)
            assert (status, "STORE_UNAVAILABLE" in error) == (3, True), "nobody knows: ask again"
            assert await link.reverse(debit, ReversalCause.RECOVERY) == Denied(Reason.NEEDS_OPERATOR)
            assert await owed(province, port) == 0, "it is refunded, and nothing says so yet"
    async with province.gateway() as port:
        link = province.link(port)
        async with asyncio.timeout(30):
            while not isinstance(await link.reverse(debit, ReversalCause.RECOVERY), Reversed):
                await asyncio.sleep(0.05)
        assert await balance(link, person) == BALANCE_FEN
        assert await owed(province, port) == 0


async def test_what_is_refunded_already_is_not_given_back_twice(province: World) -> None:
    debit = order(NEAR_PERSON)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        await disputed(link, debit)
        credit = TransactionId(str(uuid4()))
        part = CreditOrder(credit, CreditKind.REFUND, debit, Fen(1_000), RequestId(f"refund-{credit}"))
        assert isinstance(await link.credit(part, attempt=1), Credited)
        for name in (ANN, BEN):
            await decide(province, port, debit, "reverse", name)
        assert isinstance(await link.reverse(debit, ReversalCause.RECOVERY), Reversed)
        assert await balance(link, NEAR_PERSON) == BALANCE_FEN
        assert await owed(province, port) == 0


async def test_a_proposal_can_be_taken_back(province: World) -> None:
    debit = order(NEAR_PERSON)
    async with province.gateway() as port:
        await disputed(await province.signed_in(port), debit)
        assert (await refused(province, port, debit, "withdraw", ANN))["reason"] == "NOT_DECIDABLE"
        await decide(province, port, debit, "confirm", ANN)
        assert (await decide(province, port, debit, "withdraw", ANN))["progress"] == "PROGRESS_OPEN"
        assert (await decide(province, port, debit, "reverse", BEN))["progress"] == "PROGRESS_PROPOSED"
        assert (await decide(province, port, debit, "reverse", ANN))["progress"] == "PROGRESS_CARRIED_OUT"
        assert (await refused(province, port, debit, "withdraw", ANN))["reason"] == "NOT_DECIDABLE"
        assert await owed(province, port) == 0


async def test_content_that_differs_is_nobodys_to_decide(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        posted, declined = order(NEAR_PERSON), order(NEAR_PERSON, amount_fen=BALANCE_FEN + 1)
        assert isinstance(await link.debit(posted, attempt=1, ttl_ms=TTL), Posted)
        assert await link.debit(declined, attempt=1, ttl_ms=TTL) == Declined(Reason.INSUFFICIENT_BALANCE)
        conflict = Denied(Reason.TRANSACTION_ID_REUSED)
        others = [replace(debit, amount=Fen(1)) for debit in (posted, declined)]
        for other in others:
            assert await link.reverse(other, ReversalCause.BAD_ANSWER) == conflict
        for decision in ("confirm", "reverse"):
            told = await refused(province, port, posted, decision, ANN)
            assert (told["reason"], "content" in told["detail"]) == ("NOT_DECIDABLE", True)
        assert (await refused(province, port, declined, "confirm", ANN))["reason"] == "NOT_DECIDABLE"
        for name in (ANN, BEN):
            await decide(province, port, declined, "reverse", name)
        assert isinstance(await link.reverse(others[1], ReversalCause.BAD_ANSWER), Reversed)
        status, out, _ = await ops(province, port, "unresolved", lang="zh")
        assert status == 1
        assert posted.transaction_id in out
        assert "双方内容不一致" in out
        assert declined.transaction_id not in out


async def test_what_nobody_disputes_is_not_decided(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(NEAR_PERSON)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
        status, _, error = await ops(
            province, port, "resolve", debit.transaction_id, "--decision", "reverse", WHY, lang="zh"
        )
        assert (status, "TRANSACTION_NOT_FOUND" in error) == (1, True)
        assert "yikatong ops unresolved" in error
        assert isinstance(await link.reverse(debit, ReversalCause.CANCELLED), Reversed)


@pytest.mark.parametrize(("minutes", "urgency"), [(1, None), (6, "URGENCY_WARNING"), (40, "URGENCY_ALARM")])
async def test_reversals_that_wait_are_listed_by_their_age(province: World, minutes: int, urgency: str | None) -> None:
    debit = order(FAR_PERSON)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
        await province.city.end()
        assert await link.reverse(debit, ReversalCause.TIMEOUT) == Accepted()
    with structlog.testing.capture_logs() as logged:
        async with province.gateway(clock=ClockOff(timedelta(minutes=minutes))) as port:
            status, out, _ = await ops(province, port, "unresolved", "--json")
    said = [(line["log_level"], line["transaction_id"]) for line in logged if line["event"] == "needs people"]
    level = {"URGENCY_WARNING": "warning", "URGENCY_ALARM": "error"}
    assert said == ([(level[urgency], debit.transaction_id)] if urgency else [])
    async with province.gateway(clock=ClockOff(timedelta(minutes=minutes))) as port:
        told = json.loads(out)
        assert status == (1 if urgency else 0)
        assert told["unreachable_regions"] == [FAR.code]
        assert [(row["kind"], row["urgency"]) for row in told["unresolved"]] == (
            [("UNRESOLVED_KIND_REVERSAL_WAITS", urgency)] if urgency else []
        )
        await province.city.start()
        async with asyncio.timeout(30):
            while not isinstance(await province.link(port).reverse(debit, ReversalCause.TIMEOUT), Reversed):
                await asyncio.sleep(0.05)
        assert await unresolved(province, port) == []


async def test_decisions_that_do_not_stand_on_record_are_found(province: World) -> None:
    debit = order(NEAR_PERSON)
    async with province.gateway() as port:
        await disputed(await province.signed_in(port), debit)
        for name in (ANN, BEN):
            await decide(province, port, debit, "confirm", name)
    province.change_gateway(f"UPDATE ticket SET approved_by = '{EVE}'")
    async with province.gateway() as port:
        status, out, _ = await ops(province, port, "audit")
        assert (status, f"✗ I8  {debit.transaction_id}" in out) == (1, True)


@BOTH
async def test_credits_in_suspense_are_listed(province: World, person: int) -> None:
    debit = order(person)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
        assert await link.confirm(debit) == Confirmed()
    await province.city.end()
    for name in ("city/city.db", "gateway/gateway.db"):
        with contextlib.closing(sqlite3.connect(province.folder / name)) as connection, connection:
            connection.execute("UPDATE account SET status = 'CLOSED'")
    await province.city.start()
    async with province.gateway() as port:
        link = province.link(port)
        transaction_id = TransactionId(str(uuid4()))
        credit = CreditOrder(transaction_id, CreditKind.REFUND, debit, Fen(1_000), RequestId("refund-1"))
        async with asyncio.timeout(30):
            while not isinstance(await link.credit(credit, attempt=2), Credited):
                await asyncio.sleep(0.05)
        (row,) = await unresolved(province, port)
        assert (row["kind"], row["transaction_id"], row["gateway"]["amount_fen"]) == (
            "UNRESOLVED_KIND_SUSPENSE", transaction_id, "1000",
        )  # fmt: skip
        assert row["home_region"] == (FAR if person == FAR_PERSON else HERE).code
        status, out, _ = await ops(province, port, "unresolved", lang="zh")
        assert (status, "退费挂账" in out, "经办机构" in out) == (1, True, True)


async def test_what_a_terminal_says_of_itself_is_listed_until_it_is_decided(province: World) -> None:
    debit, disputed_one = order(NEAR_PERSON), order(NEAR_PERSON)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
        await disputed(link, disputed_one)
        told = [
            money.Record(
                transaction_id=row.transaction_id,
                kind=money.TRANSACTION_KIND_DEBIT,
                standing=money.STANDING_OPEN,
                amount_fen=DEBIT_FEN,
                order_no=row.order_no,
                fingerprint=row.fingerprint,
                state="MANUAL",
            )
            for row in (debit, disputed_one)
        ]
    async with province.gateway(clock=ClockOff(timedelta(days=1))) as port:
        stub = gateway_pb2_grpc.GatewayServiceStub(province.channel(port).channel)
        unmatched = gateway_pb2.UnmatchedRecords(records=told)
        today = accounting_date(SystemClock().now())
        await stub.Reconcile(
            gateway_pb2.ReconcileRequest(terminal_id=TERMINAL, accounting_date=today, unmatched=unmatched)
        )
        listed = {row["transaction_id"]: row for row in await unresolved(province, port)}
        assert {key: row["kind"] for key, row in listed.items()} == {
            debit.transaction_id: "UNRESOLVED_KIND_TERMINAL_MANUAL",
            disputed_one.transaction_id: "UNRESOLVED_KIND_REVERSAL_DENIED",
        }
        row = listed[debit.transaction_id]
        assert (row["gateway"]["state"], row["terminal"]["state"]) == ("POSTED", "MANUAL")
        for name in (ANN, BEN):
            await decide(province, port, disputed_one, "confirm", name)
        assert [row["transaction_id"] for row in await unresolved(province, port)] == [debit.transaction_id]


async def test_a_debit_whose_terminal_stays_away_is_listed_after_a_day(province: World) -> None:
    debit, confirmed = order(NEAR_PERSON), order(NEAR_PERSON)
    for days, listed in ((0, []), (1, []), (2, [debit.transaction_id])):
        async with province.gateway(clock=ClockOff(timedelta(days=days))) as port:
            if not days:
                link = await province.signed_in(port)
                for one in (debit, confirmed):
                    assert isinstance(await link.debit(one, attempt=1, ttl_ms=TTL), Posted)
                assert await link.confirm(confirmed) == Confirmed()
            rows = await unresolved(province, port)
            assert [row["transaction_id"] for row in rows] == listed
            assert all(row["kind"] == "UNRESOLVED_KIND_UNCONFIRMED" for row in rows)
