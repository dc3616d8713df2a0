"""The runner and its callers: they leave, wait, come twice, confirm in time or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.far_end import Lost
from tests.support.rows import request
from tests.support.runner_world import World, fresh, until
from yikatong.core.orders import (
    Denied,
)
from yikatong.core.reasons import Moved, Reason, YikatongError
from yikatong.core.terminal_table import State


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with fresh(tmp_path) as made:
        yield made


async def test_a_caller_that_leaves_before_the_card_leaves_nothing(world: World) -> None:
    world.desk.gate = asyncio.Event()
    asked = request()
    caller = asyncio.create_task(world.debit(asked))
    await until(lambda: world.desk.visits > 0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await until(lambda: not world.runner._live)
    assert await world.journal.by_request(asked.request_id) is None
    world.desk.gate.set()
    assert (await world.debit(asked)).state is State.APPROVED, "nothing was recorded: the same request may come again"


async def test_a_caller_that_leaves_after_the_debit_was_sent_has_it_reversed(world: World) -> None:
    world.far_end.gate = asyncio.Event()
    asked = request()
    caller = asyncio.create_task(world.debit(asked))
    await until(lambda: bool(world.far_end.calls))
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    row = await world.journal.by_request(asked.request_id)
    assert row is not None
    settled = await world.settled(row)
    assert (settled.state, settled.why) == (State.REVERSED, Reason.CANCELLED_BY_CALLER)
    assert world.far_end.balance_fen == 100_000


async def test_a_caller_whose_deadline_is_near_is_told_what_it_will_become(world: World) -> None:
    world.far_end.gate = asyncio.Event()
    world.far_end.line = Lost("reverse", times=10_000)
    told = await world.debit(request(), patience_s=0.05)
    assert (told.state, told.why) == (State.REVERSING, Reason.CANCELLED_BY_CALLER)


async def test_one_of_two_callers_that_leaves_takes_nothing_from_the_other(world: World) -> None:
    world.far_end.gate = asyncio.Event()
    asked = request()
    patient = asyncio.create_task(world.debit(asked))
    await until(lambda: bool(world.far_end.calls))
    hasty = await world.debit(asked, patience_s=0.01)
    assert hasty.state is State.SENT, "open, and nothing is decided yet"
    world.far_end.gate.set()
    assert (await patient).state is State.APPROVED


async def test_a_held_debit_is_final_once_the_his_confirms(world: World) -> None:
    told = await world.debit(request(confirm_within_ms=60_000))
    assert (told.state, told.confirmed) == (State.HELD, False)
    assert told.confirm_by
    assert "confirm" not in world.far_end.calls
    done = await world.runner.confirm(told.transaction_id)
    assert (done.state, done.confirmed) == (State.APPROVED, True)
    assert (await world.settled(told)).confirm_acknowledged
    assert (await world.runner.confirm(told.transaction_id)).state is State.APPROVED


async def test_a_held_debit_that_nobody_confirms_is_reversed_and_says_so(world: World) -> None:
    told = await world.debit(request(confirm_within_ms=20))
    assert (await world.settled(told)).state is State.REVERSED
    with pytest.raises(YikatongError) as caught:
        await world.runner.confirm(told.transaction_id)
    assert caught.value.reason is Reason.CONFIRM_TOO_LATE
    assert caught.value.facts["resolves_to"] == "REVERSED"
    assert world.far_end.balance_fen == 100_000


async def test_a_confirmation_before_there_is_an_approval_is_not_told_that_nothing_moved(world: World) -> None:
    world.far_end.gate = asyncio.Event()
    asked = request()
    caller = asyncio.create_task(world.debit(asked))
    await until(lambda: bool(world.far_end.calls))
    row = await world.journal.by_request(asked.request_id)
    assert row is not None
    with pytest.raises(YikatongError) as caught:
        await world.runner.confirm(row.transaction_id)
    assert (caught.value.reason, caught.value.meaning.moved) == (Reason.OUTCOME_PENDING, Moved.PENDING)
    world.far_end.gate.set()
    assert (await caller).state is State.APPROVED


async def test_a_confirmation_of_what_an_operator_must_decide_is_not_told_that_it_is_reversed(world: World) -> None:
    world.far_end.back = Lost("debit", "enquire", times=10_000)
    world.far_end.reversal = Denied(Reason.NEEDS_OPERATOR)
    told = await world.debit(request())
    assert told.state is State.MANUAL
    with pytest.raises(YikatongError) as caught:
        await world.runner.confirm(told.transaction_id)
    assert (caught.value.reason, caught.value.meaning.moved) == (Reason.NEEDS_OPERATOR, Moved.PENDING)
