"""What a person reads while a far city is silent, from real processes: who, since when, what is usual, what will be."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.cli.province import Province

ENGLISH = (("accept-language", "en"),)


@pytest.fixture
def province(tmp_path: Path) -> Iterator[Province]:
    with Province(tmp_path, card="works", in_process=True, pin_keypad=False) as made:
        yield made


def _request() -> api.DebitRequest:
    return api.DebitRequest(
        request_id=str(uuid.uuid4()),
        order_no=str(uuid.uuid4()),
        amount_fen=100,
        purpose=money.PURPOSE_PHARMACY_PURCHASE,
    )


async def _until(watching: Any, wanted: int) -> api.StageEvent:
    async with asyncio.timeout(30):
        async for event in watching:
            if event.HasField("stage") and event.stage.stage == wanted:
                told: api.StageEvent = event.stage
                return told
    raise AssertionError("the stream ended")


async def test_the_city_is_named_with_what_is_usual_also_after_a_restart(province: Province) -> None:
    async with grpc.aio.insecure_channel(f"unix:{province.his_socket}") as channel:
        his: Any = TerminalServiceStub(channel)
        for _ in range(5):
            paid = (await his.Debit(_request(), timeout=30)).transaction
            assert paid.state == api.TRANSACTION_STATE_APPROVED
    province.stop("daemon")
    province.start("daemon")
    async with grpc.aio.insecure_channel(f"unix:{province.his_socket}") as channel:
        his = TerminalServiceStub(channel)
        chinese, english = (
            his.WatchTerminal(api.WatchTerminalRequest()),
            his.WatchTerminal(api.WatchTerminalRequest(), metadata=ENGLISH),
        )
        await asyncio.gather(chinese.wait_for_connection(), english.wait_for_connection())
        province.lose_answers()
        request = _request()
        call = his.Debit(request, timeout=9)
        asking = await _until(chinese, api.STAGE_ASKING_CITY)
        assert (asking.waiting_for, asking.party_name) == (api.PARTY_HOME_CITY, "参保地威海")
        assert asking.usual_of == 5
        assert 0 < asking.usual_ms <= asking.usual_at_most_ms < 20_000
        assert "正在等待参保地威海答复，已 0 秒，通常 " in asking.sentence
        assert (asking.request_id, asking.order_no) == (request.request_id, request.order_no)
        assert asking.transaction_id
        again = await _until(chinese, api.STAGE_ASKING_CITY)
        assert (again.since, again.transaction_id) == (asking.since, asking.transaction_id)
        assert again.elapsed_ms > asking.elapsed_ms
        assert "the home city Weihai" in (await _until(english, api.STAGE_ASKING_CITY)).sentence
        reversing = await _until(chinese, api.STAGE_REVERSING)
        assert reversing.resolves_to == api.TRANSACTION_STATE_REVERSED
        assert reversing.sentence.endswith("通常用时尚不清楚；本笔最终不扣款，可改收现金。")
        assert reversing.transaction_id == asking.transaction_id
        told = (await call).transaction
        assert told.resolves_to == api.TRANSACTION_STATE_REVERSED
        late = his.WatchTerminal(api.WatchTerminalRequest())
        kinds = []
        while not (event := await late.read()).HasField("stage"):
            kinds.append(event.WhichOneof("event"))
        assert set(kinds) <= {"health", "card", "recovered"}, "what is the case now comes before what happens"
        assert event.stage.transaction_id == asking.transaction_id
        province.heal()
        done = await _until(chinese, api.STAGE_DONE)
        assert (done.transaction_id, done.sentence) == (asking.transaction_id, "")
        for watching in (chinese, english, late):
            watching.cancel()


async def test_a_refund_that_is_on_its_way_is_a_stage_too(province: Province) -> None:
    async with grpc.aio.insecure_channel(f"unix:{province.his_socket}") as channel:
        his: Any = TerminalServiceStub(channel)
        paid = (await his.Debit(_request(), timeout=30)).transaction
        watching = his.WatchTerminal(api.WatchTerminalRequest())
        await watching.wait_for_connection()
        province.lose_answers()
        refund = api.RefundTransactionRequest(
            transaction_id=paid.transaction_id, request_id=str(uuid.uuid4()), amount_fen=40
        )
        call = his.RefundTransaction(refund, timeout=60)
        giving = await _until(watching, api.STAGE_GIVING_BACK)
        assert (giving.request_id, giving.party_name) == (refund.request_id, "参保地威海")
        assert giving.transaction_id != paid.transaction_id
        assert "请勿另付现金" in giving.prompt
        assert giving.resolves_to == api.TRANSACTION_STATE_UNSPECIFIED
        province.heal()
        assert (await _until(watching, api.STAGE_DONE)).transaction_id == giving.transaction_id
        assert (await call).transaction.word in {api.WORD_GIVEN_BACK, api.WORD_BEING_SETTLED}
        watching.cancel()


async def test_without_the_gateway_it_is_the_gateway_that_we_wait_for(province: Province) -> None:
    async with grpc.aio.insecure_channel(f"unix:{province.his_socket}") as channel:
        his: Any = TerminalServiceStub(channel)
        watching = his.WatchTerminal(api.WatchTerminalRequest(), metadata=ENGLISH)
        await watching.wait_for_connection()
        province.lose_answers()
        call = his.Debit(_request(), timeout=60)
        assert (await _until(watching, api.STAGE_ASKING_CITY)).waiting_for == api.PARTY_HOME_CITY
        province.kill("gateway")
        async with asyncio.timeout(30):
            while (told := await _until(watching, api.STAGE_ASKING_CITY)).waiting_for != api.PARTY_GATEWAY:
                pass
        assert told.party_name == "the gateway"
        while told.attempts < 2:
            told = await _until(watching, api.STAGE_ASKING_CITY)
        assert f"asked {told.attempts} times" in told.sentence
        call.cancel()
        watching.cancel()
