"""A daemon beside a reader in trouble, over a real pcscd: it says what is wrong, and goes on answering."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio
import pytest

from tests.gateway_world import World, world
from tests.support.pcscd import clear, private_pcscd
from tests.support.terminal_world import command, daemon
from yikatong.api.diagnostics.v1 import diagnostics_pb2 as diagnostics
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.reasons import Reason
from yikatong.drivers.pcsc import PcscReader
from yikatong.runtime import edge
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import Stuck
from yikatong.simulators.pcscd import PrivatePcscd
from yikatong.simulators.vpcd import VirtualSlot

pytestmark = pytest.mark.timeout(60)

HOLD_THE_CARD = """
import sys
from smartcard import scard
_, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
code, card, _ = scard.SCardConnect(context, sys.argv[1], scard.SCARD_SHARE_EXCLUSIVE, scard.SCARD_PROTOCOL_T0)
print(code, flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


@pytest.fixture(scope="module")
def pcscd() -> Iterator[tuple[PrivatePcscd, VirtualSlot]]:
    with private_pcscd() as running:
        yield running


async def _card_is_seen(reader: PcscReader) -> None:
    async with asyncio.timeout(20):
        while not (await reader.state()).card_present:
            await asyncio.sleep(0.05)


async def _reason(his: Any) -> Reason:
    request = api.DebitRequest(
        request_id=str(uuid.uuid4()),
        order_no=str(uuid.uuid4()),
        amount_fen=3650,
        purpose=money.PURPOSE_PHARMACY_PURCHASE,
        wait_ms=10_000,
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await his.Debit(request, timeout=30)
    error = edge.error_of(refused.value)
    assert error is not None
    return error.reason


async def test_a_driver_that_hangs_is_told_of_and_the_daemon_answers(
    province: World, pcscd: tuple[PrivatePcscd, VirtualSlot]
) -> None:
    running, slot = pcscd
    reader = PcscReader(running.reader_name, stuck_after_s=0.5)
    card = Stuck(find("works").make())
    slot.insert(card)
    try:
        async with province.gateway() as port, daemon(province, port, reader=reader) as terminal:
            await _card_is_seen(reader)
            async with grpc.aio.insecure_channel(f"unix:{terminal.config.sockets.his}") as channel:
                his: Any = TerminalServiceStub(channel)
                assert {await _reason(his) for _ in range(2)} == {Reason.READER_FAILED}
                health = await terminal.diagnostics.GetHealth(diagnostics.GetHealthRequest(), timeout=30)
                found = {probe.name: probe for probe in health.probes}
                assert found["card"].reason == "READER_FAILED"
                assert "did not come back" in found["card"].finding_en
                assert found["journal"].reason == ""
                assert len((await his.ListTransactions(api.ListTransactionsRequest())).transactions) == 0
            card.released.set()
    finally:
        card.released.set()
        clear(running, slot)


async def test_the_doctor_says_who_holds_the_reader(province: World, pcscd: tuple[PrivatePcscd, VirtualSlot]) -> None:
    running, slot = pcscd
    slot.insert(find("works").make())
    reader = PcscReader(running.reader_name)
    async with province.gateway() as port, daemon(province, port, reader=reader) as terminal:
        await _card_is_seen(reader)
        with subprocess.Popen(  # noqa: ASYNC220 - it starts at once, and is waited for in a thread
            [sys.executable, "-c", HOLD_THE_CARD, running.reader_name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert await asyncio.to_thread(other.stdout.readline) == b"0\n"
            status, out, _ = await command("doctor", "--json", "-c", str(terminal.file))
            other.stdin.close()
        assert status > 0
        probe = next(probe for probe in json.loads(out)["probes"] if probe["name"] == "card")
        assert probe["reason"] == "DEVICE_BUSY"
        assert f"({other.pid})" in probe["finding"]
        assert str(other.pid) in probe["next_step"]
    clear(running, slot)
