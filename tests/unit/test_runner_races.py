"""The runner's tasks: what is decided just as it is dropped, closed, shut out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.far_end import Lost
from tests.support.rows import request
from tests.support.runner_world import World, fresh, until
from yikatong.core.bill import Bill
from yikatong.core.orders import Reversed
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.terminal_table import State, Told, verdict
from yikatong.core.transaction import Transaction


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with fresh(tmp_path) as made:
        yield made


class Slow:
    """The journal records as ever, but the news of the named states waits at a gate."""

    def __init__(self, world: World, *states: State) -> None:
        self.gate, self.waiting, self._states = asyncio.Event(), list[State](), states
        self._record = world.journal.record
        world.journal.record = self  # type: ignore[method-assign, assignment]

    async def __call__(self, row: Transaction, bill: Bill | None = None) -> Transaction:
        done = await self._record(row, bill)
        if row.state in self._states:
            self.waiting.append(row.state)
            await self.gate.wait()
        return done


async def test_a_machine_that_is_shut_out_promises_no_approval(world: World) -> None:
    """HELD, then another machine is this terminal: people may have reversed it. ConfirmTransaction says it is final."""
    held = await world.debit(request(confirm_within_ms=60_000))
    world.far_end.undone.add(held.transaction_id)  # two persons have decided at the gateway: it is reversed
    world.session.fenced = True
    try:
        told = await world.runner.confirm(held.transaction_id)
    except YikatongError as error:
        assert error.facts["outcome"] == "PENDING"
    else:
        assert verdict(told.state).told is not Told.APPROVED, "told as paid for good; the ledger has reversed it"


async def test_nothing_is_sent_once_the_runner_is_closed(world: World) -> None:
    """P1 is on its way when the daemon stops: the debit leaves from a runner that is closed."""
    slow = Slow(world, State.SENT)
    asked = asyncio.create_task(world.debit(request()))
    await until(lambda: bool(slow.waiting))
    closing = asyncio.create_task(world.runner.close())
    await asyncio.sleep(0)
    slow.gate.set()
    await closing
    for _ in range(20):
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait({asked})
    assert world.far_end.calls == []


async def test_an_orderly_stop_is_no_failed_journal(world: World) -> None:
    """P2 is on its way, and the HIS's cancellation waits behind it, when the daemon stops: closing waits for neither.

    The cancellation meets a journal that is closed, and the daemon that was told to stop says that its journal failed.
    """
    slow = Slow(world, State.HELD)
    asked = asyncio.create_task(world.debit(request(confirm_within_ms=60_000)))
    await until(lambda: bool(slow.waiting))
    (transaction_id,) = world.runner._live
    cancelling = asyncio.create_task(world.runner.take_back(transaction_id, patience_s=1))
    for _ in range(3):
        await asyncio.sleep(0)
    closing = asyncio.create_task(world.close())
    for _ in range(3):
        await asyncio.sleep(0)
    slow.gate.set()
    await closing
    await asyncio.wait({cancelling, asked}, timeout=1)
    for task in (cancelling, asked):
        task.cancel()
    await asyncio.wait({cancelling, asked})
    assert world.left == []


@pytest.mark.parametrize("hold_ms", [0, 60_000])
async def test_a_cancellation_that_meets_the_answer_loses_nothing(world: World, hold_ms: int) -> None:
    """P2 is on its way when the HIS cancels: HELD is reversed, APPROVED needs a credit; nothing is both."""
    slow = Slow(world, State.APPROVED, State.HELD)
    asked = asyncio.create_task(world.debit(request(confirm_within_ms=hold_ms)))
    await until(lambda: bool(slow.waiting))
    (transaction_id,) = world.runner._live
    cancelling = asyncio.create_task(world.runner.take_back(transaction_id, patience_s=5))
    for _ in range(5):
        await asyncio.sleep(0)
    slow.gate.set()
    taken_back, told = await cancelling, await asked
    if hold_ms:
        assert taken_back is not None
        assert taken_back.state is State.REVERSED
        assert world.far_end.balance_fen == 100_000
    else:
        assert (taken_back, told.state) == (None, State.APPROVED)
        assert "reverse" not in world.far_end.calls
    assert world.left == []


async def test_an_answer_that_meets_the_reversal_changes_nothing(world: World) -> None:
    """P3 is on its way when the answer comes: it waits for the lock as a decided event, and is only noted."""
    world.far_end.gate = asyncio.Event()
    asked = asyncio.create_task(world.debit(request()))
    await until(lambda: bool(world.far_end.calls))
    (transaction_id,) = world.runner._live
    live = world.runner._live[transaction_id]
    slow = Slow(world, State.REVERSING)
    cancelling = asyncio.create_task(world.runner.take_back(transaction_id, patience_s=5))
    await until(lambda: bool(slow.waiting))
    world.far_end.gate.set()
    await until(lambda: bool(live.deciding))
    slow.gate.set()
    taken_back = await cancelling
    assert taken_back is not None
    assert taken_back.state is State.REVERSED
    assert (await asked).state is State.REVERSED
    assert world.far_end.balance_fen == 100_000
    assert world.left == []


async def test_closing_while_a_reversal_is_proved_keeps_the_proof(world: World, tmp_path: Path) -> None:
    world.far_end.gate = asyncio.Event()
    asked = asyncio.create_task(world.debit(request()))
    await until(lambda: bool(world.far_end.calls))
    (transaction_id,) = world.runner._live
    slow = Slow(world, State.REVERSED)
    cancelling = asyncio.create_task(world.runner.take_back(transaction_id, patience_s=5))
    await until(lambda: bool(slow.waiting))
    closing = asyncio.create_task(world.runner.close())
    await asyncio.sleep(0)
    assert not closing.done()
    slow.gate.set()
    await closing
    taken_back = await cancelling
    assert taken_back is not None
    assert taken_back.state is State.REVERSED
    await asyncio.wait({asked})
    assert world.left == []


async def test_closing_twice_and_with_nothing_open_is_no_trouble(world: World) -> None:
    await world.debit(request())
    await asyncio.gather(world.runner.close(), world.runner.close())
    assert world.left == []


async def test_a_hold_that_ends_as_the_his_confirms_says_one_thing(world: World) -> None:
    """ConfirmTimeUp is decided and waits for the lock while P5 is on its way, and the other way round."""
    held = await world.debit(request(confirm_within_ms=50))
    slow = Slow(world, State.APPROVED)
    confirming = asyncio.create_task(world.runner.confirm(held.transaction_id))
    await until(lambda: bool(slow.waiting))
    live = world.runner._live[held.transaction_id]
    await until(lambda: bool(live.deciding))
    slow.gate.set()
    assert (await confirming).state is State.APPROVED
    assert (await world.settled(held)).state is State.APPROVED
    assert "reverse" not in world.far_end.calls
    assert world.left == []


async def test_a_caller_hears_of_a_task_that_fails(world: World) -> None:
    """A foreign exception in the link: the process leaves; until then the caller must not be left without a word."""

    def broken(method: str) -> None:
        if method == "debit":
            raise RuntimeError("foreign")

    world.far_end.line = broken
    asked: asyncio.Task[Any] = asyncio.create_task(world.debit(request()))
    await until(lambda: bool(world.left))
    done, _ = await asyncio.wait({asked}, timeout=0.5)
    asked.cancel()
    await asyncio.wait({asked})
    assert world.left == [Reason.INTERNAL]
    assert done, "the caller waits for a task that is dead"


async def test_a_late_answer_of_people_does_not_end_the_service(world: World) -> None:
    world.far_end.line = Lost("reverse", times=3)
    world.far_end.gate = asyncio.Event()
    told = await world.debit(request(), patience_s=0.05)
    world.far_end.reversal = Reversed("V")
    assert (await world.settled(told)).state is State.REVERSED
    await world.runner.ask_again(told.transaction_id)
    assert world.left == []
