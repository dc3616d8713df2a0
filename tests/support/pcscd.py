"""A private pcscd for the tests of one process: libpcsclite looks for its socket once, so its place never changes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from yikatong.simulators.pcscd import PrivatePcscd, why_not_private
from yikatong.simulators.vpcd import VirtualSlot


@cache
def _directory() -> Path:
    return Path(tempfile.gettempdir()) / f"yikatong-pcscd-{os.getpid()}"


@contextmanager
def private_pcscd() -> Iterator[tuple[PrivatePcscd, VirtualSlot]]:
    """A pcscd with an empty slot. Skips where there can be none; in CI that is a failure."""
    if obstacle := why_not_private():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no private pcscd: {obstacle}")
    directory = _directory()
    try:
        with PrivatePcscd(directory) as pcscd, VirtualSlot(pcscd.port) as slot:
            os.environ.update(pcscd.environment)
            yield pcscd, slot
    finally:
        shutil.rmtree(directory, ignore_errors=True)
