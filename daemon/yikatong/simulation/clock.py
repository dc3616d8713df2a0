"""The clock of a simulated machine: virtual time since some date, with a wall clock that may jump."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime, timedelta


class SimulatedClock:
    """`boot` counts the machine's boots; the boot clock begins at zero with each."""

    def __init__(self, machine: str, loop: asyncio.AbstractEventLoop, start: datetime) -> None:
        self._machine, self._loop, self._start = machine, loop, start
        self._booted_s = 0.0
        self._boots = 1
        self.offset = timedelta()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time()) + self.offset

    def boot_ms(self) -> int:
        return int((self._loop.time() - self._booted_s) * 1000)

    @property
    def boot_id(self) -> str:
        return hashlib.blake2b(f"{self._machine} {self._boots}".encode(), digest_size=16).hexdigest()

    def reboot(self) -> None:
        self._boots += 1
        self._booted_s = self._loop.time()
