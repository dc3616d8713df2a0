"""kill -9 in the middle of a debit, real processes, real sockets, real files: one outcome, one answer, equal books."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc.aio
import pytest

from tests.support.his import his_of
from yikatong.api.citycore.v1 import citycore_pb2
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.operations.v1 import operations_pb2
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.cli.province import HOME, Province

AMOUNT_FEN = 3650
APPROVED, REVERSED, PENDING = (
    api.TRANSACTION_STATE_APPROVED,
    api.TRANSACTION_STATE_REVERSED,
    api.TRANSACTION_STATE_PENDING,
)


def _request() -> api.DebitRequest:
    return api.DebitRequest(
        request_id=str(uuid.uuid4()),
        order_no=str(uuid.uuid4()),
        amount_fen=AMOUNT_FEN,
        purpose=money.PURPOSE_PHARMACY_PURCHASE,
    )


async def _ready(his: Any) -> None:
    async with asyncio.timeout(30):
        while not (await his.GetTerminal(api.GetTerminalRequest(), wait_for_ready=True)).ready:
            await asyncio.sleep(0.05)


async def _final(his: Any, request: api.DebitRequest) -> api.Transaction:
    """The transaction of the request once its outcome is known."""
    key = api.GetTransactionRequest(request_id=request.request_id)
    async with asyncio.timeout(60):
        while True:
            try:
                row: api.Transaction = (await his.GetTransaction(key, wait_for_ready=True)).transaction
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            else:
                if row.state != PENDING:
                    return row
            await asyncio.sleep(0.1)


async def _entries(province: Province, transaction_id: str) -> list[int]:
    answer = await province.home_core().ListEntries(citycore_pb2.ListEntriesRequest(home_region=HOME))
    return [
        entry.amount_fen
        for entry in answer.entries
        if entry.transaction_id == transaction_id and entry.account.startswith("personal")
    ]


async def _posted(province: Province) -> str:
    """Waits until the remote city has posted a debit; returns its transaction."""
    async with asyncio.timeout(20):
        while True:
            answer = await province.home_core().ListEntries(citycore_pb2.ListEntriesRequest(home_region=HOME))
            for entry in answer.entries:
                if entry.amount_fen == -AMOUNT_FEN and entry.account.startswith("personal"):
                    return entry.transaction_id
            await asyncio.sleep(0.02)


async def _prove(province: Province, row: api.Transaction) -> None:
    """What the HIS is told is what the ledger holds, and the gateway's own books hold."""
    moved = sum(await _entries(province, row.transaction_id))
    assert moved == (-AMOUNT_FEN if row.state == APPROVED else 0)
    assert row.state in {APPROVED, REVERSED, api.TRANSACTION_STATE_DECLINED}
    audit = await province.clearing().Audit(operations_pb2.AuditRequest())
    assert list(audit.findings) == []
    home = operations_pb2.CityBooks(unreachable=True)
    async with asyncio.timeout(20):
        while home.unreachable:  # the gateway's link to a city that has just started comes back in its own time
            books = await province.clearing().GetBooks(operations_pb2.GetBooksRequest())
            home = next(city for city in books.cities if city.region == HOME)
    treatment = next(city for city in books.cities if city.region != HOME and city.claims)
    claim = sum(balance.amount_fen for balance in treatment.claims if balance.account == f"receivable:{HOME}")
    assert abs(claim) == abs(sum(balance.amount_fen for balance in home.payables)) == -moved


async def test_the_daemon_dies_while_the_city_has_posted(province: Province) -> None:
    request = _request()
    async with his_of(province) as his:
        await _ready(his)
        province.lose_answers()
        caller = asyncio.create_task(_call(his, request))
        await _posted(province)
        province.kill("daemon")
        with pytest.raises(grpc.aio.AioRpcError):
            await caller
        province.heal()
        province.start("daemon")
    async with his_of(province) as his:
        row = await _final(his, request)
        assert row.state in {APPROVED, REVERSED}, "asked again while young, or reversed"
        again = (await his.Debit(request, timeout=30)).transaction
        assert (again.transaction_id, again.state) == (row.transaction_id, row.state)
        await _prove(province, row)


async def _call(his: Any, request: api.DebitRequest) -> api.Transaction:
    answer: api.DebitResponse = await his.Debit(request, timeout=60)
    return answer.transaction


async def test_the_gateway_dies_while_the_city_has_posted(province: Province) -> None:
    request = _request()
    async with his_of(province) as his:
        await _ready(his)
        province.lose_answers()
        caller = asyncio.create_task(_call(his, request))
        await _posted(province)
        province.kill("gateway")
        province.heal()
        province.start("gateway")
        told = await caller
        row = await _final(his, request)
        assert told.state in {row.state, PENDING}
        await _prove(province, row)


async def test_the_city_dies_while_it_posts(province: Province) -> None:
    request = _request()
    async with his_of(province) as his:
        await _ready(his)
        province.lose_answers()
        caller = asyncio.create_task(_call(his, request))
        await _posted(province)
        province.kill("city")
        province.heal()
        province.start("city")
        told = await caller
        row = await _final(his, request)
        assert told.state in {row.state, PENDING}
        await _prove(province, row)


async def test_an_approval_that_was_told_survives_every_death(province: Province) -> None:
    request = _request()
    async with his_of(province) as his:
        await _ready(his)
        told = await _call(his, request)
        assert told.state == APPROVED
    for name in ("daemon", "gateway", "city"):
        province.kill(name)
        province.start(name)
    async with his_of(province) as his:
        await _ready(his)
        again = await _call(his, request)
        assert (again.transaction_id, again.state) == (told.transaction_id, APPROVED)
        await _prove(province, again)
