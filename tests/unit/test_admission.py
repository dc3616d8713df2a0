"""What stands in the way of a new debit, and what never does: room on the disk, and a self-test that says stop."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.selftest import Report, SelfTestStep
from yikatong.terminal.admission import BALLAST, RESERVE, Admission

STARTED = "2026-03-10T08:00:00+00:00"


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the disk says of itself; free bytes may be set."""
    disk = SimpleNamespace(free=RESERVE, total=RESERVE * 10, used=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk)
    return disk


def refused(admission: Admission) -> Reason | None:
    try:
        admission.require()
    except YikatongError as error:
        return error.reason
    return None


def test_below_the_reserve_no_debit_begins(tmp_path: Path, room: SimpleNamespace) -> None:
    admission = Admission(tmp_path)
    assert refused(admission) is None
    room.free = RESERVE - 1
    assert refused(admission) is Reason.JOURNAL_UNAVAILABLE
    room.free = RESERVE
    assert refused(admission) is None, "as soon as there is room"


def test_room_is_kept_and_given_away_when_the_disk_is_full(tmp_path: Path, room: SimpleNamespace) -> None:
    admission, ballast = Admission(tmp_path), tmp_path / "ballast"
    admission.prepare()
    assert ballast.stat().st_blocks * 512 >= BALLAST, "really taken, not only promised"
    room.free = RESERVE - 1
    admission.prepare()
    assert not ballast.exists()
    admission.prepare()
    room.free = RESERVE
    admission.prepare()
    assert ballast.stat().st_size == BALLAST


def test_a_disk_that_takes_nothing_is_left_to_the_journal(
    tmp_path: Path, room: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    Admission(tmp_path).prepare()


def test_a_disk_that_does_not_answer_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", gone)
    assert refused(Admission(tmp_path)) is Reason.JOURNAL_UNAVAILABLE


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(YikatongError) as error:
        Admission(tmp_path / "none").prepare()
    assert (error.value.reason, error.value.facts["path"]) == (Reason.JOURNAL_UNAVAILABLE, str(tmp_path / "none"))


def test_a_self_test_that_disproves_the_way_of_the_money_holds_until_one_passes(
    tmp_path: Path, room: SimpleNamespace
) -> None:
    def report(reason: str) -> Report:
        return Report("run", STARTED, (SelfTestStep("tombstone", not reason, reason, "", "", 1),))

    admission = Admission(tmp_path)
    for newest, expected in (
        (None, None),
        (report("ANSWER_DOES_NOT_FIT"), Reason.SELF_TEST_FAILED),
        (report(""), None),
        (report("GATEWAY_UNREACHABLE"), None),
    ):
        admission.judge(newest)
        assert refused(admission) is expected
