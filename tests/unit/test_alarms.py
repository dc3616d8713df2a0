"""An open transaction is told about once after 5 minutes, once after 30, and not again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from tests.support.rows import row
from yikatong.core.terminal_table import State
from yikatong.runtime.clock import SystemClock
from yikatong.terminal.alarms import Alarms

MINUTE_MS = 60_000


class _Clock(SystemClock):
    """A boot clock that the test sets."""

    minutes = 0.0

    def boot_ms(self) -> int:
        return int(self.minutes * MINUTE_MS)


def levels(alarms: Alarms, clock: _Clock, minutes: float, *states: State) -> list[str]:
    clock.minutes = minutes
    rows = [
        replace(row(state), transaction_id=f"t{n}", boot_id=clock.boot_id, created_boot_ms=0)  # type: ignore[arg-type]
        for n, state in enumerate(states)
    ]
    with capture_logs() as said:
        alarms.look(rows)
    return [line["log_level"] for line in said]


@pytest.mark.parametrize("state", [State.SENT, State.REVERSING, State.MANUAL])
def test_each_limit_is_told_once(state: State) -> None:
    clock = _Clock()
    alarms = Alarms(clock)
    told = {minutes: levels(alarms, clock, minutes, state) for minutes in (0, 5, 5.1, 9, 30, 30.1, 90)}
    assert told == {0: [], 5: [], 5.1: ["warning"], 9: [], 30: [], 30.1: ["error"], 90: []}


def test_what_is_found_late_is_an_alarm_at_once() -> None:
    clock = _Clock()
    assert levels(Alarms(clock), clock, 31, State.REVERSING, State.SENT) == ["error", "error"]


def test_what_waits_for_others_is_not_overdue() -> None:
    clock = _Clock()
    assert levels(Alarms(clock), clock, 600, State.ACCEPTED, State.HELD) == []
