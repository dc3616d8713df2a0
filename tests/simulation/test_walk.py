"""Every fault point on every way of a bill, one fault at a time: what each caller was told is what the ledgers say.

The comparison is the simulation's own: each answer is one of the five words with the outcome and the retry that belong
to it, a final one agrees with the ledgers at the moment at which it is told, with all that was told before and after
it, and at the end with journal, gateway, cities and reconciliation.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.walk import LATE, WAYS, Way
from yikatong.gateway.router import Router
from yikatong.simulation import points


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_one_fault_at_a_time_breaks_nothing(way: Way) -> None:
    undisturbed, passed = way.walk()
    assert undisturbed.broken == []
    broken = {}
    for point in sorted(passed.seen.keys() - way.always):
        disturbed, _ = way.walk(point, nth=1)
        assert disturbed.points[point], f"{point} was not struck"
        if disturbed.broken:
            broken[point] = disturbed.broken
    assert broken == {}


def test_the_ways_pass_every_fault_point() -> None:
    passed = {point for way in WAYS for point in way.walk()[1].seen}
    assert sorted(set(points.every()) - passed) == []


def test_a_late_debit_that_nobody_waits_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would else hold its order until the gateway's next start: the gateway itself asks the city."""
    seeds, second = range(12), ("gateway dies before G3 Router.reverse", 2)
    assert [line for seed in seeds for line in replace(LATE, seed=seed).walk(*second)[0].broken] == []
    monkeypatch.setattr(Router, "_enquire", lambda self, turn: None)
    held = [line for seed in seeds for line in replace(LATE, seed=seed).walk(*second)[0].broken]
    assert any("the gateway still has FWD" in line for line in held)
