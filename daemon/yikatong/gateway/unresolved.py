"""What does not settle by itself (待处理): one list for the operator, with what each side says.

Nothing here decides; it reads tickets, reversals that wait, terminals' own words from reconciliation, and the cities'
suspense accounts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import partial
from typing import Final

import apsw
import structlog

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region
from yikatong.gateway import credit_log, reconciliation_book, route_log, tickets
from yikatong.gateway.books import Books
from yikatong.gateway.credit_log import CreditRoute
from yikatong.gateway.reconciliation_book import Party
from yikatong.gateway.registry import Registry
from yikatong.gateway.route_log import Route
from yikatong.gateway.router import Router
from yikatong.gateway.tickets import Ticket
from yikatong.ledger.report import Entry
from yikatong.runtime.clock import CHINA, Clock

WARNING_AFTER: Final = timedelta(minutes=5)
ALARM_AFTER: Final = timedelta(minutes=30)
_DIFFERENCES_MAX: Final = 1000
_LOOK_EVERY_S: Final = 60.0

_log = structlog.get_logger(__name__)


class Kind(Enum):
    """Why it is on the list."""

    REVERSAL_DENIED = "REVERSAL_DENIED"
    TERMINAL_MANUAL = "TERMINAL_MANUAL"
    REVERSAL_WAITS = "REVERSAL_WAITS"
    SUSPENSE = "SUSPENSE"
    ADOPTED = "ADOPTED"
    UNCONFIRMED = "UNCONFIRMED"


class Urgency(Enum):
    """The order of the list. NOTICE: it waits for something that is known, such as a closed city."""

    ALARM = "ALARM"
    WARNING = "WARNING"
    NOTICE = "NOTICE"


@dataclass(frozen=True, slots=True)
class Side:
    """What one side has of it; empty where it is not known. `seen_at`: when it last spoke of it, ISO 8601."""

    state: str = ""
    amount_fen: int = 0
    order_no: str = ""
    order_part: str = ""
    accounting_date: str = ""
    reference: str = ""
    fingerprint: bytes = b""
    seen_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """One row of the list. `since` is ISO 8601; of credits in suspense the beginning of their accounting date."""

    kind: Kind
    urgency: Urgency
    transaction_id: str
    since: str
    terminal_id: str = ""
    institution: str = ""
    treatment_region: str = ""
    home_region: str = ""
    reason: str = ""
    gateway: Side = field(default_factory=Side)
    terminal: Side = field(default_factory=Side)
    ticket: Ticket | None = None
    city_closed: bool = False


class Unsettled:
    """Reads the list."""

    def __init__(self, router: Router, registry: Registry, books: Books, clock: Clock) -> None:
        self._router, self._registry, self._books, self._clock = router, registry, books, clock

    async def listed(self) -> tuple[list[Unresolved], list[Region]]:
        """The worst first, then the oldest; and the cities whose suspense account could not be asked."""
        rows = await self._router.commit(self._own)
        unreachable = []
        for city in await self._books.cities():
            region = city.city.region
            if city.ledger is None:
                unreachable.append(region)
            else:
                job = partial(_suspense, region=region, entries=city.ledger.suspense)
                rows += await self._router.commit(job)
        order = list(Urgency)
        return sorted(rows, key=lambda row: (order.index(row.urgency), row.since)), unreachable

    async def run(self) -> None:
        """Says in the log what is new on the list, or more urgent than before; for ever. The cities are not asked."""
        known: dict[str, Urgency] = {}
        while True:
            try:
                rows = await self._router.commit(self._own)
            except YikatongError as error:  # too much to do; a store that has failed ends the gateway
                _log.error("not looked for", reason=error.reason.value)
            else:
                for row in rows:
                    if known.get(row.transaction_id) is not row.urgency:
                        _say(row)
                known = {row.transaction_id: row.urgency for row in rows}
            await asyncio.sleep(_LOOK_EVERY_S)

    def _own(self, connection: apsw.Connection) -> list[Unresolved]:
        """What the gateway's own database knows."""
        standing = tickets.standing(connection)
        rows = [self._denied(connection, ticket) for ticket in standing]
        for waiting in tickets.waiting_reversals(connection):
            route = route_log.find(connection, waiting.transaction_id)
            if route is not None and (row := self._waits(waiting, route)) is not None:
                rows.append(row)
        known = {ticket.transaction_id for ticket in standing}
        rows += [row for row in self._unconfirmed(connection) if row.transaction_id not in known]
        return rows + [row for row in self._manual(connection) if row.transaction_id not in known]

    def _denied(self, connection: apsw.Connection, ticket: Ticket) -> Unresolved:
        route = route_log.find(connection, ticket.transaction_id)
        closed = route is not None and self._closed(route)
        return Unresolved(
            kind=Kind.ADOPTED if ticket.reason == Reason.TERMINAL_REPLACED.value else Kind.REVERSAL_DENIED,
            urgency=Urgency.ALARM if not ticket.approved_by else Urgency.NOTICE if closed else Urgency.WARNING,
            transaction_id=ticket.transaction_id,
            since=ticket.opened_at,
            terminal_id=ticket.terminal_id,
            institution=ticket.institution,
            treatment_region=ticket.treatment_region,
            home_region=route.home_region if route else "",
            reason=ticket.reason,
            gateway=_side(route),
            terminal=Side(
                "LOST" if ticket.reason == Reason.TERMINAL_REPLACED.value else "MANUAL",
                ticket.amount_fen,
                ticket.order_no,
                ticket.order_part,
                fingerprint=ticket.fingerprint,
                seen_at=ticket.asked_at,
            ),
            ticket=ticket,
            city_closed=closed,
        )

    def _waits(self, waiting: tickets.Waiting, route: Route) -> Unresolved | None:
        """None while it is young."""
        age = self._clock.now() - datetime.fromisoformat(waiting.since)
        if age < WARNING_AFTER:
            return None
        closed = self._closed(route)
        late = Urgency.ALARM if age >= ALARM_AFTER else Urgency.WARNING
        return _of(route, Kind.REVERSAL_WAITS, Urgency.NOTICE if closed else late, waiting.since, city_closed=closed)

    def _unconfirmed(self, connection: apsw.Connection) -> list[Unresolved]:
        """No terminal has come back for a day, the most it has, to confirm or to reverse: posted, or not even known."""
        before = (date.fromisoformat(self._router.today) - timedelta(days=1)).isoformat()
        return [
            _of(route, Kind.UNCONFIRMED, Urgency.WARNING, _day(route.accounting_date), city_closed=self._closed(route))
            for route in route_log.open_before(connection, before, limit=_DIFFERENCES_MAX)
        ]

    def _manual(self, connection: apsw.Connection) -> list[Unresolved]:
        """What terminals have said of their rows when the days were compared."""
        found = {}
        listed = reconciliation_book.listed(connection, date="", settled=False, limit=_DIFFERENCES_MAX)
        for difference in listed:
            told = difference.difference.told
            if difference.day.party is not Party.TERMINAL or told is None or told.state != "MANUAL":
                continue
            ticket = tickets.find(connection, told.transaction_id)
            if ticket is not None and ticket.outcome:
                continue  # decided since; the terminal learns it when it asks next
            route = route_log.find(connection, told.transaction_id)
            found[told.transaction_id] = Unresolved(
                kind=Kind.TERMINAL_MANUAL,
                urgency=Urgency.ALARM,
                transaction_id=told.transaction_id,
                since=_time(told.since) or difference.found_at,
                terminal_id=difference.day.name,
                institution=route.institution if route else "",
                treatment_region=route.treatment_region if route else "",
                home_region=route.home_region if route else "",
                reason=Reason.NEEDS_OPERATOR.value,
                gateway=_side(route),
                terminal=Side(
                    told.state,
                    told.amount_fen,
                    told.order_no,
                    told.order_part,
                    told.accounting_date,
                    fingerprint=bytes.fromhex(told.fingerprint),
                    seen_at=difference.found_at,
                ),
            )
        return list(found.values())

    def _closed(self, route: Route) -> bool:
        home = route.home_region
        return bool(home) and self._registry.closed(Region(home), self._router.today) is not None


