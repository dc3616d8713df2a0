"""A sample of `python -m tests.system.pin_memory`: no PIN stays in the memory of a live daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.system.pin_memory import look
from yikatong.simulators.pcscd import why_not_private

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

COUNT = 30


def test_no_pin_stays_in_the_memory_of_a_live_daemon(tmp_path: Path) -> None:
    if obstacle := why_not_private():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no private pcscd: {obstacle}")
    found = look(tmp_path, COUNT)
    assert found.debits == COUNT
    assert (found.commands, found.digits) == ([], [])
    assert found.control, "the search finds what was planted"
