"""A row in MANUAL from dispute to end: a real daemon, a real gateway, two operators; the books agree after it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.gateway_world import BALANCE_FEN, FAR, HERE, PHARMACY, TERMINAL, World, order, payer, world
from tests.support.operators import asked, ops
from tests.support.terminal_world import ClockOff, Daemon, daemon
from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.core.orders import Confirmed, Posted, Purpose, ReversalCause
from yikatong.core.reasons import Reason
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.values import RequestId, TransactionId
from yikatong.runtime.clock import SystemClock, accounting_date
from yikatong.runtime.leg import Patience
from yikatong.terminal.journal import Journal
from yikatong.terminal.live import Limits
from yikatong.terminal.reconciliation import Outcome

FAR_PERSON, NEAR_PERSON = 1, 2
DEBIT_FEN = 3_650
QUICK = Limits(
    Patience(total_s=2.0, call_s=1.0, resend_s=0.05, enquire_s=0.05),
    lambda attempt: 0.1,
    grace_s=1.0,
    ask_later=lambda asked: 0.1,
)
TOMORROW, TODAY = ClockOff(timedelta(days=1)), accounting_date(SystemClock().now())


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def restored(province: World, port: int, person: int) -> Transaction:
    """A debit that was paid and confirmed, in a journal that was restored from before it was told: it says SENT."""
    channel = province.channel(port)
    stub = gateway_pb2_grpc.GatewayServiceStub(channel.channel)
    signed = await stub.SignIn(gateway_pb2.SignInRequest(terminal_id=TERMINAL))
    folder = province.folder / "terminal"
    folder.mkdir()
    journal = Journal(folder / "journal.db")
    try:
        await journal.grant(signed.epoch)
        row = Transaction(
            transaction_id=TransactionId(str(uuid.uuid4())),
            request_id=RequestId(str(uuid.uuid4())),
            order_no=f"bill-{person}",
            order_part="",
            amount_fen=DEBIT_FEN,
            purpose=Purpose.PHARMACY_PURCHASE,
            state=State.SENT,
            institution=PHARMACY.code,
            treatment_region=HERE.code,
            epoch=signed.epoch,
            created_at=SystemClock().now().isoformat(),
            cause=ReversalCause.RECOVERY.name,
        )
        sealed = journal.vault.seal(payer(person), transaction_id=row.transaction_id)
        made = order(
            person, transaction_id=row.transaction_id, request_id=row.request_id, order_no=row.order_no,
            epoch=row.epoch, sequence=1,
        )  # fmt: skip
        row = await journal.record(replace(row, payer_sealed=sealed, fingerprint=made.fingerprint.hex()))
        assert row.sequence == 1
    finally:
        await journal.close()
    link = province.link(port)
    assert isinstance(await link.debit(made, attempt=1, ttl_ms=9_000), Posted)
    assert await link.confirm(made) == Confirmed()
    return row


async def row_of(running: Daemon, row: Transaction, *states: State) -> Transaction:
    """The journal's row, once it is in one of these states."""
    async with asyncio.timeout(30):
        while (found := await running.terminal.journal.by_id(row.transaction_id)) is None or found.state not in states:
            await asyncio.sleep(0.02)
        return found


@pytest.mark.parametrize("person", [FAR_PERSON, NEAR_PERSON])
@pytest.mark.parametrize("decision", ["confirm", "reverse"])
async def test_the_terminal_learns_the_decision_and_the_books_agree(
    province: World, person: int, decision: str
) -> None:
    resolve = ["--decision", decision, "--reason", "与药店核实"]
    async with province.gateway() as port:
        row = await restored(province, port, person)
        async with daemon(province, port, limits=QUICK) as running:
            manual = await row_of(running, row, State.MANUAL)
            assert manual.why is Reason.NEEDS_OPERATOR
            for name in ("operator-ann", "operator-ben"):
                assert (await running.terminal.journal.by_id(row.transaction_id)) == manual, "one is not enough"
                await asked(province, port, "resolve", row.transaction_id, *resolve, name=name)
            done = await row_of(running, row, State.APPROVED, State.REVERSED)
            if decision == "confirm":
                assert (done.state, done.why) == (State.APPROVED, Reason.UPHELD_BY_OPERATORS)
                assert (done.accounting_date, done.balance_fen) == (TODAY, BALANCE_FEN - DEBIT_FEN)
                assert done.home_region == (FAR if person == FAR_PERSON else HERE).code
            else:
                assert (done.state, done.why) == (State.REVERSED, Reason.REVERSED_BY_OPERATORS)
            assert done.reference
        status, _, _ = await ops(province, port, "unresolved")
        assert status == 0
    async with (
        province.gateway(clock=TOMORROW) as port,
        daemon(province, port, clock=TOMORROW, limits=QUICK) as running,
    ):
        assert await running.terminal.reconciliation.with_gateway(TODAY) is Outcome.EQUAL
        assert (await ops(province, port, "reconcile", "--date", TODAY))[0] == 0
        assert (await ops(province, port, "audit"))[0] == 0
        account = await province.link(port).account(payer(person), None)
        assert account.balance.count == BALANCE_FEN - (DEBIT_FEN if decision == "confirm" else 0)
        assert await running.terminal.journal.prove() > 0
