"""The same over mTLS: a terminal that hangs up takes the gateway's handler with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.gateway_world import World, order, world
from yikatong.core.orders import Confirmed, Posted

FORGET = ("DROP TRIGGER claim_is_never_deleted", "DELETE FROM claim", "DELETE FROM route")


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def test_a_seen_debit_is_asked_on_when_its_terminal_hangs_up(province: World) -> None:
    debit = order(1)
    async with province.gateway() as port:
        link = await province.signed_in(port)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=9_000), Posted)
        assert await link.confirm(debit) == Confirmed()
    province.change_gateway(*FORGET)
    async with province.gateway(debit_max_fen=100) as port:
        link = province.link(port)
        province.fault("silent")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.debit(debit, attempt=1, ttl_ms=0), 0.2)
        await asyncio.sleep(1.0)
        province.fault()
        await asyncio.sleep(2.0)
        assert province.gateway_rows("SELECT state FROM route") == [("CONFIRMED",)]
