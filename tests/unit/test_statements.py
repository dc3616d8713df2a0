"""The closing of a month in slices: cut off anywhere and taken up again, the statements are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import apsw
import pytest

from yikatong.core.reasons import Reason, YikatongError
from yikatong.gateway import partition, statements
from yikatong.gateway.statements import Closing, Statement
from yikatong.runtime.store import open_file

T = TypeVar("T")
MONTH, TODAY, AT = "2026-03", "2026-04-01", "2026-04-01T00:10:00+00:00"


class CutOff(Exception):
    """The gateway dies."""


class Store:
    """Commits in this thread; dies before the `dies_at`-th commit."""

    def __init__(self, connection: apsw.Connection, dies_at: int = 10_000) -> None:
        self.connection, self.left, self.orders = connection, dies_at, 0

    async def __call__(self, job: Callable[[apsw.Connection], T], /) -> T:
        self.left -= 1
        if self.left < 0:
            raise CutOff
        with self.connection:
            return job(self.connection)

    def order(self, connection: apsw.Connection) -> None:
        self.orders += 1

    async def close(self, month: str = MONTH, today: str = TODAY) -> list[Statement]:
        return await Closing(self, month, at=AT).run(self.order, today=today)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    made = open_file(tmp_path / "gateway.db", 1, 1, partition.SCHEMA)
    for number in range(30):
        claim(made, number, home=("371000", "370600")[number % 2])
    yield made
    made.close()


def claim(connection: apsw.Connection, number: int, *, home: str = "371000", day: str = "2026-03-15") -> None:
    """A confirmed debit of `number` fen and a half-filled route row."""
    transaction_id = f"t-{number:03d}"
    columns = [str(row[1]) for row in connection.execute("PRAGMA table_info(route)")]
    values: dict[str, str | int | bytes | None] = dict.fromkeys(columns, "")
    values |= {"transaction_id": transaction_id, "state": "CONFIRMED", "fingerprint": b"", "home_region": home}
    values |= {"institution": "P37010000001", "amount_fen": number, "balance_fen": 0, "claimed": 1, "sealed": None}
    marks = ", ".join("?" * len(columns))
    connection.execute(f"INSERT INTO route VALUES ({marks})", [values[name] for name in columns])
    connection.execute(
        """INSERT INTO claim (transaction_id, region, kind, account, amount_fen, accounting_date)
           VALUES (?1, '370100', 'DEBIT', 'receivable:' || ?2, ?3, ?4),
                  (?1, '370100', 'DEBIT', 'payable:P37010000001', -?3, ?4)""",
        (transaction_id, home, number, day),
    )


async def test_a_closing_that_is_cut_off_is_taken_up_where_it_was(
    connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "_SLICE", 7)
    tries = 0
    for dies_at in range(1, 100):
        store = Store(connection, dies_at)
        tries += 1
        try:
            closed = await store.close()
        except CutOff:
            assert not statements.of_month(connection, MONTH) or dies_at > 10, "all at once, with the last commit"
            continue
        break
    assert tries > 10, "it was cut off many times"
    assert {s.home.code: s.totals["DEBIT"] for s in closed} == {"371000": (15, 210), "370600": (15, 225)}
    assert list(statements.audit(connection)) == []
    assert await Store(connection).close() == closed


async def test_what_was_closed_in_one_go_has_the_same_digests(connection: apsw.Connection, tmp_path: Path) -> None:
    closed = await Store(connection).close()
    other = open_file(tmp_path / "other.db", 1, 1, partition.SCHEMA)
    try:
        for number in range(30):
            claim(other, number, home=("371000", "370600")[number % 2])
        sliced = pytest.MonkeyPatch()
        with sliced.context() as patch:
            patch.setattr(statements, "_SLICE", 3)
            again = await Store(other).close()
    finally:
        other.close()
    assert {(s.home, s.digest) for s in again} == {(s.home, s.digest) for s in closed}


async def test_months_are_closed_one_after_the_other(connection: apsw.Connection) -> None:
    store = Store(connection, dies_at=2)
    with pytest.raises(CutOff):
        await store.close()
    for month in ("2026-02", "2026-01"):
        with pytest.raises(YikatongError) as caught:
            await Store(connection).close(month)
        assert (caught.value.reason, caught.value.facts["month"]) == (Reason.NOT_DECIDABLE, MONTH)
    resumed = Store(connection)
    assert len(await resumed.close()) == 2
    assert (store.orders, resumed.orders) == (1, 0), "ordered once"
    with pytest.raises(YikatongError):
        await Store(connection).close("2026-02")
    claim(connection, 500, day="2026-03-31")
    (late,) = await Store(connection).close("2026-04", today="2026-05-01")
    assert late.totals["DEBIT"] == (1, 500)
    with pytest.raises(YikatongError):
        await Store(connection).close("2026-05", today="2026-05-31")


@pytest.mark.parametrize(
    ("month", "last"), [("2026-02", "2026-02-28"), ("2024-02", "2024-02-29"), ("2026-12", "2026-12-31")]
)
def test_the_last_day_of_a_month(month: str, last: str) -> None:
    assert statements.last_day(month) == last


def test_what_is_no_month_is_refused() -> None:
    with pytest.raises(YikatongError) as caught:
        statements.last_day("2026-13")
    assert caught.value.reason is Reason.INVALID_FIELD
