"""A machine that sleeps: the boot clock goes on meanwhile, and no sleep of a program ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from tests.support.far_end import FarEnd
from tests.support.rows import PAYER, row
from yikatong.core.terminal_table import State
from yikatong.runtime.clock import SystemClock
from yikatong.terminal.events import Hub
from yikatong.terminal.journal import Journal
from yikatong.terminal.live import DEFAULT_LIMITS
from yikatong.terminal.runner import Runner
from yikatong.terminal.session import Session
from yikatong.terminal.who_pays import WhoPays


class _Clock(SystemClock):
    slept_ms = 0

    def boot_ms(self) -> int:
        return super().boot_ms() + self.slept_ms


async def test_a_held_debit_is_reversed_once_the_machine_wakes_after_its_time(tmp_path: Path) -> None:
    journal, far_end, clock = Journal(tmp_path / "journal.db"), FarEnd(), _Clock()
    session = cast("Session", SimpleNamespace(terminal_id="terminal-1", fenced=False))
    limits = replace(DEFAULT_LIMITS, look_again_s=0.01)
    runner = Runner(
        journal, far_end, session, cast("WhoPays", None), Hub(), clock, leave=lambda reason: None, limits=limits
    )
    kept = row(State.HELD)
    changes = {
        "payer_sealed": journal.vault.seal(PAYER, transaction_id=kept.transaction_id),
        "institution": "P99000200001",
        "treatment_region": "990002",
        "boot_id": clock.boot_id,
        "confirm_by_boot_ms": clock.boot_ms() + 3_600_000,
    }
    await journal.record(replace(kept, **changes))  # type: ignore[arg-type]  # fields by name
    await runner.recover()
    await asyncio.sleep(0.05)
    assert [waiting.state for waiting in runner.open_rows()] == [State.HELD]
    clock.slept_ms = 3_600_001
    async with asyncio.timeout(5):
        while runner.open_rows():
            await asyncio.sleep(0.005)
    found = await journal.by_id(kept.transaction_id)
    assert found is not None
    assert (found.state, found.reason) == (State.REVERSED, "NOT_CONFIRMED_IN_TIME")
    await runner.close()
    await journal.close()
