"""kill -9 and a power cut with bills open: first screen and HIS hear of each what the ledger says, never more."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from typing import Any

import grpc.aio

from tests.support.his import his_of
from tests.support.terminal_world import command
from yikatong.api.citycore.v1 import citycore_pb2
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.cli.province import FAULT_HOTLINE, HOME, Province

ANOTHER_BOOT = ("env", f"YIKATONG_BOOT_ID={uuid.uuid4().hex}")
SETTLED = {api.WORD_PAID, api.WORD_NOT_PAID, api.WORD_GIVEN_BACK, api.WORD_NOT_GIVEN_BACK}


def _request(fen: int, *, held: bool = False) -> api.DebitRequest:
    return api.DebitRequest(
        request_id=str(uuid.uuid4()),
        order_no=f"RX-{fen}",
        amount_fen=fen,
        purpose=money.PURPOSE_PHARMACY_PURCHASE,
        confirm_within_ms=600_000 if held else 0,
    )


async def _taken_fen(province: Province, transaction_id: str) -> int:
    """What the far city's ledger has taken from, or given back to, the person."""
    answer = await province.home_core().ListEntries(citycore_pb2.ListEntriesRequest(home_region=HOME))
    return -sum(
        entry.amount_fen
        for entry in answer.entries
        if entry.transaction_id == transaction_id and entry.account.startswith("personal")
    )


async def _in_the_ledger(province: Province, fen: int) -> None:
    """Waits until the far city has posted an amount."""
    async with asyncio.timeout(30):
        while True:
            answer = await province.home_core().ListEntries(citycore_pb2.ListEntriesRequest(home_region=HOME))
            if any(entry.amount_fen == fen and entry.account.startswith("personal") for entry in answer.entries):
                return
            await asyncio.sleep(0.02)


async def _recovered(his: Any) -> dict[str, api.Transaction]:
    """What a new watcher hears of the bills that were open, by order number; right after health and card."""
    watching = his.WatchTerminal(api.WatchTerminalRequest())
    kinds, rows = list[str](), dict[str, api.Transaction]()
    listed = (await his.ListTransactions(api.ListTransactionsRequest(recovered_only=True))).transactions
    for _ in range(2 + len(listed)):
        event = await watching.read()
        kinds.append(event.WhichOneof("event"))
        if event.HasField("recovered"):
            row = event.recovered.transaction
            rows[row.order_no + ("" if row.kind == api.TRANSACTION_KIND_DEBIT else " back")] = row
    watching.cancel()
    assert kinds == ["health", "card"] + ["recovered"] * len(listed)
    return rows


async def _screen(province: Province, *more: str) -> dict[str, Any]:
    config = str(province.daemon_config)
    status, out, error = await command("transactions", "--open", "--json", *more, "--config", config)
    assert status == 0, error
    told: dict[str, Any] = json.loads(out)
    return told


async def _settled(province: Province, his: Any, orders: Sequence[str]) -> dict[str, api.Transaction]:
    """The rows once all of them are settled. Whatever is said on the way is what the ledger says."""
    async with asyncio.timeout(90):
        while True:
            rows = await _recovered(his)
            for row in rows.values():
                if row.word in SETTLED:
                    due_fen = {api.WORD_PAID: row.amount_fen, api.WORD_GIVEN_BACK: -row.amount_fen}.get(row.word, 0)
                    assert await _taken_fen(province, row.transaction_id) == due_fen, row
            if all(rows[order].word in SETTLED for order in orders):
                return rows
            await asyncio.sleep(0.2)


