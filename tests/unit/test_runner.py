"""The runner: one request, one order, one card, and what each of them may do once; told is what is true."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from tests.support.far_end import Lost
from tests.support.rows import request
from tests.support.runner_world import World, fresh, until
from yikatong.core.orders import (
    Posted,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with fresh(tmp_path) as made:
        yield made


async def test_a_debit_is_approved_confirmed_and_told_the_same_for_ever(world: World) -> None:
    asked = request()
    first = await world.debit(asked)
    assert (first.state, first.balance_fen, first.home_region) == (State.APPROVED, 96_350, "990001")
    done = await world.settled(first)
    assert done.confirm_acknowledged
    assert world.far_end.confirmed == {first.transaction_id}
    again = await world.debit(asked)
    assert again == done
    assert world.far_end.calls.count("debit") == 1
    assert world.desk.visits == 1


async def test_two_callers_with_one_request_share_one_debit(world: World) -> None:
    world.far_end.gate = asyncio.Event()
    asked = request()
    callers = [asyncio.create_task(world.debit(asked)) for _ in range(3)]
    await until(lambda: bool(world.far_end.calls))
    world.far_end.gate.set()
    told = await asyncio.gather(*callers)
    assert {row.transaction_id for row in told} == {told[0].transaction_id}
    assert world.far_end.balance_fen == 96_350


async def test_other_content_under_one_request_id_is_refused_by_name(world: World) -> None:
    asked = request()
    done = await world.debit(asked)
    for change in ({"amount_fen": 1}, {"order_no": "x"}, {"order_part": "2"}, {"confirm_within_ms": 9}):
        with pytest.raises(YikatongError) as caught:
            await world.debit(replace(asked, **cast("Any", change)))
        assert caught.value.reason is Reason.REQUEST_ID_REUSED
        named = {"field": next(iter(change)), "transaction_id": done.transaction_id, "outcome": "MOVED"}
        assert caught.value.facts == named
    assert world.far_end.balance_fen == 96_350


async def test_a_paid_order_is_not_paid_again(world: World) -> None:
    asked = request()
    done = await world.debit(asked)
    with pytest.raises(YikatongError) as caught:
        await world.debit(request(order_no=asked.order_no))
    assert caught.value.reason is Reason.ORDER_ALREADY_PAID
    assert caught.value.facts["transaction_id"] == done.transaction_id
    part = await world.debit(request(order_no=asked.order_no, order_part="2"))
    assert part.state is State.APPROVED


async def test_the_nervous_double_click_finds_the_order_in_progress(world: World) -> None:
    world.desk.gate = asyncio.Event()
    asked = request()
    first = asyncio.create_task(world.debit(asked))
    await until(lambda: world.desk.visits > 0)
    with pytest.raises(YikatongError) as caught:
        await world.debit(request(order_no=asked.order_no))
    assert caught.value.reason is Reason.ORDER_IN_PROGRESS
    world.desk.gate.set()
    assert (await first).state is State.APPROVED


async def test_of_double_clicks_that_come_at_once_one_pays(world: World) -> None:
    hold, held = threading.Event(), threading.Event()

    def slow(connection: apsw.Connection) -> None:
        held.set()
        hold.wait(5)

    busy = asyncio.create_task(world.journal._store.commit(slow))
    await until(held.is_set)
    order_no = request().order_no
    callers = [asyncio.create_task(world.debit(request(order_no=order_no))) for _ in range(3)]
    await until(lambda: world.journal._store._queue.qsize() == len(callers))  # type: ignore[attr-defined]  # a Store
    hold.set()
    told = await asyncio.gather(*callers, return_exceptions=True)
    await busy
    paid = [row for row in told if isinstance(row, Transaction)]
    refused = [error for error in told if isinstance(error, YikatongError)]
    assert [row.state for row in paid] == [State.APPROVED]
    assert [error.reason for error in refused] == [Reason.ORDER_IN_PROGRESS] * 2
    assert {error.facts["transaction_id"] for error in refused} == {paid[0].transaction_id}, "it can be asked for"


async def test_a_decline_is_final_and_frees_the_order(world: World) -> None:
    world.far_end.balance_fen = 10
    asked = request()
    told = await world.debit(asked)
    assert (told.state, told.why) == (State.DECLINED, Reason.INSUFFICIENT_BALANCE)
    world.far_end.balance_fen = 100_000
    assert (await world.debit(asked)).state is State.DECLINED
    assert (await world.debit(request(order_no=asked.order_no))).state is State.APPROVED


async def test_a_card_that_fails_refuses_before_anything_is_written(world: World) -> None:
    world.desk.refusal = YikatongError(Reason.PIN_WRONG, tries_left=3)
    with pytest.raises(YikatongError) as caught:
        await world.debit(request())
    assert (caught.value.reason, caught.value.facts["tries_left"]) == (Reason.PIN_WRONG, 3)
    refused = world.runner.refused(str(caught.value.facts["transaction_id"]))
    assert refused is not None
    assert (refused.state, refused.why) == (State.ABORTED, Reason.PIN_WRONG)
    assert (await world.journal.head()).number == 0
    assert world.far_end.calls == []


@pytest.mark.parametrize("reason", [Reason.CARD_CHANGED, Reason.CARD_REMOVED])
async def test_a_card_that_was_swapped_after_it_was_read_refuses_before_anything_is_written(
    world: World, reason: Reason
) -> None:
    world.desk.swapped = YikatongError(reason)
    with pytest.raises(YikatongError) as caught:
        await world.debit(request())
    assert caught.value.reason is reason
    assert (await world.journal.head()).number == 0
    assert world.far_end.calls == []
    world.desk.swapped = None
    assert (await world.debit(request())).state is State.APPROVED


async def test_a_swap_while_the_cards_older_debit_is_settled_is_noticed(world: World) -> None:
    """The last wait before money is asked for: what happens in it must not go unseen."""
    world.far_end.line = Lost("debit", "enquire", "reverse", times=10_000)
    older = await world.debit(request(), patience_s=0.01)
    assert older.state is State.REVERSING
    newer = asyncio.create_task(world.debit(request()))
    await until(lambda: world.desk.visits == 2)
    world.desk.swapped = YikatongError(Reason.CARD_REMOVED)
    world.far_end.line = lambda method: None
    with pytest.raises(YikatongError) as caught:
        await newer
    assert caught.value.reason is Reason.CARD_REMOVED
    assert (await world.settled(older)).state is State.REVERSED


async def test_one_card_has_one_open_debit(world: World) -> None:
    world.far_end.line = Lost("debit", "enquire", "reverse", times=10_000)
    told = await world.debit(request(), patience_s=0.01)
    assert told.state is State.REVERSING
    with pytest.raises(YikatongError) as caught:
        await world.debit(request())
    assert caught.value.reason is Reason.TOO_MANY_UNRESOLVED
    assert caught.value.facts["other_transaction"] == told.transaction_id
    world.far_end.line = lambda method: None
    assert (await world.debit(request())).state is State.APPROVED, "it waits for one attempt to reverse the old one"


async def test_every_approval_costs_three_commits(world: World) -> None:
    told = await world.debit(request())
    await world.settled(told)
    head = await world.journal.head()
    assert head.number == 3, "sent; approved and to be confirmed; confirmation acknowledged"
    assert isinstance(world.far_end.answers[told.transaction_id], Posted)
