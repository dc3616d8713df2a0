"""The control file by which a simulated service is told to be slow, silent or wrong: one word a line."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from yikatong.core.reasons import Reason, YikatongError


class FaultsFile:
    """Read before every call; an empty or missing file means none. Faults that end in `-once` are used up by a call."""

    def __init__(self, path: Path | None, known: Container[str]) -> None:
        self._path, self._known = path, known

    def now(self) -> set[str]:
        """The faults that hold for the present call. Raises YikatongError CONFIGURATION_INVALID for an unknown one."""
        if self._path is None or not self._path.exists():
            return set()
        words = self._path.read_text(encoding="ascii").split()
        if lasting := [word for word in words if not word.endswith("-once")]:
            if lasting != words:
                self._path.write_text("\n".join(lasting), encoding="ascii")
        elif words:
            self._path.unlink()
        if unknown := {word for word in words if word not in self._known}:
            raise YikatongError(Reason.CONFIGURATION_INVALID, "no such fault", fault=", ".join(sorted(unknown)))
        return set(words)
