"""A gateway that comes back without its record of the terminal, and with other hotlines; the daemon has run on."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator

import pytest

from tests.gateway_world import World, order, world
from tests.support.terminal_world import daemon
from yikatong.core.orders import Posted

NEAR_PERSON = 2


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def test_a_gateway_that_comes_back_with_less_learns_who_is_here(province: World) -> None:
    async with contextlib.AsyncExitStack() as before:
        port = await before.enter_async_context(province.gateway())
        async with daemon(province, port) as running:
            session, link = running.terminal.session, running.terminal.link
            epoch = session.require().epoch
            await before.aclose()
            with contextlib.closing(sqlite3.connect(province.folder / "gateway" / "gateway.db")) as connection:
                assert connection.execute("DELETE FROM session").rowcount == 1
                connection.commit()
            changed = {"listen": f"localhost:{port}", "fault_hotline": "0531-1111111"}
            async with province.gateway(**changed), asyncio.timeout(60):
                while running.terminal.hotlines[1] != "0531-1111111":
                    await asyncio.sleep(0.01)
                assert session.require().epoch == epoch, "what is on its way must not be fenced"
                assert isinstance(await link.debit(order(NEAR_PERSON, epoch=epoch), attempt=1, ttl_ms=9_000), Posted)
    assert province.gateway_rows("SELECT epoch, epoch_used FROM session") == [(epoch, epoch)]
