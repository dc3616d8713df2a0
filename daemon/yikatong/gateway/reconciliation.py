"""Reconciliation (对账) at the gateway: with each terminal, which asks for it, and with each home city, which is asked.

Towards a terminal the gateway keeps the book; towards a city the city does. Rows are read in slices, between which
money moves. Nothing here moves any: the one automatic repair is the terminal's, by an ordinary reversal. On the leg to
a city there is none, because the gateway keeps no payer that a reversal could name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date as calendar_date
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import apsw
import structlog

from yikatong.core.orders import AlreadyReversed, Declined, NotFound, Posted
from yikatong.core.reasons import YikatongError
from yikatong.core.reconciliation import (
    Difference,
    Kind,
    Row,
    Standing,
    Totals,
    add_up,
    classify,
    differences,
    duplicates,
)
from yikatong.core.values import Region
from yikatong.gateway import reconciliation_book as book
from yikatong.gateway.city_client import CityClient
from yikatong.gateway.reconciliation_book import Day, Outcome, Party, Result
from yikatong.gateway.registry import Registry
from yikatong.gateway.router import Router
from yikatong.gateway.spool import Spool
from yikatong.runtime.clock import Clock
from yikatong.runtime.leg import LinkDown

_log = structlog.get_logger(__name__)
T = TypeVar("T")

PAGE: Final = 1000
_DUE_MAX: Final = 31
_LOOKED_AT_MAX: Final = 5000
"""So many differences of a city's day are looked at one by one; a day with more is lost as a whole."""
_FIRST_AFTER_S: Final = 60.0
_EVERY_S: Final = 3600.0
TOLD, BOOKED = 0, 1


@dataclass(frozen=True, slots=True)
class Compared:
    """What a terminal hears. `closed`: the accounting date is over; where it is not, nothing is kept."""

    closed: bool
    equal: bool
    booked: Totals
    found: Sequence[Difference] = ()


