"""The fleet (终端设备): every registered terminal, and what its newest self-test said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

import apsw
import msgspec

from yikatong.gateway import sessions
from yikatong.gateway.registry import Member, Registry
from yikatong.gateway.sessions import Session

SCHEMA: Final = """
CREATE INDEX self_test_of_terminal ON self_test_report (terminal_id, started_at);
"""

OVERDUE_AFTER: Final = timedelta(days=8)
"""The test is weekly, and a day late is no alarm; the same figure as the terminals' `self_test_days`."""


class Fitness(Enum):
    """How a terminal stands; the worst first, as the list is."""

    FAILED = "FAILED"
    NEVER_TESTED = "NEVER_TESTED"
    OVERDUE = "OVERDUE"
    PASSED = "PASSED"


class Step(msgspec.Struct, frozen=True):
    """One step of a self-test as it was filed."""

    name: str
    passed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FleetTerminal:
    """`tested_at` is None where nothing was ever filed; `failed`: steps of the newest test."""

    terminal_id: str
    member: Member
    fitness: Fitness
    tested_at: datetime | None
    failed: list[Step]
    session: Session


_STEPS: Final = msgspec.json.Decoder(list[Step])


def fleet(connection: apsw.Connection, registry: Registry, now: datetime) -> list[FleetTerminal]:
    """Every terminal of the registry, the worst first, then by institution and id."""
    sql = "SELECT terminal_id, max(started_at), passed, steps FROM self_test_report GROUP BY terminal_id"
    newest = {str(row[0]): (str(row[1]), bool(row[2]), str(row[3])) for row in connection.execute(sql)}
    found = []
    for terminal_id in registry.terminals():
        tested_at, failed, fitness = None, list[Step](), Fitness.NEVER_TESTED
        if (report := newest.get(terminal_id)) is not None:
            tested_at = datetime.fromisoformat(report[0])
            failed = [step for step in _STEPS.decode(report[2]) if not step.passed]
            late = now - tested_at > OVERDUE_AFTER
            fitness = Fitness.FAILED if not report[1] else Fitness.OVERDUE if late else Fitness.PASSED
        session = sessions.find(connection, terminal_id)
        found.append(FleetTerminal(terminal_id, registry.member_of(terminal_id), fitness, tested_at, failed, session))
    order = list(Fitness)
    return sorted(found, key=lambda t: (order.index(t.fitness), t.member.institution.code, t.terminal_id))
