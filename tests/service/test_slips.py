"""What is printed of a debit that took nothing, from real processes: its proof is the one in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.support.terminal_world import command
from yikatong.api.citycore.v1 import citycore_pb2
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.cli.province import FAULT_HOTLINE, HOME, POLICY_HOTLINE, Province

AMOUNT_FEN = 3650


@pytest.fixture
def province(tmp_path: Path) -> Iterator[Province]:
    cards = ["insufficient-balance"]
    with Province(tmp_path, card="works", in_process=True, pin_keypad=False, more_cards=cards) as made:
        yield made


def _request() -> api.DebitRequest:
    return api.DebitRequest(
        request_id=str(uuid.uuid4()),
        order_no=f"RX-{uuid.uuid4().hex[:8]}",
        amount_fen=AMOUNT_FEN,
        purpose=money.PURPOSE_PHARMACY_PURCHASE,
    )


async def _slip(province: Province, daemon: str, key: str) -> str:
    """As the window's command prints it."""
    status, out, error = await command("receipt", key, "--config", str(province.folder / f"{daemon}.toml"))
    assert status == 0, error
    return out


async def test_a_decline_has_a_slip_with_the_home_city(province: Province) -> None:
    async with grpc.aio.insecure_channel(f"unix:{province.his_socket_of('daemon-2')}") as channel:
        his: Any = TerminalServiceStub(channel)
        request = _request()
        told = (await his.Debit(request, timeout=30)).transaction
    assert (told.state, told.reason) == (api.TRANSACTION_STATE_DECLINED, "INSUFFICIENT_BALANCE")
    assert (told.home_region, told.home_city) == (HOME, "威海")
    by_id = await _slip(province, "daemon-2", told.transaction_id)
    for shown in (
        "未扣款证明", told.transaction_id, request.order_no, "36.50 元", "未扣款 / No money was taken",
        "参保地 Home city: 威海 Weihai (371000)", "INSUFFICIENT_BALANCE", "个人账户余额不足。", "已记为拒绝",
        POLICY_HOTLINE, FAULT_HOTLINE,
    ):  # fmt: skip
        assert shown in by_id
    assert await _slip(province, "daemon-2", request.order_no) == by_id
    assert await _slip(province, "daemon-2", request.request_id) == by_id
    config = str(province.folder / "daemon-2.toml")
    status, out, _ = await command("receipt", told.transaction_id, "--json", "--config", config)
    assert (status, json.loads(out)["transaction"]["word"]) == (0, "WORD_NOT_PAID")
    status, out, error = await command("receipt", "RX-nobody", "--config", config)
    assert (status, out) == (1, "")
    assert "TRANSACTION_NOT_FOUND" in error


async def _on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Runs the command with standard error on a terminal; exit status and what a person reads there."""
    master, slave = os.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "yikatong.cli.main", *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=slave
    )
    os.close(slave)
    return await process.wait(), _read(master)


def _read(terminal: int) -> str:
    """What was written to the other end, which is closed."""
    seen = b""
    with contextlib.suppress(OSError):  # EIO: nobody writes any more
        while part := os.read(terminal, 4096):
            seen += part
    os.close(terminal)
    return seen.decode()


async def test_who_pays_at_a_terminal_sees_what_goes_on(province: Province) -> None:
    config = str(province.daemon_config)
    status, seen = await _on_a_terminal("pay", "1.00", "--config", config, "--lang", "zh")
    assert status == 0
    assert [line.strip() for line in seen.splitlines()] == [
        "› 请插入社会保障卡。",
        "› 正在读卡，请勿取出。",
        "› 正在向参保地扣款，请稍候。",
        "› 交易结束，请取卡。",
    ]
    status, out, error = await command("pay", "1.00", "--order", "RX-1", "--config", config)
    assert (status, error) == (0, ""), "nobody looks on"
    status, _, error = await command("pay", "1.00", "--order", "RX-1", "--config", config)
    paid = (await _slip(province, "daemon", "RX-1")).partition("交易号 Transaction:")[2].split()[0]
    assert status == 1
    assert f"slip: yikatong receipt {paid}" in error, "the order is paid: here is its receipt"
    assert paid in out


async def test_a_reversal_s_slip_says_what_will_be_and_then_what_the_ledger_proves(province: Province) -> None:
    async with grpc.aio.insecure_channel(f"unix:{province.his_socket}") as channel:
        his: Any = TerminalServiceStub(channel)
        province.lose_answers()
        told = (await his.Debit(_request(), timeout=4)).transaction
        assert (told.state, told.resolves_to) == (api.TRANSACTION_STATE_PENDING, api.TRANSACTION_STATE_REVERSED)
        notice = await _slip(province, "daemon", told.transaction_id)
        for shown in ("冲正通知：本笔最终不扣款", "正在冲正 / Being reversed", "可改收现金", told.transaction_id):
            assert shown in notice
        assert "冲正参考号" not in notice
        province.heal()
        key = api.GetTransactionRequest(transaction_id=told.transaction_id)
        async with asyncio.timeout(60):
            while (row := (await his.GetTransaction(key)).transaction).state == api.TRANSACTION_STATE_PENDING:
                await asyncio.sleep(0.1)
    assert row.state == api.TRANSACTION_STATE_REVERSED
    entries = (await province.home_core().ListEntries(citycore_pb2.ListEntriesRequest(home_region=HOME))).entries
    of_it = [entry for entry in entries if entry.transaction_id == told.transaction_id]
    assert sum(entry.amount_fen for entry in of_it if entry.account.startswith("personal")) == 0
    assert row.reference == f"{HOME}-{of_it[-1].entry}", "the last entry is the one that undoes it"
    slip = await _slip(province, "daemon", told.transaction_id)
    for shown in ("冲正凭条", "未扣款 / No money was taken", f"冲正参考号 Proof: {row.reference}", told.transaction_id):
        assert shown in slip