class Terminals:
    """The gateway's part in what terminals compare."""

    def __init__(self, router: Router, registry: Registry, clock: Clock) -> None:
        self._router, self._registry, self._clock = router, registry, clock

    async def compare(self, terminal_id: str, date: str, told: Totals, *, still_open: int) -> Compared:
        """Totals against totals. Equal: the same rows moved, no order twice, and nothing is open on either side."""
        day = Day(Party.TERMINAL, terminal_id, date)
        rows = await self._rows(day)
        booked = add_up(rows)
        quiet = not still_open and not any(row.standing is Standing.OPEN for row in rows)
        equal = quiet and booked == told and not await self._duplicates(day, rows)
        closed = date < self._router.today
        if closed:
            outcome = Outcome.EQUAL if equal else Outcome.DIFFERENT
            result = Result(day, outcome, told, booked, self._now())
            await self._router.commit(lambda connection: book.keep(connection, result))
            _log.info("reconciled", terminal_id=terminal_id, accounting_date=date, outcome=outcome.value)
        return Compared(closed, equal, booked)

    async def rows(self, terminal_id: str, date: str, after: str) -> tuple[list[Row], bool]:
        """The next of the gateway's rows of the day, and whether there are more."""
        day = Day(Party.TERMINAL, terminal_id, date)
        rows = await self._router.commit(partial(book.rows_of, day=day, after=after, limit=PAGE + 1))
        return rows[:PAGE], len(rows) > PAGE

    async def judge(self, terminal_id: str, date: str, told: Mapping[str, Row | None]) -> Compared:
        """Says what is wrong with each transaction that did not fit, against the row that the gateway has now."""
        day = Day(Party.TERMINAL, terminal_id, date)
        found = []
        for transaction_id, row in told.items():
            find = partial(book.find_row, transaction_id=transaction_id, terminal_id=terminal_id)
            own = await self._router.commit(find)
            if row is not None and row.standing is Standing.OPEN and own is not None and own.accounting_date != date:
                continue  # it is reported with its own date
            if (wrong := classify(row, own)) is not None:
                found.append(Difference(wrong, transaction_id, (row, own)))
        rows = await self._rows(day)
        found += await self._duplicates(day, rows)
        booked = add_up(rows)
        closed = date < self._router.today
        kept = await self._router.commit(lambda connection: book.find(connection, day))
        equal = not found and kept is not None and kept.told == booked
        if closed:
            await self._router.commit(lambda connection: self._keep(connection, day, found))
            if equal and kept is not None:
                result = Result(day, Outcome.EQUAL, kept.told, booked, self._now())
                await self._router.commit(lambda connection: book.keep(connection, result))
        return Compared(closed, equal, booked, found)

    async def due(self, terminal_id: str) -> list[str]:
        """Closed dates of the terminal that have not come out equal, oldest first."""
        return await self._router.commit(
            partial(book.due_dates, terminal_id=terminal_id, before=self._router.today, limit=_DUE_MAX)
        )

    async def _rows(self, day: Day) -> list[Row]:
        """The whole day: one terminal's rows fit into memory."""
        rows: list[Row] = []
        while True:
            after = rows[-1].transaction_id if rows else ""
            page = await self._router.commit(partial(book.rows_of, day=day, after=after, limit=PAGE))
            rows += page
            if len(page) < PAGE:
                return rows

    async def _duplicates(self, day: Day, rows: Sequence[Row]) -> list[Difference]:
        """Debits of this terminal whose order was debited before on that day, here or at a neighbour."""
        neighbours, date = self._registry.neighbours_of(day.name), day.accounting_date
        by_order = await self._router.commit(partial(book.rows_by_order, terminals=neighbours, date=date))
        own = {row.transaction_id for row in rows}
        return [difference for difference in duplicates(by_order) if difference.transaction_id in own]

    def _keep(self, connection: apsw.Connection, day: Day, found: Sequence[Difference]) -> None:
        _report(day, book.keep_differences(connection, day, found, at=self._now()))

    def _now(self) -> str:
        return self._clock.now().isoformat()