def _say(row: Unresolved) -> None:
    (_log.error if row.urgency is Urgency.ALARM else _log.warning)(
        "needs people",
        transaction_id=row.transaction_id,
        kind=row.kind.value,
        urgency=row.urgency.value,
        since=row.since,
        home_region=row.home_region,
    )


def _suspense(connection: apsw.Connection, *, region: Region, entries: Sequence[Entry]) -> list[Unresolved]:
    """Credits whose account is closed. They are in the city's ledger, whatever the gateway knows of them."""
    return [_in_suspense(credit_log.find(connection, entry.transaction_id), region, entry) for entry in entries]


def _in_suspense(credit: CreditRoute | None, region: Region, entry: Entry) -> Unresolved:
    return Unresolved(
        kind=Kind.SUSPENSE,
        urgency=Urgency.WARNING,
        transaction_id=entry.transaction_id,
        since=_day(entry.accounting_date),
        terminal_id=credit.terminal_id if credit else "",
        institution=credit.institution if credit else "",
        treatment_region=credit.treatment_region if credit else "",
        home_region=region.code,
        gateway=Side(
            credit.state.value if credit else "",
            entry.amount.count,
            accounting_date=entry.accounting_date,
            reference=credit.reference if credit else "",
        ),
    )


def _of(route: Route, kind: Kind, urgency: Urgency, since: str, *, city_closed: bool) -> Unresolved:
    return Unresolved(
        kind=kind,
        urgency=urgency,
        transaction_id=route.transaction_id,
        since=since,
        terminal_id=route.terminal_id,
        institution=route.institution,
        treatment_region=route.treatment_region,
        home_region=route.home_region,
        gateway=_side(route),
        city_closed=city_closed,
    )


def _day(accounting_date: str) -> str:
    """The beginning of an accounting date, ISO 8601; empty where a city's word is none: it is listed all the same."""
    try:
        return datetime.combine(date.fromisoformat(accounting_date), time(), CHINA).isoformat()
    except ValueError:
        return ""


def _time(said: str) -> str:
    """A terminal's word for a time; empty where it is none."""
    try:
        return datetime.fromisoformat(said).astimezone(CHINA).isoformat()
    except ValueError:
        return ""


def _side(route: Route | None) -> Side:
    if route is None:
        return Side()
    return Side(
        route.state.value,
        route.amount_fen,
        route.order_no,
        route.order_part,
        route.accounting_date,
        route.reference,
        route.fingerprint,
    )
