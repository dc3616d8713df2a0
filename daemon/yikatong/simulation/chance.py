"""What a seed decides: the rates of each fault (swarm: many are zero), and every later draw."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rates:
    """Probabilities per occasion, and means in virtual seconds. Drawn anew for each seed; zero is frequent."""

    lost: float = 0.0
    answer_lost: float = 0.0
    duplicated: float = 0.0
    slow: float = 0.0
    very_late: float = 0.0
    silent_loss: float = 0.5
    """Of what is lost: nobody hears that it is (else the connection breaks at once)."""
    crash_at_commit: float = 0.0
    commit_fails: float = 0.0
    """A commit whose outcome is unknown: half of them are on the disk."""
    slow_disk: float = 0.0
    terminal_killed_every_s: float = 0.0
    gateway_killed_every_s: float = 0.0
    city_killed_every_s: float = 0.0
    partition_every_s: float = 0.0
    city_closed_every_s: float = 0.0
    account_frozen_every_s: float = 0.0
    forgets: float = 0.0
    """The gateway's route rows are gone after its death."""
    reboot: float = 0.0
    clock_jump: float = 0.0
    confirms: float = 0.0
    """Bills that are debited with `confirm_within_ms`."""
    books_late: float = 0.0
    never_books: float = 0.0
    vanishes: float = 0.0
    repeats: float = 0.0
    double_clicks: float = 0.0
    enquires: float = 0.0
    journal_copied_every_s: float = 0.0
    """A terminal's disk is copied; later the copy replaces it, or starts in a second machine."""
    gives_back: float = 0.0
    """Paid bills that are cancelled or refunded."""


def _swarm(dice: random.Random, most: float, *, never: float = 0.4) -> float:
    """Zero in `never` of all seeds, else anything up to `most`."""
    return 0.0 if dice.random() < never else dice.uniform(0.0, most)


def _every(dice: random.Random, least_s: float, most_s: float, *, never: float = 0.5) -> float:
    return 0.0 if dice.random() < never else dice.uniform(least_s, most_s)


def draw_rates(dice: random.Random) -> Rates:
    return Rates(
        lost=_swarm(dice, 0.35),
        answer_lost=_swarm(dice, 0.35),
        duplicated=_swarm(dice, 0.3),
        slow=_swarm(dice, 0.3),
        very_late=_swarm(dice, 0.1),
        silent_loss=dice.choice([0.0, 0.5, 1.0]),
        crash_at_commit=_swarm(dice, 0.06),
        commit_fails=_swarm(dice, 0.05, never=0.6),
        slow_disk=_swarm(dice, 0.3),
        terminal_killed_every_s=_every(dice, 10, 120),
        gateway_killed_every_s=_every(dice, 10, 120),
        city_killed_every_s=_every(dice, 10, 120),
        partition_every_s=_every(dice, 15, 90),
        city_closed_every_s=_every(dice, 20, 120, never=0.6),
        account_frozen_every_s=_every(dice, 20, 120, never=0.7),
        forgets=_swarm(dice, 0.8, never=0.7),
        reboot=_swarm(dice, 1.0),
        clock_jump=_swarm(dice, 1.0, never=0.7),
        confirms=dice.choice([0.0, 0.3, 1.0]),
        books_late=_swarm(dice, 0.4),
        never_books=_swarm(dice, 0.3),
        vanishes=_swarm(dice, 0.3),
        repeats=_swarm(dice, 0.9),
        double_clicks=_swarm(dice, 0.5),
        enquires=_swarm(dice, 0.9),
        journal_copied_every_s=_every(dice, 20, 120, never=0.85),
        gives_back=_swarm(dice, 1.0, never=0.3),
    )


@dataclass
class Chance:
    """A seed's dice, whether faults are on, what was hit (`points`), and the trace of everything that happened."""

    seed: int
    rates: Rates
    faults: bool = True
    points: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"faults {self.seed}")  # noqa: S311 - repeatable on purpose
        self._trace: list[tuple[float, str]] = []

    @property
    def lines(self) -> list[str]:
        """The trace, for people."""
        return [f"{at_s:.6f} {text}" for at_s, text in self._trace]

    @property
    def digest(self) -> str:
        """Of the whole trace; the same for the same run alone."""
        return hashlib.blake2b(repr(self._trace).encode(), digest_size=16).hexdigest()

    def note(self, at_s: float, text: str) -> None:
        """One line of the trace."""
        self._trace.append((at_s, text))

    def may_hit(self, rate: float) -> bool:
        """Whether it is worth while to name the points."""
        return self.faults and rate > 0.0

    def hits(self, rate: float, *points: str) -> bool:
        """Whether the fault strikes now; counted under the names of all that it strikes where it does."""
        if not self.faults or rate <= 0.0 or self.dice.random() >= rate:
            return False
        self.points.update(points)
        return True


@dataclass
class OneFault(Chance):
    """Nothing happens but the `nth` time (from 1) that `point` could strike, and what `always` strikes.

    `seen` counts how often each point could have struck. Draws of durations are the seed's.
    """

    point: str = ""
    nth: int = 0
    always: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()
    """Points that strike the first time, to come where the fault is to be."""
    seen: Counter[str] = field(default_factory=Counter)

    def may_hit(self, rate: float) -> bool:
        return self.faults

    def hits(self, rate: float, *points: str) -> bool:
        if not self.faults:
            return False
        self.seen.update(points)
        struck = any(
            point in self.always
            or (point in self.once and self.seen[point] == 1)
            or (point == self.point and self.seen[point] == self.nth)
            for point in points
        )
        if struck:
            self.points.update(points)
        return struck
