"""Printer and display beside the window, on serial lines, while debits are made over the daemon's real socket."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.gateway_world import BALANCE_FEN, HERE, World, world
from tests.support.terminal_world import Daemon, command, daemon
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.reasons import Reason
from yikatong.core.receipt import columns
from yikatong.runtime import edge
from yikatong.simulators.card import deck
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.customer_display import CustomerDisplay
from yikatong.simulators.reader import SimulatedReader
from yikatong.simulators.receipt_printer import ReceiptPrinter
from yikatong.terminal import config, customer
from yikatong.terminal.stages import Stage

APPROVED = api.TRANSACTION_STATE_APPROVED


@pytest.fixture
async def province() -> AsyncIterator[World]:
    """The deck's card belongs to somebody whom the gateway knows."""
    async with world() as made:
        path, number = made.folder / "seed.json", deck.find("works").data.social_security_number
        seed = json.loads(path.read_text())
        holder = {"social_security_number": number, "home_region": HERE.code}
        seed["persons"].append({**holder, "insured": True})
        seed["accounts"].append({**holder, "balance_fen": BALANCE_FEN})
        path.write_text(json.dumps(seed))
        yield made


@pytest.fixture
def printer(tmp_path: Path) -> Path:
    return tmp_path / "printer0"


def card() -> PretendCard:
    return deck.find("works").make()


def with_card() -> SimulatedReader:
    reader = SimulatedReader()
    reader.insert(card())
    return reader


def debit(**changes: Any) -> api.DebitRequest:
    known: dict[str, Any] = {
        "request_id": str(uuid.uuid4()),
        "order_no": str(uuid.uuid4()),
        "amount_fen": 3650,
        "purpose": money.PURPOSE_PHARMACY_PURCHASE,
    }
    return api.DebitRequest(**{**known, **changes})


def his_of(running: Daemon) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"unix:{running.config.sockets.his}")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def text(slip: list[str]) -> str:
    return "\n".join(slip)


async def test_each_bill_that_is_settled_has_one_slip_and_another_when_asked(province: World, printer: Path) -> None:
    with ReceiptPrinter(printer) as paper:
        settings = config.ReceiptPrinter(str(printer))
        async with (
            province.gateway() as port,
            daemon(province, port, reader=with_card(), receipt_printer=settings) as running,
            his_of(running) as channel,
        ):
            his: Any = TerminalServiceStub(channel)
            request = debit()
            told = (await his.Debit(request, timeout=30)).transaction
            assert told.state == APPROVED
            await until(lambda: len(paper.slips) == 1)
            assert told.transaction_id in text(paper.slips[0])
            assert "36.50 元" in text(paper.slips[0])
            assert (await his.Debit(request, timeout=30)).transaction.state == APPROVED  # the same answer, no new slip
            refund = api.RefundTransactionRequest(
                transaction_id=told.transaction_id, request_id=str(uuid.uuid4()), amount_fen=1_000
            )
            assert (await his.RefundTransaction(refund, timeout=30)).transaction.state == APPROVED
            await until(lambda: len(paper.slips) == 2)
            assert "10.00 元" in text(paper.slips[1])
            status, out, _ = await command("receipt", request.order_no, "--print", "-c", str(running.file))
            assert status == 0
            await until(lambda: len(paper.slips) == 3)
            assert told.transaction_id in out
            assert text(paper.slips[2]) == text(paper.slips[0])


async def test_a_reversal_prints_the_proof_and_a_refusal_nothing(province: World, printer: Path) -> None:
    with ReceiptPrinter(printer) as paper:
        settings = config.ReceiptPrinter(str(printer))
        reader = with_card()
        async with (
            province.gateway() as port,
            daemon(province, port, reader=reader, receipt_printer=settings) as running,
            his_of(running) as channel,
        ):
            his: Any = TerminalServiceStub(channel)
            declined = (await his.Debit(debit(amount_fen=99_999_999), timeout=30)).transaction
            assert declined.state == api.TRANSACTION_STATE_DECLINED
            held = (await his.Debit(debit(confirm_within_ms=60_000), timeout=30)).transaction
            assert held.state == APPROVED
            cancel = api.CancelTransactionRequest(transaction_id=held.transaction_id, request_id=str(uuid.uuid4()))
            undone = (await his.CancelTransaction(cancel, timeout=30)).transaction
            assert undone.state == api.TRANSACTION_STATE_REVERSED
            await until(lambda: len(paper.slips) == 1)
            assert "未扣款证明" in text(paper.slips[0]) or "冲正凭条" in text(paper.slips[0])
            assert held.transaction_id in text(paper.slips[0])


