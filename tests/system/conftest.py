"""One machine for all tests of a module; each test leaves it as it found it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.system.box import Box, booted, why_not
from tests.system.installation import install


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
