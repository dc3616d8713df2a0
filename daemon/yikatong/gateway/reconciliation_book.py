"""What came of each comparison: by terminal or city, and accounting date. It is the operator's list.

A difference that a later comparison no longer finds is settled, not deleted: when it was found and when it went stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter
from typing import Final

import apsw
import msgspec

from yikatong.core.credit_router_table import CreditRouteState
from yikatong.core.reconciliation import Class, Difference, Kind, Row, Standing, Total, Totals
from yikatong.core.router_table import State
from yikatong.gateway import credit_log, route_log, tickets
from yikatong.gateway.credit_log import CreditRoute
from yikatong.gateway.route_log import Route

SCHEMA: Final = """
CREATE TABLE reconciliation (
    party TEXT NOT NULL CHECK (party IN ('TERMINAL', 'CITY')),
    name TEXT NOT NULL,
    accounting_date TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('EQUAL', 'DIFFERENT', 'UNREACHABLE')),
    told TEXT NOT NULL,
    booked TEXT NOT NULL,
    compared_at TEXT NOT NULL,
    PRIMARY KEY (party, name, accounting_date)
) STRICT, WITHOUT ROWID;
CREATE TABLE difference (
    party TEXT NOT NULL,
    name TEXT NOT NULL,
    accounting_date TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    class TEXT NOT NULL,
    severity INTEGER NOT NULL,
    sides TEXT NOT NULL,
    other_transaction TEXT NOT NULL,
    found_at TEXT NOT NULL,
    settled_at TEXT NOT NULL,
    PRIMARY KEY (party, name, accounting_date, transaction_id, class)
) STRICT, WITHOUT ROWID;
CREATE INDEX difference_standing ON difference (severity, accounting_date) WHERE settled_at = '';
"""


class Party(Enum):
    """Who was compared with the gateway."""

    TERMINAL = "TERMINAL"
    CITY = "CITY"


class Outcome(Enum):
    EQUAL = "EQUAL"
    DIFFERENT = "DIFFERENT"
    UNREACHABLE = "UNREACHABLE"


@dataclass(frozen=True, slots=True)
class Day:
    """One accounting date of one party."""

    party: Party
    name: str
    accounting_date: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.party.value, self.name, self.accounting_date


@dataclass(frozen=True, slots=True)
class Result:
    """How a day came out. `standing`: differences that are not settled. `compared_at` is ISO 8601, UTC."""

    day: Day
    outcome: Outcome
    told: Totals
    booked: Totals
    compared_at: str
    standing: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """A difference on the list; `settled_at` is empty while it stands."""

    day: Day
    difference: Difference
    found_at: str
    settled_at: str


# --- the gateway's own side -------------------------------------------------------------------------------------

_STANDINGS: Final = {
    **dict.fromkeys((State.POSTED, State.CONFIRMED), Standing.MOVED),
    **dict.fromkeys((State.FWD, State.REV), Standing.OPEN),
    **dict.fromkeys((State.DECLINED, State.REJECTED, State.REVDONE), Standing.NOT_MOVED),
}


def as_row(route: Route) -> Row:
    """A route as reconciliation sees it."""
    return Row(
        route.transaction_id,
        Kind.DEBIT,
        _STANDINGS[route.state],
        route.amount_fen,
        route.accounting_date,
        route.order_no,
        route.order_part,
        route.fingerprint.hex(),
        route.state.value,
    )


_CREDITS: Final = {
    CreditRouteState.CREDITED: Standing.MOVED,
    CreditRouteState.DECLINED: Standing.NOT_MOVED,
    CreditRouteState.FWD: Standing.OPEN,
}


def credit_row(route: CreditRoute) -> Row:
    """A credit's route. Its day is the one on which its city has posted it; until then, that of its stamp."""
    return Row(
        route.transaction_id,
        Kind(route.kind),
        _CREDITS[route.state],
        route.amount_fen,
        route.booked_on or route.accounting_date,
        fingerprint=route.fingerprint.hex(),
        state=route.state.value,
    )


_OWNER: Final = {Party.TERMINAL: "terminal_id", Party.CITY: "home_region"}


