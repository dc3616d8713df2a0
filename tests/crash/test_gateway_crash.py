"""Gateway and city are killed (SIGKILL) in the middle of a debit or reversal, and started again: one outcome.

The far city hangs at a known point, which it says in its log: before its ledger (hang-before) or after its commit
(silent). Both are processes of their own with databases of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from collections.abc import AsyncIterator

import pytest

from tests.gateway_world import BALANCE_FEN, FAR, HERE, Process, World, order, payer, world
from yikatong.core.orders import (
    AlreadyReversed,
    DebitOrder,
    Posted,
    ReversalAnswer,
    ReversalCause,
    Reversed,
    Tombstoned,
)
from yikatong.core.values import Fen
from yikatong.runtime.leg import LinkDown, insist
from yikatong.terminal.gateway_client import MoneyLink

FAR_PERSON = 1
POINTS = {"hang-before": "hangs before the ledger", "silent": "keeps the answer"}


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


@contextlib.asynccontextmanager
async def running(province: World) -> AsyncIterator[tuple[Process, int]]:
    gateway = province.gateway_process()
    port = await gateway.start()
    try:
        yield gateway, port
    finally:
        await gateway.end(signal.SIGKILL)


async def undone(link: MoneyLink, debit: DebitOrder) -> ReversalAnswer:
    """As a terminal does it: until it is decided."""
    answer = await insist(lambda: link.reverse(debit, ReversalCause.RECOVERY), lambda _: 0.05, call_s=20)
    while not isinstance(answer, Reversed | Tombstoned):
        answer = await insist(lambda: link.reverse(debit, ReversalCause.RECOVERY), lambda _: 0.05, call_s=20)
    return answer


async def balance(link: MoneyLink) -> Fen:
    return (await link.account(payer(FAR_PERSON), None)).balance


async def proven(province: World, port: int, *, owed_fen: int) -> None:
    """Both sides' books hold, and agree about what is owed."""
    books = await province.books(port)
    far, here = books[FAR.code], books[HERE.code]
    assert far.personal_fen == 10 * BALANCE_FEN - owed_fen
    assert sum(entry.amount_fen for entry in far.payables) == owed_fen
    claimed = {claim.account: claim.amount_fen for claim in here.claims}
    assert claimed.get(f"receivable:{FAR}", 0) == owed_fen


@pytest.mark.parametrize("point", POINTS)
async def test_the_gateway_dies_while_the_city_debits_and_the_terminal_reverses(province: World, point: str) -> None:
    debit = order(FAR_PERSON)
    async with running(province) as (gateway, port):
        link = await province.signed_in(port)
        province.fault(point)
        waiting = asyncio.create_task(link.debit(debit, attempt=1, ttl_ms=30_000))
        await province.city.logged(POINTS[point])
        await gateway.end(signal.SIGKILL)
        with pytest.raises(LinkDown):
            await waiting
    province.fault()
    async with running(province) as (_, port):
        link = province.link(port)
        answer = await undone(link, debit)
        assert isinstance(answer, Reversed if point == "silent" else Tombstoned)
        assert await link.debit(debit, attempt=2, ttl_ms=30_000) == AlreadyReversed()
        assert await balance(link) == Fen(BALANCE_FEN)
        await proven(province, port, owed_fen=0)


async def test_the_gateway_dies_after_the_city_posted_and_the_terminal_asks_again(province: World) -> None:
    debit = order(FAR_PERSON)
    async with running(province) as (gateway, port):
        link = await province.signed_in(port)
        province.fault("silent")
        waiting = asyncio.create_task(link.debit(debit, attempt=1, ttl_ms=30_000))
        await province.city.logged(POINTS["silent"])
        await gateway.end(signal.SIGKILL)
        with pytest.raises(LinkDown):
            await waiting
    province.fault()
    async with running(province) as (_, port):
        link = province.link(port)
        answer = await link.debit(debit, attempt=2, ttl_ms=30_000)
        assert isinstance(answer, Posted)
        assert answer.balance == await balance(link) == Fen(BALANCE_FEN - 3_650)
        await proven(province, port, owed_fen=3_650)


