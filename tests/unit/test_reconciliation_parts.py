"""The parts that reconciliation stands on: the wire, the spool, what is kept, and the journal's days."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import apsw
import pytest

from tests.gateway_world import FAR, HERE, OTHER_TERMINAL, PHARMACY, TERMINAL
from tests.support.rows import order
from tests.support.rows import row as journal_row
from yikatong.cli.bench_reconcile import measure
from yikatong.core.credit_router_table import CreditRouteState
from yikatong.core.orders import City
from yikatong.core.reconciliation import Class, Difference, Kind, Row, Standing, Total, Totals, add_up
from yikatong.core.router_table import State as RouteState
from yikatong.core.terminal_table import State
from yikatong.core.values import Fen, TerminalId
from yikatong.gateway import credit_log, partition, route_log
from yikatong.gateway import reconciliation_book as book
from yikatong.gateway.credit_log import CreditRoute
from yikatong.gateway.directory import SampleDirectory
from yikatong.gateway.partition import Partition
from yikatong.gateway.reconciliation import Cities, Terminals
from yikatong.gateway.reconciliation_book import Day, Outcome, Party, Result
from yikatong.gateway.registry import Agreement, HomeCity, Member, Registry
from yikatong.gateway.route_log import Route
from yikatong.gateway.router import WAITS
from yikatong.gateway.routing import Rules
from yikatong.gateway.spool import Spool
from yikatong.runtime import wire_reconciliation as wire
from yikatong.runtime.clock import SystemClock, accounting_date
from yikatong.terminal import journal as journal_module
from yikatong.terminal.journal import Journal
from yikatong.terminal.reconciliation_rpc import FOR_HIS

DATE = "2026-03-31"
AT = "2026-04-01T00:00:00+00:00"
TERMINAL_DAY, CITY_DAY = Day(Party.TERMINAL, TERMINAL, DATE), Day(Party.CITY, FAR.code, DATE)


def row(number: int, standing: Standing = Standing.MOVED, **changes: object) -> Row:
    made = Row(f"{number:032x}", Kind.DEBIT, standing, 100 * number, DATE, f"order-{number}", "", "a1", "POSTED", AT)
    return made._replace(**changes)  # type: ignore[arg-type]  # tests name fields of the row


# --- the wire ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("standing", Standing)
def test_rows_survive_the_wire(kind: Kind, standing: Standing) -> None:
    made = row(1, standing, kind=kind, order_part="2")
    assert wire.row_of(wire.record_of(made)) == made


def test_what_a_side_does_not_have_is_no_row() -> None:
    assert wire.row_of(wire.unknown("x")) is None


def test_totals_survive_the_wire_and_nothing_counts_as_nothing() -> None:
    totals = add_up([row(1), row(2, kind=Kind.REFUND), row(3)])
    assert wire.totals_of(wire.day_of(totals)) == totals
    day = wire.day_of(totals)
    day.kinds.add(kind=wire.day_of(Totals({Kind.CANCELLATION: Total(1, 1)}, b"")).kinds[0].kind)
    assert wire.totals_of(day) == totals, "a HIS may say that there were none"


@pytest.mark.parametrize("found", Class)
@pytest.mark.parametrize("rows", [(row(1), row(1)), (None, row(1)), (row(1), None)])
def test_differences_survive_the_wire(found: Class, rows: tuple[Row | None, ...]) -> None:
    made = Difference(found, row(1).transaction_id, rows, "other")
    assert wire.difference_from_wire(wire.difference_to_wire(made)) == made


def test_a_his_is_told_what_each_class_means() -> None:
    assert set(FOR_HIS) == set(Class)
    for zh, en, next_zh, next_en in FOR_HIS.values():
        assert zh.endswith("。")
        assert next_zh.endswith("。")
        assert en.endswith(".")
        assert next_en.endswith(".")


# --- the spool --------------------------------------------------------------------------------------------------


def test_a_spool_sorts_and_keeps_sides_apart() -> None:
    with Spool() as spool:
        spool.add(0, [row(3, order_no="a"), row(1, order_no="b")])
        spool.add(0, [row(2, order_no="a", order_part="1")])
        spool.add(1, [row(9)])
        assert [r.transaction_id[-1] for r in spool.rows(0)] == ["1", "2", "3"]
        assert list(spool.repeated_orders(0)) == []
        spool.add(
            0, [row(4, order_no="b"), row(5, order_no="a", order_part="1"), row(6, order_no=""), row(7, order_no="")]
        )
        assert [r.transaction_id[-1] for r in spool.repeated_orders(0)] == ["2", "5", "1", "4"]
        assert list(spool.rows(1)) == [row(9)]
        assert spool.known(0, [row(3).transaction_id, row(9).transaction_id]) == {row(3).transaction_id}


def test_an_id_that_comes_twice_shows_in_its_amount() -> None:
    with Spool() as spool:
        spool.add(0, [row(1), row(1)])
        assert list(spool.rows(0)) == [row(1, amount_fen=200)]


def test_what_is_learned_later_takes_its_place() -> None:
    with Spool() as spool:
        spool.add(0, [row(1), row(2)])
        spool.undo(0, [row(2).transaction_id, row(7).transaction_id])
        spool.replace(0, row(1, amount_fen=7))
        spool.replace(0, row(3))
        assert list(spool.rows(0)) == [row(1, amount_fen=7), row(2, Standing.NOT_MOVED), row(3)]
        spool.remove(0, row(3).transaction_id)
        assert len(list(spool.rows(0))) == 2


# --- what is kept -----------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute(partition.SCHEMA)
    yield connection
    connection.close()


def result(outcome: Outcome, day: Day = TERMINAL_DAY, at: str = AT) -> Result:
    return Result(day, outcome, add_up([row(1), row(2, kind=Kind.REFUND)]), add_up([row(1)]), at)


def loss(number: int, found: Class = Class.MERCHANT_LOSS) -> Difference:
    return Difference(found, row(number).transaction_id, (row(number), None))


def test_a_result_is_kept_as_it_came(store: apsw.Connection) -> None:
    assert book.find(store, TERMINAL_DAY) is None
    book.keep(store, result(Outcome.DIFFERENT))
    book.keep_differences(store, TERMINAL_DAY, [loss(1), loss(2)], at=AT)
    book.keep(store, result(Outcome.UNREACHABLE, CITY_DAY))
    assert book.find(store, TERMINAL_DAY) == dataclasses.replace(result(Outcome.DIFFERENT), standing=2)
    assert [r.day for r in book.of_date(store, DATE)] == [TERMINAL_DAY, CITY_DAY]
    assert book.unequal_cities(store) == [CITY_DAY]
    book.keep(store, result(Outcome.EQUAL, CITY_DAY))
    assert book.unequal_cities(store) == []


def test_differences_are_new_once_and_settled_when_they_are_gone(store: apsw.Connection) -> None:
    late = loss(3, Class.STILL_OPEN)
    assert book.keep_differences(store, TERMINAL_DAY, [late, loss(1)], at="day 1") == [late, loss(1)]
    assert book.keep_differences(store, TERMINAL_DAY, [loss(1), loss(2)], at="day 2") == [loss(2)]
    standing = book.listed(store, date="", settled=False, limit=9)
    assert [(listed.difference, listed.found_at) for listed in standing] == [(loss(1), "day 1"), (loss(2), "day 2")]
    everything = book.listed(store, date=DATE, settled=True, limit=9)
    assert [(listed.difference, listed.settled_at) for listed in everything][-1] == (late, "day 2")
    book.keep(store, result(Outcome.EQUAL))
    assert book.listed(store, date="", settled=False, limit=9) == []
    assert book.keep_differences(store, TERMINAL_DAY, [late], at="day 4") == [late], "found again, it is new again"
    assert len(book.listed(store, date=DATE, settled=True, limit=2)) == 2
    assert book.listed(store, date="2026-04-01", settled=True, limit=9) == []


def test_the_worst_stands_first(store: apsw.Connection) -> None:
    for number, found in enumerate(reversed(Class), start=1):
        book.keep_differences(store, Day(Party.CITY, str(number), DATE), [loss(number, found)], at=AT)
    found_first = [listed.difference.found for listed in book.listed(store, date="", settled=False, limit=9)]
    assert found_first[0] is Class.MERCHANT_LOSS
    assert found_first[-1] is Class.STILL_OPEN


def route(date: str, state: RouteState = RouteState.POSTED, terminal: str = TERMINAL) -> Route:
    made = Route.of(order(terminal_id=TerminalId(terminal)), home_region=FAR.code, accounting_date=date)
    made.state = state
    return made


def test_due_dates_are_those_with_routes_that_are_not_equal(store: apsw.Connection) -> None:
    for date in ("2026-03-29", "2026-03-30", "2026-03-30", DATE, "2026-04-01"):
        route_log.add(store, route(date))
    route_log.add(store, route("2026-03-28", terminal=OTHER_TERMINAL))
    book.keep(store, result(Outcome.EQUAL, Day(Party.TERMINAL, TERMINAL, "2026-03-30")))
    book.keep(store, result(Outcome.DIFFERENT))
    assert book.due_dates(store, TERMINAL, before="2026-04-01", limit=31) == ["2026-03-29", DATE]
    assert book.due_dates(store, TERMINAL, before="2026-04-01", limit=1) == ["2026-03-29"]
    assert book.due_dates(store, "nobody", before="2026-04-01", limit=31) == []


def test_a_days_rows_come_in_pages_debits_and_credits_together(store: apsw.Connection) -> None:
    routes = [route(DATE) for _ in range(4)]
    for made in (*routes, route("2026-03-30"), route(DATE, terminal=OTHER_TERMINAL)):
        route_log.add(store, made)
    credit = CreditRoute(
        "00000000-0000-7000-8000-000000000001", CreditRouteState.CREDITED, "REFUND", routes[0].transaction_id,
        bytes(32), TERMINAL, PHARMACY.code, HERE.code, FAR.code, 7, "2026-03-30", booked_on=DATE,
    )  # fmt: skip
    waiting = dataclasses.replace(
        credit, transaction_id="ffffffff-ffff-7000-8000-000000000001", state=CreditRouteState.FWD, booked_on="",
        accounting_date=DATE,
    )  # fmt: skip
    credit_log.add(store, credit)
    credit_log.add(store, waiting)
    rows: list[Row] = []
    while page := book.rows_of(store, TERMINAL_DAY, after=rows[-1].transaction_id if rows else "", limit=2):
        rows += page
    ids = [credit.transaction_id, *sorted(made.transaction_id for made in routes), waiting.transaction_id]
    assert [r.transaction_id for r in rows] == ids
    assert (rows[0].kind, rows[0].standing, rows[0].accounting_date) == (Kind.REFUND, Standing.MOVED, DATE)
    assert (rows[-1].standing, rows[-1].accounting_date) == (Standing.OPEN, DATE)
    assert len(book.rows_of(store, CITY_DAY, after="", limit=99)) == 7
    assert book.find_row(store, credit.transaction_id, terminal_id=TERMINAL) == rows[0]
    assert book.find_row(store, credit.transaction_id, terminal_id=OTHER_TERMINAL) is None
    assert book.find_row(store, "nothing") is None


@pytest.mark.parametrize("state", [state for state in RouteState if state is not RouteState.NONE])
def test_every_state_of_a_route_has_a_standing(state: RouteState) -> None:
    assert book.as_row(route(DATE, state)).state == state.value


# --- at the gateway ---------------------------------------------------------------------------------------------


class Calendar(SystemClock):
    """A clock that can be put forward by days."""

    days = 0

    def now(self) -> datetime:
        return super().now() + timedelta(days=self.days)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[tuple[Partition, Registry, Calendar]]:
    clock = Calendar()
    here = City(HERE, "济南", "Jinan")
    registry = Registry(
        [HomeCity(here, "OPEN", "", "9", "", "")],
        [Member(PHARMACY, "测试药店", HERE, Agreement.ACTIVE)],
        {TERMINAL: PHARMACY, OTHER_TERMINAL: PHARMACY},
    )
    opened = await Partition.open(
        tmp_path / "gateway.db",
        embedded={HERE: here},
        links={},
        registry=registry,
        directory=SampleDirectory([]),
        rules=Rules(fenced=True, debit_max=Fen(1)),
        clock=clock,
        waits=WAITS,
        accounts=[],
    )
    yield opened, registry, clock
    await opened.close()


async def test_cities_are_due_until_they_are_equal(gateway: tuple[Partition, Registry, Calendar]) -> None:
    opened, registry, clock = gateway
    cities = Cities(opened.router, registry, {}, clock)
    today = opened.router.today
    posted = Route.of(order(), home_region=HERE.code, accounting_date=today)
    posted.state = RouteState.POSTED
    await opened.router.commit(lambda connection: route_log.add(connection, posted))
    clock.days = 1
    assert await cities.due() == [(HERE, today)]
    assert (await cities.compare(HERE, today)).outcome is Outcome.DIFFERENT
    clock.days = 2
    assert await cities.due() == [(HERE, today), (HERE, accounting_date(clock.now() - timedelta(days=1)))]
    await opened.router.commit(
        lambda connection: connection.execute("UPDATE route SET state = 'REVDONE'") and None  # nothing had been booked
    )
    for region, date in await cities.due():
        assert (await cities.compare(region, date)).outcome is Outcome.EQUAL
    assert await cities.due() == []


async def test_an_open_row_is_judged_with_its_own_date(gateway: tuple[Partition, Registry, Calendar]) -> None:
    opened, registry, clock = gateway
    terminals = Terminals(opened.router, registry, clock)
    today = opened.router.today
    made = Route.of(order(terminal_id=TERMINAL), home_region=HERE.code, accounting_date=today)
    made.state = RouteState.REV
    await opened.router.commit(lambda connection: route_log.add(connection, made))
    clock.days = 1
    told = {made.transaction_id: book.as_row(made)}
    assert (await terminals.judge(TERMINAL, "2026-01-01", told)).found == []
    judged = await terminals.judge(TERMINAL, today, told)
    assert [difference.found for difference in judged.found] == [Class.STILL_OPEN]
    assert not judged.equal
    assert await terminals.due(TERMINAL) == [today]


# --- at the terminal --------------------------------------------------------------------------------------------


async def test_the_journal_finds_the_rows_of_a_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_SLICE", 2)
    journal = Journal(tmp_path / "journal.db")
    rows = [journal_row(State.APPROVED, accounting_date=DATE) for _ in range(5)]
    others = [
        journal_row(State.APPROVED, accounting_date="2026-03-30"),
        journal_row(State.DECLINED),
        journal_row(State.APPROVED, accounting_date="2026-03-29", self_test=True),
    ]
    try:
        for made in (*rows, *others):
            await journal.record(made)
        found = await journal.of_date(DATE)
        assert [made.transaction_id for made in found] == sorted(made.transaction_id for made in rows)
        assert await journal.of_date("") == []
        assert await journal.unreconciled_dates("2026-04-01") == ["2026-03-30", DATE]
        assert await journal.unreconciled_dates(DATE) == ["2026-03-30"]
        await journal.note_reconciled("2026-03-30")
        await journal.note_reconciled("2026-03-01")
        assert await journal.unreconciled_dates("2026-04-01") == [DATE], "it is never taken back"
    finally:
        await journal.close()


# --- the measurement --------------------------------------------------------------------------------------------


def test_the_measurement_plants_all_six_classes_and_finds_them() -> None:
    measured = measure(2_000)
    assert measured.planted == dict.fromkeys([c.value for c in Class], 100)
    assert measured.found == measured.planted
    assert measured.false == 0
