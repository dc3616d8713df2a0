"""The chain of operators' acts: what is changed, taken out or filed elsewhere is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from yikatong.gateway.acts import SCHEMA, Act, ActKind, Acts
from yikatong.runtime.store import open_file

ACTS = Acts(b"k" * 32)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    made = open_file(tmp_path / "acts.db", 1, 1, SCHEMA)
    for number, subject in enumerate(("P37010000001", "P37010000002", "P37010000001"), 1):
        act = Act(kind=ActKind.AGREEMENT, subject=subject, at="2026-03-01T00:00:00+00:00", operator="operator-1",
                  reason="复核", value="SUSPENDED")  # fmt: skip
        assert ACTS.add(made, act).number == number
    yield made
    made.close()


def found(connection: apsw.Connection, acts: Acts = ACTS) -> list[tuple[str, str]]:
    return [(finding.invariant, finding.subject) for finding in acts.audit(connection)]


def test_a_whole_chain_has_no_finding_and_gives_back_what_was_done(connection: apsw.Connection) -> None:
    assert found(connection) == []
    assert [act.number for act in ACTS.of(connection, ActKind.AGREEMENT)] == [1, 2, 3]
    (only,) = ACTS.of(connection, ActKind.AGREEMENT, subject="P37010000002")
    assert (only.number, only.operator, only.reason, only.value) == (2, "operator-1", "复核", "SUSPENDED")
    assert ACTS.of(connection, ActKind.CITY_CLOSED) == []
    assert ACTS.head(connection).number == 3


@pytest.mark.parametrize("sql", ["DELETE FROM act WHERE number = 2", "UPDATE act SET subject = 'x' WHERE number = 2"])
def test_acts_are_only_added(connection: apsw.Connection, sql: str) -> None:
    with pytest.raises(apsw.ConstraintError):
        connection.execute(sql)


@pytest.mark.parametrize(
    ("sql", "finding"),
    [
        ("DELETE FROM act WHERE number = 2", "act:3"),
        ("DELETE FROM act WHERE number = 1", "act:2"),
        ("UPDATE act SET content = CAST(replace(content, 'SUSPENDED', 'ACTIVE') AS BLOB) WHERE number = 3", "act:3"),
        ("UPDATE act SET subject = 'P37010000009' WHERE number = 2", "act:2"),
        ("UPDATE act SET kind = 'APPROVED' WHERE number = 1", "act:1"),
        ("UPDATE act SET number = 9 WHERE number = 3", "act:9"),
    ],
)
def test_what_was_done_to_the_chain_is_found(connection: apsw.Connection, sql: str, finding: str) -> None:
    connection.execute("DROP TRIGGER act_is_never_changed; DROP TRIGGER act_is_never_deleted")
    connection.execute(sql)
    assert ("I8", finding) in found(connection)


def test_nobody_makes_a_chain_without_the_key(connection: apsw.Connection) -> None:
    assert found(connection, Acts(b"x" * 32)) != []


def test_the_head_tells_of_acts_that_were_taken_from_the_end(connection: apsw.Connection) -> None:
    noted = ACTS.head(connection)
    connection.execute("DROP TRIGGER act_is_never_deleted; DELETE FROM act WHERE number = 3")
    assert found(connection) == []
    assert ACTS.head(connection) != noted
