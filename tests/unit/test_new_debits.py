"""When a terminal takes no new debit, and that what it has open goes on all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.support.far_end import FarEnd
from tests.support.rows import PAYER, row
from yikatong.core.orders import Accepted
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.terminal_table import State
from yikatong.runtime.clock import SystemClock
from yikatong.runtime.leg import LinkDown
from yikatong.terminal.events import Hub
from yikatong.terminal.journal import Journal
from yikatong.terminal.runner import UNRESOLVED_AGE_MAX_MS, UNRESOLVED_MAX, Runner
from yikatong.terminal.session import Session
from yikatong.terminal.who_pays import WhoPays

GRANTED = object()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    made = Journal(tmp_path / "journal.db")
    yield made
    await made.close()


def runner_of(journal: Journal, far_end: FarEnd, admit: Callable[[], None] = lambda: None) -> Runner:
    session = cast("Session", SimpleNamespace(terminal_id="terminal-1", fenced=False, require=lambda: GRANTED))
    left: list[Reason] = []
    return Runner(
        journal, far_end, session, cast("WhoPays", None), Hub(), SystemClock(), leave=left.append, admit=admit
    )


async def reversing(journal: Journal, count: int, age_ms: int) -> None:
    """So many debits that began so long ago under this boot and are being reversed."""
    clock = SystemClock()
    for _ in range(count):
        kept = row(State.REVERSING)
        changes = {
            "payer_sealed": journal.vault.seal(PAYER, transaction_id=kept.transaction_id),
            "institution": "P99000200001",
            "treatment_region": "990002",
            "boot_id": clock.boot_id,
            "created_boot_ms": clock.boot_ms() - age_ms,
        }
        await journal.record(replace(kept, **changes))  # type: ignore[arg-type]  # fields by name


def refused(runner: Runner) -> Reason | None:
    try:
        assert runner.require_able() is GRANTED
    except YikatongError as error:
        return error.reason
    return None


def _silent(method: str) -> None:
    raise LinkDown(method)


@pytest.mark.parametrize(
    ("count", "age_ms", "expected"),
    [
        (UNRESOLVED_MAX, 0, None),
        (UNRESOLVED_MAX + 1, 0, Reason.TOO_MANY_UNRESOLVED),
        (1, UNRESOLVED_AGE_MAX_MS - 60_000, None),
        (1, UNRESOLVED_AGE_MAX_MS + 1, Reason.TOO_MANY_UNRESOLVED),
    ],
)
async def test_too_many_or_too_old_that_are_open(
    journal: Journal, count: int, age_ms: int, expected: Reason | None
) -> None:
    await reversing(journal, count, age_ms)
    runner = runner_of(journal, FarEnd(line=_silent))
    await runner.recover()
    assert refused(runner) is expected
    await runner.close()


async def test_what_the_gateway_has_promised_does_not_count(journal: Journal) -> None:
    await reversing(journal, 1, UNRESOLVED_AGE_MAX_MS + 1)
    runner = runner_of(journal, FarEnd(reversal=Accepted()))
    await runner.recover()
    while runner.open_rows()[0].state is not State.ACCEPTED:
        live = next(iter(runner._live.values()))
        await live.changed.wait()
    assert refused(runner) is None
    await runner.close()


async def test_what_is_not_admitted_holds_up_no_reversal(journal: Journal) -> None:
    def admit() -> None:
        raise YikatongError(Reason.SELF_TEST_FAILED)

    await reversing(journal, 1, 0)
    far_end = FarEnd()
    runner = runner_of(journal, far_end, admit)
    assert refused(runner) is Reason.SELF_TEST_FAILED
    await runner.recover()
    while live := next(iter(runner._live.values()), None):
        await live.changed.wait()
    assert len(far_end.undone) == 1
    await runner.close()
