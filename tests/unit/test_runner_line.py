"""The runner on a bad line: lost, late, undecided and unfit answers, and reversals that were promised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.far_end import Lost
from tests.support.rows import request
from tests.support.runner_world import GRANTED, World, fresh, until
from yikatong.core.orders import (
    Accepted,
    Conflict,
    Fenced,
    Tombstoned,
    Undecided,
    Unfit,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.session import Granted
from yikatong.core.terminal_table import State
from yikatong.core.values import TransactionId
from yikatong.terminal.live import ask_later


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with fresh(tmp_path) as made:
        yield made


@pytest.mark.parametrize("where", ["line", "back"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_lost_call_is_sent_again_and_moves_money_once(world: World, where: str, times: int) -> None:
    setattr(world.far_end, where, Lost("debit", times=times))
    told = await world.debit(request())
    assert told.state is State.APPROVED
    assert world.far_end.calls.count("debit") == times + 1
    assert world.far_end.balance_fen == 96_350


@pytest.mark.parametrize("where", ["line", "back"])
async def test_no_answer_in_time_is_reversed(world: World, where: str) -> None:
    setattr(world.far_end, where, Lost("debit", times=10_000))
    told = await world.debit(request())
    assert told.state is State.REVERSED
    assert told.why is Reason.NO_ANSWER_IN_TIME
    assert world.far_end.balance_fen == 100_000


async def test_pending_says_that_it_will_be_reversed_while_the_line_is_dead(world: World) -> None:
    world.far_end.line = Lost("debit", "enquire", "reverse", times=10_000)
    told = await world.debit(request())
    assert told.state is State.REVERSING
    on_disk = await world.journal.by_id(told.transaction_id)
    assert on_disk is not None
    assert on_disk.state is State.REVERSING, "durable before it was told"
    world.far_end.line = lambda method: None
    assert (await world.settled(told)).state is State.REVERSED


async def test_an_undecided_far_end_is_asked_not_sent_to_again(world: World) -> None:
    world.far_end.decide = lambda order: Undecided()
    asking = asyncio.create_task(world.debit(request()))
    await until(lambda: world.far_end.calls.count("enquire") >= 2)
    transaction_id = next(iter(world.far_end.answers))
    live = world.runner._live[TransactionId(transaction_id)]
    assert live.order is not None
    world.far_end.answers[transaction_id] = world.far_end._post(live.order)
    told = await asking
    assert told.state is State.APPROVED
    assert world.far_end.calls.count("debit") == 1


@pytest.mark.parametrize("answer", [Unfit(), Conflict()])
async def test_an_answer_that_does_not_fit_is_reversed(world: World, answer: Any) -> None:
    world.far_end.decide = lambda order: answer
    told = await world.debit(request())
    assert (told.state, told.why) == (State.REVERSED, Reason.ANSWER_DOES_NOT_FIT)


async def test_a_fenced_terminal_neither_debits_nor_reverses(world: World) -> None:
    fenced = list[bool]()
    world.session.fence = lambda: fenced.append(True)
    world.far_end.decide = lambda order: Fenced()
    with pytest.raises(YikatongError) as caught:
        await world.debit(request())
    assert caught.value.reason is Reason.TERMINAL_SUPERSEDED
    assert caught.value.facts["outcome"] == "PENDING"
    assert world.left == [Reason.TERMINAL_SUPERSEDED]
    assert fenced
    assert "reverse" not in world.far_end.calls


async def test_a_promised_reversal_is_asked_about_until_it_is_done(world: World) -> None:
    world.far_end.back = Lost("debit", times=10_000)
    world.far_end.reversal = Accepted()
    told = await world.debit(request())
    assert told.state is State.ACCEPTED
    await until(lambda: world.far_end.calls.count("reverse") >= 3)  # nobody nudges, the link was never down
    world.far_end.reversal = Tombstoned("T")
    assert (await world.settled(told)).state is State.REVERSED


def test_a_city_that_comes_back_is_asked_within_five_minutes() -> None:
    pauses = [ask_later(asked) for asked in range(1, 1_000)]
    assert pauses[:5] == [30.0, 60.0, 120.0, 240.0, 240.0]
    assert set(pauses[5:]) == {240.0}


async def test_a_link_that_goes_down_while_the_card_is_read_refuses(world: World) -> None:
    answers = iter([GRANTED])

    def require() -> Granted:
        for granted in answers:
            return granted
        raise YikatongError(Reason.GATEWAY_UNREACHABLE)

    world.session.require = require
    with pytest.raises(YikatongError) as caught:
        await world.debit(request())
    assert caught.value.reason is Reason.GATEWAY_UNREACHABLE
    assert world.desk.visits == 1
    assert (await world.journal.head()).number == 0
