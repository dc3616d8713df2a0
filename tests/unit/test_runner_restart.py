"""The runner after a restart, and over a journal that fails: nothing is sent twice, nothing open is called closed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.support.far_end import Lost
from tests.support.rows import PAYER, request
from tests.support.runner_world import GRANTED, World, fresh, restarted, until
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.values import TransactionId
from yikatong.runtime.clock import SystemClock
from yikatong.runtime.store import StoreFailed
from yikatong.terminal.journal import Journal
from yikatong.terminal.runner import UNRESOLVED_MAX


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with fresh(tmp_path) as made:
        yield made


async def test_a_restart_reverses_what_was_sent_and_keeps_what_was_approved(world: World, tmp_path: Path) -> None:
    approved = await world.debit(request())
    await world.settled(approved)
    world.far_end.gate = asyncio.Event()
    caller = asyncio.create_task(world.debit(request()))
    await until(lambda: world.far_end.calls.count("debit") >= 2)
    caller.cancel()
    await world.runner.close()
    sent = (await world.journal.newest(1, open_only=False))[0]
    assert sent.state in {State.SENT, State.REVERSING}
    world.far_end.gate = None
    async with restarted(world, tmp_path) as again:
        assert (await again.settled(sent)).state is State.REVERSED
        kept = await again.journal.by_id(approved.transaction_id)
        assert kept is not None
        assert kept.state is State.APPROVED
    assert world.far_end.balance_fen == 96_350


async def test_a_restart_never_sends_a_debit_again(world: World, tmp_path: Path) -> None:
    world.far_end.gate = asyncio.Event()
    asked = request()
    caller = asyncio.create_task(world.debit(asked))
    await until(lambda: bool(world.far_end.calls))
    for task in [task for live in world.runner._live.values() for task in live.tasks.values()]:
        task.cancel()  # the process dies: nobody decides anything any more
    caller.add_done_callback(lambda done: done.cancelled() or done.exception())
    world.far_end.calls.clear()
    world.far_end.gate = None
    async with restarted(world, tmp_path) as again:
        row = await again.journal.by_request(asked.request_id)
        assert row is not None
        assert (await again.settled(row)).state is State.REVERSED
        assert "debit" not in world.far_end.calls
    caller.cancel()
    assert world.far_end.balance_fen == 100_000


async def _left_behind(world: World, state: State, **changes: Any) -> Transaction:
    """A row that an earlier run has left in the journal."""
    made = replace(request(), transaction_id=TransactionId(str(uuid.uuid4())), state=state)
    kept = replace(
        made,
        institution=GRANTED.institution,
        treatment_region=GRANTED.treatment_region,
        payer_sealed=world.journal.vault.seal(PAYER, transaction_id=made.transaction_id),
        created_boot_ms=SystemClock().boot_ms(),
        boot_id=SystemClock().boot_id,
    )
    return await world.journal.record(replace(kept, **changes))


@pytest.mark.parametrize(("changes", "first"), [({}, "enquire"), ({"boot_id": "another"}, "reverse")])
async def test_only_a_young_debit_of_this_boot_is_asked_about(
    world: World, changes: dict[str, str], first: str
) -> None:
    left = await _left_behind(world, State.SENT, **changes)
    await world.runner.recover()
    assert (await world.settled(left)).state is State.REVERSED
    assert world.far_end.calls[0] == first


async def test_too_many_open_debits_stop_new_ones(world: World) -> None:
    world.far_end.line = Lost("reverse", times=10_000)
    for _ in range(UNRESOLVED_MAX + 1):
        await _left_behind(world, State.REVERSING)
    assert len(await world.runner.recover()) == UNRESOLVED_MAX + 1
    with pytest.raises(YikatongError) as caught:
        await world.debit(request())
    assert (caught.value.reason, world.desk.visits) == (Reason.TOO_MANY_UNRESOLVED, 0)


async def test_promised_reversals_stop_nobody(world: World) -> None:
    world.far_end.line = Lost("reverse", times=10_000)
    for _ in range(UNRESOLVED_MAX + 1):
        await _left_behind(world, State.ACCEPTED)
    await world.runner.recover()
    assert (await world.debit(request())).state is State.APPROVED


async def test_a_self_tests_rows_are_not_the_customers(world: World) -> None:
    left = await _left_behind(world, State.REVERSING, self_test=True)
    assert await world.runner.recover() == []
    kept = await world.journal.by_id(left.transaction_id)
    assert kept == left
    assert world.far_end.calls == []


async def test_a_held_debit_survives_a_restart(world: World, tmp_path: Path) -> None:
    told = await world.debit(request(confirm_within_ms=60_000))
    async with restarted(world, tmp_path) as again:
        assert (await again.runner.confirm(told.transaction_id)).state is State.APPROVED


async def test_an_unacknowledged_confirmation_is_sent_again_after_a_restart(world: World, tmp_path: Path) -> None:
    world.far_end.line = Lost("confirm", times=10_000)
    told = await world.debit(request())
    assert told.state is State.APPROVED
    world.far_end.line = lambda method: None
    async with restarted(world, tmp_path) as again:
        assert (await again.settled(told)).confirm_acknowledged
    assert world.far_end.confirmed == {told.transaction_id}


async def _break(journal: Journal) -> None:
    def full(connection: apsw.Connection) -> None:
        raise apsw.FullError("disk full")

    with pytest.raises(StoreFailed):
        await journal._store.commit(full)


async def test_a_journal_that_fails_before_the_debit_sends_nothing_and_leaves(world: World) -> None:
    world.desk.gate = asyncio.Event()
    caller = asyncio.create_task(world.debit(request()))
    await until(lambda: world.desk.visits > 0)
    await _break(world.journal)
    world.desk.gate.set()
    with pytest.raises(YikatongError) as caught:
        await caller
    assert (caught.value.reason, caught.value.facts["outcome"]) == (Reason.JOURNAL_UNAVAILABLE, "NOT_MOVED")
    assert world.far_end.calls == []
    assert world.left == [Reason.JOURNAL_UNAVAILABLE]


async def test_a_journal_that_fails_after_the_debit_leaves_the_outcome_open(world: World) -> None:
    world.far_end.gate = asyncio.Event()
    asked = request()
    caller = asyncio.create_task(world.debit(asked))
    await until(lambda: bool(world.far_end.calls))
    await _break(world.journal)
    world.far_end.gate.set()
    with pytest.raises(YikatongError) as caught:
        await caller
    assert (caught.value.reason, caught.value.facts["outcome"]) == (Reason.JOURNAL_UNAVAILABLE, "PENDING")
    with pytest.raises(YikatongError) as caught:
        await world.debit(asked)
    assert caught.value.facts["outcome"] == "PENDING", "a journal that can't be read never says: not moved"


async def test_a_confirmation_that_the_journal_cannot_keep_is_open_not_too_late(world: World) -> None:
    """Whether it is on the disk is unknown: told "too late, charge again", the HIS would take the money twice."""
    told = await world.debit(request(confirm_within_ms=60_000))
    await _break(world.journal)
    with pytest.raises(YikatongError) as caught:
        await world.runner.confirm(told.transaction_id)
    assert (caught.value.reason, caught.value.facts["outcome"]) == (Reason.JOURNAL_UNAVAILABLE, "PENDING")
    assert "confirm" not in world.far_end.calls


async def test_a_debit_at_the_desk_does_not_hang_where_the_journal_failed_under_another(world: World) -> None:
    """The same card's earlier debit can't be settled any more, and waiting for it must not stop the whole process."""
    world.far_end.gate = asyncio.Event()
    earlier = asyncio.create_task(world.debit(request()))
    await until(lambda: bool(world.far_end.calls))
    world.desk.gate = asyncio.Event()
    later = asyncio.create_task(world.debit(request()))
    await until(lambda: world.desk.visits == 2)
    await _break(world.journal)
    world.far_end.gate.set()
    with pytest.raises(YikatongError):
        await earlier
    world.desk.gate.set()
    with pytest.raises(YikatongError) as caught:
        await later
    assert caught.value.reason is Reason.TOO_MANY_UNRESOLVED