class Cities:
    """The gateway's route log against each home city's ledger."""

    def __init__(self, router: Router, registry: Registry, clients: Mapping[Region, CityClient], clock: Clock) -> None:
        self._router, self._registry, self._clients, self._clock = router, registry, clients, clock

    async def run(self) -> None:
        """Compares yesterday with every city, and again each hour what has not come out equal."""
        await asyncio.sleep(_FIRST_AFTER_S)
        while True:
            try:
                for region, date in await self.due():
                    await self.compare(region, date)
            except YikatongError as error:  # the store has failed: the gateway leaves by itself
                _log.error("reconciliation was not possible", reason=error.reason.value)
            await asyncio.sleep(_EVERY_S)

    async def due(self) -> list[tuple[Region, str]]:
        """Cities and closed dates that are to be compared: yesterday, and what was not equal before."""
        yesterday = (calendar_date.fromisoformat(self._router.today) - timedelta(days=1)).isoformat()
        done = await self._router.commit(lambda connection: book.of_date(connection, yesterday))
        known = {result.day.name for result in done if result.day.party is Party.CITY}
        again = await self._router.commit(book.unequal_cities)
        fresh = [(region, yesterday) for region in self._registry.cities if region.code not in known]
        return [(Region(day.name), day.accounting_date) for day in again] + fresh

    async def compare(self, region: Region, date: str) -> Result:
        """Compares one accounting date with one city, and keeps the result. Raises YikatongError STORE_UNAVAILABLE."""
        day = Day(Party.CITY, region.code, date)
        found: Sequence[Difference] = ()
        with Spool() as spool:
            await self._spool_routes(spool, day, with_content=region not in self._clients)
            try:
                if (client := self._clients.get(region)) is not None:
                    await self._spool_entries(spool, client, region, date)
                    found = await self._look_closely(spool, day, client, await _in_thread(partial(_match, spool)))
                else:
                    await self._spool_ledger(spool, day)
                    found = await _in_thread(partial(_match, spool))
            except LinkDown as error:
                _log.warning("a city could not be compared", region=region.code, detail=str(error))
                outcome = Outcome.UNREACHABLE
            else:
                outcome = Outcome.DIFFERENT if found else Outcome.EQUAL
            told, booked = await _in_thread(lambda: (add_up(spool.rows(TOLD)), add_up(spool.rows(BOOKED))))
        result = Result(day, outcome, told, booked, self._clock.now().isoformat(), len(found))
        await self._router.commit(lambda connection: _keep(connection, result, found))
        _log.info("reconciled", region=region.code, accounting_date=date, outcome=outcome.value)
        return result

    async def _spool_routes(self, spool: Spool, day: Day, *, with_content: bool) -> None:
        after = ""
        while rows := await self._router.commit(partial(book.rows_of, day=day, after=after, limit=PAGE)):
            after = rows[-1].transaction_id
            shown = [_for_city(row, with_content=with_content) for row in rows]
            await _in_thread(partial(spool.add, TOLD, shown))

    async def _spool_ledger(self, spool: Spool, day: Day) -> None:
        """A city whose ledger lies in our own database shows its transactions themselves."""
        for slice_of in (_debits_slice, _credits_slice):
            after = ""
            while found := await self._router.commit(partial(slice_of, day=day, after=after)):
                after = found[-1][0]
                await _in_thread(partial(spool.add, BOOKED, [row for _, row in found if row is not None]))

    async def _spool_entries(self, spool: Spool, client: CityClient, region: Region, date: str) -> None:
        """What the city owes the treatment city for a debit is positive; a reversal or a credit takes it back."""
        after, more = 0, True
        taken_back: dict[str, int] = {}
        while more:
            entries, more = await client.entries(region, date, after)
            owed = [entry for entry in entries if entry.account.startswith("payable:")]
            after = entries[-1].number if entries else after
            rows = [
                Row(entry.transaction_id, Kind.DEBIT, Standing.MOVED, entry.amount.count, date)
                for entry in owed
                if entry.amount.count > 0
            ]
            taken_back |= {entry.transaction_id: -entry.amount.count for entry in owed if entry.amount.count < 0}
            await _in_thread(partial(spool.add, BOOKED, rows))
        reversed_today = await _in_thread(partial(spool.known, BOOKED, taken_back))
        await _in_thread(partial(spool.undo, BOOKED, reversed_today))
        for transaction_id in taken_back.keys() - reversed_today:
            own = await self._router.commit(partial(book.find_row, transaction_id=transaction_id))
            if own is not None and own.kind is Kind.DEBIT:
                continue  # a reversal of an earlier date's debit
            kind = own.kind if own is not None else Kind.REFUND
            row = Row(transaction_id, kind, Standing.MOVED, taken_back[transaction_id], date)
            await _in_thread(partial(spool.add, BOOKED, [row]))

    async def _look_closely(
        self, spool: Spool, day: Day, client: CityClient, suspects: Sequence[Difference]
    ) -> list[Difference]:
        """Asks the city about each: its entries of one date do not show what it undid on a later one."""
        confirmed = []
        for suspect in suspects:
            transaction_id, booked = suspect.transaction_id, suspect.booked
            own = await self._router.commit(partial(book.find_row, transaction_id=transaction_id))
            told = _for_city(own, with_content=False) if own is not None else None
            # A route that is open is open whatever the city says, and what it has credited is never undone.
            known = (told is not None and told.standing is Standing.OPEN) or Kind.DEBIT not in _kinds(told, booked)
            answer = None if known else await client.enquire_id(transaction_id, Region(day.name))
            match answer:
                case Posted() if booked is None or booked.standing is not Standing.MOVED:
                    booked = Row(
                        transaction_id, Kind.DEBIT, Standing.MOVED, answer.amount.count, answer.accounting_date
                    )
                case AlreadyReversed() | Declined() if (base := booked or told) is not None:
                    booked = base._replace(standing=Standing.NOT_MOVED, state=type(answer).__name__)
                case NotFound() if booked is None or booked.standing is not Standing.MOVED:
                    booked = None
                case _:
                    pass  # the entries are the city's word
            (spool.remove(BOOKED, transaction_id) if booked is None else spool.replace(BOOKED, booked))
            if told is not None and told.accounting_date == day.accounting_date:
                spool.replace(TOLD, told)
            if (wrong := classify(told, booked)) is not None:
                confirmed.append(Difference(wrong, transaction_id, (told, booked)))
        return confirmed


