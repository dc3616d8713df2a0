"""Credits over real mTLS, with a far city that is a process of its own: decided once, pushed until then."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import apsw
import msgspec
import pytest

from tests.gateway_world import BALANCE_FEN, FAR, HERE, OTHER_TERMINAL, TERMINAL, World, order, payer, world
from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.core.credit_orders import CreditAccepted, CreditAnswer, CreditDeclined, Credited, CreditKind, CreditOrder
from yikatong.core.orders import Confirmed, Conflict, DebitOrder, Declined, Posted, Undecided
from yikatong.core.reasons import Reason
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.gateway.config import CityConfig
from yikatong.runtime import wire
from yikatong.runtime.leg import LinkDown
from yikatong.terminal.gateway_client import MoneyLink, self_test_link

FAR_PERSON, NEAR_PERSON = 1, 2
BOTH = pytest.mark.parametrize("person", [FAR_PERSON, NEAR_PERSON])
DEBIT_FEN, TTL = 3_650, 30_000


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


def refund(debit: DebitOrder, fen: int = 1_000, **changes: object) -> CreditOrder:
    ids = TransactionId(str(uuid.uuid4())), RequestId(str(uuid.uuid4()))
    made = CreditOrder(ids[0], CreditKind.REFUND, debit, Fen(fen), ids[1])
    return replace(made, **changes)  # type: ignore[arg-type]  # tests name fields of the order


def cancel(debit: DebitOrder) -> CreditOrder:
    return refund(debit, DEBIT_FEN, kind=CreditKind.CANCELLATION)


async def paid(link: MoneyLink, person: int, **changes: object) -> DebitOrder:
    debit = order(person, amount_fen=DEBIT_FEN, **changes)
    assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    assert await link.confirm(debit) == Confirmed()
    return debit


async def balance(link: MoneyLink, person: int) -> int:
    return (await link.account(payer(person), None)).balance.count


async def decided(link: MoneyLink, credit: CreditOrder) -> CreditAnswer:
    """Pushed, as a terminal does, until it is decided."""
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await link.credit(credit, attempt=2)
            except LinkDown:
                answer = Undecided()
            if isinstance(answer, Credited | CreditDeclined):
                return answer
            await asyncio.sleep(0.05)


async def even(province: World, port: int, *, owed_fen: int) -> None:
    """The treatment city claims what the home city owes, and the audit has no finding."""
    books = await province.books(port)
    claims = {claim.account: claim.amount_fen for claim in books[HERE.code].claims}
    payables = sum(p.amount_fen for city in books.values() for p in city.payables)
    assert sum(fen for account, fen in claims.items() if account.startswith("receivable:")) == owed_fen
    assert payables == owed_fen


@BOTH
async def test_a_cancellation_is_carried_out_once_however_often_it_is_sent(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = await paid(link, person)
        credit = cancel(debit)
        first = await link.credit(credit, attempt=1)
        assert isinstance(first, Credited)
        assert (first.amount, first.refundable, first.balance) == (Fen(DEBIT_FEN), Fen(0), Fen(BALANCE_FEN))
        assert [await link.credit(credit, attempt=n) for n in (1, 2)] == [first, first]
        assert await link.credit(cancel(debit), attempt=1) == CreditDeclined(Reason.NOT_CANCELLABLE)
        assert await link.credit(refund(debit, 1), attempt=1) == CreditDeclined(Reason.REFUND_EXCEEDS_DEBIT)
        assert isinstance(await link.enquire(debit), Posted), "the debit stays what it was told to be"
        assert await balance(link, person) == BALANCE_FEN
        await even(province, port, owed_fen=0)


@BOTH
async def test_refunds_at_once_are_never_more_than_the_debit(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = await paid(link, person)
        answers = await asyncio.gather(*(link.credit(refund(debit, 1_000), attempt=1) for _ in range(6)))
        assert sum(isinstance(answer, Credited) for answer in answers) == 3
        assert answers.count(CreditDeclined(Reason.REFUND_EXCEEDS_DEBIT)) == 3
        assert await balance(link, person) == BALANCE_FEN - 650
        await even(province, port, owed_fen=650)


@BOTH
async def test_a_cancellation_and_a_refund_race_and_one_wins(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        for _ in range(4):
            debit, before = await paid(link, person), await balance(link, person)
            answers = await asyncio.gather(
                link.credit(cancel(debit), attempt=1), link.credit(refund(debit, 50), attempt=1)
            )
            won = [answer for answer in answers if isinstance(answer, Credited)]
            assert len(won) == 1
            lost = next(answer for answer in answers if answer not in won)
            assert lost in (CreditDeclined(Reason.NOT_CANCELLABLE), CreditDeclined(Reason.REFUND_EXCEEDS_DEBIT))
            assert await balance(link, person) == before + won[0].amount.count
        assert not (await province.books(port))[HERE.code].suspense


@BOTH
async def test_other_content_under_the_same_id_is_never_executed(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = await paid(link, person)
        credit = refund(debit)
        assert isinstance(await link.credit(credit, attempt=1), Credited)
        assert await link.credit(replace(credit, amount=Fen(2_000)), attempt=1) == Conflict()
        forged = refund(replace(debit, amount=Fen(90_000)), 90_000)
        assert await link.credit(forged, attempt=1) == CreditDeclined(Reason.TRANSACTION_ID_REUSED)
        assert await balance(link, person) == BALANCE_FEN - DEBIT_FEN + 1_000


async def test_a_request_id_belongs_to_one_transaction_debit_or_credit(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = await paid(link, NEAR_PERSON)
        taken = refund(debit, request_id=debit.request_id)
        assert await link.credit(taken, attempt=1) == CreditDeclined(Reason.REQUEST_ID_REUSED, debit.transaction_id)
        credit = refund(debit)
        assert isinstance(await link.credit(credit, attempt=1), Credited)
        rival = order(NEAR_PERSON, request_id=credit.request_id)
        refused = Declined(Reason.REQUEST_ID_REUSED, credit.transaction_id)
        assert await link.debit(rival, attempt=1, ttl_ms=TTL) == refused


@BOTH
async def test_a_credit_waits_for_the_confirmation_of_its_debit(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(person, amount_fen=DEBIT_FEN)
        await link.debit(debit, attempt=1, ttl_ms=TTL)
        credit = refund(debit)
        assert await link.credit(credit, attempt=1) == CreditAccepted()
        assert await balance(link, person) == BALANCE_FEN - DEBIT_FEN
        assert await link.confirm(debit) == Confirmed()
        assert isinstance(await decided(link, credit), Credited)


@BOTH
async def test_nothing_is_given_back_for_what_was_never_taken(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        unknown = CreditDeclined(Reason.TRANSACTION_NOT_FOUND)
        assert await link.credit(refund(order(person)), attempt=1) == unknown
        assert await link.credit(refund(order(77)), attempt=1) == unknown, "a person whom no directory knows"
        assert await balance(link, person) == BALANCE_FEN


async def test_a_terminal_credits_its_own_debits_alone(province: World) -> None:
    async with province.gateway() as port:
        link, other = await province.signed_in(port), await province.signed_in(port, OTHER_TERMINAL)
        debit = await paid(link, NEAR_PERSON)
        with pytest.raises(LinkDown, match="TERMINAL_UNKNOWN"):
            await other.credit(refund(debit), attempt=1)
        assert await balance(link, NEAR_PERSON) == BALANCE_FEN - DEBIT_FEN


async def test_a_credit_of_one_kind_is_not_taken_as_the_other(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = await paid(link, NEAR_PERSON)
        stub = gateway_pb2_grpc.GatewayServiceStub(province.channel(port).channel)
        with pytest.raises(Exception, match="another kind"):
            await stub.Cancel(gateway_pb2.CancelRequest(credit=wire.credit_to_wire(refund(debit)), attempt=1))


@pytest.mark.parametrize("fault", ["silent", "hang-before", "down", "maintenance"])
async def test_a_city_that_is_away_is_insisted_on_across_a_restart(province: World, fault: str) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = await paid(link, FAR_PERSON)
        province.fault(fault)
        credit = refund(debit)
        assert await link.credit(credit, attempt=1) == CreditAccepted()
        assert await link.credit(credit, attempt=2) == CreditAccepted()
    sealed = province.gateway_rows("SELECT state, sealed FROM credit_route")
    assert [row[0] for row in sealed] == ["FWD"]
    assert b"9900011970" not in bytes(sealed[0][1]), "no person stands in the row"  # type: ignore[arg-type]  # a blob
    province.fault()
    async with province.gateway() as port:
        link = province.link(port)
        assert isinstance(await decided(link, credit), Credited)
        assert await balance(link, FAR_PERSON) == BALANCE_FEN - DEBIT_FEN + 1_000
        await even(province, port, owed_fen=DEBIT_FEN - 1_000)
    assert province.gateway_rows("SELECT state, sealed FROM credit_route") == [("CREDITED", None)]


async def test_a_lost_answer_is_told_at_the_next_push(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = await paid(link, FAR_PERSON)
        province.fault("lose-answer-once")
        assert isinstance(await link.credit(cancel(debit), attempt=1), Credited)
        assert await balance(link, FAR_PERSON) == BALANCE_FEN
        await even(province, port, owed_fen=0)


def _cities(province: World, state: str) -> list[CityConfig]:
    return [msgspec.structs.replace(city, state=state) for city in province.config.cities]


@BOTH
@pytest.mark.parametrize("kind", CreditKind)
async def test_a_closed_city_takes_it_when_it_opens(province: World, person: int, kind: CreditKind) -> None:
    async with province.gateway() as port:
        debit = await paid(await province.signed_in(port), person)
    credit = cancel(debit) if kind is CreditKind.CANCELLATION else refund(debit)
    async with province.gateway(cities=_cities(province, "CLOSED_FOR_MAINTENANCE")) as port:
        link = province.link(port)
        assert await link.credit(credit, attempt=1) == CreditAccepted()
    async with province.gateway() as port:
        link = province.link(port)
        assert isinstance(await decided(link, credit), Credited)
        assert await balance(link, person) == BALANCE_FEN - DEBIT_FEN + credit.amount.count
        await even(province, port, owed_fen=DEBIT_FEN - credit.amount.count)


@pytest.mark.parametrize("agreement", ["SUSPENDED", "TERMINATED"])
async def test_an_institution_that_may_take_nothing_still_gives_back(province: World, agreement: str) -> None:
    async with province.gateway() as port:
        debit = await paid(await province.signed_in(port), FAR_PERSON)
    institutions = [msgspec.structs.replace(i, agreement=agreement) for i in province.config.institutions]
    async with province.gateway(institutions=institutions) as port:
        link = province.link(port)
        refused = await link.debit(order(FAR_PERSON), attempt=1, ttl_ms=TTL)
        assert refused == Declined(Reason(f"INSTITUTION_{agreement}"))
        assert isinstance(await link.credit(refund(debit), attempt=1), Credited)
        assert isinstance(await link.credit(refund(debit), attempt=1), Credited)


@pytest.mark.parametrize("status", ["FROZEN", "CLOSED"])
async def test_the_state_of_the_account_declines_nothing(province: World, status: str) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debits = [await paid(link, person) for person in (FAR_PERSON, NEAR_PERSON)]
    await province.city.end()
    for name in ("city/city.db", "gateway/gateway.db"):
        with apsw.Connection(str(province.folder / name)) as connection:
            connection.execute("UPDATE account SET status = ?", (status,))
        connection.close()
    await province.city.start()
    async with province.gateway() as port:
        link = province.link(port)
        credits_made = [refund(debit) for debit in debits]
        answers = [await decided(link, credit) for credit in credits_made]
        assert all(isinstance(answer, Credited) for answer in answers)
        kept = BALANCE_FEN - DEBIT_FEN + 1_000
        assert [a.balance for a in answers if isinstance(a, Credited)] == (
            [Fen(kept), Fen(kept)] if status == "FROZEN" else [None, None]
        )
        books = await province.books(port)
        listed = {item.transaction_id for city in books.values() for item in city.suspense}
        assert listed == ({c.transaction_id for c in credits_made} if status == "CLOSED" else set())
        in_suspense = {region: books[region].suspense_fen for region in (FAR.code, HERE.code)}
        assert set(in_suspense.values()) == {1_000 if status == "CLOSED" else 0}


async def test_a_gateway_that_has_lost_its_rows_asks_the_ledger(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = await paid(link, FAR_PERSON)
        credit = refund(debit)
        first = await link.credit(credit, attempt=1)
    with apsw.Connection(str(province.folder / "gateway" / "gateway.db")) as connection:
        connection.execute(
            """DROP TRIGGER claim_is_never_deleted;
            DELETE FROM claim WHERE kind = 'CREDIT';
            DELETE FROM credit_route;
            UPDATE guard SET transaction_id = 'another' WHERE kind = 'REQUEST'"""
        )
    connection.close()
    async with province.gateway() as port:
        link = province.link(port)
        assert await link.credit(credit, attempt=2) == first
        assert await balance(link, FAR_PERSON) == BALANCE_FEN - DEBIT_FEN + 1_000


async def test_the_self_test_partition_credits_too(province: World) -> None:
    async with province.gateway() as port:
        link = self_test_link(province.channel(port, TERMINAL))
        debit = order(99, amount_fen=1)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
        assert await link.confirm(debit) == Confirmed()
        assert isinstance(await link.credit(refund(debit, 1), attempt=1), Credited)
        assert not (await province.books(port))[HERE.code].claims, "no clearing ever sees it"
