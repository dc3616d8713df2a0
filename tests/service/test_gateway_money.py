"""The gateway's money methods over real mTLS, with a far city that is a process of its own and is told to misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.gateway_world import BALANCE_FEN, FAR, HERE, OTHER_TERMINAL, PHARMACY, World, order, payer, world
from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.core.orders import (
    Accepted,
    AlreadyReversed,
    Confirmed,
    ConfirmedTooLate,
    Conflict,
    Declined,
    Denied,
    NotFound,
    Posted,
    ReversalCause,
    Reversed,
    Tombstoned,
    Undecided,
    WasDeclined,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, Institution, RequestId, TerminalId
from yikatong.gateway.config import CityConfig, InstitutionConfig
from yikatong.runtime.leg import insist
from yikatong.terminal.gateway_client import MoneyLink, self_test_link

FAR_PERSON, NEAR_PERSON = 1, 2
BOTH = pytest.mark.parametrize("person", [FAR_PERSON, NEAR_PERSON])
TTL = 30_000


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def balance(link: MoneyLink, person: int) -> Fen:
    return (await link.account(payer(person), None)).balance


@BOTH
async def test_a_debit_is_posted_once_however_often_it_is_sent(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(person)
        first = await link.debit(debit, attempt=1, ttl_ms=TTL)
        assert isinstance(first, Posted)
        assert first.balance == Fen(BALANCE_FEN - 3_650)
        assert first.city.region == (FAR if person == FAR_PERSON else HERE)
        assert await link.debit(debit, attempt=2, ttl_ms=TTL) == first
        assert await link.enquire(debit) == first
        assert await balance(link, person) == first.balance


@BOTH
async def test_other_content_under_the_same_id(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(person)
        await link.debit(debit, attempt=1, ttl_ms=TTL)
        other = replace(debit, amount=Fen(1))
        assert await link.debit(other, attempt=2, ttl_ms=TTL) == Conflict()
        assert await link.reverse(other, ReversalCause.TIMEOUT) == Denied(Reason.TRANSACTION_ID_REUSED)
        assert await link.confirm(other) == Undecided()
        assert await balance(link, person) == Fen(BALANCE_FEN - 3_650)


@BOTH
async def test_an_order_is_paid_once_and_free_again_after_a_reversal(province: World, person: int) -> None:
    async with province.gateway() as port:
        link, other_link = await province.signed_in(port), await province.signed_in(port, OTHER_TERMINAL)
        debit = order(person)
        rival = order(person, order_no=debit.order_no, terminal_id=OTHER_TERMINAL)
        await link.debit(debit, attempt=1, ttl_ms=TTL)
        refused = Declined(Reason.ORDER_ALREADY_PAID, debit.transaction_id)
        assert await other_link.debit(rival, attempt=1, ttl_ms=TTL) == refused
        part = order(person, order_no=debit.order_no, order_part="2")
        assert isinstance(await link.debit(part, attempt=1, ttl_ms=TTL), Posted)
        assert isinstance(await link.reverse(debit, ReversalCause.CANCELLED), Reversed)
        assert await other_link.debit(rival, attempt=2, ttl_ms=TTL) == refused, "what was declined stays declined"
        again = order(person, order_no=debit.order_no, terminal_id=OTHER_TERMINAL)
        assert isinstance(await other_link.debit(again, attempt=1, ttl_ms=TTL), Posted)


async def test_an_order_under_way_is_in_progress(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        province.fault("silent")
        debit = order(FAR_PERSON)
        assert await link.debit(debit, attempt=1, ttl_ms=TTL) == Undecided()
        rival = order(FAR_PERSON, order_no=debit.order_no)
        assert await link.debit(rival, attempt=1, ttl_ms=TTL) == Declined(
            Reason.ORDER_IN_PROGRESS, debit.transaction_id
        )


async def test_a_request_id_belongs_to_one_transaction(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(NEAR_PERSON, request_id=RequestId("the-same"))
        await link.debit(debit, attempt=1, ttl_ms=TTL)
        await link.reverse(debit, ReversalCause.CANCELLED)
        rival = order(NEAR_PERSON, request_id=RequestId("the-same"))
        assert await link.debit(rival, attempt=1, ttl_ms=TTL) == Declined(
            Reason.REQUEST_ID_REUSED, debit.transaction_id
        )


@BOTH
async def test_a_reversal_undoes_and_is_repeated_alike(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(person)
        await link.debit(debit, attempt=1, ttl_ms=TTL)
        undone = await link.reverse(debit, ReversalCause.TIMEOUT)
        assert isinstance(undone, Reversed)
        assert await link.reverse(debit, ReversalCause.TIMEOUT) == undone
        assert await link.debit(debit, attempt=2, ttl_ms=TTL) == AlreadyReversed()
        assert await link.enquire(debit) == AlreadyReversed()
        assert await link.confirm(debit) == ConfirmedTooLate()
        assert await balance(link, person) == Fen(BALANCE_FEN)
        books = await province.books(port)
        assert [claim.amount_fen for claim in books[HERE.code].claims] == [0, 0]


@BOTH
async def test_a_reversal_that_comes_first_wins(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(person)
        assert isinstance(await link.reverse(debit, ReversalCause.RECOVERY), Tombstoned)
        assert await link.debit(debit, attempt=1, ttl_ms=TTL) == AlreadyReversed()
        assert await balance(link, person) == Fen(BALANCE_FEN)


@BOTH
async def test_what_is_confirmed_stays(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(person)
        await link.debit(debit, attempt=1, ttl_ms=TTL)
        assert await link.confirm(debit) == Confirmed()
        assert await link.confirm(debit) == Confirmed()
        assert await link.reverse(debit, ReversalCause.TIMEOUT) == Denied(Reason.NEEDS_OPERATOR)
        answer = await link.enquire(debit)
        assert isinstance(answer, Posted)
        assert answer.confirmed


async def test_both_cities_books_and_the_claim_between_them(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        for person, amount_fen in ((1, 3_650), (3, 1_000), (2, 70)):
            debit = order(person, amount_fen=amount_fen)
            assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
            assert await link.confirm(debit) == Confirmed()
        books = await province.books(port)
        far, here = books[FAR.code], books[HERE.code]
        assert (far.embedded, here.embedded) == (False, True)
        assert far.personal_fen == 10 * BALANCE_FEN - 4_650
        assert {entry.account: entry.amount_fen for entry in far.payables} == {f"payable:{HERE}": 4_650}
        assert {entry.account: entry.amount_fen for entry in here.payables} == {f"payable:{HERE}": 70}
        assert {claim.account: claim.amount_fen for claim in here.claims} == {
            f"receivable:{FAR}": 4_650,
            f"receivable:{HERE}": 70,
            f"payable:{PHARMACY}": -4_720,
        }
        assert list(far.claims) == []


# --- a city that misbehaves -------------------------------------------------------------------------------------


async def test_a_lost_answer_moves_nothing_twice(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        province.fault("lose-answer-once")
        answer = await link.debit(order(FAR_PERSON), attempt=1, ttl_ms=TTL)
        assert isinstance(answer, Posted)
        assert answer.balance == Fen(BALANCE_FEN - 3_650)


async def test_silence_is_unknown_and_an_enquiry_settles_it(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        province.fault("silent")
        debit = order(FAR_PERSON)
        assert await link.debit(debit, attempt=1, ttl_ms=TTL) == Undecided()
        assert await link.enquire(debit) == Undecided()
        province.fault()
        assert isinstance(await link.enquire(debit), Posted)
        assert await balance(link, FAR_PERSON) == Fen(BALANCE_FEN - 3_650)


@pytest.mark.parametrize("fault", ["silent", "hang-before", "down"])
async def test_a_reversal_is_promised_where_the_city_is_away_and_kept_when_it_is_back(
    province: World, fault: str
) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        province.fault(fault)
        debit = order(FAR_PERSON)
        assert await link.debit(debit, attempt=1, ttl_ms=TTL) == Undecided()
        assert await link.reverse(debit, ReversalCause.TIMEOUT) == Accepted()
        assert await link.debit(debit, attempt=2, ttl_ms=TTL) == Undecided(), "promised is not undone"
        province.fault()
        kept = await insist(lambda: link.reverse(debit, ReversalCause.TIMEOUT), lambda _: 0.0, call_s=20)
        assert isinstance(kept, Reversed | Tombstoned)
        assert await balance(link, FAR_PERSON) == Fen(BALANCE_FEN)
        await province.books(port)


async def test_a_reversal_ends_the_asking(province: World) -> None:
    """The debit still waits for its city when the reversal comes: nothing is known of the one, the other is done."""
    async with province.gateway() as port:
        link = await province.signed_in(port)
        province.fault("hang-before")
        debit = order(FAR_PERSON)
        waiting = asyncio.create_task(link.debit(debit, attempt=1, ttl_ms=TTL))
        await province.city.logged("hangs before the ledger")
        undoing = asyncio.create_task(link.reverse(debit, ReversalCause.CANCELLED))
        assert await waiting == Undecided(), "a reversal that is decided is not done"
        province.fault()
        assert isinstance(await undoing, Tombstoned)
        assert await link.enquire(debit) == AlreadyReversed()


async def test_an_answer_about_another_amount_is_not_believed(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        province.fault("wrong-amount-once")
        debit = order(FAR_PERSON)
        assert await link.debit(debit, attempt=1, ttl_ms=TTL) == Undecided()
        assert isinstance(await link.reverse(debit, ReversalCause.BAD_ANSWER), Reversed)
        assert await balance(link, FAR_PERSON) == Fen(BALANCE_FEN)


async def test_a_confirmation_that_the_city_did_not_acknowledge_is_sent_again(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(FAR_PERSON)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
        province.fault("down")
        assert await link.confirm(debit) == Undecided()
        province.fault()
        assert await link.confirm(debit) == Confirmed()


@pytest.mark.parametrize("person", [FAR_PERSON, NEAR_PERSON, 99])
async def test_a_confirmation_of_what_nobody_saw_confirms_nothing(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(person)
        assert await link.confirm(debit) == Undecided()
        assert await link.enquire(debit) == NotFound()


async def test_a_reversal_for_somebody_whom_no_city_knows_is_kept_by_the_gateway(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(99)
        tombstone = await link.reverse(debit, ReversalCause.RECOVERY)
        assert tombstone == Tombstoned(f"gateway-{debit.transaction_id}")
        assert await link.debit(debit, attempt=1, ttl_ms=TTL) == AlreadyReversed()
        assert await link.reverse(debit, ReversalCause.RECOVERY) == tombstone


async def test_a_city_under_maintenance_declines_for_good(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        province.fault("maintenance")
        debit = order(FAR_PERSON)
        declined = Declined(Reason.CITY_CLOSED_FOR_MAINTENANCE)
        assert await link.debit(debit, attempt=1, ttl_ms=TTL) == declined
        province.fault()
        assert await link.debit(debit, attempt=2, ttl_ms=TTL) == declined
        assert await link.reverse(debit, ReversalCause.TIMEOUT) == WasDeclined()


# --- who may ----------------------------------------------------------------------------------------------------


async def test_decisions_of_the_gateway(province: World) -> None:
    cities = [*province.config.cities, CityConfig("371700", "菏泽", "Heze", state="NOT_OPEN")]
    async with province.gateway(cities=cities, debit_max_fen=50_000) as port:
        link = await province.signed_in(port)
        for debit, reason in (
            (order(99), Reason.PERSON_NOT_INSURED),
            (order(1, amount_fen=50_001), Reason.LIMIT_EXCEEDED),
            (order(1, institution=Institution("P37010000002")), Reason.INSTITUTION_UNKNOWN),
        ):
            assert await link.debit(debit, attempt=1, ttl_ms=TTL) == Declined(reason)
            assert await link.debit(debit, attempt=2, ttl_ms=TTL) == Declined(reason)
            assert isinstance(await link.enquire(debit), Declined)
            assert await link.reverse(debit, ReversalCause.TIMEOUT) == WasDeclined()


async def test_a_city_that_is_not_open(province: World) -> None:
    here, far = province.config.cities
    for changes, reason in (
        ({"state": "NOT_OPEN"}, Reason.CITY_NOT_OPEN),
        ({"state": "CLOSED_FOR_MAINTENANCE"}, Reason.CITY_CLOSED_FOR_MAINTENANCE),
        ({"open_from": "2999-01-01"}, Reason.CITY_NOT_OPEN),
        ({"open_to": "2001-01-01"}, Reason.CITY_NOT_OPEN),
    ):
        closed = CityConfig(far.region, far.name_zh, far.name_en, address=far.address, **changes)  # type: ignore[arg-type]  # a table of fields
        async with province.gateway(cities=[here, closed]) as port:
            link = province.link(port)
            with pytest.raises(YikatongError) as caught:
                await link.account(payer(FAR_PERSON), None)
            assert caught.value.reason is reason


async def test_a_suspended_institution_reverses_and_confirms_but_debits_nothing_new(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        kept, undone = order(FAR_PERSON), order(FAR_PERSON)
        for debit in (kept, undone):
            assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    suspended = [InstitutionConfig(PHARMACY.code, "测试药店", HERE.code, agreement="SUSPENDED")]
    terminals = province.config.terminals[:2]
    async with province.gateway(institutions=suspended, terminals=terminals) as port:
        link = province.link(port)
        new = order(FAR_PERSON)
        assert await link.debit(new, attempt=1, ttl_ms=TTL) == Declined(Reason.INSTITUTION_SUSPENDED)
        assert isinstance(await link.reverse(undone, ReversalCause.CANCELLED), Reversed)
        assert await link.confirm(kept) == Confirmed()


async def test_a_lost_card_pays_nothing(province: World) -> None:
    path = province.folder / "seed.json"
    content = json.loads(path.read_text())
    content["persons"][0]["lost_cards"] = [payer(1).card_number.reveal()]
    path.write_text(json.dumps(content))
    async with province.gateway() as port:
        link = await province.signed_in(port)
        assert await link.debit(order(1), attempt=1, ttl_ms=TTL) == Declined(Reason.CARD_REPORTED_LOST)


@BOTH
async def test_a_repetition_that_may_not_pass_is_tombstoned_first(province: World, person: int) -> None:
    """Only a first sending is refused by the gateway alone: a twin of it may have posted."""
    async with province.gateway(debit_max_fen=100) as port:
        link = await province.signed_in(port)
        debit = order(person)
        assert await link.debit(debit, attempt=2, ttl_ms=TTL) == AlreadyReversed()
        assert isinstance(await link.reverse(debit, ReversalCause.TIMEOUT), Tombstoned)


FORGET = ("DROP TRIGGER claim_is_never_deleted", "DELETE FROM claim", "DELETE FROM route")


@pytest.mark.parametrize("ttl_ms", [TTL, 0], ids=["refused", "too late"])
@BOTH
async def test_a_late_first_sending_of_what_was_here_and_is_forgotten_tells_what_the_ledger_says(
    province: World, person: int, ttl_ms: int
) -> None:
    """It was posted and confirmed; the gateway lost its row, keeps its guards, and would refuse the debit today."""
    debit = order(person)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        posted = await link.debit(debit, attempt=1, ttl_ms=TTL)
        assert isinstance(posted, Posted)
        assert await link.confirm(debit) == Confirmed()
    province.change_gateway(*FORGET)
    async with province.gateway(debit_max_fen=100) as port:
        link = province.link(port)
        assert await link.debit(debit, attempt=1, ttl_ms=ttl_ms) == replace(posted, confirmed=True)
        assert province.gateway_rows("SELECT state FROM route") == [("CONFIRMED",)]
        assert province.gateway_rows("SELECT count(*) FROM ticket") == [(0,)]
        assert await balance(link, person) == Fen(BALANCE_FEN - 3_650)


async def test_nothing_is_decided_about_it_while_its_city_is_silent(province: World) -> None:
    debit = order(FAR_PERSON)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    province.change_gateway(*FORGET)
    async with province.gateway(debit_max_fen=100) as port:
        link = province.link(port)
        province.fault("silent")
        assert await link.debit(debit, attempt=1, ttl_ms=TTL) == Undecided()
        assert province.gateway_rows("SELECT state FROM route") == [("FWD",)]
        province.fault()
        assert isinstance(await link.reverse(debit, ReversalCause.TIMEOUT), Reversed)
        assert await balance(link, FAR_PERSON) == Fen(BALANCE_FEN)


async def test_a_debit_whose_time_is_over_is_tombstoned(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(FAR_PERSON)
        assert await link.debit(debit, attempt=1, ttl_ms=0) == AlreadyReversed()
        late = order(FAR_PERSON, sequence=10_000)
        assert isinstance(await link.debit(late, attempt=1, ttl_ms=TTL), Posted)
        assert await link.debit(order(FAR_PERSON), attempt=1, ttl_ms=TTL) == AlreadyReversed()


async def test_another_terminals_transaction_is_not_shown(province: World) -> None:
    async with province.gateway() as port:
        link, other = await province.signed_in(port), await province.signed_in(port, OTHER_TERMINAL)
        debit = order(NEAR_PERSON)
        await link.debit(debit, attempt=1, ttl_ms=TTL)
        assert await other.enquire(debit) == NotFound()


async def test_the_self_test_moves_nothing_that_counts(province: World) -> None:
    async with province.gateway() as port:
        link = self_test_link(province.channel(port))
        debit = order(99)
        posted = await link.debit(debit, attempt=1, ttl_ms=TTL)
        assert isinstance(posted, Posted)
        assert posted.city.region.code == "990000"
        assert isinstance(await link.reverse(debit, ReversalCause.CANCELLED), Reversed)
        books = await province.books(port)
        assert "990000" not in books
        assert books[HERE.code].entries == books[FAR.code].entries == 20
        stub = gateway_pb2_grpc.GatewayServiceStub(province.channel(port).channel)
        report = gateway_pb2.ReportSelfTestRequest(terminal_id="terminal-1", run_id=debit.transaction_id, passed=True)
        for _ in range(2):
            await stub.ReportSelfTest(report)
    rows = province.gateway_rows("SELECT terminal_id, passed FROM self_test_report")
    assert rows == [(TerminalId("terminal-1"), 1)]


async def test_a_request_that_another_window_sends_again_is_told_how_its_order_stands(province: World) -> None:
    """Its cashier has lost the first answer: to hear that the request differs would be to take the money twice."""
    async with province.gateway() as port:
        link = await province.signed_in(port)
        other = await province.signed_in(port, OTHER_TERMINAL)
        paid = order(NEAR_PERSON)
        assert isinstance(await link.debit(paid, attempt=1, ttl_ms=TTL), Posted)
        again = order(NEAR_PERSON, terminal_id=OTHER_TERMINAL, request_id=paid.request_id, order_no=paid.order_no)
        known = Declined(Reason.ORDER_ALREADY_PAID, paid.transaction_id)
        assert await other.debit(again, attempt=1, ttl_ms=TTL) == known
        elsewhere = order(NEAR_PERSON, terminal_id=OTHER_TERMINAL, request_id=paid.request_id)
        reused = Declined(Reason.REQUEST_ID_REUSED, paid.transaction_id)
        assert await other.debit(elsewhere, attempt=1, ttl_ms=TTL) == reused