async def _in_thread(job: Callable[[], T]) -> T:
    """Runs `job` beside the loop. Cancelled, it waits until the job has let go of its spool."""
    work = asyncio.ensure_future(asyncio.to_thread(job))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


def _match(spool: Spool) -> list[Difference]:
    return list(islice(differences(spool.rows(TOLD), spool.rows(BOOKED)), _LOOKED_AT_MAX))


def _for_city(row: Row, *, with_content: bool) -> Row:
    """Without what the city does not show."""
    return row._replace(order_no="", order_part="", fingerprint=row.fingerprint if with_content else "")


def _kinds(*rows: Row | None) -> set[Kind]:
    return {row.kind for row in rows if row is not None}


_MOVED: Final = frozenset({"POSTED", "CONFIRMED", "CANCELLED", "CREDITED"})
"""States in a ledger whose money moved. That a debit is cancelled is a transaction of its own."""


def _debits_slice(connection: apsw.Connection, *, day: Day, after: str) -> list[tuple[str, Row | None]]:
    """The next debits of all embedded ledgers; a row for those of the day."""
    sql = """SELECT transaction_id, 'DEBIT', region, accounting_date, state, amount_fen, fingerprint FROM txn
              WHERE transaction_id > ? ORDER BY transaction_id LIMIT ?"""
    return [_ledger_row(row, day) for row in connection.execute(sql, (after, PAGE))]


def _credits_slice(connection: apsw.Connection, *, day: Day, after: str) -> list[tuple[str, Row | None]]:
    """The next credits, as `_debits_slice`."""
    sql = """SELECT transaction_id, kind, region, accounting_date, state, amount_fen, fingerprint FROM credit
              WHERE transaction_id > ? ORDER BY transaction_id LIMIT ?"""
    return [_ledger_row(row, day) for row in connection.execute(sql, (after, PAGE))]


def _ledger_row(columns: tuple[Any, ...], day: Day) -> tuple[str, Row | None]:
    transaction_id, kind, region, date, state, amount_fen, fingerprint = columns
    if (region, date) != (day.name, day.accounting_date):
        return transaction_id, None
    standing = Standing.MOVED if state in _MOVED else Standing.NOT_MOVED
    row = Row(transaction_id, Kind(kind), standing, amount_fen, date, fingerprint=fingerprint.hex(), state=state)
    return transaction_id, row


def _keep(connection: apsw.Connection, result: Result, found: Sequence[Difference]) -> None:
    book.keep(connection, result)
    if result.outcome is Outcome.DIFFERENT:
        _report(result.day, book.keep_differences(connection, result.day, found, at=result.compared_at))


def _report(day: Day, fresh: Sequence[Difference]) -> None:
    """One line for each new difference; an alarm where the class wants one."""
    for difference in fresh:
        tell: Callable[..., None] = _log.error if difference.treatment.alarm else _log.warning
        tell(
            "reconciliation alarm" if difference.treatment.alarm else "reconciliation difference",
            party=day.party.value,
            name=day.name,
            accounting_date=day.accounting_date,
            transaction_id=difference.transaction_id,
            difference=difference.found.value,
            severity=difference.treatment.severity,
        )
