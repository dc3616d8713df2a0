"""Many seeds, spread over processes: a seed needs nothing of another one."""

from __future__ import annotations

import gc
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from yikatong.simulation.faults import run

_PIECE: Final = 50
"""Seeds that a process takes at a time."""


@dataclass(frozen=True, slots=True)
class Played:
    """What some seeds have shown. `broken` only has the seeds that broke an invariant."""

    digests: dict[int, str] = field(default_factory=dict)
    broken: dict[int, list[str]] = field(default_factory=dict)
    points: Counter[str] = field(default_factory=Counter)

    def add(self, other: Played) -> None:
        self.digests.update(other.digests)
        self.broken.update(other.broken)
        self.points.update(other.points)


def play(seeds: range) -> Played:
    """Plays the seeds in this process."""
    played = Played()
    for seed in seeds:
        one = run(seed)
        played.digests[seed] = one.digest
        played.points.update(one.points)
        if one.broken:
            played.broken[seed] = one.broken
    return played


def campaign(seeds: range, jobs: int) -> Iterator[Played]:
    """Plays the seeds in `jobs` processes; yields what each piece of them has shown, in their order."""
    pieces = [seeds[first : first + _PIECE] for first in range(0, len(seeds), _PIECE)]
    if jobs == 1:
        yield from map(play, pieces)
        return
    fresh = multiprocessing.get_context("spawn")  # nothing of this process but its code
    with ProcessPoolExecutor(jobs, mp_context=fresh, initializer=gc.freeze) as pool:
        yield from pool.map(play, pieces)
