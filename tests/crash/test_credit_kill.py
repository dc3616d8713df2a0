"""kill -9 in the middle of a credit, real processes, sockets and files: decided once, told alike, books equal."""

from __future__ import annotations

import asyncio
import json
import os
import sys
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

DEBIT_FEN, REFUND_FEN = 3650, 1250
APPROVED, PENDING, DECLINED = (
    api.TRANSACTION_STATE_APPROVED,
    api.TRANSACTION_STATE_PENDING,
    api.TRANSACTION_STATE_DECLINED,
)


async def _ready(his: Any) -> None:
    async with asyncio.timeout(30):
        while not (await his.GetTerminal(api.GetTerminalRequest(), wait_for_ready=True)).ready:
            await asyncio.sleep(0.05)


async def _paid(his: Any) -> api.Transaction:
    await _ready(his)
    request = api.DebitRequest(
        request_id=str(uuid.uuid4()),
        order_no=str(uuid.uuid4()),
        amount_fen=DEBIT_FEN,
        purpose=money.PURPOSE_PHARMACY_PURCHASE,
    )
    told: api.Transaction = (await his.Debit(request, timeout=60)).transaction
    assert told.state == APPROVED
    return told


def _refund(debit: api.Transaction, fen: int = REFUND_FEN) -> api.RefundTransactionRequest:
    return api.RefundTransactionRequest(
        transaction_id=debit.transaction_id, request_id=str(uuid.uuid4()), amount_fen=fen
    )


async def _final(his: Any, request: api.RefundTransactionRequest) -> api.Transaction:
    """Asked for again and again with one request id, as a HIS does, until it is decided."""
    async with asyncio.timeout(60):
        while True:
            try:
                row: api.Transaction = (
                    await his.RefundTransaction(request, timeout=5, wait_for_ready=True)
                ).transaction
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            else:
                if row.state != PENDING:
                    return row
            await asyncio.sleep(0.1)


async def _entries(province: Province) -> list[Any]:
    answer = await province.home_core().ListEntries(citycore_pb2.ListEntriesRequest(home_region=HOME))
    return [entry for entry in answer.entries if entry.account.startswith("personal")]


async def _credited(province: Province) -> None:
    """Waits until the remote city has posted a credit."""
    async with asyncio.timeout(20):
        while not any(entry.amount_fen == REFUND_FEN for entry in await _entries(province)):
            await asyncio.sleep(0.02)


async def _prove(province: Province, *, owed_fen: int) -> None:
    """Both ledgers agree, and the audit has no finding."""
    assert list((await province.clearing().Audit(operations_pb2.AuditRequest())).findings) == []
    home = operations_pb2.CityBooks(unreachable=True)
    async with asyncio.timeout(20):
        while home.unreachable:
            books = await province.clearing().GetBooks(operations_pb2.GetBooksRequest())
            home = next(city for city in books.cities if city.region == HOME)
    treatment = next(city for city in books.cities if city.region != HOME and city.claims)
    claim = sum(balance.amount_fen for balance in treatment.claims if balance.account == f"receivable:{HOME}")
    assert (claim, sum(balance.amount_fen for balance in home.payables)) == (owed_fen, owed_fen)


async def _call(his: Any, request: api.RefundTransactionRequest) -> api.Transaction:
    answer: api.RefundTransactionResponse = await his.RefundTransaction(request, timeout=60)
    return answer.transaction


