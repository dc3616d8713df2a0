"""Power fails at any operation of the disk: what was acknowledged is there, what was not is whole or absent.

`YIKATONG_POWER_LOSS_SEEDS=A..B` chooses the work (250 disks a seed and subject: 200 seeds make 100,000).
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest

from tests.support.losing_power import IMAGES_OF_A_WORK, JournalSubject, LedgerSubject, Subject, lose_power
from yikatong.runtime import store
from yikatong.simulators.power_loss import Disk

FIRST, LAST = (int(number) for number in os.environ.get("YIKATONG_POWER_LOSS_SEEDS", "0..40").split(".."))


@pytest.mark.timeout(0 if LAST - FIRST > 50 else 120)
@pytest.mark.parametrize("kind", [JournalSubject, LedgerSubject])
async def test_no_acknowledged_row_is_lost(kind: type[JournalSubject | LedgerSubject], tmp_path: Path) -> None:
    tally = await lose_power(kind(tmp_path), range(FIRST, LAST))
    print(f"{kind.__name__}: {tally.total} disks, {len(tally.distinct)} of them different; by depth {tally.images}")
    assert tally.total >= (LAST - FIRST) * IMAGES_OF_A_WORK
    assert all(tally.images), "power failed again inside the recovery, and in the recovery from that"
    assert len(tally.distinct) > tally.total / 4


async def _failures_under(subject: Subject, disk: type[Disk] = Disk) -> tuple[int, int]:
    tally = await lose_power(subject, range(4), images=100, depth=0, count_failures=True, make_disk=disk)
    return tally.lost, tally.broken


@pytest.mark.parametrize("level", ["NORMAL", "OFF"])
@pytest.mark.parametrize("kind", [JournalSubject, LedgerSubject])
async def test_a_weaker_setting_is_found_out(
    level: str, kind: type[JournalSubject | LedgerSubject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test can fail: SQLite's own NORMAL and OFF lose acknowledged commits."""
    open_file = store.open_file

    def weaker(path: Path, application_id: int, version: int, schema: str, vfs: str = "") -> apsw.Connection:
        connection = open_file(path, application_id, version, schema, vfs)
        connection.execute(f"PRAGMA synchronous={level}")
        return connection

    monkeypatch.setattr(store, "open_file", weaker)
    lost, _ = await _failures_under(kind(tmp_path))
    assert lost > 20


class _ForgetfulDirectory(Disk):
    """Names never become durable."""

    def sync_names(self) -> None:
        """Says that it is done."""


class _Liar(Disk):
    """A card that acknowledges a sync and does nothing."""

    def sync(self, name: str, file: object) -> None:
        """Says that it is done."""


@pytest.mark.parametrize("disk", [_ForgetfulDirectory, _Liar])
async def test_a_disk_that_lies_is_found_out(disk: type[Disk], tmp_path: Path) -> None:
    lost, _ = await _failures_under(JournalSubject(tmp_path), disk)
    assert lost > 20
