"""Installs the checkout in a box the way the packages do: program, units, users, folders, rules."""

from __future__ import annotations

from tests.system.box import PROJECT, SOURCE, Box

UNITS = tuple(sorted(path.name for path in (PROJECT / "deploy/systemd").glob("yikatong-*.*")))

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
    put(box, "sysusers/yikatong.conf", "/usr/lib/sysusers.d/yikatong.conf")
    put(box, "tmpfiles/yikatong.conf", "/usr/lib/tmpfiles.d/yikatong.conf")
    put(box, "polkit/50-yikatong.rules", "/usr/share/polkit-1/rules.d/50-yikatong.rules")
    put(box, "udev/70-yikatong.rules", "/usr/lib/udev/rules.d/70-yikatong.rules")
    box.run("systemd-sysusers", "yikatong.conf")
    box.run("systemd-tmpfiles", "--create", "yikatong.conf")
    box.run("systemctl", "daemon-reload")


def put(box: Box, source: str, target: str) -> None:
    box.write(target, (PROJECT / "deploy" / source).read_text(encoding="utf-8"))
