"""Clocks: wall time for people and dates, boot time for durations that survive a suspended machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall-clock time in UTC. For display, dates and certificates; never for a decision about waiting."""

    def boot_ms(self) -> int:
        """Milliseconds since boot, sleep included (CLOCK_BOOTTIME). Comparable only under the same `boot_id`."""

    @property
    def boot_id(self) -> str:
        """Changes with every boot of the machine."""


class SystemClock:
    def __init__(self) -> None:
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def boot_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    @property
    def boot_id(self) -> str:
        return self._boot_id
