"""A home city that an operator closes while a debit is under way: from then on it is sent nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.gateway_world import BALANCE_FEN, FAR, QUICK, World, order, payer, world
from tests.support.operators import asked
from yikatong.core.orders import Posted, ReversalCause, Tombstoned, Undecided
from yikatong.runtime.leg import Patience

FAR_PERSON, TTL = 1, 30_000
PATIENT = replace(QUICK, patience=Patience(total_s=6.0, call_s=1.0, resend_s=0.05, enquire_s=0.1))
CLOSE = ("cities", "close", FAR.code, "--reason=割接")


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


@pytest.mark.parametrize("asked_again", [False, True])
async def test_a_debit_that_is_under_way_is_not_sent_again(province: World, asked_again: bool) -> None:
    async with province.gateway(waits=QUICK if asked_again else PATIENT) as port:
        link = await province.signed_in(port)
        province.fault("hang-before")  # nothing is carried out
        debit = order(FAR_PERSON)
        asking = asyncio.create_task(link.debit(debit, attempt=1, ttl_ms=TTL))
        await province.city.logged("hangs before the ledger")
        if asked_again:
            await asking
        await asked(province, port, *CLOSE)
        province.fault()  # the core works, and may have been exported already
        told = await (link.debit(debit, attempt=2, ttl_ms=TTL) if asked_again else asking)
        assert told == Undecided()
        await asked(province, port, "cities", "open", FAR.code, "--reason=割接完成")
        assert not isinstance(await link.enquire(debit), Posted)
        assert isinstance(await link.reverse(debit, ReversalCause.TIMEOUT), Tombstoned)
        assert (await link.account(payer(FAR_PERSON), None)).balance.count == BALANCE_FEN
