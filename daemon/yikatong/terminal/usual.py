"""What is usual at this terminal: how long each stage lasts, learned from what happened here and never invented."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable
from typing import Final

from yikatong.core.orders import City
from yikatong.core.transaction import Transaction
from yikatong.core.values import Region
from yikatong.terminal.stages import AT_THE_DESK, Stage, StageReached, Times

_KEPT: Final = 50
_ENOUGH: Final = 5
"""Fewer times than these say nothing about what is usual."""
_CARDS_KEPT: Final = 1000
SEEDED: Final = 200
"""How many rows of the journal are looked at when the terminal starts."""
_EVERYWHERE: Final = ""


class Usual:
    """The last times of each stage, for every home city and for all together; and where known cards are insured."""

    def __init__(self) -> None:
        self._times: dict[tuple[Stage, str], deque[int]] = {}
        self._homes: dict[str, City] = {}

    def seed(self, rows: Iterable[Transaction]) -> None:
        """Learns from the journal, oldest first."""
        for row in rows:
            self.meet(row)
            if row.answered_after_ms and row.home_region:
                self._note(Stage.ASKING_CITY, row.home_region, row.answered_after_ms)

    def meet(self, row: Transaction) -> None:
        """Remembers where the card of `row` is insured, if the row says so."""
        if row.card_tag and row.home_region:
            self._homes.pop(row.card_tag, None)
            self._homes[row.card_tag] = City(Region(row.home_region), row.home_city_zh, row.home_city_en)
            if len(self._homes) > _CARDS_KEPT:
                del self._homes[next(iter(self._homes))]

    def passed(self, before: StageReached, after: StageReached) -> None:
        """A stage is over. It counts where it ended as it should: not where somebody gave up."""
        if before.stage in AT_THE_DESK:
            ended_well = after.stage is not Stage.DONE
        elif before.stage is Stage.ASKING_CITY:
            decided = after.stage in {Stage.DONE, Stage.WAITING_FOR_CONFIRMATION}
            ended_well = decided and after.row.home_region != ""  # what the gateway refuses by itself says nothing
        else:
            ended_well = after.stage is Stage.DONE
        if ended_well:
            self._note(before.stage, after.row.home_region, after.since_boot_ms - before.since_boot_ms)

    def of(self, stage: Stage, region: str = _EVERYWHERE) -> Times | None:
        """How long `stage` lasts where the home city is `region`, else anywhere; None where nobody knows yet."""
        for key in ((stage, region), (stage, _EVERYWHERE)):
            if len(times := self._times.get(key, ())) >= _ENOUGH:
                ordered = sorted(times)
                return Times(int(statistics.median(ordered)), ordered[math.ceil(0.95 * len(ordered)) - 1], len(ordered))
        return None

    def home_of(self, row: Transaction) -> City | None:
        """Where the card of `row` was insured when it was last used here."""
        return self._homes.get(row.card_tag)

    def _note(self, stage: Stage, region: str, milliseconds: int) -> None:
        for key in {(stage, region), (stage, _EVERYWHERE)}:
            self._times.setdefault(key, deque(maxlen=_KEPT)).append(milliseconds)
