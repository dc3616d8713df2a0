"""The terminal's credits against an honest far end on a dishonest line: begun once, pushed on, told as decided."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import apsw
import pytest

from tests.support.far_end import FarEnd, Lost
from tests.support.rows import PAYER, order, row
from yikatong.core.credit_orders import CreditAccepted, CreditDeclined, CreditKind
from yikatong.core.credit_receipt import credit_receipt
from yikatong.core.credit_table import CreditState
from yikatong.core.credit_transaction import Credit
from yikatong.core.orders import Conflict, Unfit
from yikatong.core.reasons import Moved, Reason, Retry, YikatongError
from yikatong.core.receipt import WIDTH, Issuer, as_text, columns
from yikatong.core.session import Granted
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.runtime.clock import SystemClock
from yikatong.runtime.leg import LinkDown, Patience
from yikatong.runtime.store import StoreFailed
from yikatong.terminal.credits import Credits
from yikatong.terminal.events import Hub
from yikatong.terminal.journal import Journal
from yikatong.terminal.live import Limits
from yikatong.terminal.runner import Runner
from yikatong.terminal.session import Session
from yikatong.terminal.who_pays import WhoPays

GRANTED = Granted(1, datetime.now(UTC), "P99000200001", "测试药店", "990002", "1", "2", "2026-01-02")
HASTY = Limits(
    Patience(total_s=0.4, call_s=0.3, resend_s=0.02, enquire_s=0.02), lambda attempt: 0.02, grace_s=0.1,
    ask_later=lambda asked: 30.0,
)  # fmt: skip
ISSUER = Issuer("测试药店", "P99000200001-01", "12393", "0531-7654321")


class World:
    def __init__(self, folder: Path, far_end: FarEnd) -> None:
        self.far_end, self.left, self.folder = far_end, list[Reason](), folder
        self.journal = Journal(folder / "journal.db")
        self.refusal: YikatongError | None = None
        session = cast("Session", SimpleNamespace(terminal_id="P99000200001-01", fenced=False, require=self.require))
        hub, clock = Hub(), SystemClock()
        self.runner = Runner(
            self.journal, far_end, session, cast("WhoPays", None), hub, clock, leave=self.left.append, limits=HASTY
        )
        self.credits = Credits(
            self.journal, far_end, session, self.runner, hub, clock, leave=self.left.append, limits=HASTY
        )

    def require(self) -> Granted:
        if self.refusal is not None:
            raise self.refusal
        return GRANTED

    async def paid(self, state: State = State.APPROVED, **changes: Any) -> Transaction:
        """A debit in the journal and at the far end, confirmed there unless `confirm_acknowledged` is denied."""
        debit = order()
        kept = replace(
            row(state),
            institution=debit.institution.code,
            treatment_region=debit.treatment_region.code,
            transaction_id=debit.transaction_id,
            request_id=debit.request_id,
            order_no=debit.order_no,
            payer_sealed=self.journal.vault.seal(PAYER, transaction_id=debit.transaction_id),
            **{"confirm_acknowledged": True, "confirmed": True, **changes},
        )
        answer = await self.far_end.debit(debit, attempt=1, ttl_ms=1)
        assert answer
        if kept.confirm_acknowledged:
            await self.far_end.confirm(debit)
        return await self.journal.record(kept)

    async def refund(self, debit: str, fen: int = 1_000, *, request_id: str = "", patience_s: float = 5.0) -> Credit:
        name = RequestId(request_id or str(uuid.uuid4()))
        return await self.credits.refund(TransactionId(debit), name, Fen(fen), patience_s=patience_s)

    async def cancel(self, debit: str, *, request_id: str = "", patience_s: float = 5.0) -> Credit | Transaction:
        name = RequestId(request_id or str(uuid.uuid4()))
        return await self.credits.cancel(TransactionId(debit), name, patience_s=patience_s)

    async def settled(self, transaction_id: str) -> Credit:
        async with asyncio.timeout(5):
            while any(open_row.transaction_id == transaction_id for open_row in self.credits.open_rows()):
                await asyncio.sleep(0.001)
        found = await self.journal.credits.by_id(transaction_id)
        assert found is not None
        return found

    async def again(self) -> World:
        """The next process over the same journal."""
        await self.close()
        made = World(self.folder, self.far_end)
        await made.journal.prove()
        await made.runner.recover()
        await made.credits.recover()
        return made

    async def close(self) -> None:
        await self.credits.close()
        await self.runner.close()
        await self.journal.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, FarEnd())
    yield made
    await made.close()


async def test_a_refund_and_a_cancellation_are_told_as_decided_and_kept(world: World) -> None:
    debit, other = await world.paid(), await world.paid()
    credit = await world.refund(debit.transaction_id, 1_000)
    assert (credit.state, credit.refundable_fen) == (CreditState.APPROVED, 2_650)
    assert credit.balance_fen == world.far_end.balance_fen
    cancelled = await world.cancel(other.transaction_id)
    assert (cancelled.kind, cancelled.amount_fen, cancelled.refundable_fen) == (CreditKind.CANCELLATION, 3_650, 0)
    assert await world.journal.prove() == 6
    assert list(await world.journal.credits.of(debit.transaction_id)) == [credit]
    assert await world.journal.credits.given_back([debit.transaction_id, "x"]) == {debit.transaction_id: 1_000}
    newest = await world.journal.credits.newest(9, open_only=False)
    assert [shown.transaction_id for shown in newest] == [
        cancelled.transaction_id, credit.transaction_id, other.transaction_id, debit.transaction_id
    ]  # fmt: skip
    page = await world.journal.credits.newest(2, open_only=False, before=credit.transaction_id)
    assert [shown.transaction_id for shown in page] == [other.transaction_id, debit.transaction_id]
    assert not world.credits.open_rows()


async def test_the_same_request_is_the_same_answer_and_one_credit(world: World) -> None:
    debit = await world.paid()
    first = await asyncio.gather(*(world.refund(debit.transaction_id, request_id="r") for _ in range(4)))
    assert len({credit.transaction_id for credit in first}) == 1
    assert await world.refund(debit.transaction_id, request_id="r") == first[0]
    assert world.far_end.given_fen == {debit.transaction_id: 1_000}
    assert (await (await world.again()).refund(debit.transaction_id, request_id="r")) == first[0]


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (lambda w, d, o: w.refund(d, 1_001, request_id="r"), "amount_fen"),
        (lambda w, d, o: w.refund(o, 1_000, request_id="r"), "transaction_id"),
        (lambda w, d, o: w.cancel(d, request_id="r"), "kind"),
    ],
)
async def test_other_content_under_the_request_id_names_the_field(
    world: World, ask: Callable[[World, str, str], Any], field: str
) -> None:
    debit, other = await world.paid(), await world.paid()
    known = await world.refund(debit.transaction_id, 1_000, request_id="r")
    with pytest.raises(YikatongError) as error:
        await ask(world, debit.transaction_id, other.transaction_id)
    assert error.value.reason is Reason.REQUEST_ID_REUSED
    assert error.value.facts == {"field": field, "transaction_id": known.transaction_id, "outcome": "MOVED"}


async def test_debits_and_credits_share_their_request_ids(world: World) -> None:
    debit = await world.paid()
    with pytest.raises(YikatongError) as error:
        await world.refund(debit.transaction_id, request_id=debit.request_id)
    assert (error.value.reason, error.value.facts["field"]) == (Reason.REQUEST_ID_REUSED, "kind")
    await world.refund(debit.transaction_id, request_id="mine")
    with pytest.raises(YikatongError) as error:
        await world.journal.known("mine", "another order", "")
    assert (error.value.reason, error.value.facts["field"]) == (Reason.REQUEST_ID_REUSED, "kind")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.REVERSED, Reason.ALREADY_REVERSED),
        (State.REVERSING, Reason.ALREADY_REVERSED),
        (State.ACCEPTED, Reason.ALREADY_REVERSED),
        (State.MANUAL, Reason.NOT_CANCELLABLE),
        (State.DECLINED, Reason.NOT_CANCELLABLE),
    ],
)
async def test_what_is_not_paid_is_not_given_back(world: World, state: State, reason: Reason) -> None:
    debit = await world.paid(state)
    for ask in (world.cancel(debit.transaction_id), world.refund(debit.transaction_id)):
        with pytest.raises(YikatongError) as error:
            await ask
        assert error.value.reason is reason
        assert error.value.meaning.moved is Moved.NOT_MOVED
    assert not await world.journal.credits.of(debit.transaction_id)


def held() -> dict[str, Any]:
    """What a debit has that waits for its confirmation, under this boot."""
    clock = SystemClock()
    later_ms = clock.boot_ms() + 3_600_000
    return {
        "confirmed": False,
        "confirm_acknowledged": False,
        "confirm_within_ms": 3_600_000,
        "confirm_by_boot_ms": later_ms,
        "created_boot_ms": clock.boot_ms(),
        "boot_id": clock.boot_id,
    }


@pytest.mark.parametrize("state", [State.HELD, State.SENT])
async def test_cancelling_a_debit_that_is_not_final_reverses_it(world: World, state: State) -> None:
    world.far_end.line = _only("reverse")
    debit = await world.paid(state, **held())
    await world.runner.recover()
    taken_back = await world.cancel(debit.transaction_id)
    assert isinstance(taken_back, Transaction)
    assert (taken_back.transaction_id, taken_back.state) == (debit.transaction_id, State.REVERSED)
    assert taken_back.why is Reason.CANCELLED_BY_CALLER
    assert world.far_end.balance_fen == 100_000
    assert not await world.journal.credits.of(debit.transaction_id)
    assert await world.cancel(debit.transaction_id) == taken_back
    with pytest.raises(YikatongError) as error:
        await world.runner.confirm(debit.transaction_id)
    assert (error.value.reason, error.value.facts["resolves_to"]) == (Reason.CONFIRM_TOO_LATE, "REVERSED")


async def test_of_confirmation_and_cancellation_the_first_that_is_durable_wins(world: World) -> None:
    debit = await world.paid(State.HELD, **held())
    await world.runner.recover()
    confirmed, cancelled = await asyncio.gather(
        world.runner.confirm(debit.transaction_id), world.cancel(debit.transaction_id)
    )
    assert confirmed.state is State.APPROVED
    assert isinstance(cancelled, Credit)
    assert (cancelled.kind, cancelled.state) == (CreditKind.CANCELLATION, CreditState.APPROVED)
    assert world.far_end.undone == set()


async def test_a_refund_waits_for_the_confirmation(world: World) -> None:
    debit = await world.paid(State.HELD, **held())
    with pytest.raises(YikatongError) as error:
        await world.refund(debit.transaction_id)
    assert error.value.reason is Reason.NOT_CANCELLABLE


async def test_what_needs_no_ledger_is_refused_before_anything_is_begun(world: World) -> None:
    debit, test_debit = await world.paid(), await world.paid(self_test=True)
    for name in ("00000000-0000-7000-8000-000000000000", test_debit.transaction_id):
        with pytest.raises(YikatongError) as error:
            await world.refund(name)
        assert error.value.reason is Reason.TRANSACTION_NOT_FOUND
    with pytest.raises(YikatongError) as error:
        await world.refund(debit.transaction_id, 3_651)
    assert error.value.reason is Reason.REFUND_EXCEEDS_DEBIT
    world.refusal = YikatongError(Reason.GATEWAY_UNREACHABLE)
    with pytest.raises(YikatongError) as error:
        await world.refund(debit.transaction_id)
    assert error.value.reason is Reason.GATEWAY_UNREACHABLE
    assert world.far_end.attempts == []


async def test_a_decline_is_told_with_its_reason_and_never_asked_again(world: World) -> None:
    debit = await world.paid()
    await world.refund(debit.transaction_id, 3_000)
    declined = await world.refund(debit.transaction_id, 3_000, request_id="r")
    assert (declined.state, declined.why) == (CreditState.DECLINED, Reason.REFUND_EXCEEDS_DEBIT)
    asked = len(world.far_end.attempts)
    assert await world.refund(debit.transaction_id, 3_000, request_id="r") == declined
    assert len(world.far_end.attempts) == asked
    assert await world.journal.credits.given_back([debit.transaction_id]) == {debit.transaction_id: 3_000}


@pytest.mark.parametrize("side", ["line", "back"])
async def test_a_bad_line_only_delays_it(world: World, side: str) -> None:
    debit = await world.paid()
    setattr(world.far_end, side, Lost("credit", times=3))
    credit = await world.refund(debit.transaction_id)
    assert credit.state is CreditState.APPROVED
    assert world.far_end.attempts == [1, 2, 3, 4]
    assert world.far_end.given_fen == {debit.transaction_id: 1_000}


async def test_the_confirmation_goes_before_it(world: World) -> None:
    debit = await world.paid(confirm_acknowledged=False)
    world.far_end.line = Lost("confirm", times=2)
    assert (await world.refund(debit.transaction_id)).state is CreditState.APPROVED
    assert world.far_end.calls[-1] == "credit"
    assert debit.transaction_id in world.far_end.confirmed


async def test_a_caller_whose_time_is_up_hears_pending_and_it_goes_on(world: World) -> None:
    debit, gate = await world.paid(), Lost("credit", times=10_000)
    world.far_end.line = gate
    credit = await world.refund(debit.transaction_id, request_id="r", patience_s=0.05)
    assert credit.state is CreditState.SENT
    assert [row.transaction_id for row in world.credits.open_rows()] == [credit.transaction_id]
    assert world.credits.attempts(credit.transaction_id) >= 1
    assert world.credits.attempts(debit.transaction_id) == 0
    gate.left = 0
    assert (await world.settled(credit.transaction_id)).state is CreditState.APPROVED
    assert (await world.refund(debit.transaction_id, request_id="r")).state is CreditState.APPROVED


async def test_a_caller_that_leaves_stops_nothing(world: World) -> None:
    debit = await world.paid()
    asking = asyncio.create_task(world.refund(debit.transaction_id, request_id="r"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await world.refund(debit.transaction_id, request_id="r")).state is CreditState.APPROVED
    assert world.far_end.given_fen == {debit.transaction_id: 1_000}


async def test_a_promise_is_pending_until_it_is_kept(world: World) -> None:
    debit = await world.paid()
    world.far_end.credit_says = CreditAccepted()
    credit = await world.refund(debit.transaction_id, request_id="r")
    assert credit.state is CreditState.ACCEPTED
    again = await world.refund(debit.transaction_id, request_id="r")
    assert (again.transaction_id, again.state) == (credit.transaction_id, CreditState.ACCEPTED)
    world.far_end.credit_says = None
    world.credits.nudge()
    assert (await world.settled(credit.transaction_id)).state is CreditState.APPROVED


@pytest.mark.parametrize("nonsense", [Conflict(), Unfit()])
async def test_an_answer_that_can_not_be_believed_decides_nothing(world: World, nonsense: Conflict | Unfit) -> None:
    debit = await world.paid()
    world.far_end.credit_says = nonsense
    credit = await world.refund(debit.transaction_id, request_id="r", patience_s=0.1)
    assert credit.state is CreditState.SENT
    world.far_end.credit_says = None
    assert (await world.refund(debit.transaction_id, request_id="r")).state is CreditState.APPROVED


@pytest.mark.parametrize("promised", [False, True])
async def test_a_restart_pushes_it_on_with_the_same_id(world: World, promised: bool) -> None:
    debit = await world.paid()
    if promised:
        world.far_end.credit_says = CreditAccepted()
    else:
        world.far_end.back = Lost("credit", times=10_000)  # carried out, and never answered
    credit = await world.refund(debit.transaction_id, request_id="r", patience_s=0.1)
    world.far_end.credit_says, world.far_end.back = None, lambda method: None
    before = len(world.far_end.attempts)
    later = await world.again()
    kept = await later.settled(credit.transaction_id)
    assert kept.state is CreditState.APPROVED
    assert world.far_end.attempts[before] > 1, "after a restart it is a repetition"
    assert world.far_end.given_fen == {debit.transaction_id: 1_000}
    await later.close()


async def test_a_beginning_whose_commit_failed_is_open_and_the_same_request_settles_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    debit = await world.paid()
    record = world.journal.credits.record

    async def written_but_unknown(row: Credit) -> None:
        await record(row)
        raise StoreFailed("unknown")

    monkeypatch.setattr(world.journal.credits, "record", written_but_unknown)
    with pytest.raises(YikatongError) as error:
        await world.refund(debit.transaction_id, request_id="r")
    assert error.value.reason is Reason.JOURNAL_UNAVAILABLE
    assert error.value.facts["outcome"] == Moved.PENDING.value
    assert error.value.facts["retry"] == Retry.SAME_REQUEST.value
    assert world.left == [Reason.JOURNAL_UNAVAILABLE]
    assert world.far_end.attempts == [], "nothing is sent that is not durable"
    with pytest.raises(YikatongError):
        await world.cancel(debit.transaction_id)
    later = await world.again()
    assert (await later.refund(debit.transaction_id, request_id="r")).state is CreditState.APPROVED
    assert world.far_end.given_fen == {debit.transaction_id: 1_000}
    await later.close()


async def test_a_decision_that_can_not_be_recorded_is_not_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    debit = await world.paid()
    record = world.journal.credits.record

    async def fails(row: Credit) -> None:
        if row.state is CreditState.APPROVED:
            raise StoreFailed("full")
        await record(row)

    monkeypatch.setattr(world.journal.credits, "record", fails)
    with pytest.raises(YikatongError) as error:
        await world.refund(debit.transaction_id, request_id="r")
    assert error.value.facts["outcome"] == Moved.PENDING.value
    later = await world.again()
    assert (await later.refund(debit.transaction_id, request_id="r")).state is CreditState.APPROVED
    assert world.far_end.given_fen == {debit.transaction_id: 1_000}
    await later.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE credit SET amount_fen = 1",
        "UPDATE credit SET state = 'SENT', open = 1",
        "DELETE FROM credit",
        "UPDATE credit SET content = CAST(replace(CAST(content AS TEXT), '1000', '9000') AS BLOB)",
    ],
)
async def test_the_proof_covers_credits(world: World, damage: str) -> None:
    debit = await world.paid()
    await world.refund(debit.transaction_id)
    await world.close()
    with apsw.Connection(str(world.folder / "journal.db")) as connection:
        connection.execute(damage)
    connection.close()
    journal = Journal(world.folder / "journal.db")
    with pytest.raises(YikatongError) as error:
        await journal.prove()
    assert error.value.reason is Reason.JOURNAL_UNAVAILABLE
    await journal.close()


async def test_a_task_that_fails_ends_the_service(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    debit = await world.paid()

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(world.far_end, "credit", broken)
    await world.refund(debit.transaction_id, patience_s=0.05)
    assert world.left == [Reason.INTERNAL]


async def test_the_receipt_names_the_debit_and_what_is_left(world: World) -> None:
    debit = await world.paid(order_part="2", home_region="990001", home_city_zh="甲市", home_city_en="City A")
    credit = await world.refund(debit.transaction_id, 1_000)
    text = as_text(credit_receipt(credit, ISSUER))
    assert max(columns(line) for line in text.splitlines()) <= WIDTH
    joined = text.replace("\n  ", "")
    for part in (
        "退费凭条 / Refund",
        debit.transaction_id,
        "36.50 元",
        "10.00 元",
        "26.50 元",
        credit.reference,
        "(2)",
    ):
        assert part in joined, part
    closed = credit_receipt(replace(credit, balance_fen=None), ISSUER)
    assert any("账户已注销" in line.value for line in closed)
    declined = replace(credit, state=CreditState.DECLINED, reason=Reason.NOT_CANCELLABLE.value, order_part="")
    shown = [line.value for line in credit_receipt(declined, replace(ISSUER, institution_name=""))]
    assert "未退回 / Declined" in shown
    assert credit.reference not in shown
    assert CreditDeclined(Reason.NOT_CANCELLABLE).reason.value in shown


async def test_a_link_that_is_down_is_not_an_answer(world: World) -> None:
    debit = await world.paid()

    def down(method: str) -> None:
        raise LinkDown("down")

    world.far_end.line = down
    credit = await world.cancel(debit.transaction_id, patience_s=0.05)
    assert credit.state is CreditState.SENT
    await world.close()
    world.far_end.line = lambda method: None
    later = await world.again()
    assert (await later.settled(credit.transaction_id)).state is CreditState.APPROVED
    await later.close()


def _only(method: str) -> Callable[[str], None]:
    """A line that carries nothing else any more."""

    def line(asked: str) -> None:
        if asked not in {method, "debit", "confirm"}:
            raise LinkDown(asked)

    return line
