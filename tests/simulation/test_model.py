"""The protocol, checked exhaustively by spin over the code's own tables; and broken tables, which it must refute.

The model (model/protocol.pml) says what it covers. `tables.pml` is made from the tables of yikatong.core, so a state
has the same name here, there and in every report.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.model import tables
from yikatong.core import ledger_table, router_table, terminal_table
from yikatong.core.ledger_table import Entries
from yikatong.core.terminal_table import Effect, State

MODEL = (tables.FOLDER / "protocol.pml").read_text(encoding="utf-8")
R, L = router_table, ledger_table

pytestmark = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("gcc")), reason="spin and gcc: deploy/setup.sh installs them, as root"
)


@dataclass(frozen=True)
class Verdict:
    holds: bool
    text: str


@dataclass(frozen=True)
class Checker:
    """The compiled model, without the tables."""

    folder: Path
    liveness: bool

    @classmethod
    def compile(cls, folder: Path, *, model: str = MODEL, liveness: bool = False) -> Checker:
        (folder / "protocol.pml").write_text(model, encoding="utf-8")
        (folder / "names.h").write_text(tables.names_h(), encoding="utf-8")
        shutil.copy(tables.FOLDER / "move.h", folder)
        _run(folder, "spin", "-a", "-DLIVENESS" if liveness else "-DREACH", "protocol.pml")
        options = ["-DNFAIR=3"] if liveness else ["-DSAFETY"]
        _run(folder, "gcc", "-c", "-O1", "-w", "-DCOLLAPSE", *options, "pan.c")
        return cls(folder, liveness)

    def __call__(self, page: str) -> Verdict:
        """Searches every state under these tables. A search that was cut short is an error, not a verdict."""
        (self.folder / "tables.c").write_text(page, encoding="utf-8")
        _run(self.folder, "gcc", "-o", "pan", "pan.o", "tables.c")
        text = _run(self.folder, "./pan", *(["-a", "-f"] if self.liveness else []))
        found = re.search(r"errors: (\d+)", text)
        assert found is not None, text
        assert "max search depth too small" not in text
        holds = found[1] == "0"
        assert not holds or "Search not completed" not in text
        return Verdict(holds, text)


@pytest.fixture(scope="module")
def safety(tmp_path_factory: pytest.TempPathFactory) -> Checker:
    return Checker.compile(tmp_path_factory.mktemp("safety"))


@pytest.fixture(scope="module")
def liveness(tmp_path_factory: pytest.TempPathFactory) -> Checker:
    return Checker.compile(tmp_path_factory.mktemp("liveness"), liveness=True)


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize(("name", "made"), [("names.h", tables.names_h), ("tables.c", tables.tables_c)])
def test_what_lies_beside_the_model_is_made_from_the_code(name: str, made: Callable[[], str]) -> None:
    written = (tables.FOLDER / name).read_text(encoding="utf-8")
    assert written == made(), "run: python -m tests.simulation.model.tables"


def test_every_event_of_the_terminal_is_there() -> None:
    kinds = {type(event) for event in tables.EVENTS.values()}
    assert kinds == set(terminal_table.Event.__args__)
    assert {state for state, _ in tables.terminal_moves()} == set(State)


def test_money_moves_once_or_not_at_all_and_every_state_is_reached(safety: Checker) -> None:
    verdict = safety(tables.tables_c())
    assert verdict.holds, verdict.text
    number = tables.numbers()
    reached = set(re.findall(r"^reached (\w+) (\d+)$", verdict.text, re.MULTILINE))
    # PREPARED is where it begins, MANUAL where it must never come; credits are no part of the model.
    left_out = {State.PREPARED, State.MANUAL, L.State.CANCELLED}
    assert reached == {
        (name, str(number[state.name]))
        for name, states in (("terminal", State), ("router", R.State), ("ledger", L.State))
        for state in states
        if state not in left_out
    }


def test_every_transaction_ends_once_the_faults_stop(liveness: Checker) -> None:
    verdict = liveness(tables.tables_c())
    assert verdict.holds, verdict.text


# --- the check can fail -----------------------------------------------------------------------------------------------


def _terminal(state: State, event: str, **changes: Any) -> Callable[[], str]:
    def page() -> str:
        moves = tables.terminal_moves()
        moves[state, event] = replace(moves[state, event], **changes)
        return tables.tables_c(terminal=moves)

    return page


def _reversal_kept_in_memory() -> str:
    moves = tables.terminal_moves()
    broken = {key: replace(move, record=False) for key, move in moves.items() if move.next is State.REVERSING}
    return tables.tables_c(terminal={**moves, **broken})


def _router(state: R.State, event: R.Event, move: R.Step) -> Callable[[], str]:
    assert (state, event) in R.TABLE
    return lambda: tables.tables_c(router={**R.TABLE, (state, event): move})


def _ledger(state: L.State, event: L.Event, move: L.Step) -> Callable[[], str]:
    assert (state, event) in L.TABLE
    return lambda: tables.tables_c(ledger={**L.TABLE, (state, event): move})


BROKEN_TABLES = {
    "no tombstone": _ledger(L.State.NONE, L.Event.REVERSAL, L.Step(L.State.NONE, L.Reply.TOMBSTONED)),
    "a late OK flips REVERSING": _terminal(
        State.REVERSING, "ANSWERED_POSTED", next=State.APPROVED, record=True, effects=(Effect.SEND_CONFIRM,)
    ),
    "the gateway's time-out declines": _router(
        R.State.FWD, R.Event.LEDGER_SILENT, R.Step(R.State.DECLINED, R.Reply.STORED)
    ),
    "the gateway refuses a repetition by itself": _router(
        R.State.NONE, R.Event.DEBIT_REFUSED_REPEAT, R.Step(R.State.REJECTED, R.Reply.STORED)
    ),
    "the gateway tells as undone what the ledger has not undone": _router(
        R.State.REV, R.Event.QUERY, R.Step(R.State.REV, R.Reply.ALREADY_REVERSED)
    ),
    "a restart declines what was sent": _terminal(
        State.SENT, "RESTARTED", next=State.DECLINED, record=True, effects=(Effect.TELL,)
    ),
    "a reversal is decided in memory alone": _reversal_kept_in_memory,
    "a debit leaves before it is recorded": _terminal(State.PREPARED, "GO", record=False),
    "a held debit is confirmed before the HIS has": _terminal(
        State.SENT, "ANSWERED_POSTED_HOLD", effects=(Effect.SEND_CONFIRM, Effect.WAIT_FOR_CONFIRMATION)
    ),
    "declines are not stored": _ledger(L.State.NONE, L.Event.DEBIT_REFUSED, L.Step(L.State.NONE, L.Reply.DECLINED)),
    "the ledger posts what it has reversed": _ledger(
        L.State.REVERSED, L.Event.DEBIT_AGAIN, L.Step(L.State.POSTED, L.Reply.POSTED, Entries.DEBIT)
    ),
    "the ledger posts a repetition": _ledger(
        L.State.POSTED, L.Event.DEBIT_AGAIN, L.Step(L.State.POSTED, L.Reply.POSTED, Entries.DEBIT)
    ),
}


@pytest.mark.parametrize("name", BROKEN_TABLES)
def test_a_broken_table_is_refuted(name: str, safety: Checker) -> None:
    assert not safety(BROKEN_TABLES[name]()).holds


NEVER_ENDING_TABLES = {
    "a start does not take up a reversal": _terminal(State.REVERSING, "RESTARTED", effects=()),
    "a confirmation is not kept": _ledger(L.State.POSTED, L.Event.CONFIRM, L.Step(L.State.POSTED, L.Reply.CONFIRMED)),
}


@pytest.mark.parametrize("name", NEVER_ENDING_TABLES)
def test_a_table_under_which_something_never_ends_is_refuted(name: str, liveness: Checker) -> None:
    assert not liveness(NEVER_ENDING_TABLES[name]()).holds


DYING = "tg_first = false; tg_debit = false; tg_query = false;"
"""Requests die with the process to which they were sent."""


@pytest.mark.parametrize(
    ("assumed", "instead"),
    [
        (":: router != REV -> router = NONE\n", ":: router = NONE\n"),  # a reversal that was decided is lost
        (DYING, "skip;"),  # requests outlive the gateway's process, and the guards of what they ask are lost
    ],
)
def test_what_the_model_takes_for_granted_it_needs(assumed: str, instead: str, tmp_path: Path) -> None:
    """These are promises of the gateway's store and of the connection, not of the tables."""
    assert assumed in MODEL
    assert not Checker.compile(tmp_path, model=MODEL.replace(assumed, instead))(tables.tables_c()).holds


def test_a_gateway_that_keeps_its_guards_may_be_reached_by_requests_to_the_process_before(tmp_path: Path) -> None:
    """However late a repetition arrives: the guards say that the debit was here, and the ledger what became of it.

    So it is in the simulation: rows are lost, but no guards and no refusals.
    """
    kept = MODEL
    for assumed, instead in (
        (":: router != REV -> router = NONE; seen = false\n", ""),
        (":: router != REV -> router = NONE\n", ":: router != REV && router != REJECTED -> router = NONE\n"),
        (DYING, "skip;"),
    ):
        assert assumed in kept
        kept = kept.replace(assumed, instead)
    checker = Checker.compile(tmp_path, model=kept)
    verdict = checker(tables.tables_c())
    assert verdict.holds, verdict.text
    assert not checker(_router(R.State.NONE, R.Event.DEBIT_SEEN, R.Step(R.State.REJECTED, R.Reply.STORED))()).holds
