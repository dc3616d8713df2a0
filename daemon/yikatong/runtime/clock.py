"""Clocks: wall time for people and dates, boot time for durations that survive a suspended machine."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final, Protocol

CHINA: Final = timezone(timedelta(hours=8))


def accounting_date(now: datetime) -> str:
    """The accounting date (记账日) that `now` falls on, YYYY-MM-DD: the calendar day in China."""
    return now.astimezone(CHINA).date().isoformat()


BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


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
        """The kernel's boot id; under a unit with ProcSubset=pid, which hides it, the same from $YIKATONG_BOOT_ID."""
        boot_id = os.environ.get("YIKATONG_BOOT_ID") or BOOT_ID.read_text(encoding="ascii")
        self._boot_id = boot_id.strip().replace("-", "")  # systemd writes it without dashes, the kernel with them

    def now(self) -> datetime:
        return datetime.now(UTC)

    def boot_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    @property
    def boot_id(self) -> str:
        return self._boot_id
