"""One seed: a province under faults, then without them, then compared. The same seed gives the same run, exactly."""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import structlog

from yikatong.simulation.chance import Chance, Rates, draw_rates
from yikatong.simulation.loop import Stuck, VirtualLoop, of_a_store
from yikatong.simulation.province import Plan, Province, draw_plan


@dataclass(frozen=True, slots=True)
class Run:
    """What a seed has shown. `broken` is empty where every invariant held."""

    seed: int
    broken: list[str]
    digest: str
    points: Counter[str]
    trace: list[str]
    virtual_s: float
    steps: int


def run(seed: int, *, verbose: bool = False, rates: Rates | None = None) -> Run:
    """Plays one seed. `rates` instead of those that the seed draws, for directed tests."""
    drawn = draw_rates(random.Random(f"rates {seed}"))  # noqa: S311 - repeatable on purpose
    chance = Chance(seed, rates or drawn)
    return play(chance, draw_plan(chance), verbose=verbose)


def play(chance: Chance, plan: Plan, *, verbose: bool = False) -> Run:
    """Plays one plan under one set of dice."""
    folder = Path(tempfile.mkdtemp(prefix="yikatong-seed-", dir=_memory_folder()))
    loop = VirtualLoop()
    state = random.getstate()
    random.seed(chance.seed)  # the shipped back-off spreads its load with it
    province = Province(folder, loop, chance, plan)
    try:
        with _alarms_counted(loop, chance), _garbage_kept():
            broken = loop.run_until_complete(province.play())
    except Stuck as error:
        broken = [f"I6 {error}"]
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed repeats it
        broken = [f"I0 the run ended: {error!r}"]
    finally:
        random.setstate(state)
        loop.close()
        province.close()
        shutil.rmtree(folder)
    broken += [f"I0 {failure}" for failure in loop.failures]
    for line in broken:
        chance.note(loop.time(), line)
    trace = chance.lines if verbose else []
    return Run(chance.seed, broken, chance.digest, chance.points, trace, loop.time(), loop.steps)


def _memory_folder() -> Path | None:
    """Files in memory: a simulated crash is no power cut, so nothing has to reach a disk."""
    folder = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    return folder if folder.is_dir() else None


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """A run is short: what it leaves is collected after it, and not looked at again and again meanwhile."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def _alarms_counted(loop: VirtualLoop, chance: Chance) -> Iterator[None]:
    """Log lines are dropped; alarms are counted, and an error with a traceback is our own mistake."""

    def collect(logger: object, name: str, event: MutableMapping[str, Any]) -> NoReturn:
        error = event.get("exc_info")
        if error is not None and not of_a_store(error):
            loop.failures.append(f"{event['event']}: {error!r}")
        kind = event.get("router_event") or event.get("ledger_event") or event.get("state", "")
        chance.points[f"alarm: {event['event']} {kind}"] += 1
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[collect],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
