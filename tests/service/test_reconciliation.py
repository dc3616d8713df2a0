"""Reconciliation over real mTLS: a terminal's journal, the gateway, and a home city that is a process of its own.

The stores are real; what does not fit has been planted in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import grpc.aio
import pytest
import structlog.testing

from tests.gateway_world import FAR, HERE, OTHER_TERMINAL, PHARMACY, TERMINAL, World, order, payer, world
from tests.support.terminal_world import ClockOff, Daemon, command, daemon
from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.api.money.v1 import reconciliation_pb2 as wire
from yikatong.api.operations.v1 import reconciliation_pb2 as operations
from yikatong.api.operations.v1.reconciliation_pb2_grpc import ReconciliationServiceStub
from yikatong.api.terminal.v1 import terminal_pb2
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.orders import (
    AlreadyReversed,
    Confirmed,
    DebitOrder,
    Posted,
    Purpose,
    ReversalCause,
    Reversed,
    Undecided,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.reconciliation import Class
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.values import RequestId, TransactionId
from yikatong.runtime import edge
from yikatong.runtime.clock import SystemClock, accounting_date
from yikatong.terminal.gateway_client import MoneyLink
from yikatong.terminal.journal import Journal
from yikatong.terminal.reconciliation import Outcome
from yikatong.terminal.reconciliation_rpc import FOR_HIS

FAR_PERSON, NEAR_PERSON = 1, 2
TTL = 30_000
TOMORROW = ClockOff(timedelta(days=1))
TODAY = accounting_date(SystemClock().now())
"""The date on which the tests debit; it is over by the clock TOMORROW."""


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


@dataclass
class Counter:
    """A terminal's counter yesterday: debits that really go to the gateway, and a journal that says what it likes."""

    journal: Journal
    link: MoneyLink
    epoch: int
    orders: dict[str, DebitOrder] = field(default_factory=dict)

    async def debit(self, person: int, told: State | None, **changes: object) -> DebitOrder:
        """Posts a debit and writes `told` into the journal; None: the journal knows nothing of it.

        `journal_order`: the order as the journal has it, where that is not the gateway's.
        """
        row = Transaction(
            transaction_id=TransactionId(str(uuid.uuid4())),
            request_id=RequestId(str(uuid.uuid4())),
            order_no=str(changes.pop("journal_order", f"bill-{uuid.uuid4()}")),
            order_part="",
            amount_fen=3_650,
            purpose=Purpose.PHARMACY_PURCHASE,
            state=State.SENT,
            institution=PHARMACY.code,
            treatment_region=HERE.code,
            epoch=self.epoch,
            created_at=SystemClock().now().isoformat(),
        )
        sealed = self.journal.vault.seal(payer(person), transaction_id=row.transaction_id)
        row = replace(row, payer_sealed=sealed)
        if told is not None:
            row = await self.journal.record(row)
        made = order(
            person, transaction_id=row.transaction_id, request_id=row.request_id, epoch=self.epoch,
            sequence=row.sequence, **{"order_no": row.order_no, **changes},
        )  # fmt: skip
        answer = await self.link.debit(made, attempt=1, ttl_ms=TTL)
        if told is not None:
            row = replace(row, fingerprint=made.fingerprint.hex(), state=told)
            if isinstance(answer, Posted) and told is State.APPROVED:
                row = replace(row.learned(answer), confirmed=True, confirm_acknowledged=True)
            await self.journal.record(row)
        self.orders[row.transaction_id] = made
        return made

    async def says(self, transaction_id: str, **changes: object) -> None:
        """The journal's newest row says something else."""
        row = await self.journal.by_id(transaction_id)
        assert row is not None
        await self.journal.record(replace(row, **changes))  # type: ignore[arg-type]  # fields of a row


@contextlib.asynccontextmanager
async def counter(province: World, port: int) -> AsyncIterator[Counter]:
    channel = province.channel(port)
    signed = await gateway_pb2_grpc.GatewayServiceStub(channel.channel).SignIn(
        gateway_pb2.SignInRequest(terminal_id=TERMINAL)
    )
    folder = province.folder / "terminal"
    folder.mkdir(exist_ok=True)
    journal = Journal(folder / "journal.db")
    await journal.grant(signed.epoch)
    try:
        yield Counter(journal, province.link(port), signed.epoch)
    finally:
        await journal.close()


