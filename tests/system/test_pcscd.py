"""Debian's PC/SC daemon under the confinement that our package brings: tight, and still of use."""

from __future__ import annotations

import pytest

from tests.system.box import SOURCE, Box
from tests.system.installation import allow_virtual_readers

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]  # the first one may have to make the base system

LIST = "from smartcard.System import readers; print(*readers(), sep='\\n')"


def test_exposure(box: Box) -> None:
    box.run("systemd-analyze", "security", "--threshold=21", "pcscd.service")


def test_the_daemons_user_sees_the_readers_through_it(box: Box) -> None:
    allow_virtual_readers(box)
    path = f"--setenv=PYTHONPATH={SOURCE}/.venv/lib/python3.11/site-packages"
    listed = box.run("systemd-run", "--pipe", "--wait", "--quiet", "--uid=yikatong", path, "python3", "-c", LIST)
    assert listed.stdout.splitlines() == ["Virtual PCD 00 00", "Virtual PCD 00 01"]
    process = box.show("pcscd.service", "MainPID")
    status = (box.root / "proc" / process / "status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "Seccomp:\t2" in status
