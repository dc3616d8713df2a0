"""One machine for all tests of a module; each test leaves it as it found it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.system.box import Box, booted, user_namespaces, why_not
from tests.system.installation import UNITS, allow_virtual_readers, configure, install


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """A booted machine with Yikatong installed and nothing of it running."""
    if (reason := why_not()) is not None:
        if os.environ.get("CI"):
            pytest.fail(f"system tests must not be skipped here: {reason}")
        pytest.skip(reason)
    with booted() as box:
        install(box)
        yield box


@pytest.fixture
def configured(box: Box) -> Iterator[Box]:
    """The same machine, set up as a terminal and its gateway; whatever a test started is stopped afterwards."""
    if not user_namespaces():  # the kernel's rule, not a missing piece: no set-up helps, so this is a skip even in CI
        pytest.skip("this system lives in a chroot, where the kernel makes no user namespaces; the units need them")
    box.begin_journal()
    configure(box)
    allow_virtual_readers(box)
    yield box
    box.run("systemctl", "stop", *UNITS)
    box.run("systemctl", "reset-failed")
    box.run("find", "/run/systemd/system", "/var/lib/yikatong", "-mindepth", "1", "-delete")
    box.run("systemctl", "daemon-reload")