def change(path: Path, *statements: tuple[str, Sequence[object]]) -> None:
    """Plants something in a store whose process is down; what guards its rows is taken away and put back."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        guards = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        for sql, values in statements:
            assert connection.execute(sql, values).rowcount > 0, sql
        for _, sql in guards:
            connection.execute(sql)


async def listed(province: World, port: int, *, settled: bool = False) -> dict[str, operations.ListedDifference]:
    stub = ReconciliationServiceStub(province.channel(port, "operator-1").channel)
    answer = await stub.ListDifferences(operations.ListDifferencesRequest(settled=settled))
    return {difference.difference.transaction_id: difference for difference in answer.differences}


def classes(found: dict[str, operations.ListedDifference]) -> dict[str, str]:
    return {key: f"R{value.difference.difference_class}" for key, value in found.items()}


def operator(province: World, port: int) -> list[str]:
    identity = province.ca.client("operator-1")
    return [
        "--gateway", f"localhost:{port}", "--authority", str(identity.authority),
        "--certificate", str(identity.certificate), "--key", str(identity.key),
    ]  # fmt: skip


# --- terminal and gateway ---------------------------------------------------------------------------------------


async def test_a_day_that_agrees_is_kept_as_equal_and_not_asked_about_again(province: World) -> None:
    async with province.gateway() as port, counter(province, port) as till:
        for person in (FAR_PERSON, NEAR_PERSON, FAR_PERSON):
            await till.debit(person, State.APPROVED)
        await till.debit(FAR_PERSON, State.DECLINED, amount_fen=100_000_000)  # declined on both sides
    async with province.gateway(clock=TOMORROW) as port, daemon(province, port, clock=TOMORROW) as running:
        reconciliation = running.terminal.reconciliation
        assert await running.terminal.journal.unreconciled_dates(reconciliation.today) == [TODAY]
        assert await reconciliation.with_gateway(reconciliation.today) is Outcome.NOT_YET
        assert await reconciliation.catch_up()
        assert await running.terminal.journal.unreconciled_dates(reconciliation.today) == []
        stub = ReconciliationServiceStub(province.channel(port, "operator-1").channel)
        kept = await stub.ListReconciliations(operations.ListReconciliationsRequest(accounting_date=TODAY))
        (day,) = kept.reconciliations
        assert (day.party, day.name, day.outcome, day.differences) == (
            operations.PARTY_TERMINAL, TERMINAL, operations.RECONCILIATION_OUTCOME_EQUAL, 0,
        )  # fmt: skip
        assert day.told == day.booked
        assert [(total.count, total.amount_fen) for total in day.told.kinds] == [(3, 3 * 3_650)]
        assert await listed(province, port) == {}


async def test_all_six_classes_planted_in_the_stores_are_found_and_one_is_repaired(province: World) -> None:
    planted: dict[str, str] = {}
    async with province.gateway() as port, counter(province, port) as till:
        for person in (FAR_PERSON, NEAR_PERSON):
            await till.debit(person, State.APPROVED)  # they agree
            loss = await till.debit(person, State.APPROVED)
            assert isinstance(await till.link.reverse(loss, ReversalCause.TIMEOUT), Reversed)
            planted[loss.transaction_id] = "R1"
            told_not_paid = await till.debit(person, State.DECLINED)
            planted[told_not_paid.transaction_id] = "repaired"
            confirmed = await till.debit(person, State.REVERSED)
            assert await till.link.confirm(confirmed) == Confirmed()
            planted[confirmed.transaction_id] = "R2"  # a reversal is denied: it goes to a person
            tampered = await till.debit(person, State.APPROVED)
            await till.says(tampered.transaction_id, amount_fen=1)
            planted[tampered.transaction_id] = "R4"
            first = await till.debit(person, State.APPROVED)
            again = await till.debit(person, State.APPROVED, journal_order=first.order_no, order_no=f"not-{person}")
            planted[max(first.transaction_id, again.transaction_id)] = "R6"
            planted[f"order of {again.transaction_id}"] = first.order_no
        lost = await till.debit(FAR_PERSON, None)
        planted[lost.transaction_id] = "R3"
        province.fault("silent")
        late = await till.debit(FAR_PERSON, State.SENT)
        planted[late.transaction_id] = "R5"
    for key in [key for key in planted if key.startswith("order of ")]:
        change(
            province.folder / "gateway" / "gateway.db",
            (
                "UPDATE route SET order_no = ? WHERE transaction_id = ?",
                (planted.pop(key), key.removeprefix("order of ")),
            ),
        )
    repaired = {key for key, what in planted.items() if what == "repaired"}
    standing = {key: what for key, what in planted.items() if what != "repaired"}
    async with province.gateway(clock=TOMORROW) as port, daemon(province, port, clock=TOMORROW) as running:
        with structlog.testing.capture_logs() as logs:
            assert not await running.terminal.reconciliation.catch_up()
        alarms = {log["transaction_id"] for log in logs if log["event"] == "reconciliation alarm"}
        assert alarms == {key for key, what in planted.items() if what in ("R1", "R4")}
        assert classes(await listed(province, port, settled=True)) == standing | dict.fromkeys(repaired, "R2")
        province.fault()
        link = province.link(port)
        for key in repaired:
            while await link.enquire(till.orders[key]) != AlreadyReversed():  # its city was silent until now
                await asyncio.sleep(0.02)
        assert not await running.terminal.reconciliation.catch_up()
        found = await listed(province, port)
        assert {key: what for key, what in classes(found).items() if what != "R5"} == {
            key: what for key, what in standing.items() if what != "R5"
        }
        loss_row = next(d.difference for key, d in found.items() if planted[key] == "R1")
        assert (loss_row.told.state, loss_row.booked.state) == ("APPROVED", "REVDONE")
        lost_row = found[lost.transaction_id].difference
        assert not lost_row.HasField("told")
        assert lost_row.booked.state == "POSTED"
        assert await running.terminal.journal.unreconciled_dates(running.terminal.reconciliation.today) == [TODAY]


async def test_what_was_carried_over_is_equal_once_it_is_final(province: World) -> None:
    async with province.gateway() as port, counter(province, port) as till:
        await till.debit(FAR_PERSON, State.APPROVED)
        province.fault("silent")
        late = await till.debit(FAR_PERSON, State.SENT)
    async with province.gateway(clock=TOMORROW) as port, daemon(province, port, clock=TOMORROW) as running:
        assert not await running.terminal.reconciliation.catch_up()
        assert classes(await listed(province, port)) == {late.transaction_id: "R5"}
        province.fault()
        running.terminal.runner.nudge()
        while running.terminal.runner.open_rows():
            running.terminal.runner.nudge()
            await asyncio.sleep(0.02)
        assert await running.terminal.reconciliation.catch_up()
        assert await listed(province, port) == {}
        gone = await listed(province, port, settled=True)
        assert list(gone) == [late.transaction_id]
        assert gone[late.transaction_id].HasField("settled_at")


async def test_credits_are_in_the_totals_of_the_day_on_which_their_city_posted_them(province: World) -> None:
    async with province.gateway() as port:
        async with counter(province, port) as till:
            debits = [
                await till.debit(person, State.APPROVED) for person in (FAR_PERSON, NEAR_PERSON) for _ in range(2)
            ]
            for debit in debits:
                assert await till.link.confirm(debit) == Confirmed()
        async with daemon(province, port) as running, _his(running) as stub:
            for number, debit in enumerate(debits):
                request_id = f"credit-{number}"
                if number % 2:
                    cancel = terminal_pb2.CancelTransactionRequest(
                        transaction_id=debit.transaction_id, request_id=request_id
                    )
                    answer = (await stub.CancelTransaction(cancel)).transaction
                else:
                    refund = terminal_pb2.RefundTransactionRequest(
                        transaction_id=debit.transaction_id, request_id=request_id, amount_fen=1_000
                    )
                    answer = (await stub.RefundTransaction(refund)).transaction
                assert answer.state == terminal_pb2.TRANSACTION_STATE_APPROVED
    async with province.gateway(clock=TOMORROW) as port, daemon(province, port, clock=TOMORROW) as running:
        assert await running.terminal.reconciliation.catch_up()
        stub = ReconciliationServiceStub(province.channel(port, "operator-1").channel)
        await stub.ReconcileCities(operations.ReconcileCitiesRequest(accounting_date=TODAY))
        kept = await stub.ListReconciliations(operations.ListReconciliationsRequest(accounting_date=TODAY))
        assert {day.outcome for day in kept.reconciliations} == {operations.RECONCILIATION_OUTCOME_EQUAL}
        sums = {day.name: [(t.kind, t.count, t.amount_fen) for t in day.booked.kinds] for day in kept.reconciliations}
        half = [
            (wire.TRANSACTION_KIND_DEBIT, 2, 7_300),
            (wire.TRANSACTION_KIND_CANCELLATION, 1, 3_650),
            (wire.TRANSACTION_KIND_REFUND, 1, 1_000),
        ]
        whole = [(kind, 2 * count, 2 * amount) for kind, count, amount in half]
        assert sums == {TERMINAL: whole, HERE.code: half, FAR.code: half}
    await province.city.end()
    (lost,) = province.city_rows("SELECT transaction_id FROM credit WHERE kind = 'REFUND'")[0]
    (unknown,) = province.gateway_rows(
        f"SELECT transaction_id FROM credit_route WHERE kind = 'CANCELLATION' AND home_region = '{FAR.code}'"
    )[0]
    change(province.folder / "city" / "city.db", ("DELETE FROM posting WHERE transaction_id = ?", (lost,)))
    change(
        province.folder / "gateway" / "gateway.db",
        ("DELETE FROM claim WHERE transaction_id = ?", (unknown,)),
        ("DELETE FROM credit_route WHERE transaction_id = ?", (unknown,)),
    )
    await province.city.start()
    async with province.gateway(clock=TOMORROW) as port, daemon(province, port, clock=TOMORROW) as running:
        assert await running.terminal.reconciliation.with_gateway(TODAY) is Outcome.DIFFERENT
        assert classes(await listed(province, port)) == {unknown: "R1"}
        stub = ReconciliationServiceStub(province.channel(port, "operator-1").channel)
        await stub.ReconcileCities(operations.ReconcileCitiesRequest(accounting_date=TODAY))
        answer = await stub.ListDifferences(operations.ListDifferencesRequest())
        assert {
            (d.name, d.difference.transaction_id, f"R{d.difference.difference_class}") for d in answer.differences
        } == {(TERMINAL, unknown, "R1"), (FAR.code, lost, "R1"), (FAR.code, unknown, "R3")}


@contextlib.asynccontextmanager
async def _his(running: Daemon) -> AsyncIterator[TerminalServiceStub]:
    async with grpc.aio.insecure_channel(f"unix:{running.config.sockets.his}") as channel:
        yield TerminalServiceStub(channel)


async def test_a_terminal_compares_only_its_own_days(province: World) -> None:
    async with province.gateway() as port, counter(province, port) as till:
        mine = await till.debit(FAR_PERSON, State.APPROVED)
        channel = province.channel(port, OTHER_TERMINAL).channel
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        query = gateway_pb2.RecordsQuery()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Reconcile(gateway_pb2.ReconcileRequest(terminal_id=TERMINAL, accounting_date=TODAY, query=query))
        told = edge.error_of(refused.value)
        assert isinstance(told, YikatongError)
        assert told.reason is Reason.TERMINAL_UNKNOWN
        others = gateway_pb2.ReconcileRequest(terminal_id=OTHER_TERMINAL, accounting_date=TODAY, query=query)
        assert not (await stub.Reconcile(others)).records
        unmatched = gateway_pb2.UnmatchedRecords(
            records=[wire.Record(transaction_id=mine.transaction_id, standing=wire.STANDING_NOT_MOVED)]
        )
        judged = await stub.Reconcile(
            gateway_pb2.ReconcileRequest(terminal_id=OTHER_TERMINAL, accounting_date=TODAY, unmatched=unmatched)
        )
        assert not judged.differences, "another terminal's debit is nobody else's difference"


# --- gateway and city -------------------------------------------------------------------------------------------


async def test_planted_differences_between_gateway_and_city(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debits = [order(FAR_PERSON, amount_fen=1_000) for _ in range(7)]
        for debit in debits:
            assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
        near = order(NEAR_PERSON)
        assert isinstance(await link.debit(near, attempt=1, ttl_ms=TTL), Posted)
        fine, loss, undone_here, unknown, differs, late, undone_later = debits
        for debit in (undone_here, undone_later):
            assert isinstance(await link.reverse(debit, ReversalCause.TIMEOUT), Reversed)
        province.fault("silent")
        still_open = order(FAR_PERSON, amount_fen=1_000)
        assert await link.debit(still_open, attempt=1, ttl_ms=TTL) == Undecided()
        province.fault()
    await province.city.end()
    gateway, city = province.folder / "gateway" / "gateway.db", province.folder / "city" / "city.db"
    change(
        city,
        ("DELETE FROM posting WHERE transaction_id = ?", (loss.transaction_id,)),
        ("DELETE FROM txn WHERE transaction_id = ?", (loss.transaction_id,)),
        ("DELETE FROM posting WHERE transaction_id = ? AND kind = 'CONTRA'", (undone_here.transaction_id,)),
        ("UPDATE txn SET state = 'POSTED' WHERE transaction_id = ?", (undone_here.transaction_id,)),
        ("UPDATE posting SET amount_fen = amount_fen * 2 WHERE transaction_id = ?", (differs.transaction_id,)),
        (
            "UPDATE posting SET accounting_date = '2999-01-01' WHERE transaction_id = ? AND kind = 'CONTRA'",
            (undone_later.transaction_id,),
        ),
    )
    change(
        gateway,
        ("DELETE FROM claim WHERE transaction_id = ?", (unknown.transaction_id,)),
        ("DELETE FROM route WHERE transaction_id = ?", (unknown.transaction_id,)),
        ("UPDATE route SET state = 'REJECTED' WHERE transaction_id = ?", (still_open.transaction_id,)),
        ("UPDATE txn SET amount_fen = 1 WHERE transaction_id = ?", (near.transaction_id,)),
    )
    await province.city.start()
    async with province.gateway(clock=TOMORROW) as port:
        status, out, error = await command("ops", "reconcile", "--date", TODAY, "--json", *operator(province, port))
        assert (status, error) == (1, "")
        told = json.loads(out)
        assert {day["name"]: day["outcome"] for day in told["reconciliations"]} == dict.fromkeys(
            (FAR.code, HERE.code), "RECONCILIATION_OUTCOME_DIFFERENT"
        )
        expected = {
            loss.transaction_id: "R1",
            undone_here.transaction_id: "R2",
            still_open.transaction_id: "R2",
            unknown.transaction_id: "R3",
            differs.transaction_id: "R4",
            near.transaction_id: "R4",
        }
        assert classes(await listed(province, port)) == expected
        assert told["differences"][0]["difference"]["difference_class"] == "DIFFERENCE_CLASS_MERCHANT_LOSS"
        status, out, _ = await command("ops", "differences", "--lang", "en", *operator(province, port))
        assert status == 1
        assert {line.split()[0] for line in out.splitlines() if line.startswith("R")} == {"R1", "R2", "R3", "R4"}
        assert fine.transaction_id not in out
        assert late.transaction_id not in out
        assert undone_later.transaction_id not in out, "what the city undid on a later date is no difference"


async def test_a_city_that_does_not_answer_is_compared_again(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        assert isinstance(await link.debit(order(FAR_PERSON), attempt=1, ttl_ms=TTL), Posted)
    await province.city.end()
    async with province.gateway(clock=TOMORROW) as port:
        stub = ReconciliationServiceStub(province.channel(port, "operator-1").channel)
        request = operations.ReconcileCitiesRequest(accounting_date=TODAY)
        outcomes = {r.name: r.outcome for r in (await stub.ReconcileCities(request)).reconciliations}
        assert outcomes == {
            HERE.code: operations.RECONCILIATION_OUTCOME_EQUAL,
            FAR.code: operations.RECONCILIATION_OUTCOME_UNREACHABLE,
        }
        await province.city.start()
        async with _until_equal(stub, request) as days:
            (total,) = days[FAR.code].booked.kinds
            assert (total.count, total.amount_fen) == (1, 3_650)


@contextlib.asynccontextmanager
async def _until_equal(
    stub: ReconciliationServiceStub, request: operations.ReconcileCitiesRequest
) -> AsyncIterator[dict[str, operations.Reconciliation]]:
    """The channel to the city comes back in its own time."""
    while True:
        days = {r.name: r for r in (await stub.ReconcileCities(request)).reconciliations}
        if {day.outcome for day in days.values()} == {operations.RECONCILIATION_OUTCOME_EQUAL}:
            break
        await asyncio.sleep(0.02)
    yield days


async def test_operations_are_for_operators_and_the_books_prove_themselves(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        first, second = order(NEAR_PERSON), order(FAR_PERSON)
        for debit in (first, second):
            await link.debit(debit, attempt=1, ttl_ms=TTL)
        stub = ReconciliationServiceStub(province.channel(port).channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListDifferences(operations.ListDifferencesRequest())
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert (await command("ops", "audit", "--lang", "en", *operator(province, port)))[0] == 0
    change(
        province.folder / "gateway" / "gateway.db",
        ("UPDATE account SET balance_fen = balance_fen + 1", ()),
        ("UPDATE route SET order_no = ? WHERE transaction_id = ?", (first.order_no, second.transaction_id)),
    )
    async with province.gateway() as port:
        status, out, _ = await command("ops", "audit", "--lang", "en", *operator(province, port))
        assert status == 1
        assert "✗ I1  personal:" in out
        assert f"✗ I5  {min(first.transaction_id, second.transaction_id)}" in out
    status, _, error = await command("ops", "audit", "--lang", "en", *operator(province, port))
    assert status == 2
    assert "GATEWAY_UNREACHABLE" in error


# --- HIS and terminal -------------------------------------------------------------------------------------------


async def his(running: Daemon, request: terminal_pb2.ReconcileRequest) -> terminal_pb2.ReconcileResponse:
    async with _his(running) as stub:
        return await stub.Reconcile(request)


def record(
    debit: DebitOrder, standing: wire.Standing.ValueType = wire.STANDING_MOVED, **changes: object
) -> wire.Record:
    made = wire.Record(
        transaction_id=debit.transaction_id,
        standing=standing,
        amount_fen=debit.amount.count,
        order_no=debit.order_no,
        order_part=debit.order_part,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


async def test_a_his_sends_totals_then_details_and_pages_through_the_differences(province: World) -> None:
    async with province.gateway() as port, counter(province, port) as till:
        agree, differs, unknown, customer = [await till.debit(NEAR_PERSON, State.APPROVED) for _ in range(4)]
        merchant = await till.debit(NEAR_PERSON, State.REVERSED)
        await till.link.reverse(merchant, ReversalCause.TIMEOUT)
        twin = await till.debit(NEAR_PERSON, State.APPROVED, journal_order=agree.order_no, order_no="not-the-same")
        late = await till.debit(NEAR_PERSON, State.APPROVED)
        second = max(agree.transaction_id, twin.transaction_id)
    async with province.gateway(clock=TOMORROW) as port, daemon(province, port, clock=TOMORROW) as running:
        totals = wire.DayTotals(kinds=[wire.KindTotal(kind=wire.TRANSACTION_KIND_DEBIT, count=6, amount_fen=6 * 3_650)])
        answer = await his(running, terminal_pb2.ReconcileRequest(accounting_date=TODAY, totals=totals))
        assert answer.equal, "the sums are equal"
        assert answer.gateway == terminal_pb2.GATEWAY_RECONCILIATION_DIFFERENT, "the twin's order was planted"
        totals.hash_total = bytes(32)
        answer = await his(running, terminal_pb2.ReconcileRequest(accounting_date=TODAY, totals=totals))
        assert not answer.equal, "the rows are not"
        totals.hash_total = answer.totals.hash_total
        assert (await his(running, terminal_pb2.ReconcileRequest(accounting_date=TODAY, totals=totals))).equal
        details = terminal_pb2.HisRecords(
            records=[
                record(agree),
                record(differs, amount_fen=1),
                record(customer, wire.STANDING_NOT_MOVED),
                record(merchant),
                record(twin, order_no=agree.order_no),
                record(late, wire.STANDING_OPEN),
            ]
        )
        found: list[tuple[str, str]] = []
        token = ""
        while True:
            page = await his(
                running,
                terminal_pb2.ReconcileRequest(
                    accounting_date=TODAY, totals=totals, details=details, page_size=2, page_token=token
                ),
            )
            assert not page.equal
            for difference in page.differences:
                told = FOR_HIS[Class(f"R{difference.difference_class}")]
                assert (difference.message, difference.next_step) == (told[0], told[2])
            assert len(page.differences) <= 2
            found += [(d.transaction_id, f"R{d.difference_class}") for d in page.differences]
            token = page.next_page_token
            if not token:
                break
        assert sorted(found) == sorted(
            [
                (merchant.transaction_id, Class.MERCHANT_LOSS.value),
                (customer.transaction_id, Class.CUSTOMER_LOSS.value),
                (unknown.transaction_id, Class.UNKNOWN_TO_TELLER.value),
                (differs.transaction_id, Class.CONTENT_DIFFERS.value),
                (late.transaction_id, Class.STILL_OPEN.value),
                (second, Class.DUPLICATE_ORDER.value),
            ]
        )
        twice = terminal_pb2.HisRecords(records=[record(agree), record(agree)])
        for request in (
            terminal_pb2.ReconcileRequest(accounting_date=TODAY, totals=totals, details=twice),
            terminal_pb2.ReconcileRequest(accounting_date=TODAY, totals=totals, page_token="next"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await his(running, request)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