def rows_of(connection: apsw.Connection, day: Day, *, after: str, limit: int) -> list[Row]:
    """The route log's rows of the day, debits and credits, by transaction id."""
    whose, page = f"{_OWNER[day.party]} = ?1", "transaction_id > ?3 ORDER BY transaction_id LIMIT ?4"
    values = (day.name, day.accounting_date, after, limit)
    debits = connection.execute(f"SELECT * FROM route WHERE {whose} AND accounting_date = ?2 AND {page}", values)  # noqa: S608 - ours
    rows = [as_row(Route(row[0], State(row[1]), *row[2:])) for row in debits]
    open_ones = "state = 'FWD' AND accounting_date = ?2"
    for which in ("booked_on = ?2", open_ones):
        found = connection.execute(f"SELECT * FROM credit_route WHERE {whose} AND {which} AND {page}", values)  # noqa: S608 - ours
        rows += [credit_row(CreditRoute(row[0], CreditRouteState(row[1]), *row[2:])) for row in found]
    rows = sorted(rows, key=itemgetter(0))[:limit]
    return _as_told(connection, rows, day.name) if day.party is Party.TERMINAL else rows


def _as_told(connection: apsw.Connection, rows: list[Row], terminal_id: str) -> list[Row]:
    """As the terminal was told: a debit that two persons have reversed did not move, nor did the refund that did it."""
    undone, refunds = tickets.hidden_from(connection, terminal_id)
    if not refunds:
        return rows
    return [
        row._replace(standing=Standing.NOT_MOVED if row.transaction_id in undone | refunds else row.standing)
        for row in rows
    ]


def find_row(connection: apsw.Connection, transaction_id: str, *, terminal_id: str = "") -> Row | None:
    """The route log's row of a debit or credit, whatever its day; only of that terminal where one is named."""
    route = route_log.find(connection, transaction_id)
    credit = credit_log.find(connection, transaction_id) if route is None else None
    found = route or credit
    if found is None or terminal_id not in ("", found.terminal_id):
        return None
    rows = [as_row(found) if isinstance(found, Route) else credit_row(found)]
    return (_as_told(connection, rows, terminal_id) if terminal_id else rows)[0]


def rows_by_order(connection: apsw.Connection, terminals: Iterable[str], date: str) -> list[Row]:
    """What moved money at these terminals on that date, by order and part; without what two persons have reversed."""
    sql = """SELECT * FROM route WHERE terminal_id IN (SELECT value FROM json_each(?)) AND accounting_date = ?
                AND state IN ('POSTED', 'CONFIRMED')
                AND transaction_id NOT IN (SELECT transaction_id FROM ticket WHERE outcome = 'REVERSED')
              ORDER BY order_no, order_part"""
    names = msgspec.json.encode(list(terminals)).decode()
    return [as_row(Route(row[0], State(row[1]), *row[2:])) for row in connection.execute(sql, (names, date))]


# --- results ----------------------------------------------------------------------------------------------------


def keep(connection: apsw.Connection, result: Result) -> None:
    """Keeps the newest result of a day; where it is equal, every difference of the day is settled."""
    sql = "INSERT OR REPLACE INTO reconciliation VALUES (?, ?, ?, ?, ?, ?, ?)"
    told, booked = _totals_text(result.told), _totals_text(result.booked)
    connection.execute(sql, (*result.day.key, result.outcome.value, told, booked, result.compared_at))
    if result.outcome is Outcome.EQUAL:
        keep_differences(connection, result.day, (), at=result.compared_at)


def keep_differences(
    connection: apsw.Connection, day: Day, found: Iterable[Difference], *, at: str
) -> list[Difference]:
    """Keeps what a comparison found, and settles what it did not find again. Returns those that are new."""
    sql = """SELECT transaction_id, class FROM difference
              WHERE (party, name, accounting_date) = (?, ?, ?) AND settled_at = ''"""
    gone = set(connection.execute(sql, day.key))
    fresh = []
    for difference in found:
        key = (difference.transaction_id, difference.found.value)
        if key in gone:
            gone.discard(key)
            continue
        fresh.append(difference)
        sides = msgspec.json.encode([_row_text(row) for row in (difference.told, difference.booked)]).decode()
        connection.execute(
            "INSERT OR REPLACE INTO difference VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '')",
            (*day.key, *key, difference.treatment.severity, sides, difference.other_transaction, at),
        )
    for key in gone:
        connection.execute(
            "UPDATE difference SET settled_at = ? WHERE (party, name, accounting_date, transaction_id, class)"
            " = (?, ?, ?, ?, ?)",
            (at, *day.key, *key),
        )
    return fresh


