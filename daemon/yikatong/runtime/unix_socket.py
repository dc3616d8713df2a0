"""The name of a unix socket in the file system."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from yikatong.core.reasons import Reason, YikatongError

PATH_MAX: Final = 100
"""Bytes; Linux takes 107."""


def make_room(path: Path) -> None:
    """A socket left behind by a killed daemon is taken over; anything else at that path is not ours to remove.

    Raises CONFIGURATION_INVALID.
    """
    if len(str(path).encode()) > PATH_MAX:
        raise YikatongError(Reason.CONFIGURATION_INVALID, "the socket's path is too long", path=str(path))
    if path.exists() or path.is_symlink():
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise YikatongError(Reason.CONFIGURATION_INVALID, "the socket's path is taken by a file", path=str(path))
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
