"""The installed units, judged by systemd itself: nothing to complain about, and tight."""

from __future__ import annotations

import pytest

from tests.system.box import Box
from tests.system.installation import UNITS

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]  # the first one may have to make the base system

TENTHS_MAX = {"yikatong-daemon.service": 13, "yikatong-gateway.service": 10, "yikatong-selftest.service": 5}
"""Exposure by systemd's own measure; 100 is a service without any confinement."""


def test_there_are_the_units_that_others_rely_on() -> None:
    assert {*TENTHS_MAX, "yikatong-selftest.timer"} == set(UNITS)


def test_systemd_has_nothing_to_say_about_the_units(box: Box) -> None:
    result = box.run("systemd-analyze", "verify", "--man=no", *(f"/usr/lib/systemd/system/{unit}" for unit in UNITS))
    assert result.stdout + result.stderr == ""


@pytest.mark.parametrize("unit", TENTHS_MAX)
def test_exposure(box: Box, unit: str) -> None:
    path = f"/usr/lib/systemd/system/{unit}"
    box.run("systemd-analyze", "security", "--offline=true", f"--threshold={TENTHS_MAX[unit]}", path)
