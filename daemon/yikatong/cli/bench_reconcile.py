"""A day of a whole province, reconciled: three sides, and differences of all six classes that somebody has planted.

Measured is what a comparison does with rows that come page by page: keep and sort them, add up each side, match all
three, and look for orders that were debited twice. Making the rows, which are invented, is not.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from yikatong.core.reconciliation import Class, Kind, Row, Standing, add_up, differences, duplicates
from yikatong.gateway.reconciliation import PAGE
from yikatong.gateway.spool import Spool

_SEED: Final = 20260331
_DATE: Final = "2026-03-31"
_OF_EACH: Final = 100
_BEGIN_MS: Final = 1_774_886_400_000
TERMINAL, GATEWAY, CITY = range(3)
_SIDES: Final = ("terminal", "gateway", "home city")
_WORDS: Final = ("APPROVED", "CONFIRMED", "POSTED")


@dataclass(frozen=True, slots=True)
class Measured:
    """`rows` is what each side has been given about; `false` counts what was found and not planted."""

    rows: int
    sides: int
    planted: dict[str, int]
    found: dict[str, int]
    false: int
    seconds: dict[str, float]
    total_s: float
    processor_s: float
    rows_per_s: float
    peak_rss_mib: float


def measure(rows: int) -> Measured:
    """Plants, compares, and checks what was found against what was planted."""
    planted = _plant(rows)
    seconds: dict[str, float] = {}
    timer = _Timer()
    with Spool() as spool:
        for side, name in enumerate(_SIDES):
            coming = _side(side, rows, planted)
            while page := list(islice(coming, PAGE)):
                step = f"keep and sort: {name}"
                seconds[step] = seconds.get(step, 0.0) + timer.time(partial(spool.add, side, page))
        for side, name in enumerate(_SIDES):
            seconds[f"add up: {name}"] = timer.time(lambda side=side: add_up(spool.rows(side)))  # type: ignore[misc]  # mypy can't infer a lambda with a default
        found: list[tuple[str, Class]] = []
        seconds["match three sides"] = timer.time(
            lambda: found.extend(
                (d.transaction_id, d.found) for d in differences(*(spool.rows(side) for side in range(len(_SIDES))))
            )
        )
        seconds["orders debited twice"] = timer.time(
            lambda: found.extend((d.transaction_id, d.found) for d in duplicates(spool.repeated_orders(CITY)))
        )
    expected = {(_twin_id(n) if c is Class.DUPLICATE_ORDER else _id(n), c) for n, c in planted.items()}
    total_s = sum(seconds.values())
    return Measured(
        rows=rows,
        sides=len(_SIDES),
        planted=_by_class([c for _, c in expected]),
        found=_by_class([c for number, c in found if (number, c) in expected]),
        false=sum(key not in expected for key in found),
        seconds=seconds,
        total_s=total_s,
        processor_s=timer.processor_s,
        rows_per_s=rows / total_s,
        peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


class _Timer:
    """Seconds by the clock; and by the processor, which says how far a busy machine has disturbed the measurement."""

    processor_s = 0.0

    def time(self, job: Callable[[], object]) -> float:
        begun, begun_processor = time.perf_counter(), time.process_time()
        job()
        self.processor_s += time.process_time() - begun_processor
        return time.perf_counter() - begun


def _by_class(classes: list[Class]) -> dict[str, int]:
    return {c.value: classes.count(c) for c in Class}


# --- the invented day -------------------------------------------------------------------------------------------


def _plant(rows: int) -> dict[int, Class]:
    """Which transactions do not fit, and how: the same ones in every run."""
    dice = random.Random(_SEED)  # noqa: S311 - repeats the same day, guards nothing
    each = min(_OF_EACH, rows // 20)
    chosen = dice.sample(range(rows), each * len(Class))
    return {number: found for i, found in enumerate(Class) for number in chosen[i * each : (i + 1) * each]}


def _id(number: int) -> str:
    """A UUID of version 7 by its form: ids sort nearly as the transactions came."""
    mixed = number * 0x9E3779B97F4A7C15 & (2**64 - 1)
    millis = _BEGIN_MS + number * 80 + (mixed >> 52)
    return (
        f"{millis >> 16:08x}-{millis & 0xFFFF:04x}-7{mixed >> 48 & 0xFFF:03x}-8{mixed >> 36 & 0xFFF:03x}-{number:012x}"
    )


def _twin_id(number: int) -> str:
    """Later than every other id of the day."""
    return f"ffffffff-ffff-7fff-8fff-{number:012x}"


def _side(side: int, rows: int, planted: dict[int, Class]) -> Iterator[Row]:
    for number in range(rows):
        amount_fen, fingerprint = 100 + number % 50_000, f"{number * 0x9E3779B1:064x}"
        declined = number % 20 == 7 and number not in planted
        standing = Standing.NOT_MOVED if declined else Standing.MOVED
        row = Row(
            _id(number), Kind.DEBIT, standing, amount_fen, _DATE, f"order-{number}", "", fingerprint, _WORDS[side]
        )
        match planted.get(number), side:
            case Class.MERCHANT_LOSS, 2:
                if number % 2:
                    yield row._replace(standing=Standing.NOT_MOVED)
            case Class.CUSTOMER_LOSS, 0:
                yield row._replace(standing=Standing.NOT_MOVED)
            case Class.UNKNOWN_TO_TELLER, 0:
                pass
            case Class.CONTENT_DIFFERS, 0:
                yield row._replace(amount_fen=amount_fen + 1)
            case Class.STILL_OPEN, 0:
                yield row._replace(standing=Standing.OPEN)
            case Class.DUPLICATE_ORDER, _:
                yield row
                yield row._replace(transaction_id=_twin_id(number))
            case _:
                yield row
