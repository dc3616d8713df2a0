"""What operators order over real mTLS: agreements and cities, at once, on record, and over restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest

from tests.gateway_world import BALANCE_FEN, FAR, HERE, OTHER_TERMINAL, PHARMACY, TERMINAL, World, order, payer, world
from tests.support.operators import asked, ops
from tests.support.terminal_world import ClockOff
from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.core.credit_orders import CreditAccepted, Credited, CreditKind, CreditOrder
from yikatong.core.orders import (
    Accepted,
    Confirmed,
    DebitOrder,
    Declined,
    Denied,
    Posted,
    ReversalAnswer,
    ReversalCause,
    Reversed,
    Tombstoned,
    Undecided,
)
from yikatong.core.reasons import Reason
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.runtime.clock import SystemClock
from yikatong.terminal.gateway_client import MoneyLink

FAR_PERSON, NEAR_PERSON = 1, 2
BOTH = pytest.mark.parametrize("person", [FAR_PERSON, NEAR_PERSON])
TTL = 30_000
WHY = "--reason=复核中"


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def pay(link: MoneyLink, debit: DebitOrder) -> None:
    assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)


async def undone(link: MoneyLink, debit: DebitOrder) -> ReversalAnswer:
    """Asked again, as a terminal does, until it is more than a promise."""
    async with asyncio.timeout(30):
        while isinstance(answer := await link.reverse(debit, ReversalCause.TIMEOUT), Accepted | Undecided):
            await asyncio.sleep(0.05)
        return answer


async def balance(link: MoneyLink, person: int) -> int:
    return (await link.account(payer(person), None)).balance.count


def refund(debit: DebitOrder) -> CreditOrder:
    transaction_id = TransactionId(str(uuid4()))
    return CreditOrder(transaction_id, CreditKind.REFUND, debit, Fen(1_000), RequestId(f"refund-{transaction_id[:8]}"))


# --- agreements -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["SUSPENDED", "TERMINATED"])
async def test_an_agreement_ends_at_once_for_new_debits_alone(province: World, word: str) -> None:
    options = ["--terminated"] if word == "TERMINATED" else []
    refused = Declined(Reason(f"INSTITUTION_{word}"))
    async with province.gateway() as port:
        link = await province.signed_in(port)
        confirmed, open_one, wrong = order(FAR_PERSON), order(NEAR_PERSON), order(FAR_PERSON)
        for debit in (confirmed, open_one, wrong):
            await pay(link, debit)
        assert await link.confirm(confirmed) == Confirmed()
        told = await asked(province, port, "suspend", PHARMACY.code, *options, WHY)
        assert told["institution"]["agreement"] == f"AGREEMENT_{word}"
        assert told["institution"]["act"]["operator"] == "operator-1"
        assert told["institution"]["act"]["reason"] == "复核中"
        assert await link.debit(order(FAR_PERSON), attempt=1, ttl_ms=TTL) == refused
        assert isinstance(await link.reverse(wrong, ReversalCause.TIMEOUT), Reversed)
        assert await link.confirm(open_one) == Confirmed()
        assert isinstance(await link.credit(refund(confirmed), attempt=1), Credited)
        assert isinstance(await link.debit(confirmed, attempt=2, ttl_ms=TTL), Posted), "what was answered stays so"
    async with province.gateway() as port:
        link = province.link(port)
        late = await link.debit(order(FAR_PERSON), attempt=1, ttl_ms=TTL)
        assert late == refused, "it outlives the restart, and the configuration"
        listed = await asked(province, port, "institutions")
        assert {row["code"]: row["agreement"] for row in listed["institutions"]} == {
            PHARMACY.code: f"AGREEMENT_{word}",
            "P37010000002": "AGREEMENT_SUSPENDED",
        }
        status, out, _ = await ops(province, port, "resume", PHARMACY.code, WHY, name="operator-2", lang="zh")
        assert (status, out.splitlines()[0]) == (0, "✓ 已生效，并已留痕。")
        assert out.splitlines()[1].split() == ["✓", PHARMACY.code, "测试药店", HERE.code, "有效"]
        assert "operator-2" in out
        await pay(link, order(FAR_PERSON))
        assert (await ops(province, port, "audit"))[0] == 0


async def test_an_unknown_institution_is_refused_in_an_operators_words(province: World) -> None:
    async with province.gateway() as port:
        status, _, error = await ops(province, port, "suspend", "P99999999999", WHY, lang="zh")
        assert status == 1
        assert "INSTITUTION_UNKNOWN" in error
        assert "yikatong ops institutions" in error
        assert "现金" not in error
        assert "没有动钱" not in error
        status, out, _ = await ops(province, port, "suspend", "everything", WHY, "--json")
        assert (status, json.loads(out)["error"]["reason"]) == (1, "INVALID_FIELD")
        status, _, error = await ops(province, port, "suspend", PHARMACY.code)
        assert (status, "--reason" in error) == (2, True)


# --- cities -----------------------------------------------------------------------------------------------------


def city_of(told: dict[str, object], region: str) -> dict[str, object]:
    cities = told["cities"]
    assert isinstance(cities, list)
    return next(city for city in cities if city["region"] == region)


@BOTH
async def test_what_must_not_be_refused_waits_for_a_closed_city(province: World, person: int) -> None:
    region = FAR.code if person == FAR_PERSON else HERE.code
    async with province.gateway() as port:
        link = await province.signed_in(port)
        wrong, unconfirmed, confirmed, never_sent = (order(person) for _ in range(4))
        for debit in (wrong, unconfirmed, confirmed):
            await pay(link, debit)
        assert await link.confirm(confirmed) == Confirmed()
        told = await asked(province, port, "cities", "close", region, WHY)
        assert told["city"]["state"] == "CITY_STATE_CLOSED_FOR_MAINTENANCE"
        declined = await link.debit(order(person), attempt=1, ttl_ms=TTL)
        assert declined == Declined(Reason.CITY_CLOSED_FOR_MAINTENANCE)
        credit = refund(confirmed)
        assert await link.reverse(wrong, ReversalCause.TIMEOUT) == Accepted()
        assert await link.reverse(never_sent, ReversalCause.RECOVERY) == Accepted()
        assert await link.confirm(unconfirmed) == Undecided(), "it is kept here, and the terminal keeps it too"
        copied = await link.reverse(unconfirmed, ReversalCause.RECOVERY)
        assert copied == Denied(Reason.NEEDS_OPERATOR), "who confirms does not reverse: that is a copy"
        assert await link.credit(credit, attempt=1) == CreditAccepted()
        waiting = city_of(await asked(province, port, "cities"), region)
        assert [waiting[f"waiting_{what}"] for what in ("reversals", "confirmations", "credits")] == [2, 1, 1]
        books = await province.books(port)
        assert books[region].payables[0].amount_fen == 3 * 3_650, "nothing was delivered"
    async with province.gateway() as port:
        link = province.link(port)
        assert await link.reverse(wrong, ReversalCause.TIMEOUT) == Accepted(), "still closed after a restart"
        told = await asked(province, port, "cities", "open", region, WHY, name="operator-2")
        assert told["city"]["state"] == "CITY_STATE_OPEN"
        assert (told["city"]["act"]["operator"], told["city"]["closures"]) == ("operator-2", [])
        assert isinstance(await undone(link, wrong), Reversed)
        assert isinstance(await undone(link, never_sent), Tombstoned)
        async with asyncio.timeout(30):
            while not isinstance(answer := await link.enquire(unconfirmed), Posted) or not answer.confirmed:
                await asyncio.sleep(0.05)  # without its terminal
            while not isinstance(await link.credit(credit, attempt=2), Credited):
                await asyncio.sleep(0.05)
        assert await link.confirm(unconfirmed) == Confirmed()
        assert await balance(link, person) == BALANCE_FEN - 2 * 3_650 + 1_000
        now = city_of(await asked(province, port, "cities"), region)
        assert [now[f"waiting_{what}"] for what in ("reversals", "confirmations", "credits")] == [0, 0, 0]
        assert (await ops(province, port, "audit"))[0] == 0


async def test_a_confirmation_reaches_a_city_that_was_away_without_its_terminal(province: World) -> None:
    debit = order(FAR_PERSON)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        await pay(link, debit)
        await province.city.end()
        assert await link.confirm(debit) == Undecided()
    assert province.gateway_rows("SELECT transaction_id FROM confirmation_wait") == [(debit.transaction_id,)]
    async with province.gateway() as port:
        await province.city.start()
        link = province.link(port)
        async with asyncio.timeout(30):
            while not isinstance(answer := await link.enquire(debit), Posted) or not answer.confirmed:
                await asyncio.sleep(0.05)
        assert await link.reverse(debit, ReversalCause.RECOVERY) == Denied(Reason.NEEDS_OPERATOR)
    assert province.gateway_rows("SELECT count(*) FROM confirmation_wait") == [(0,)]
    assert province.gateway_rows("SELECT sealed FROM route") == [(None,)], "the payer is wiped with it"


async def test_a_closure_has_its_time(province: World) -> None:
    begins_at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    ends_at = begins_at + timedelta(hours=2)
    china = timedelta(hours=8)
    local = [(moment + china).strftime("%Y-%m-%dT%H:%M:%S+08:00") for moment in (begins_at, ends_at)]
    times = ["--from", local[0], "--to", local[1]]
    async with province.gateway() as port:
        link = await province.signed_in(port)
        told = (await asked(province, port, "cities", "close", "威海", *times, WHY))["city"]
        assert told["state"] == "CITY_STATE_OPEN", "it is to come"
        (closure,) = told["closures"]
        stamps = [moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (begins_at, ends_at)]
        assert [closure["begins_at"], closure["ends_at"]] == stamps, "kept as UTC, whatever zone it was said in"
        await pay(link, order(FAR_PERSON))
        for wrong in (["--to", "2026-01-01T00:00+08:00"], ["--from", local[1], "--to", local[0]]):
            status, _, error = await ops(province, port, "cities", "close", FAR.code, *wrong, WHY)
            assert (status, "INVALID_FIELD" in error) == (1, True)
        status, _, error = await ops(province, port, "cities", "close", FAR.code, "--to", "2126-01-01T00:00", WHY)
        assert (status, "+08:00" in error) == (2, True), "a time without a zone is none"
        status, _, error = await ops(province, port, "cities", "close", "Atlantis", WHY)
        assert (status, "INVALID_FIELD" in error) == (1, True)
    for hours, closed in ((2, True), (4, False)):
        async with province.gateway(clock=ClockOff(timedelta(hours=hours))) as port:
            answer = await province.link(port).debit(order(FAR_PERSON), attempt=1, ttl_ms=TTL)
            assert answer == Declined(Reason.CITY_CLOSED_FOR_MAINTENANCE) if closed else isinstance(answer, Posted)
    async with province.gateway() as port:
        told = (await asked(province, port, "cities", "open", "Weihai", WHY))["city"]
        assert told["closures"] == [], "opening takes back what is to come"


async def test_an_operator_outdoes_the_configuration(province: World) -> None:
    here, far = province.config.cities
    cities = [here, msgspec.structs.replace(far, state="NOT_OPEN", open_to="2020-12-31")]
    async with province.gateway(cities=cities) as port:
        link = await province.signed_in(port)
        listed = city_of(await asked(province, port, "cities"), FAR.code)
        assert (listed["state"], listed["open_to"]) == ("CITY_STATE_NOT_OPEN", "2020-12-31")
        assert await link.debit(order(FAR_PERSON), attempt=1, ttl_ms=TTL) == Declined(Reason.CITY_NOT_OPEN)
        await asked(province, port, "cities", "open", FAR.code, WHY)
        await pay(link, order(FAR_PERSON))


async def test_the_list_of_cities_shows_their_links(province: World) -> None:
    async with province.gateway() as port:
        links = {city["region"]: city["link"] for city in (await asked(province, port, "cities"))["cities"]}
        assert links == {HERE.code: "CITY_LINK_EMBEDDED", FAR.code: "CITY_LINK_UP"}
        await province.city.end()
        status, out, _ = await ops(province, port, "cities", lang="zh")
        assert status == 0
        assert [line.split()[:5] for line in out.splitlines()] == [
            ["✓", HERE.code, "济南", "开通", "账本在网关"],
            ["✓", FAR.code, "威海", "开通", "链路中断"],
        ]


async def test_a_chain_that_was_tampered_with_is_found(province: World) -> None:
    async with province.gateway() as port:
        for verb in ("suspend", "resume"):
            await asked(province, port, verb, PHARMACY.code, WHY)
        status, out, _ = await ops(province, port, "audit")
        assert (status, "acts: 2" in out) == (0, True)
    province.change_gateway(
        "DROP TRIGGER act_is_never_changed",
        "UPDATE act SET content = CAST(replace(CAST(content AS TEXT), 'operator-1', 'operator-9') AS BLOB)"
        " WHERE number = 1",
    )
    async with province.gateway() as port:
        status, out, _ = await ops(province, port, "audit")
        assert (status, "✗ I8  act:1" in out) == (1, True)


async def test_without_its_clock_the_registry_asks_the_system() -> None:
    """The default of `InForce` is the system's time, in UTC."""
    from yikatong.gateway.registry import InForce

    assert abs(InForce().now() - SystemClock().now()) < timedelta(minutes=1)


