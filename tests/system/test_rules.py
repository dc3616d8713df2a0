"""The rules for polkit and udev, judged by polkitd and udevadm themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.box import Box

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]  # the first one may have to make the base system

ACTIONS = ("org.debian.pcsc-lite.access_pcsc", "org.debian.pcsc-lite.access_card")


def action(name: str) -> str:
    """As pcscd 2.x declares it: refused to whoever has no active session."""
    defaults = "<allow_any>no</allow_any><allow_inactive>no</allow_inactive><allow_active>yes</allow_active>"
    return (
        f'<action id="{name}"><description>x</description><message>x</message><defaults>{defaults}</defaults></action>'
    )


@pytest.mark.parametrize("name", ACTIONS)
def test_only_the_daemons_user_may_use_readers(box: Box, name: str) -> None:
    policy = f"<policyconfig>{''.join(action(each) for each in ACTIONS)}{action('org.example.other')}</policyconfig>"
    box.write("/usr/share/polkit-1/actions/pcsc.policy", policy)
    box.run("systemctl", "restart", "polkit.service")
    assert may(box, "yikatong", name)
    assert not may(box, "nobody", name)
    assert not may(box, "yikatong", "org.example.other")


def may(box: Box, user: str, name: str) -> bool:
    """Whether polkit lets a process of `user`, without a login session, do it."""
    check = f"pkcheck --action-id {name} --process $$$$"  # systemd-run makes the shell's own $$ of it
    result = box.run("systemd-run", "--pipe", "--wait", "--quiet", f"--uid={user}", "sh", "-c", check, check=False)
    assert result.returncode == 0 or "Not authorized" in result.stderr, result.stderr
    return result.returncode == 0


def test_udev_understands_every_rule(box: Box) -> None:
    result = box.run("udevadm", "test", "/sys/devices/virtual/mem/null", check=False)
    said = [line for line in (result.stdout + result.stderr).splitlines() if "70-yikatong.rules" in line]
    assert said == ["Reading rules file: /usr/lib/udev/rules.d/70-yikatong.rules"]


def test_udev_understands_the_sample_for_a_window(box: Box) -> None:
    sample = Path(__file__).parents[2] / "deploy/udev/71-yikatong-window.rules"
    uncommented = re.sub(r"^#(?=SUBSYSTEM)", "", sample.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert uncommented.count("\nSUBSYSTEM") >= 3
    box.write("/etc/udev/rules.d/71-yikatong-window.rules", uncommented)
    result = box.run("udevadm", "test", "/sys/devices/virtual/mem/null", check=False)
    said = [line for line in (result.stdout + result.stderr).splitlines() if "71-yikatong" in line]
    assert said == ["Reading rules file: /etc/udev/rules.d/71-yikatong-window.rules"]