def find(connection: apsw.Connection, day: Day) -> Result | None:
    return next(_results(connection, "(party, name, accounting_date) = (?, ?, ?)", *day.key), None)


def of_date(connection: apsw.Connection, date: str) -> list[Result]:
    """Every party's result of the date, cities last."""
    return list(_results(connection, "accounting_date = ? ORDER BY party DESC, name", date))


def due_dates(connection: apsw.Connection, terminal_id: str, *, before: str, limit: int) -> list[str]:
    """Dates before `before` on which the terminal has routes and has not come out equal, oldest first."""
    next_date = """SELECT min(date) FROM (
        SELECT min(accounting_date) AS date FROM route WHERE terminal_id = ?1 AND accounting_date > ?2
        UNION ALL SELECT min(booked_on) FROM credit_route WHERE terminal_id = ?1 AND booked_on > ?2)"""
    equal = "SELECT 1 FROM reconciliation WHERE (party, name, accounting_date, outcome) = ('TERMINAL', ?, ?, 'EQUAL')"
    due: list[str] = []
    last = ""
    while len(due) < limit:
        row = connection.execute(next_date, (terminal_id, last)).fetchone()
        if row is None or row[0] is None or row[0] >= before:
            break
        last = str(row[0])
        if connection.execute(equal, (terminal_id, last)).fetchone() is None:
            due.append(last)
    return due


def unequal_cities(connection: apsw.Connection) -> list[Day]:
    """Days of cities that have been compared and have not come out equal."""
    sql = "SELECT name, accounting_date FROM reconciliation WHERE party = 'CITY' AND outcome <> 'EQUAL'"
    return [Day(Party.CITY, name, date) for name, date in connection.execute(sql)]


def listed(connection: apsw.Connection, *, date: str, settled: bool, limit: int) -> list[Listed]:
    """The operator's list, the worst first, then the oldest."""
    sql = """SELECT party, name, accounting_date, transaction_id, class, sides, other_transaction, found_at, settled_at
               FROM difference WHERE ?1 IN ('', accounting_date) AND (?2 OR settled_at = '')
              ORDER BY settled_at <> '', severity, accounting_date, transaction_id LIMIT ?3"""
    return [
        Listed(
            Day(Party(row[0]), row[1], row[2]),
            Difference(Class(row[4]), row[3], tuple(_row_from(side) for side in msgspec.json.decode(row[5])), row[6]),
            row[7],
            row[8],
        )
        for row in connection.execute(sql, (date, int(settled), limit))
    ]


# --- as text ----------------------------------------------------------------------------------------------------


def _results(connection: apsw.Connection, where: str, *values: str) -> Iterator[Result]:
    sql = f"""SELECT party, name, accounting_date, outcome, told, booked, compared_at,
                     (SELECT count(*) FROM difference d WHERE settled_at = '' AND (d.party, d.name, d.accounting_date)
                       = (r.party, r.name, r.accounting_date))
                FROM reconciliation r WHERE {where}"""  # noqa: S608 - this module's own constants
    for party, name, date, outcome, told, booked, at, standing in connection.execute(sql, values):
        day = Day(Party(party), name, date)
        yield Result(day, Outcome(outcome), _totals_from(told), _totals_from(booked), at, standing)


def _totals_text(totals: Totals) -> str:
    kinds = {kind.value: [total.count, total.amount_fen] for kind, total in totals.kinds.items()}
    return msgspec.json.encode({"kinds": kinds, "hash_total": totals.hash_total.hex()}).decode()


def _totals_from(text: str) -> Totals:
    plain = msgspec.json.decode(text)
    return Totals({Kind(k): Total(*v) for k, v in plain["kinds"].items()}, bytes.fromhex(plain["hash_total"]))


def _row_text(row: Row | None) -> list[str | int] | None:
    return None if row is None else [row[0], row.kind.value, row.standing.value, *row[3:]]


def _row_from(plain: list[str | int] | None) -> Row | None:
    return None if plain is None else Row(plain[0], Kind(plain[1]), Standing(plain[2]), *plain[3:])  # type: ignore[arg-type]  # as _row_text wrote it
