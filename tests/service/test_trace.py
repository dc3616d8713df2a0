"""`TraceApdus` and `yikatong trace` against a running daemon: who watches sees what passes, and nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.gateway_world import World, world
from tests.support.pcscd import clear, private_pcscd
from tests.support.personal import forms, found_in, pin_of, secrets_of
from tests.support.terminal_world import Daemon, command, daemon
from yikatong.api.diagnostics.v1 import diagnostics_pb2 as api
from yikatong.api.diagnostics.v1.diagnostics_pb2_grpc import DiagnosticsServiceStub
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as his_api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.reasons import Reason
from yikatong.drivers.pcsc import PcscReader
from yikatong.drivers.trace.trace import BACKLOG_MAX, WATCHERS_MAX
from yikatong.runtime import edge
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import find
from yikatong.simulators.customer_display import CustomerDisplay as DisplayDevice
from yikatong.simulators.pcscd import PrivatePcscd
from yikatong.simulators.pinpad import PinPad, types
from yikatong.simulators.reader import SimulatedReader
from yikatong.simulators.receipt_printer import ReceiptPrinter as PrinterDevice
from yikatong.simulators.vpcd import VirtualSlot
from yikatong.terminal.config import CustomerDisplay, PinKeypad, ReceiptPrinter

pytestmark = pytest.mark.timeout(90)

TYPED = "8642097531864209"
EVENTS_OF_A_READ = 13
"""Power-on and twelve commands."""


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


@pytest.fixture(scope="module")
def pcscd() -> Iterator[tuple[PrivatePcscd, VirtualSlot]]:
    with private_pcscd() as running:
        yield running


@contextlib.asynccontextmanager
async def his(terminal: Daemon) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"unix:{terminal.config.sockets.his}") as channel:
        yield TerminalServiceStub(channel)


@contextlib.asynccontextmanager
async def tracing(terminal: Daemon, *arguments: str) -> AsyncIterator[Process]:
    """`yikatong trace` as a process; it has begun, and ends by Ctrl-C where it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "yikatong.cli.main", "trace", "-c", str(terminal.file), *arguments),
        env={**os.environ, "LANG": "C.UTF-8", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stopped(process: Process, by: signal.Signals = signal.SIGINT) -> tuple[int | None, str, str]:
    process.send_signal(by)
    out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()


async def begun(terminal: Daemon, *, record: bool = False) -> Any:
    call = terminal.diagnostics.TraceApdus(api.TraceApdusRequest(record=record))
    first = await call.read()
    assert first.WhichOneof("event") == "begun"
    assert first.begun.version == terminal.terminal.version
    assert first.begun.record is record
    return call


async def take(call: Any, count: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await call.read() for _ in range(count)]


async def test_a_debit_with_a_pin_is_watched_and_nobody_is_seen(province: World) -> None:
    chosen, pad = find("works"), province.folder / "pad"
    reader = SimulatedReader()
    reader.insert(SimulatedCard(chosen.data, pin=TYPED))
    with PinPad(pad, [types(TYPED)]):
        async with (
            province.gateway() as port,
            daemon(province, port, reader=reader, pin_keypad=PinKeypad(str(pad))) as terminal,
            his(terminal) as window,
        ):
            live, recorded = await begun(terminal), await begun(terminal, record=True)
            request = his_api.DebitRequest(
                request_id="r1", order_no="o1", amount_fen=1, purpose=money.PURPOSE_PHARMACY_PURCHASE, wait_ms=1
            )
            with contextlib.suppress(grpc.aio.AioRpcError):
                await window.Debit(request, timeout=30)
            # read; keys on and off; asked again (2), VERIFY; asked again before money is asked for (2)
            told = [await take(call, EVENTS_OF_A_READ + 2 + 2 + 1 + 2) for call in (live, recorded)]
    frames = [message.text_en for message in told[0] if message.HasField("frame")]
    assert frames == ["keys on (no key is traced), asks for the PIN", "keys off"]
    hidden = [message.exchange for message in told[0] if message.exchange.hidden]
    assert [(one.header.hex(), one.status.hex(), one.command_length) for one in hidden] == [("00200000", "9000", 0)]
    number = next(message for message in told[0] if "社会保障号码" in message.text_zh)
    assert number.text_zh == "读记录 持卡人文件 EF06 第 1 条：社会保障号码 9900**********0017 → 成功"
    assert all(not message.exchange.command and not message.exchange.answer for message in told[0])
    assert any(message.exchange.answer for message in told[1])
    secrets = secrets_of(chosen.data) | pin_of(TYPED)
    said = [piece for messages in told for message in messages for piece in _pieces(message)]
    assert found_in(said, secrets) == set()
    assert found_in([f"{message}".encode() for message in told[0]], {"masked": forms("9900**********0017")}) != set()


async def test_printer_and_display_are_watched_and_what_they_show_is_not_told(province: World) -> None:
    paper, lines = province.folder / "printer", province.folder / "display"
    with PrinterDevice(paper), DisplayDevice(lines):
        configured = {"receipt_printer": ReceiptPrinter(str(paper)), "customer_display": CustomerDisplay(str(lines))}
        async with (
            province.gateway() as port,
            daemon(province, port, **configured) as terminal,
            his(terminal) as window,
        ):
            call = await begun(terminal)
            await terminal.diagnostics.GetHealth(api.GetHealthRequest())
            request = his_api.DebitRequest(
                request_id="r1", order_no="o1", amount_fen=1, purpose=money.PURPOSE_PHARMACY_PURCHASE, wait_ms=1
            )
            with pytest.raises(grpc.aio.AioRpcError):
                await window.Debit(request, timeout=30)
            told: set[tuple[str, str]] = set()
            expected = {(str(paper), "asks for its state"), (str(paper), "well"), (str(lines), "two lines (not shown)")}
            while not expected <= told:
                (message,) = await take(call, 1)
                told.add((message.device, message.text_en))
    assert not any("请插入" in what for _, what in told)


def _pieces(message: Any) -> list[bytes]:
    exchange = message.exchange
    carried = [exchange.command, exchange.answer, message.card.atr, exchange.header]
    return [message.SerializeToString(), message.text_zh.encode(), message.text_en.encode(), *carried]


async def test_who_does_not_read_holds_nobody_up_and_hears_how_much_was_missed(province: World) -> None:
    reader, reads = SimulatedReader(), 400
    reader.insert(find("works").make())
    async with (
        province.gateway() as port,
        daemon(province, port, reader=reader) as terminal,
        his(terminal) as window,
        contextlib.AsyncExitStack() as stack,
    ):
        quick = await begun(terminal)
        lazy = await begun(replace(terminal, diagnostics=await stack.enter_async_context(_narrow(terminal))))
        for _ in range(reads):
            await window.ReadCard(his_api.ReadCardRequest())
            assert not any(message.missed for message in await take(quick, EVENTS_OF_A_READ))
        seen = missed = 0
        while seen + missed < reads * EVENTS_OF_A_READ:
            (message,) = await take(lazy, 1)
            seen, missed = seen + (message.WhichOneof("event") != "missed"), missed + message.missed
        assert seen + missed == reads * EVENTS_OF_A_READ
        assert missed > 0
        assert seen >= BACKLOG_MAX


@contextlib.asynccontextmanager
async def _narrow(terminal: Daemon) -> AsyncIterator[Any]:
    """A caller who takes no more in advance than it must."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
    async with grpc.aio.insecure_channel(f"unix:{terminal.config.sockets.technician}", options=options) as channel:
        yield DiagnosticsServiceStub(channel)


async def test_nobody_watches_once_all_have_left_and_too_many_are_refused(province: World) -> None:
    async with province.gateway() as port, daemon(province, port) as terminal:
        calls = [await begun(terminal) for _ in range(WATCHERS_MAX)]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await terminal.diagnostics.TraceApdus(api.TraceApdusRequest()).read()
        error = edge.error_of(refused.value)
        assert error is not None
        assert error.reason is Reason.DEVICE_BUSY
        for call in calls:
            call.cancel()
        async with asyncio.timeout(10):
            while True:  # until the daemon has seen them leave
                with contextlib.suppress(grpc.aio.AioRpcError):
                    (await begun(terminal)).cancel()
                    break


async def test_the_command_shows_and_ends_by_ctrl_c(province: World) -> None:
    reader = SimulatedReader()
    reader.insert(find("works").make())
    async with province.gateway() as port, daemon(province, port, reader=reader) as terminal, his(terminal) as window:
        async with tracing(terminal, "--lang", "zh") as process:
            await window.ReadCard(his_api.ReadCardRequest())
            status, out, error = await _after(process, "姓名 测**", stop=signal.SIGINT)
        assert (status, error) == (0, "")
        assert "00B20704  读记录 发卡文件 EF05 第 7 条：卡号 T*****01X → 成功 [9000]" in out
        async with tracing(terminal, "--json") as process:
            await window.ReadCard(his_api.ReadCardRequest())
            status, out, _ = await _after(process, "姓名 测**", stop=signal.SIGTERM)
        assert status == 0
        exchanges = [line for line in map(json.loads, out.splitlines()) if line["event"] == "exchange"]
        assert exchanges[0] | {"at_ms": 0, "took_ms": 0} == {
            "event": "exchange",
            "device": "simulated",
            "at_ms": 0,
            "took_ms": 0,
            "zh": "选择 社会保障系统环境 SSSE → 还有 30 字节待取",
            "en": "select the social security environment SSSE → 30 bytes are waiting",
            "header": "00A40400",
            "command_length": 15,
            "answer_length": 0,
            "status": "611E",
        }


async def _after(process: Process, awaited: str, *, stop: signal.Signals) -> tuple[int | None, str, str]:
    """Stops it once it has shown what is awaited."""
    assert process.stdout is not None
    shown = ""
    async with asyncio.timeout(20):
        while awaited not in shown:
            shown += (await process.stdout.readline()).decode()
    status, out, error = await stopped(process, stop)
    return status, shown + out, error


async def test_recorded_over_pcscd_and_played_to_the_same_daemon(
    province: World, pcscd: tuple[PrivatePcscd, VirtualSlot]
) -> None:
    running, slot = pcscd
    file, data = province.folder / "recording", find("works").data
    reader = PcscReader(running.reader_name)
    async with (
        province.gateway() as port,
        daemon(province, port, reader=reader, his_may_read_identity=True) as terminal,
        his(terminal) as window,
    ):
        async with tracing(terminal, "--record", str(file), "--lang", "en") as process:
            slot.insert(find("works").make())
            real = (await window.ReadCard(his_api.ReadCardRequest(full=True, wait_ms=10_000))).card
            status, out, _ = await _after(process, "name extension", stop=signal.SIGINT)
        assert status == 0
        assert "1 cards recorded" in out
        assert "The persons in it are invented." in out
        assert found_in([file.read_bytes(), out.encode()], secrets_of(data)) == set()
        assert found_in([f"{real}".encode()], secrets_of(data)) >= {"social security number", "card number"}
        await asyncio.to_thread(clear, running, slot)

        again = province.folder / "again"
        async with tracing(terminal, "--record", str(again)) as process:
            player = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "yikatong.cli.main", "simulate", "card", "--lang", "en"),
                *("--replay", str(file), "--port", str(running.port)),
                stdout=PIPE,
                stderr=PIPE,
            )
            played = (await window.ReadCard(his_api.ReadCardRequest(full=True, wait_ms=20_000))).card
            await _after(process, "name extension", stop=signal.SIGINT)
            player.send_signal(signal.SIGINT)
            player_out, player_error = await player.communicate()
        assert (player.returncode, player_error) == (0, b"")
        assert "card 1 of 1 recorded is in" in player_out.decode()
        await asyncio.to_thread(clear, running, slot)
    assert played.spec_version == real.spec_version
    assert played.social_security_number.startswith("990001")
    for field in ("card_number", "social_security_number", "name"):
        assert getattr(played, field) not in {"", getattr(real, field)}
    assert _commands(again) == _commands(file)
    assert len(_commands(file)) == EVENTS_OF_A_READ - 1


def _commands(file: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert lines[0]["identity"] == "invented"
    return [(line["command"], line["status"]) for line in lines if line["event"] == "exchange"]


async def test_what_can_go_wrong_is_said(province: World) -> None:
    there = province.folder / "there"
    there.write_text("kept")
    async with province.gateway() as port, contextlib.AsyncExitStack() as stack:
        running = contextlib.AsyncExitStack()
        terminal = await running.enter_async_context(daemon(province, port))
        status, _, error = await command("trace", "--record", str(there), "-c", str(terminal.file))
        assert (status, there.read_text()) == (1, "kept")
        assert "can't be made: File exists" in error
        process = await stack.enter_async_context(tracing(terminal))
        await running.aclose()
        _, said = await process.communicate()
        assert process.returncode == 2
        assert "[DAEMON_UNREACHABLE]" in said.decode()
        status, _, error = await command("trace", "-c", str(terminal.file))
        assert status == 2
        assert "[DAEMON_UNREACHABLE]" in error
