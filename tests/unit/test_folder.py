"""Folders that can't be used are refused in words, before anything in them is touched."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from yikatong.cli import folder, outside
from yikatong.cli.folder import FolderUnusable, check_state, kept
from yikatong.cli.main import main
from yikatong.core.reasons import Reason
from yikatong.terminal.probes import Severity

SAMPLES = Path(__file__).resolve().parents[2] / "deploy/config"


def test_a_new_and_an_empty_and_a_used_folder_are_taken(tmp_path: Path) -> None:
    new = tmp_path / "a" / "b"
    with kept(new):
        (new / "daemon.toml").touch()
    with kept(new):
        assert (new / "daemon.toml").exists()
    (tmp_path / "empty").mkdir()
    with kept(tmp_path / "empty"):
        pass


def test_a_folder_with_something_else_in_it_is_not_touched(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "daemon.toml").write_text("mine")
    told = CliRunner().invoke(main, ["demo", "--keep", str(thesis), "--lang", "en"])
    assert told.exit_code == 2
    assert f"✗ The folder {thesis} is not empty and no demo made it; nothing in it was touched." in told.stderr
    assert "  next: Take an empty folder" in told.stderr
    assert [(file.name, file.read_text()) for file in thesis.iterdir()] == [("daemon.toml", "mine")]


def test_two_demos_in_one_folder_refuse_each_other(tmp_path: Path) -> None:
    with kept(tmp_path):
        told = CliRunner().invoke(main, ["demo", "--keep", str(tmp_path), "--lang", "zh"])
        assert told.exit_code == 2
        assert f"✗ 另一个演示正在使用文件夹 {tmp_path}。" in told.stderr
        assert "下一步：" in told.stderr
    with kept(tmp_path):
        pass


def test_a_folder_that_can_t_be_written_gives_two_lines_and_no_traceback() -> None:
    told = CliRunner().invoke(main, ["demo", "--keep", "/proc/yikatong", "--lang", "en"])
    assert told.exit_code == 2
    assert told.stderr.startswith("✗ The folder /proc/yikatong can't be written (")
    assert len(told.stderr.splitlines()) == 2
    assert isinstance(told.exception, SystemExit)


def test_a_path_that_no_socket_fits_in_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    with pytest.raises(FolderUnusable, match="sockets"), kept(deep):
        pass
    assert not deep.exists()


@pytest.mark.parametrize(
    ("command", "sample", "key", "reason"),
    [
        ("daemon", "daemon.toml", "state", Reason.JOURNAL_UNAVAILABLE),
        ("gateway", "gateway.toml", "state_dir", Reason.STORE_UNAVAILABLE),
    ],
)
def test_a_service_without_its_folder_names_it_and_the_command_that_makes_it(
    command: str, sample: str, key: str, reason: Reason, tmp_path: Path
) -> None:
    missing = tmp_path / "not made"
    file = tmp_path / sample
    lines = (SAMPLES / sample).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith(f"{key} =")]
    file.write_text("\n".join([f'{key} = "{missing}"', *lines]), encoding="utf-8")
    told = CliRunner().invoke(main, [command, "-c", str(file)])
    assert told.exit_code == 1, "systemd starts it again: somebody may make the folder meanwhile"
    assert f"[{reason.value}] 数据文件夹 {missing} 不存在。 The state folder {missing} does not exist." in told.stderr
    assert f"sudo install -d -m 700 -o {folder.user()} '{missing}'" in told.stderr


def test_the_command_that_is_told_makes_a_folder_that_serves(tmp_path: Path) -> None:
    missing = tmp_path / "not made"
    with pytest.raises(FolderUnusable) as caught:
        check_state(missing, Reason.JOURNAL_UNAVAILABLE, owner=folder.user())
    command = caught.value.next_en.removeprefix("Run: sudo ")
    subprocess.run(["sh", "-c", command], check=True)
    assert missing.stat().st_mode & 0o777 == 0o700
    check_state(missing, Reason.JOURNAL_UNAVAILABLE, owner=folder.user())


def test_a_state_folder_that_can_t_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FolderUnusable, match="can't write"):
        check_state(file, Reason.JOURNAL_UNAVAILABLE, owner="yikatong")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for a user who is not root
    with pytest.raises(FolderUnusable, match=f"The user yikatong can't write to the state folder {tmp_path}"):
        check_state(tmp_path, Reason.JOURNAL_UNAVAILABLE, owner="yikatong")


def test_the_doctor_names_a_folder_that_is_missing(tmp_path: Path) -> None:
    probe = outside.journal(tmp_path / "none" / "journal.db")
    assert (probe.severity, probe.reason) == (Severity.FAILED, Reason.JOURNAL_UNAVAILABLE)
    assert f"install -d -m 700 -o yikatong {tmp_path / 'none'}" in probe.next_en
    assert outside.journal(tmp_path / "journal.db").severity is Severity.OK
