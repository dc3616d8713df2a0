"""The runner while people decide: a row in MANUAL asks on until two of them have, also after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.far_end import Lost
from tests.support.rows import request
from tests.support.runner_world import World, fresh, restarted, until
from yikatong.core.orders import (
    Denied,
    ReversalAnswer,
    Reversed,
    Tombstoned,
    WasDeclined,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with fresh(tmp_path) as made:
        yield made


WAITING, UPHELD = Denied(Reason.NEEDS_OPERATOR), Denied(Reason.UPHELD_BY_OPERATORS)


async def in_manual(world: World) -> Transaction:
    """Posted, but the terminal never hears it; the reversal is refused."""
    world.far_end.back = Lost("debit", "enquire", times=10_000)
    world.far_end.reversal = WAITING
    told = await world.debit(request())
    assert (told.state, told.why) == (State.MANUAL, Reason.NEEDS_OPERATOR)
    return told


async def test_a_debit_that_people_uphold_is_approved_with_what_is_posted(world: World) -> None:
    told = await in_manual(world)
    asked = world.far_end.calls.count("reverse")
    await until(lambda: world.far_end.calls.count("reverse") > asked)
    assert (await world.journal.by_id(told.transaction_id)) == told, "it asks on, and nothing happens"
    world.far_end.back = lambda method: None
    world.far_end.reversal = UPHELD
    done = await world.settled(told)
    assert (done.state, done.why, done.confirmed) == (State.APPROVED, Reason.UPHELD_BY_OPERATORS, True)
    assert (done.balance_fen, done.home_region, done.accounting_date) == (96_350, "990001", "2026-01-02")
    assert done.reference.startswith("R-")
    assert done.confirm_acknowledged
    assert (await world.runner.confirm(told.transaction_id)).state is State.APPROVED


@pytest.mark.parametrize("answer", [Reversed("V-1"), Tombstoned("T-1"), WasDeclined()])
async def test_a_debit_that_people_reverse_is_reversed_and_its_order_free(world: World, answer: ReversalAnswer) -> None:
    told = await in_manual(world)
    world.far_end.reversal = answer
    done = await world.settled(told)
    assert (done.state, done.why) == (State.REVERSED, Reason.REVERSED_BY_OPERATORS)
    assert done.reference == getattr(answer, "reference", "")
    with pytest.raises(YikatongError) as caught:
        await world.runner.confirm(told.transaction_id)
    assert caught.value.reason is Reason.CONFIRM_TOO_LATE
    world.far_end.back, world.far_end.reversal = (lambda method: None), None
    assert (await world.debit(request(order_no=told.order_no))).state is State.APPROVED


async def test_a_debit_is_upheld_only_with_what_is_posted_in_hand(world: World) -> None:
    told = await in_manual(world)
    world.far_end.reversal = UPHELD
    enquired = world.far_end.calls.count("enquire")
    await until(lambda: world.far_end.calls.count("enquire") > enquired + 2)
    row = await world.journal.by_id(told.transaction_id)
    assert row is not None
    assert row.state is State.MANUAL, "the gateway says that it stands, but not yet with what"
    world.far_end.back = lambda method: None
    assert (await world.settled(told)).state is State.APPROVED


async def test_a_restart_asks_on(world: World, tmp_path: Path) -> None:
    told = await in_manual(world)
    async with restarted(world, tmp_path) as again:
        again.far_end.reversal = Reversed("V-2")
        done = await again.settled(told)
        assert (done.state, done.reference) == (State.REVERSED, "V-2")
    async with restarted(again, tmp_path) as once_more:
        found = await once_more.journal.by_id(told.transaction_id)
        assert found == done, "for ever"
        assert await once_more.journal.prove() > 0


async def test_a_cancelled_debit_that_people_upheld_needs_a_credit_to_be_taken_back(world: World) -> None:
    world.far_end.reversal = WAITING
    held = await world.debit(request(confirm_within_ms=60_000))
    waits = await world.runner.take_back(held.transaction_id, patience_s=5)
    assert waits is not None
    assert waits.state is State.MANUAL
    world.far_end.reversal = UPHELD
    assert (await world.settled(held)).state is State.APPROVED
    assert await world.runner.take_back(held.transaction_id, patience_s=5) is None


async def test_a_machine_that_is_shut_out_promises_no_reversal(world: World) -> None:
    held = await world.debit(request(confirm_within_ms=60_000))
    world.session.fenced = True
    with pytest.raises(YikatongError) as caught:
        await world.runner.take_back(held.transaction_id, patience_s=5)
    assert (caught.value.reason, caught.value.facts["outcome"]) == (Reason.TERMINAL_SUPERSEDED, "PENDING")
    found = await world.journal.by_id(held.transaction_id)
    assert found is not None
    assert found.state is State.HELD
    assert "reverse" not in world.far_end.calls


async def test_cancelling_twice_what_was_dropped_says_the_same(world: World) -> None:
    world.desk.gate = asyncio.Event()
    asked = asyncio.create_task(world.debit(request()))
    await until(lambda: bool(world.runner._live))
    (transaction_id,) = world.runner._live
    dropped = [await world.runner.take_back(transaction_id, patience_s=5) for _ in range(2)]
    assert dropped[0] == dropped[1]
    assert dropped[0] is not None
    assert dropped[0].state is State.ABORTED
    with pytest.raises(YikatongError) as caught:
        await asked
    assert caught.value.reason is Reason.CANCELLED_BY_CALLER
