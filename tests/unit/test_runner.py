"""The runner against an honest far end on a dishonest line: what is told is what is true, once."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import apsw
import pytest

from tests.support.far_end import FarEnd, Lost
from tests.support.rows import PAYER, request
from yikatong.core.bill import Bill
from yikatong.core.card import CardAlgorithm, CardIdentity
from yikatong.core.orders import (
    Accepted,
    Conflict,
    Denied,
    Fenced,
    Posted,
    ReversalAnswer,
    Reversed,
    Tombstoned,
    Undecided,
    Unfit,
    WasDeclined,
)
from yikatong.core.reasons import Moved, Reason, YikatongError
from yikatong.core.session import Granted
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.values import PersonName, TransactionId
from yikatong.runtime.clock import SystemClock
from yikatong.runtime.leg import Patience
from yikatong.runtime.store import StoreFailed
from yikatong.terminal.desk import Desk, Presented
from yikatong.terminal.events import Hub
from yikatong.terminal.journal import Journal
from yikatong.terminal.live import Limits, ask_later
from yikatong.terminal.runner import UNRESOLVED_MAX, Runner
from yikatong.terminal.session import Session
from yikatong.terminal.stages import Stage

IDENTITY = CardIdentity(
    atr=bytes(17),
    algorithm=CardAlgorithm.TRIPLE_DES,
    identification_code=PAYER.identification_code,
    spec_version="2.00",
    card_number=PAYER.card_number,
    social_security_number=PAYER.social_security_number,
    name=PersonName("张测试"),
    issue_date="2025-01-01",
    expiry_date="2035-01-01",
)
GRANTED = Granted(1, datetime.now(UTC), "P99000200001", "测试药店", "990002", "1", "2", "2026-01-02")
HASTY = Limits(
    Patience(total_s=0.4, call_s=0.3, resend_s=0.02, enquire_s=0.02),
    lambda attempt: 0.02,
    grace_s=0.3,
    ask_later=lambda asked: 0.4,
)


class _Desk:
    """Card and PIN are not the subject here: the same person comes every time, or nobody."""

    def __init__(self) -> None:
        self.gate: asyncio.Event | None = None
        self.refusal: YikatongError | None = None
        self.swapped: YikatongError | None = None
        self.visits = 0

    @asynccontextmanager
    async def identify(self, *, wait_ms: int, stage: Callable[[Stage], None]) -> AsyncIterator[Presented]:
        self.visits += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        yield Presented(IDENTITY, self._same_card)

    async def _same_card(self) -> None:
        if self.swapped is not None:
            raise self.swapped


class World:
    def __init__(self, folder: Path, far_end: FarEnd) -> None:
        self.far_end, self.desk, self.left = far_end, _Desk(), list[Reason]()
        self.journal = Journal(folder / "journal.db")
        self.session = SimpleNamespace(terminal_id="P99000200001-01", require=lambda: GRANTED, fence=lambda: None)
        self.runner = Runner(
            self.journal,
            far_end,
            cast("Session", self.session),
            cast("Desk", self.desk),
            Hub(),
            SystemClock(),
            leave=self.left.append,
            limits=HASTY,
        )

    async def debit(self, asked: Transaction, patience_s: float | None = None) -> Transaction:
        return await self.runner.debit(asked, Bill(), wait_ms=0, patience_s=patience_s)

    async def settled(self, row: Transaction) -> Transaction:
        """The row once nothing more happens to it."""
        async with asyncio.timeout(5):
            while (live := self.runner._live.get(row.transaction_id)) is not None:
                await live.changed.wait()
        found = await self.journal.by_id(row.transaction_id)
        assert found is not None
        return found

    async def close(self) -> None:
        await self.runner.close()
        await self.journal.close()


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until it is so."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, FarEnd())
    yield made
    await made.close()


@asynccontextmanager
async def restarted(world: World, folder: Path) -> AsyncIterator[World]:
    """The same disk and the same far end under a new daemon."""
    await world.close()
    made = World(folder, world.far_end)
    await made.runner.recover()
    try:
        yield made
    finally:
        await made.close()


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


async def test_every_approval_costs_three_commits(world: World) -> None:
    told = await world.debit(request())
    await world.settled(told)
    head = await world.journal.head()
    assert head.number == 3, "sent; approved and to be confirmed; confirmation acknowledged"
    assert isinstance(world.far_end.answers[told.transaction_id], Posted)


# --- what two persons decide ------------------------------------------------------------------------------------

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
