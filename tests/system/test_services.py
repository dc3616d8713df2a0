"""The real programs as systemd runs them: confined, ready, together, killed, frozen, wrongly configured."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.system.box import Box

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]  # the first one may have to make the base system

DAEMON, GATEWAY = "yikatong-daemon.service", "yikatong-gateway.service"
SELFTEST, TIMER = "yikatong-selftest.service", "yikatong-selftest.timer"
HIS, TECH = "/run/yikatong/his/his.sock", "/run/yikatong/tech/tech.sock"
both = pytest.mark.parametrize("unit", [DAEMON, GATEWAY])


def serves_his(box: Box) -> bool:
    """Whether the daemon tells a HIS that it serves; waits until it listens."""
    with grpc.insecure_channel(f"unix:{box.root}{HIS}") as channel:
        ask = health_pb2_grpc.HealthStub(channel).Check
        answer = ask(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@both
def test_it_is_ready_and_confined(configured: Box, unit: str) -> None:
    configured.start(unit)  # returns when READY=1 has come
    assert configured.show(unit, "StatusText") == "serving"
    status = (configured.root / "proc" / configured.show(unit, "MainPID") / "status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_a_terminal_signs_in_to_its_gateway(configured: Box) -> None:
    configured.start(DAEMON, GATEWAY)
    configured.wait_journal(GATEWAY, '"event": "signed in"')
    assert serves_his(configured)


def test_each_group_reaches_its_own_socket(configured: Box) -> None:
    configured.start(DAEMON)
    assert configured.out("stat", "--format=%U:%G %a %n", HIS, TECH).splitlines() == [
        f"yikatong:yikatong-his 660 {HIS}",
        f"yikatong:yikatong-tech 660 {TECH}",
    ]
    for user, group, own in (("cashier", "yikatong-his", {HIS}), ("technician", "yikatong-tech", {TECH})):
        configured.run("useradd", "--groups", group, user)
        assert {path for path in (HIS, TECH) if can_connect(configured, user, path)} == own
        configured.run("userdel", user)
    assert not [path for path in (HIS, TECH) if can_connect(configured, "nobody", path)]


def can_connect(box: Box, user: str, path: str) -> bool:
    script = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    result = box.run("python3", "-c", script, user=user, check=False)
    assert result.returncode == 0 or "PermissionError" in result.stderr, result.stderr
    return result.returncode == 0


def test_the_timer_has_the_self_test_done(configured: Box) -> None:
    configured.start(GATEWAY, DAEMON)
    configured.wait_journal(GATEWAY, '"event": "signed in"')
    configured.start(TIMER)
    assert TIMER in configured.out("systemctl", "list-timers", "--no-pager")
    assert configured.show(TIMER, "Persistent") == "yes"
    now = "[Timer]\nOnCalendar=\nOnActiveSec=0\nRandomizedDelaySec=0\nAccuracySec=1ms\n"
    configured.write(f"/run/systemd/system/{TIMER}.d/now.conf", now)
    configured.run("systemctl", "daemon-reload")
    configured.run("systemctl", "restart", TIMER)
    configured.wait_journal(SELFTEST, "Finished yikatong-selftest.service")
    assert configured.show(SELFTEST, "Result") == "success"


def test_a_self_test_without_a_daemon_fails_visibly(configured: Box) -> None:
    assert configured.run("systemctl", "start", SELFTEST, check=False).returncode != 0
    assert configured.show(SELFTEST, "ActiveState") == "failed"
    configured.wait_journal(SELFTEST, "DAEMON_UNREACHABLE")


def test_what_they_keep_is_their_users_alone(configured: Box) -> None:
    configured.start(DAEMON, GATEWAY)
    kept = configured.out("find", "/var/lib/yikatong", "-printf", r"%u:%g %m %p\n").splitlines()
    assert {path.split("/")[-1] for path in kept} >= {"journal.db", "gateway"}
    assert [line for line in kept if not line.startswith(("yikatong:yikatong 600 ", "yikatong:yikatong 700 "))] == []


@both
def test_killed_it_is_ready_again(configured: Box, unit: str) -> None:
    configured.start(unit)
    before = configured.show(unit, "MainPID")
    configured.run("systemctl", "kill", "--signal=KILL", unit)
    configured.wait(unit, "NRestarts", "1")
    configured.wait(unit, "ActiveState", "active")
    assert configured.show(unit, "MainPID") not in {before, "0"}
    if unit == DAEMON:
        assert serves_his(configured)


@both
def test_frozen_it_is_replaced(configured: Box, unit: str) -> None:
    configured.write(f"/run/systemd/system/{unit}.d/quick.conf", "[Service]\nWatchdogSec=2s\n")
    configured.run("systemctl", "daemon-reload")
    configured.start(unit)
    configured.run("systemctl", "kill", "--signal=STOP", unit)
    configured.wait(unit, "NRestarts", "1")
    configured.wait(unit, "ActiveState", "active")
    configured.wait_journal(unit, "Watchdog timeout")


@both
def test_told_to_stop_it_ends_well(configured: Box, unit: str) -> None:
    configured.start(unit)
    configured.run("systemctl", "stop", unit)
    assert configured.show(unit, "Result") == "success"
    assert configured.show(unit, "ExecMainStatus") == "0"
    assert configured.out("find", "/run/yikatong", "-type", "s") == ""


def unknown_key(box: Box, name: str) -> None:
    box.write(f"/etc/yikatong/{name}.toml", "terminal_ld = 7\n")


def no_file(box: Box, name: str) -> None:
    box.run("rm", f"/etc/yikatong/{name}.toml")


def no_key(box: Box, name: str) -> None:
    box.run("rm", "/etc/yikatong/tls/T-0001.key", "/etc/yikatong/tls/gateway.key")


@both
@pytest.mark.parametrize(
    ("mistake", "said"),
    [(unknown_key, "CONFIGURATION_INVALID"), (no_file, "CONFIGURATION_INVALID"), (no_key, "CERTIFICATE_INVALID")],
)
def test_what_a_restart_does_not_help_is_said_once(
    configured: Box, unit: str, mistake: Callable[[Box, str], None], said: str
) -> None:
    mistake(configured, "daemon" if unit == DAEMON else "gateway")
    assert configured.run("systemctl", "start", unit, check=False).returncode != 0
    assert configured.show(unit, "ExecMainStatus") == "78"
    assert configured.show(unit, "NRestarts") == "0"
    configured.wait_journal(unit, said)
