"""What was open at the start is told until somebody has heard how it ended, or for a day."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.rows import row
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.runtime.clock import SystemClock
from yikatong.terminal.journal import Journal
from yikatong.terminal.recovered import Recovered, still_news

DAY_MS = 24 * 3_600_000


class _Clock(SystemClock):
    later_ms = 0

    def boot_ms(self) -> int:
        return super().boot_ms() + self.later_ms


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    made = Journal(tmp_path / "journal.db")
    yield made
    await made.close()


async def found(journal: Journal, clock: _Clock, *states: State) -> tuple[Recovered, list[Transaction]]:
    rows = [await journal.record(row(state)) for state in states]
    return Recovered(journal, clock, [made.transaction_id for made in rows]), rows


async def test_how_it_stands_is_what_the_journal_says(journal: Journal) -> None:
    recovered, (reversing,) = await found(journal, _Clock(), State.REVERSING)
    assert await recovered.rows() == [reversing]
    done = await journal.record(replace(reversing, state=State.REVERSED))
    assert await recovered.rows() == [done]


def test_what_an_earlier_start_had_found_is_news_for_a_day() -> None:
    now = datetime(2026, 1, 2, 12, tzinfo=UTC)
    morning, before = "2026-01-02T08:00:00+00:00", "2026-01-01T08:00:00+00:00"
    found = [
        row(State.REVERSED, recovered=True, decided_at=morning),
        row(State.APPROVED, recovered=True, decided_at=morning),
    ]
    others = [
        row(State.REVERSED, recovered=True, decided_at=before),
        row(State.REVERSED, decided_at=morning),
        row(State.REVERSING, recovered=True),
        row(State.HELD, recovered=True, decided_at=morning),
    ]
    assert still_news([*others, *found], now) == [made.transaction_id for made in found]


async def test_only_what_is_settled_is_forgotten_once_it_is_heard(journal: Journal) -> None:
    recovered, rows = await found(journal, _Clock(), State.HELD, State.APPROVED, State.SENT, State.MANUAL)
    for made in rows:
        recovered.heard(made)
    recovered.heard(row(State.APPROVED))  # one that was never open is no matter
    assert [made.state for made in await recovered.rows()] == [State.HELD, State.SENT, State.MANUAL]


async def test_after_a_day_only_what_is_still_open_is_told(journal: Journal) -> None:
    clock = _Clock()
    recovered, _ = await found(journal, clock, State.REVERSED, State.MANUAL)
    clock.later_ms = DAY_MS - 60_000
    assert len(await recovered.rows()) == 2
    clock.later_ms = DAY_MS + 60_000
    assert [made.state for made in await recovered.rows()] == [State.MANUAL]
