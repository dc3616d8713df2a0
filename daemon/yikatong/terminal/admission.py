"""Why this terminal takes no new debit, apart from its session: no room for the journal, or a self-test that says so.

What is open already is never held up by any of this: reversals, confirmations and credits pass.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import structlog

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.selftest import Report

_log = structlog.get_logger(__name__)

RESERVE: Final = 64 * 2**20
"""Bytes that must be free for a new debit: what is open needs room to be ended.

The design also says 2 %: on a large disk that is hundreds of times what a journal needs, so there it is only warned of.
"""
BALLAST: Final = 16 * 2**20


class Admission:
    """`state` is the folder of the journal."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._disproved: tuple[str, ...] = ()

    def prepare(self) -> None:
        """At a start: keeps room that nobody else can take, or where the disk is full gives it to the journal.

        Raises YikatongError JOURNAL_UNAVAILABLE where there is no such folder. A disk that can't keep room is only
        logged: the journal finds out itself whether it can be written.
        """
        if not self._state.is_dir():
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "the state folder is missing", path=str(self._state))
        ballast = self._state / "ballast"
        try:
            if self._free() < RESERVE:
                ballast.unlink(missing_ok=True)
                _log.error("the disk is full; what room was kept is the journal's now")
            elif not ballast.exists() or ballast.stat().st_size < BALLAST:
                _keep(ballast)
        except OSError as error:
            _log.error("no room could be kept for a full disk", exc_info=error)

    def judge(self, newest: Report | None) -> None:
        """Heeds the newest self-test."""
        self._disproved = newest.disproved if newest else ()

    def require(self) -> None:
        """Raises YikatongError JOURNAL_UNAVAILABLE or SELF_TEST_FAILED: nothing has been sent."""
        if (free := self._free()) < RESERVE:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "the disk is nearly full", free_mib=free // 2**20)
        if self._disproved:
            raise YikatongError(
                Reason.SELF_TEST_FAILED,
                "the self-test disproved the way of the money",
                steps=", ".join(self._disproved),
            )

    def _free(self) -> int:
        """Bytes. A disk that does not say how many has none for a debit."""
        try:
            return shutil.disk_usage(self._state).free
        except OSError:
            return 0


def _keep(ballast: Path) -> None:
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(file, 0, BALLAST)
    finally:
        os.close(file)