async def test_a_printer_without_paper_stops_no_money_and_is_told(province: World, printer: Path) -> None:
    with ReceiptPrinter(printer, paper=0) as paper:
        settings = config.ReceiptPrinter(str(printer))
        async with (
            province.gateway() as port,
            daemon(province, port, reader=with_card(), receipt_printer=settings) as running,
            his_of(running) as channel,
        ):
            his: Any = TerminalServiceStub(channel)
            told = (await his.Debit(debit(), timeout=30)).transaction
            assert told.state == APPROVED
            asked = api.GetReceiptRequest(transaction_id=told.transaction_id, print=True)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await his.GetReceipt(asked, timeout=30)
            error = edge.error_of(failed.value)
            assert error is not None
            assert error.reason is Reason.PRINTER_OUT_OF_PAPER
            status, out, _ = await command("doctor", "--json", "-c", str(running.file))
            assert status == 1, "money is taken all the same"
            assert '"PRINTER_OUT_OF_PAPER"' in out
            paper.new_roll()
            answer = await his.GetReceipt(asked, timeout=30)
            assert told.transaction_id in answer.text
            assert told.transaction_id in text(paper.slips[-1])


async def test_a_terminal_without_a_printer_says_so(province: World) -> None:
    async with (
        province.gateway() as port,
        daemon(province, port, reader=with_card()) as running,
        his_of(running) as channel,
    ):
        his: Any = TerminalServiceStub(channel)
        told = (await his.Debit(debit(), timeout=30)).transaction
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await his.GetReceipt(api.GetReceiptRequest(transaction_id=told.transaction_id, print=True), timeout=30)
        error = edge.error_of(failed.value)
        assert error is not None
        assert error.reason is Reason.NO_PRINTER


async def test_the_display_follows_the_debit_and_goes_dark(
    province: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customer, "STAYS_S", 0.5)
    name, reader = tmp_path / "display0", SimulatedReader()
    with CustomerDisplay(name) as display:
        async with (
            province.gateway() as port,
            daemon(province, port, reader=reader, customer_display=config.CustomerDisplay(str(name))) as running,
            his_of(running) as channel,
        ):
            his: Any = TerminalServiceStub(channel)
            paying = asyncio.ensure_future(his.Debit(debit(wait_ms=30_000), timeout=60))
            await until(lambda: display.lines == ["扣款 36.50 元", "请插入社会保障卡"])
            reader.insert(card())
            assert (await paying).transaction.state == APPROVED
            await until(lambda: display.lines == ["扣款 36.50 元", "已支付 请取卡"])
            await until(lambda: display.lines == ["", ""])


async def test_a_display_that_is_not_there_stops_nothing(province: World, tmp_path: Path) -> None:
    missing = config.CustomerDisplay(str(tmp_path / "nothing"))
    async with (
        province.gateway() as port,
        daemon(province, port, reader=with_card(), customer_display=missing) as running,
        his_of(running) as channel,
    ):
        his: Any = TerminalServiceStub(channel)
        assert (await his.Debit(debit(), timeout=30)).transaction.state == APPROVED
        status, out, _ = await command("doctor", "--json", "-c", str(running.file))
        assert status == 1
        assert '"NO_CUSTOMER_DISPLAY"' in out


def test_every_stage_fits_on_the_display() -> None:
    assert set(customer.SHORT) == set(Stage) - {Stage.DONE}
    assert all(columns(line) <= 20 for line in customer.SHORT.values())
