"""What is counted of a reader's reads, as it is kept: small, bounded, and with nobody in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Final

import msgspec

from yikatong.core.card import CardBatch

TIMES_MS: Final = (250, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000)
"""Upper ends of what read times are counted in; one more count is for what takes longer."""
BATCHES_MAX: Final = 40
"""What does not fit is not counted by batch: a window sees a few, and strangers' cards make the rest."""

_TIMES: Final = len(TIMES_MS) + 1

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Day = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
BatchKey = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{6})?/([0-9]\.[0-9]{2})?/[0-9A-F]{14}$")]
"""Region, version, chip."""


class Failing(Enum):
    """How a card failed."""

    MUTE = "mute"
    REMOVED = "removed"
    RESET = "reset"
    MALFORMED = "malformed"
    READER = "reader_failed"


class Tally(msgspec.Struct, forbid_unknown_fields=True):
    """Different cards, and how many of them failed at least once."""

    cards: Count = 0
    failed: Count = 0

    @property
    def share(self) -> float:
        return self.failed / self.cards if self.cards else 0.0

    def plus(self, other: Tally) -> Tally:
        return Tally(self.cards + other.cards, self.failed + other.failed)

    def minus(self, other: Tally) -> Tally:
        return Tally(self.cards - other.cards, self.failed - other.failed)


class Window(msgspec.Struct, forbid_unknown_fields=True):
    """What was counted since a day in China: `all` cards, and those of each batch that told it.

    `reads` are the successful ones. A kind of failure is counted once for each stay of a card.
    """

    since: Day
    all: Tally = msgspec.field(default_factory=Tally)
    reads: Count = 0
    retries: Count = 0
    failing: dict[Failing, Count] = msgspec.field(default_factory=dict)
    times: Annotated[list[Count], msgspec.Meta(min_length=_TIMES, max_length=_TIMES)] = msgspec.field(
        default_factory=lambda: [0] * _TIMES
    )
    batches: Annotated[dict[BatchKey, Tally], msgspec.Meta(max_length=BATCHES_MAX)] = msgspec.field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        date.fromisoformat(self.since)

    @property
    def median_ms(self) -> int:
        """At least half of the reads took no longer; 0 where there are none, or most took longer than is counted."""
        seen = 0
        for limit, number in zip(TIMES_MS, self.times, strict=False):
            seen += number
            if seen and 2 * seen >= sum(self.times):
                return limit
        return 0

    def timed(self, read_ms: int) -> None:
        self.reads += 1
        self.times[sum(read_ms > limit for limit in TIMES_MS)] += 1

    def batch(self, batch: CardBatch) -> Tally | None:
        """The count of a batch; None where it has none, for want of a chip or of room."""
        key = f"{batch.issuing_region}/{batch.spec_version}/{batch.chip}"
        if not batch.chip or (key not in self.batches and len(self.batches) >= BATCHES_MAX):
            return None
        return self.batches.setdefault(key, Tally())

    def by_batch(self) -> list[tuple[CardBatch, Tally]]:
        """The largest first."""
        counted = sorted(self.batches.items(), key=lambda item: -item[1].cards)
        return [(CardBatch(*key.split("/")), tally) for key, tally in counted]

    def together(self, other: Window) -> Window:
        made = Window(
            min(self.since, other.since),
            self.all.plus(other.all),
            self.reads + other.reads,
            self.retries + other.retries,
            {kind: self.failing.get(kind, 0) + other.failing.get(kind, 0) for kind in Failing},
            [mine + theirs for mine, theirs in zip(self.times, other.times, strict=True)],
        )
        for window in (self, other):
            for key, tally in window.batches.items():
                made.batches[key] = made.batches.get(key, Tally()).plus(tally)
        return made


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """One reader's: the window that is being counted, and the one before it."""

    current: Window
    previous: Window | None = None

    def all(self) -> Window:
        return self.current if self.previous is None else self.current.together(self.previous)


@dataclass(frozen=True, slots=True)
class Suspect:
    """The card that failed last: in how many stays since it was last read, and how many others were read meanwhile."""

    failures: int
    others: int
