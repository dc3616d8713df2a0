"""deploy/setup.sh: the demo asks for less than the tests, and who is not root is told what an administrator runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOR_TESTS = {"pcsc-tools", "opensc", "debootstrap", "iproute2", "spin", "strace"}
FOR_BOTH = {"python3", "python3-venv", "python3-dev", "gcc", "pkg-config", "swig", "libpcsclite-dev", "pcscd"} | {
    "vsmartcard-vpcd",
    "util-linux",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy whose virtual environment is as wanted; `dpkg-query`, `apt-get`, `id` are the test's own."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.setup").write_text("as wanted\n")
    return tmp_path


def setup(checkout: Path, *arguments: str, uid: int, installed: set[str]) -> subprocess.CompletedProcess[str]:
    there = " ".join(sorted(installed))
    programs = {
        "dpkg-query": f'case " {there} " in *" $4 "*) echo "install ok installed";; *) exit 1;; esac',
        "apt-get": f'echo "$@" >> {checkout}/apt.log',
        "id": f"echo {uid}",
        "sha256sum": "cat > /dev/null; echo as wanted",
    }
    for name, text in programs.items():
        program = checkout / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    return subprocess.run(
        [checkout / "deploy/setup.sh", *arguments],
        env={**os.environ, "PATH": f"{checkout}/programs:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("arguments", "wanted"), [(("demo",), FOR_BOTH), ((), FOR_BOTH | FOR_TESTS)])
def test_without_root_it_says_what_an_administrator_runs_and_goes_on(
    arguments: tuple[str, ...], wanted: set[str], checkout: Path
) -> None:
    told = setup(checkout, *arguments, uid=1000, installed=set())
    assert told.returncode == 0
    (command,) = (line for line in told.stderr.splitlines() if "sudo sh -c 'apt-get update && apt-get install" in line)
    assert set(command.rstrip("'").split("--no-install-recommends ")[1].split()) == wanted
    assert not (checkout / "apt.log").exists()
    assert ("进程内的读卡器" in told.stderr) is (arguments == ("demo",))
    assert ("are skipped" in told.stderr) is (arguments == ())


def test_the_one_that_is_missing_is_named(checkout: Path) -> None:
    told = setup(checkout, uid=1000, installed=(FOR_BOTH | FOR_TESTS) - {"strace"})
    assert "system packages are missing (strace); an administrator runs:" in told.stderr
    assert "缺少系统软件包 strace，" in told.stderr


def test_what_only_the_tests_need_does_not_trouble_the_demo(checkout: Path) -> None:
    told = setup(checkout, "demo", uid=1000, installed=FOR_BOTH)
    assert (told.returncode, told.stdout) == (0, "")
    assert "system packages" not in told.stderr


def test_root_installs_what_is_missing_and_nothing_else(checkout: Path) -> None:
    assert setup(checkout, "demo", uid=0, installed=FOR_BOTH - {"pcscd"}).returncode == 0
    assert (checkout / "apt.log").read_text().splitlines()[-1] == "install -qq -y --no-install-recommends pcscd"
    assert setup(checkout, uid=0, installed=FOR_BOTH | FOR_TESTS).returncode == 0
    assert len((checkout / "apt.log").read_text().splitlines()) == 2, "nothing is missing, nothing is asked"


def test_another_purpose_is_refused(checkout: Path) -> None:
    assert setup(checkout, "production", uid=0, installed=set()).returncode == 2
