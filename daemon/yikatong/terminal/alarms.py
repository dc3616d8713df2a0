"""Says once, in the log, that a transaction is open for too long: a warning after 5 minutes, an alarm after 30.

`doctor` judges the same ages by the same limits (probes); a row that is promised or held is not overdue by its age.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from yikatong.core.credit_transaction import Credit
from yikatong.core.transaction import Transaction
from yikatong.runtime.clock import Clock
from yikatong.terminal.live import age_ms
from yikatong.terminal.probes import OPEN_ALARM_MS, OPEN_WARN_MS, OpenRow
from yikatong.terminal.terminal import Terminal

_log = structlog.get_logger(__name__)
_PAUSE_S: Final = 30.0


class Alarms:
    """What has been said already, by transaction."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: dict[str, int] = {}

    def look(self, rows: Iterable[Transaction | Credit]) -> None:
        """`rows`: all that is open now; what is not among them any more is forgotten."""
        seen = [OpenRow(row, age_ms(row, self._clock)) for row in rows]
        self._said = {row.row.transaction_id: self._say(row) for row in seen if row.ages}

    def _say(self, seen: OpenRow) -> int:
        """The limit that this row has passed, in milliseconds; 0: none. Said when it is a new one."""
        passed = max((limit for limit in (OPEN_WARN_MS, OPEN_ALARM_MS) if seen.age_ms > limit), default=0)
        if passed > self._said.get(seen.row.transaction_id, 0):
            say = _log.error if passed == OPEN_ALARM_MS else _log.warning
            say(
                "a transaction is open for long",
                transaction_id=seen.row.transaction_id,
                state=seen.row.state.value,
                age_ms=seen.age_ms,
            )
        return passed


async def watch(terminal: Terminal) -> None:
    """For as long as the daemon runs."""
    alarms = Alarms(terminal.clock)
    while True:
        alarms.look([*terminal.runner.open_rows(), *terminal.credits.open_rows()])
        await asyncio.sleep(_PAUSE_S)