async def test_a_debit_a_held_one_and_a_refund_are_open_when_the_daemon_is_killed(province: Province) -> None:
    async with his_of(province) as his:
        paid = (await his.Debit(_request(1000), timeout=30)).transaction
        held = (await his.Debit(_request(2000, held=True), timeout=30)).transaction
        assert (paid.word, held.word) == (api.WORD_PAID, api.WORD_BEING_SETTLED)
        province.lose_answers()
        refund = api.RefundTransactionRequest(
            transaction_id=paid.transaction_id, request_id=str(uuid.uuid4()), amount_fen=400
        )
        calls = [his.RefundTransaction(refund, timeout=60), his.Debit(_request(3000), timeout=60)]
        await asyncio.gather(_in_the_ledger(province, 400), _in_the_ledger(province, -3000))
        province.kill("daemon")
        lost = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, grpc.aio.AioRpcError) for answer in lost)
    province.start("daemon")
    async with his_of(province) as his:
        first = await _recovered(his)
        assert {order: row.word for order, row in first.items()} == dict.fromkeys(
            ("RX-2000", "RX-3000", "RX-1000 back"), api.WORD_BEING_SETTLED
        )
        assert all(row.cardholder_name == "测**" and row.next_step for row in first.values())
        screen = await _screen(province)
        assert {row["order_no"] for row in screen["open"]} == {"RX-1000", "RX-2000", "RX-3000"}
        assert screen["settled_since_start"] == []
        status, text, _ = await command("transactions", "--open", "--config", str(province.daemon_config))
        assert status == 0
        for shown in (
            "未决交易 3 笔 / Open transactions: 3", "核实中 BEING SETTLED　20.00 元　单据 Order RX-2000",
            "姓名 Name 测**", "最迟确认 Confirm by", "→ 请在收费系统中完成该笔记账", "→ Finish the booking in the HIS",
            "退费 Refund 4.00 元", f"yikatong receipt {held.transaction_id}", FAULT_HOTLINE,
        ):  # fmt: skip
            assert shown in text
        assert "PAID" not in text
        province.heal()
        confirm = api.ConfirmTransactionRequest(transaction_id=held.transaction_id)
        assert (await his.ConfirmTransaction(confirm)).transaction.word == api.WORD_PAID
        rows = await _settled(province, his, ["RX-3000", "RX-1000 back"])
        assert "RX-2000" not in rows, "its caller has heard"
        assert rows["RX-1000 back"].word == api.WORD_GIVEN_BACK
        assert await _taken_fen(province, held.transaction_id) == 2000
        screen = await _screen(province)
        assert screen["open"] == []
        assert {row["transaction_id"] for row in screen["settled_since_start"]} == {
            row.transaction_id for row in rows.values()
        }
        status, text, _ = await command("transactions", "--open", "--config", str(province.daemon_config))
        assert "没有未决交易" in text or "No open transactions" in text
        assert "Settled since the start: 2" in text
        assert "已退回 GIVEN BACK　退费 Refund 4.00 元" in text
        await his.GetTransaction(api.GetTransactionRequest(transaction_id=rows["RX-3000"].transaction_id))
        assert list(await _recovered(his)) == ["RX-1000 back"], "what somebody has asked for is no news any more"


async def test_a_reversal_and_a_confirmed_debit_are_open_when_the_power_is_cut(province: Province) -> None:
    async with his_of(province) as his:
        held = (await his.Debit(_request(2000, held=True), timeout=30)).transaction
        province.lose_answers()
        confirm = api.ConfirmTransactionRequest(transaction_id=held.transaction_id)
        assert (await his.ConfirmTransaction(confirm)).transaction.word == api.WORD_PAID
        doomed = (await his.Debit(_request(3000), timeout=4)).transaction
        assert (doomed.word, doomed.resolves_to) == (api.WORD_BEING_SETTLED, api.TRANSACTION_STATE_REVERSED)
        province.kill("daemon")
    province.start("daemon", under=ANOTHER_BOOT)
    async with his_of(province) as his:
        first = await _recovered(his)
        assert {order: row.word for order, row in first.items()} == {
            "RX-2000": api.WORD_PAID,
            "RX-3000": api.WORD_BEING_SETTLED,
        }
        assert first["RX-3000"].resolves_to == api.TRANSACTION_STATE_REVERSED
        assert "可改收现金" in first["RX-3000"].next_step
        screen = await _screen(province)
        assert [row["order_no"] for row in screen["open"]] == ["RX-3000"]
        assert [row["word"] for row in screen["settled_since_start"]] == ["WORD_PAID"]
        slips = (await _screen(province, "--slips"))["slips"]
        assert list(slips) == [doomed.transaction_id]
        assert "冲正通知：本笔最终不扣款" in slips[doomed.transaction_id]
        province.heal()
        rows = await _settled(province, his, ["RX-2000", "RX-3000"])
        assert (rows["RX-2000"].word, rows["RX-3000"].word) == (api.WORD_PAID, api.WORD_NOT_PAID)
        config = str(province.daemon_config)
        _, text, _ = await command("transactions", "--open", "--slips", "--config", config)
        for shown in ("未支付 NOT PAID", "冲正凭条（未扣款）", f"冲正参考号 Proof: {rows['RX-3000'].reference}"):
            assert shown in text


async def test_a_debit_that_waited_for_its_confirmation_is_not_paid_after_a_power_cut(province: Province) -> None:
    async with his_of(province) as his:
        held = (await his.Debit(_request(2000, held=True), timeout=30)).transaction
        assert await _taken_fen(province, held.transaction_id) == 2000
        province.kill("daemon")
    province.start("daemon", under=ANOTHER_BOOT)
    async with his_of(province) as his:
        rows = await _settled(province, his, ["RX-2000"])
        assert (rows["RX-2000"].word, rows["RX-2000"].reason) == (api.WORD_NOT_PAID, "NOT_CONFIRMED_IN_TIME")
        assert await _taken_fen(province, held.transaction_id) == 0
        province.kill("daemon")
    province.start("daemon")
    async with his_of(province) as his:  # the power has failed twice, and nobody has heard yet
        rows = await _recovered(his)
        assert (rows["RX-2000"].word, rows["RX-2000"].transaction_id) == (api.WORD_NOT_PAID, held.transaction_id)
