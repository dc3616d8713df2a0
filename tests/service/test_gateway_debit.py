"""GatewayService over real mTLS; the far city is a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.gateway_world import BALANCE_FEN, FAR, HERE, TERMINAL, World, order, world
from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.core.orders import Posted
from yikatong.core.values import Fen


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def _sign_in(province: World, port: int, name: str = TERMINAL, **journal: object) -> int:
    stub = gateway_pb2_grpc.GatewayServiceStub(province.channel(port, name).channel)
    answer = await stub.SignIn(gateway_pb2.SignInRequest(terminal_id=name, **journal))
    return int(answer.epoch)


@pytest.mark.parametrize(("person", "home"), [(1, FAR), (2, HERE)])
async def test_a_debit_is_posted_once_however_often_it_is_sent(province: World, person: int, home: object) -> None:
    async with province.gateway() as port:
        assert await _sign_in(province, port) == 1
        link = province.link(port)
        debit = order(person)
        first = await link.debit(debit, attempt=1, ttl_ms=30_000)
        assert isinstance(first, Posted)
        assert first.balance == Fen(BALANCE_FEN - 3_650)
        assert first.city.region == home
        assert await link.debit(debit, attempt=2, ttl_ms=30_000) == first
        assert await link.enquire(debit) == first
        account = await link.account(debit.payer, None)
        assert account.balance == first.balance
