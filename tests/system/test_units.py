"""The installed units under a real systemd: clean, tight, gated by group; the timer fires."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.box import SOURCE, Box
from tests.system.installation import UNITS, install

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]  # the first one may have to make the base system

DAEMON, GATEWAY = "yikatong-daemon.service", "yikatong-gateway.service"
SELFTEST, TIMER = "yikatong-selftest.service", "yikatong-selftest.timer"
HIS, TECH = "/run/yikatong/his/his.sock", "/run/yikatong/tech/tech.sock"


@pytest.fixture
def stand_in(box: Box) -> Iterator[None]:
    """The sockets' gates and the timer do not depend on the program; a small one takes its place."""
    program = (box.root / "usr/bin/yikatong").read_text()
    box.write(
        "/usr/bin/yikatong", program.replace("-m yikatong.cli.main", f"{SOURCE}/tests/system/stand_in.py"), mode=0o755
    )
    yield
    box.run("systemctl", "stop", *UNITS)
    box.run("systemctl", "reset-failed")
    box.run("find", "/run/systemd/system", "-mindepth", "1", "-delete")
    install(box)


def test_there_are_the_units_that_others_rely_on() -> None:
    assert {DAEMON, GATEWAY, SELFTEST, TIMER} == set(UNITS)


def test_systemd_has_nothing_to_say_about_the_units(box: Box) -> None:
    result = box.run("systemd-analyze", "verify", "--man=no", *(f"/usr/lib/systemd/system/{unit}" for unit in UNITS))
    assert result.stdout + result.stderr == ""


@pytest.mark.parametrize(("unit", "tenths_max"), [(DAEMON, 13), (GATEWAY, 10), (SELFTEST, 5)])
def test_exposure(box: Box, unit: str, tenths_max: int) -> None:
    path = f"/usr/lib/systemd/system/{unit}"
    box.run("systemd-analyze", "security", "--offline=true", f"--threshold={tenths_max}", path)


@pytest.mark.usefixtures("stand_in")
def test_the_daemon_becomes_ready_and_its_sockets_are_gated_by_group(box: Box) -> None:
    box.start(DAEMON)  # returns when READY=1 has come
    assert box.show(DAEMON, "ActiveState") == "active"
    assert box.out("stat", "--format=%U:%G %a %n", HIS, TECH).splitlines() == [
        f"yikatong:yikatong-his 660 {HIS}",
        f"yikatong:yikatong-tech 660 {TECH}",
    ]
    for user, group, sockets in (("cashier", "yikatong-his", {HIS}), ("technician", "yikatong-tech", {TECH})):
        box.run("useradd", "--groups", group, user)
        assert {path for path in (HIS, TECH) if can_connect(box, user, path)} == sockets
        box.run("userdel", user)
    assert not can_connect(box, "nobody", HIS)
    assert box.out("stat", "--format=%U:%G %a", "/var/lib/yikatong") == "yikatong:yikatong 700"


def can_connect(box: Box, user: str, path: str) -> bool:
    script = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    result = box.run("python3", "-c", script, user=user, check=False)
    assert result.returncode == 0 or "PermissionError" in result.stderr, result.stderr
    return result.returncode == 0


@pytest.mark.usefixtures("stand_in")
def test_the_timer_runs_the_self_test_against_the_daemon(box: Box) -> None:
    box.start(DAEMON)
    box.start(TIMER)
    assert TIMER in box.out("systemctl", "list-timers", "--no-pager")
    assert box.show(TIMER, "Persistent") == "yes"
    quick = "[Timer]\nOnCalendar=\nOnActiveSec=0\nRandomizedDelaySec=0\nAccuracySec=1ms\n"
    box.write(f"/run/systemd/system/{TIMER}.d/quick.conf", quick)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", TIMER)
    box.wait(SELFTEST, "ExecMainStatus", "0")
    box.wait(SELFTEST, "Result", "success")
    box.wait(SELFTEST, "ActiveState", "inactive")
    assert int(box.show(SELFTEST, "ExecMainStartTimestampMonotonic")) > 0


@pytest.mark.usefixtures("stand_in")
def test_a_self_test_without_a_daemon_fails_visibly(box: Box) -> None:
    assert box.run("systemctl", "start", SELFTEST, check=False).returncode != 0
    assert box.show(SELFTEST, "ActiveState") == "failed"
