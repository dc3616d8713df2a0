"""Installs the checkout in a box the way the packages do: program, units, users, folders, rules."""

from __future__ import annotations

from tests.system.box import PROJECT, SOURCE, Box
from tests.system.identities import Authority
from yikatong.core.selftest import TEST_PERSON

UNITS = tuple(sorted(path.name for path in (PROJECT / "deploy/systemd").glob("yikatong-*.*")))

PCSCD = "pcscd.service.d/yikatong.conf"

PROGRAM = f"""#!/bin/sh
export PYTHONPATH={":".join(f"{SOURCE}/{root}" for root in ("daemon", "drivers", "simulators", "protos/gen"))}
export PYTHONPATH="$PYTHONPATH:{SOURCE}/.venv/lib/python3.11/site-packages" PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3.11 -m yikatong.cli.main "$@"
"""


def install(box: Box) -> None:
    """What a package's files and its post-installation script do; nothing is started."""
    box.write("/usr/bin/yikatong", PROGRAM, mode=0o755)
    for unit in UNITS:
        put(box, f"systemd/{unit}", f"/usr/lib/systemd/system/{unit}")
    put(box, f"systemd/{PCSCD}", f"/usr/lib/systemd/system/{PCSCD}")
    put(box, "sysusers/yikatong.conf", "/usr/lib/sysusers.d/yikatong.conf")
    put(box, "tmpfiles/yikatong.conf", "/usr/lib/tmpfiles.d/yikatong.conf")
    put(box, "polkit/50-yikatong.rules", "/usr/share/polkit-1/rules.d/50-yikatong.rules")
    put(box, "udev/70-yikatong.rules", "/usr/lib/udev/rules.d/70-yikatong.rules")
    box.run("systemd-sysusers", "yikatong.conf")
    box.run("systemd-tmpfiles", "--create", "yikatong.conf")
    box.run("systemctl", "daemon-reload")


DAEMON_CONFIG = """\
terminal_id = "T-0001"

[gateway]
address = "127.0.0.1:7443"
authority = "/etc/yikatong/tls/authority.pem"
certificate = "/etc/yikatong/tls/T-0001.pem"
key = "/etc/yikatong/tls/T-0001.key"

[reader]
kind = "pcsc"
name = "Virtual PCD 00 00"
"""

GATEWAY_CONFIG = f"""\
listen = "127.0.0.1:7443"
state_dir = "/var/lib/yikatong/gateway"
policy_hotline = "12393"
fault_hotline = "0531-0000000"
self_test_persons = ["{TEST_PERSON}"]

[tls]
authority = "/etc/yikatong/tls/authority.pem"
certificate = "/etc/yikatong/tls/gateway.pem"
key = "/etc/yikatong/tls/gateway.key"

[[cities]]
region = "370100"
name_zh = "济南市"
name_en = "Jinan"

[[institutions]]
code = "P37010000001"
name = "测试药店"
region = "370100"

[[terminals]]
terminal_id = "T-0001"
institution = "P37010000001"
"""


def allow_virtual_readers(box: Box) -> None:
    """Their driver listens on a port, which no driver of a real reader does."""
    allowed = "[Service]\nRestrictAddressFamilies=AF_INET AF_INET6\nIPAddressAllow=localhost\n"
    box.write("/run/systemd/system/pcscd.service.d/virtual.conf", allowed)
    box.run("systemctl", "daemon-reload")


def configure(box: Box) -> None:
    """A terminal and its gateway on one machine, with the identities that enrolment would give them."""
    box.write("/etc/yikatong/daemon.toml", DAEMON_CONFIG)
    box.write("/etc/yikatong/gateway.toml", GATEWAY_CONFIG)
    authority = Authority()
    box.write("/etc/yikatong/tls/authority.pem", authority.certificate)
    for name in ("T-0001", "gateway"):
        certificate, key = authority.issue(name)
        box.write(f"/etc/yikatong/tls/{name}.pem", certificate)
        box.write(f"/etc/yikatong/tls/{name}.key", key, mode=0o640)
    box.run("chgrp", "-R", "yikatong", "/etc/yikatong/tls")


def put(box: Box, source: str, target: str) -> None:
    box.write(target, (PROJECT / "deploy" / source).read_text(encoding="utf-8"))
