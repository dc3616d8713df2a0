"""What the person at the window sees while something is under way, over the daemon's real socket."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from tests.gateway_world import World, world
from tests.support.terminal_world import Daemon, daemon
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.reasons import Reason
from yikatong.runtime import edge

ENGLISH = (("accept-language", "en"),)


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


def debit(**changes: Any) -> api.DebitRequest:
    known: dict[str, Any] = {
        "request_id": str(uuid.uuid4()),
        "order_no": str(uuid.uuid4()),
        "amount_fen": 3650,
        "purpose": money.PURPOSE_PHARMACY_PURCHASE,
        "wait_ms": 60_000,
    }
    return api.DebitRequest(**{**known, **changes})


def his_of(running: Daemon) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"unix:{running.config.sockets.his}")


async def stage(watching: Any, wanted: int) -> api.StageEvent:
    """The first event of that stage."""
    async with asyncio.timeout(20):
        async for event in watching:
            if event.HasField("stage") and event.stage.stage == wanted:
                told: api.StageEvent = event.stage
                return told
    raise AssertionError("the stream ended")


async def test_a_debit_that_waits_for_the_card_is_pending_and_not_unknown(province: World) -> None:
    async with province.gateway() as port, daemon(province, port) as running, his_of(running) as channel:
        his: Any = TerminalServiceStub(channel)
        watching = his.WatchTerminal(api.WatchTerminalRequest(), metadata=ENGLISH)
        await watching.wait_for_connection()
        request = debit()
        call = his.Debit(request)
        waiting = await stage(watching, api.STAGE_WAITING_FOR_CARD)
        assert (waiting.waiting_for, waiting.order_no) == (api.PARTY_CARD_HOLDER, request.order_no)
        assert waiting.sentence.startswith("Waiting for the cardholder to insert the card for ")
        assert "how long is usual is not known yet" in waiting.sentence
        assert not waiting.HasField("usual_ms")
        late = his.WatchTerminal(api.WatchTerminalRequest())
        present = await stage(late, api.STAGE_WAITING_FOR_CARD)
        assert (present.transaction_id, present.since) == (waiting.transaction_id, waiting.since)
        assert present.sentence.startswith("正在等待持卡人插卡，已 ")
        again = await stage(late, api.STAGE_WAITING_FOR_CARD)  # it lasts, so it is told again
        assert again.elapsed_ms > present.elapsed_ms
        late.cancel()
        by_request = (await his.GetTransaction(api.GetTransactionRequest(request_id=request.request_id))).transaction
        assert (by_request.state, by_request.outcome, by_request.retry, by_request.word) == (
            api.TRANSACTION_STATE_PENDING,
            api.OUTCOME_PENDING,
            api.RETRY_SAME_REQUEST,
            api.WORD_BEING_SETTLED,
        )
        assert "尚未发出扣款" in by_request.message
        for key in ({"order_no": request.order_no}, {"transaction_id": by_request.transaction_id}):
            found = (await his.GetTransaction(api.GetTransactionRequest(**key))).transaction
            assert found.transaction_id == by_request.transaction_id
        call.cancel()
        await stage(watching, api.STAGE_DONE)
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await his.GetTransaction(api.GetTransactionRequest(request_id=request.request_id))
        assert gone.value.code() is grpc.StatusCode.NOT_FOUND, "nothing was recorded: the same request may come again"
        refused = (
            await his.GetTransaction(api.GetTransactionRequest(transaction_id=by_request.transaction_id))
        ).transaction
        assert (refused.state, refused.outcome) == (api.TRANSACTION_STATE_REFUSED, api.OUTCOME_NOT_MOVED)
        watching.cancel()


async def test_a_refusal_names_its_transaction_and_that_has_a_slip(province: World) -> None:
    async with province.gateway() as port, daemon(province, port) as running, his_of(running) as channel:
        his: Any = TerminalServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await his.Debit(debit(wait_ms=0, order_no="RX-1"))
        error = edge.error_of(refused.value)
        assert error is not None
        assert error.reason is Reason.NO_CARD
        answer = await his.GetReceipt(api.GetReceiptRequest(transaction_id=str(error.facts["transaction_id"])))
        for shown in ("未扣款证明", "RX-1", "36.50 元", "NO_CARD", "没有发出", str(error.facts["transaction_id"])):
            assert shown in answer.text
        assert answer.transaction.word == api.WORD_NOT_PAID
