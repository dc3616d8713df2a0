"""A province under seeded faults: the shipped code keeps its promise, and each broken variant is found to break it.

`YIKATONG_SEEDS=20000 pytest tests/simulation/test_faults.py` plays more seeds; `yikatong simulate faults --seeds A..B`
plays any.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

import pytest
from click.testing import CliRunner

from tests.simulation.mutants import MUTANTS, Mutant
from yikatong.cli.main import main
from yikatong.core import terminal_table
from yikatong.core.reasons import Reason
from yikatong.simulation.faults import run

SEEDS = int(os.environ.get("YIKATONG_SEEDS", "1200"))
BLOCK = 100
_points: Counter[str] = Counter()

STATES = ("SENT", "HELD", "APPROVED", "DECLINED", "REVERSING", "REVERSED")
GATEWAY = ("debit", "_ask", "reverse", "_undo", "confirm", "enquire")
CITY = ("debit", "reverse", "confirm", "enquire_id")
EVERY_POINT = {
    *(f"terminal dies {when} Journal.record {state}" for when in ("before", "after") for state in STATES),
    *(f"gateway dies {when} Router.{what}" for when in ("before", "after") for what in GATEWAY),
    *(f"city dies {when} BookLink.{what}" for when in ("before", "after") for what in CITY),
    *(f"{what} {how}" for what in ("Debit", "Reverse", "Confirm", "SignIn") for how in ("lost", "duplicated")),
    *(f"answer to {what} lost" for what in ("Debit", "Reverse", "Confirm", "SignIn")),
    *("terminal killed", "gateway killed", "city killed", "gateway forgets", "partition", "terminal reboots"),
    *("caller vanishes", "double click", "same request again", "same request twice at once", "enquiry"),
    *("never books", "books at the last moment", "city closed", "account frozen", "wall clock jumps", "card removed"),
    *(f"outcome {state}" for state in ("APPROVED", "DECLINED", "REVERSED")),
    *(
        f"told {word}"
        for word in ("APPROVED", "APPROVED to be confirmed", "DECLINED", "REVERSED", "REFUSED", "PENDING")
    ),
}


def repeat(seed: int) -> str:
    return f"yikatong simulate faults --seeds {seed}..{seed} --trace"


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_money_moves_exactly_once_or_not_at_all(first: int) -> None:
    broken = {}
    for seed in range(first, min(first + BLOCK, SEEDS)):
        played = run(seed)
        _points.update(played.points)
        if played.broken:
            broken[repeat(seed)] = played.broken
    assert not broken


@pytest.mark.skipif(SEEDS < 1000, reason="every point is reached within 1000 seeds")
def test_every_fault_point_was_reached() -> None:
    """After the seeds above, in the same process."""
    if not _points:
        pytest.skip("no seeds were played")
    assert sorted(EVERY_POINT - set(_points)) == []


def test_a_seed_repeats_exactly() -> None:
    """In this process, and in another one, where every hash is salted otherwise."""
    digests = [run(seed).digest for seed in range(50)]
    assert digests == [run(seed).digest for seed in range(50)]
    assert len(set(digests)) == 50
    script = "from yikatong.simulation.faults import run; print(*(run(seed).digest for seed in range(20)))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert other.stdout.split() == digests[:20]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_rule_is_found(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.apply(monkeypatch)
    seeds = range(mutant.first, mutant.first + mutant.within)
    broken = next(filter(None, (run(seed, rates=mutant.rates).broken for seed in seeds)), [])
    assert broken, "survived"
    slips = [line for line in broken if re.search("AttributeError|TypeError|NameError", line)]
    assert slips == [], "the variant does not fit the code any more"


def test_a_bad_day_breaks_nothing_that_is_whole() -> None:
    """The rates under which mutants are found find nothing in the shipped code."""
    for rates in {mutant.rates for mutant in MUTANTS}:
        for seed in range(12):
            assert run(seed, rates=rates).broken == [], (seed, rates)


def test_the_command_tells_what_was_played() -> None:
    played = CliRunner().invoke(main, ["simulate", "faults", "--seeds", "7", "--lang", "en"])
    assert played.exit_code == 0, played.output
    assert "1 seeds, 0 of them broke an invariant" in played.output
    assert run(7).digest in played.output


def test_the_command_tells_how_a_failure_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    step = terminal_table._declined(Reason.NO_ANSWER_IN_TIME)
    monkeypatch.setitem(terminal_table._TABLE, (terminal_table.State.SENT, terminal_table.TimeUp), lambda _: step)
    seed = next(seed for seed in range(200) if run(seed).broken)
    played = CliRunner().invoke(main, ["simulate", "faults", "--seeds", f"{seed}..{seed}", "--lang", "en"])
    assert played.exit_code == 1
    assert repeat(seed) in played.output