# --- the fleet --------------------------------------------------------------------------------------------------


async def test_the_fleet_shows_who_passed_and_who_did_not(province: World) -> None:
    steps = [
        gateway_pb2.SelfTestStep(name="reader", passed=True),
        gateway_pb2.SelfTestStep(name="pin", passed=False, reason="NO_PIN_KEYPAD"),
    ]
    async with province.gateway() as port:
        await province.signed_in(port)
        for name, days, passed in ((TERMINAL, 9, False), (TERMINAL, 1, True), (OTHER_TERMINAL, 2, True)):
            await _file(province, port, name, days, passed, steps[: 1 + (not passed)])
        listed = await ops(province, port, "fleet", "--json")
        told = json.loads(listed[1])
        assert listed[0] == 1
        fitness = [(t["terminal_id"], t["fitness"], t["epoch"]) for t in told["terminals"]]
        assert fitness == [
            ("terminal-suspended", "FITNESS_NEVER_TESTED", 0),
            (TERMINAL, "FITNESS_PASSED", 1),
            (OTHER_TERMINAL, "FITNESS_PASSED", 0),
        ]
        assert (told["total"], told["passed"]) == (3, 2)
        await _file(province, port, OTHER_TERMINAL, 0, False, steps)
        status, out, _ = await ops(province, port, "fleet", "--unfit", lang="zh")
        assert (status, out.splitlines()[0].split()[:5]) == (
            1, ["✗", OTHER_TERMINAL, PHARMACY.code, "测试药店", "自检未通过"],
        )  # fmt: skip
        assert "✗ pin  NO_PIN_KEYPAD" in out
        assert f"{TERMINAL} " not in out
    async with province.gateway(clock=ClockOff(timedelta(days=9))) as port:
        told = json.loads((await ops(province, port, "fleet", "--json"))[1])
        assert {t["terminal_id"]: t["fitness"] for t in told["terminals"]}[TERMINAL] == "FITNESS_OVERDUE"


async def _file(
    province: World, port: int, name: str, days: int, passed: bool, steps: list[gateway_pb2.SelfTestStep]
) -> None:
    stub = gateway_pb2_grpc.GatewayServiceStub(province.channel(port, name).channel)
    report = gateway_pb2.ReportSelfTestRequest(terminal_id=name, run_id=str(uuid4()), passed=passed, steps=steps)
    report.started_at.FromDatetime(datetime.now(UTC) - timedelta(days=days))
    await stub.ReportSelfTest(report)