async def test_a_restarted_gateway_asks_the_city_by_itself(province: World) -> None:
    """G1 is durable: after the restart the gateway enquires, and books what the city has posted."""
    debit = order(FAR_PERSON)
    async with running(province) as (gateway, port):
        link = await province.signed_in(port)
        province.fault("silent")
        waiting = asyncio.create_task(link.debit(debit, attempt=1, ttl_ms=30_000))
        await province.city.logged(POINTS["silent"])
        await gateway.end(signal.SIGKILL)
        with pytest.raises(LinkDown):
            await waiting
    province.fault("down")
    async with running(province) as (gateway, port):
        province.fault()
        await gateway.logged('"answer": "Posted"')
        assert isinstance(await province.link(port).enquire(debit), Posted)
        await proven(province, port, owed_fen=3_650)


async def test_a_promised_reversal_is_kept_by_a_gateway_that_died(province: World) -> None:
    """G3 is durable: after the restart the gateway insists by itself, no terminal asks."""
    debit = order(FAR_PERSON)
    async with running(province) as (gateway, port):
        link = await province.signed_in(port)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=30_000), Posted)
        province.fault("silent")
        undoing = asyncio.create_task(link.reverse(debit, ReversalCause.TIMEOUT))
        await province.city.logged(POINTS["silent"])
        await gateway.end(signal.SIGKILL)
        with pytest.raises(LinkDown):
            await undoing
    sealed = province.gateway_rows("SELECT state, sealed FROM route")
    assert [
        (state, payer(FAR_PERSON).social_security_number.reveal().encode() in content) for state, content in sealed
    ] == [("REV", False)]  # type: ignore[operator]  # a blob
    province.fault()
    async with running(province) as (gateway, port):
        await gateway.logged('"answer": "Reversed"')
        await proven(province, port, owed_fen=0)
        await gateway.end(signal.SIGTERM)
    assert province.gateway_rows("SELECT state, sealed FROM route") == [("REVDONE", None)]


@pytest.mark.parametrize("point", POINTS)
async def test_the_city_dies_in_the_middle_and_comes_back(province: World, point: str) -> None:
    """The gateway asks on: a lone crash of the city costs the cardholder nothing, not even the purchase."""
    debit = order(FAR_PERSON)
    async with running(province) as (_, port):
        link = await province.signed_in(port)
        province.fault(point)
        waiting = asyncio.create_task(link.debit(debit, attempt=1, ttl_ms=30_000))
        await province.city.logged(POINTS[point])
        await province.city.end(signal.SIGKILL)
        province.fault()
        await province.city.start()
        answer = await waiting
        assert isinstance(answer, Posted)
        assert answer.balance == await balance(link) == Fen(BALANCE_FEN - 3_650)
        await proven(province, port, owed_fen=3_650)


async def test_both_die_at_once(province: World) -> None:
    debit = order(FAR_PERSON)
    async with running(province) as (gateway, port):
        link = await province.signed_in(port)
        province.fault("silent")
        waiting = asyncio.create_task(link.debit(debit, attempt=1, ttl_ms=30_000))
        await province.city.logged(POINTS["silent"])
        await gateway.end(signal.SIGKILL)
        await province.city.end(signal.SIGKILL)
        with pytest.raises(LinkDown):
            await waiting
    province.fault()
    await province.city.start()
    async with running(province) as (_, port):
        link = province.link(port)
        assert isinstance(await undone(link, debit), Reversed)
        assert await balance(link) == Fen(BALANCE_FEN)
        await proven(province, port, owed_fen=0)


async def test_a_full_disk_ends_the_service_and_nothing_moves_twice(province: World) -> None:
    """A commit that failed is unknown: the gateway says nothing about money, leaves, and reads its file anew."""
    debits = [order(2, amount_fen=100) for _ in range(400)]
    reached: list[DebitOrder] = []
    async with running(province) as (gateway, port):
        link = await province.signed_in(port)
        assert gateway.running is not None
        size = (province.folder / "gateway" / "gateway.db-wal").stat().st_size
        resource.prlimit(gateway.running.pid, resource.RLIMIT_FSIZE, (size + 64_000, size + 64_000))
        for debit in debits:
            reached.append(debit)
            try:
                answer = await link.debit(debit, attempt=1, ttl_ms=30_000)
            except LinkDown:
                break
            assert isinstance(answer, Posted)
        assert await gateway.running.wait() == 1, "started again by the service manager"
        assert len(reached) < len(debits)
    async with running(province) as (_, port):
        link = province.link(port)
        assert isinstance(await undone(link, reached[-1]), Reversed | Tombstoned)
        account = await link.account(payer(2), None)
        assert account.balance == Fen(BALANCE_FEN - 100 * (len(reached) - 1))
        await province.books(port)