@pytest.mark.parametrize("dies", ["daemon", "gateway", "city"])
async def test_whoever_dies_while_the_city_has_credited_it_is_credited_once(province: Province, dies: str) -> None:
    async with his_of(province) as his:
        debit = await _paid(his)
        request = _refund(debit)
        province.lose_answers()
        caller = asyncio.create_task(_call(his, request))
        await _credited(province)
        province.kill(dies)
        province.heal()
        province.start(dies)
        (told,) = await asyncio.gather(caller, return_exceptions=True)
        if dies == "daemon":
            assert isinstance(told, grpc.aio.AioRpcError)
        else:
            assert isinstance(told, api.Transaction)
            assert told.state in {APPROVED, PENDING}
    async with his_of(province) as his:
        await _ready(his)
        row = await _final(his, request)
        assert (row.state, row.amount_fen, row.refundable_fen) == (APPROVED, REFUND_FEN, DEBIT_FEN - REFUND_FEN)
        assert row.kind == api.TRANSACTION_KIND_REFUND
        found = await his.GetTransaction(api.GetTransactionRequest(transaction_id=debit.transaction_id))
        assert found.transaction.refundable_fen == DEBIT_FEN - REFUND_FEN
        assert [credit.transaction_id for credit in found.credits] == [row.transaction_id]
    given = [entry for entry in await _entries(province) if entry.amount_fen == REFUND_FEN]
    assert [entry.transaction_id for entry in given] == [row.transaction_id]
    await _prove(province, owed_fen=DEBIT_FEN - REFUND_FEN)


async def test_a_credit_that_was_begun_while_everybody_is_dead_is_decided_once(province: Province) -> None:
    """Daemon dies after its record, then the gateway: whatever was on its way comes to one end."""
    async with his_of(province) as his:
        request = _refund(await _paid(his))
        province.lose_answers()
        caller = asyncio.create_task(_call(his, request))
        await _credited(province)
        for name in ("daemon", "gateway", "city"):
            province.kill(name)
        (told,) = await asyncio.gather(caller, return_exceptions=True)
        assert isinstance(told, grpc.aio.AioRpcError)
        province.heal()
        for name in ("city", "gateway", "daemon"):
            province.start(name)
    async with his_of(province) as his:
        await _ready(his)
        row = await _final(his, request)
        assert row.state == APPROVED
        other = request.__class__()
        other.CopyFrom(request)
        other.amount_fen += 1
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await his.RefundTransaction(other)
        assert error.value.code() is grpc.StatusCode.ALREADY_EXISTS
    given = [entry.transaction_id for entry in await _entries(province) if entry.amount_fen == REFUND_FEN]
    assert given == [row.transaction_id]
    await _prove(province, owed_fen=DEBIT_FEN - REFUND_FEN)


async def _command(province: Province, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "yikatong.cli.main", *arguments, "--config", str(province.daemon_config),
        env={**os.environ, "LANG": "C.UTF-8", "NO_COLOR": "1"}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_a_person_cancels_and_refunds_at_the_window(province: Province) -> None:
    async with his_of(province) as his:
        first, second = await _paid(his), await _paid(his)
        status, text = await _command(province, "refund", first.transaction_id, "12.50")
        assert status == 0, text
        for part in ("退费凭条 / Refund", "12.50 元", "24.00 元", "已退回 / Credited"):
            assert part in text, part
        status, text = await _command(province, "cancel", first.transaction_id, "--json")
        assert status == 1
        assert json.loads(text)["reason"] == "NOT_CANCELLABLE"
        status, text = await _command(province, "cancel", second.transaction_id)
        assert status == 0, text
        assert "撤销凭条 / Cancellation" in text
        status, text = await _command(province, "refund", first.transaction_id, "36.51")
        assert status == 1
        status, text = await _command(province, "refund", first.transaction_id, "1,5")
        assert status == 2
        status, text = await _command(province, "transactions", "--lang", "en")
        assert [text.count(word) for word in ("CANCELLATION: given back", "REFUND: given back", "PAID")] == [1, 1, 2]
        listed = (await his.ListTransactions(api.ListTransactionsRequest())).transactions
        assert [(row.kind, row.state, row.refundable_fen) for row in listed] == [
            (api.TRANSACTION_KIND_CANCELLATION, APPROVED, 0),
            (api.TRANSACTION_KIND_CANCELLATION, DECLINED, 0),
            (api.TRANSACTION_KIND_REFUND, APPROVED, 2400),
            (api.TRANSACTION_KIND_DEBIT, APPROVED, 0),
            (api.TRANSACTION_KIND_DEBIT, APPROVED, 2400),
        ]
        assert {row.original_transaction_id for row in listed[:3]} == {first.transaction_id, second.transaction_id}
    await _prove(province, owed_fen=2400)
