"""A sample of the syscall sweep: the calls that make money durable, and the one that sends it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.syscall_sweep import Point, why_not, worker

SAMPLE = [
    Point("daemon", "debit", "fdatasync", 1, "KILL"),  # P1
    Point("daemon", "debit", "fdatasync", 1, "EIO"),
    Point("daemon", "debit", "fdatasync", 2, "KILL"),  # P2 and P5
    Point("daemon", "debit", "pwrite64", 5, "ENOSPC"),
    Point("daemon", "reversal", "fdatasync", 1, "KILL"),  # P3
    Point("daemon", "reversal", "fdatasync", 2, "EIO"),  # P4
    Point("gateway", "debit", "fdatasync", 1, "KILL"),  # G1
    Point("gateway", "debit", "fdatasync", 2, "EIO"),  # G2
    Point("gateway", "reversal", "pwrite64", 3, "KILL"),  # G3
    Point("city", "debit", "fdatasync", 1, "KILL"),  # L1
]


@pytest.mark.timeout(300)
async def test_a_failed_call_loses_nothing_that_was_told(tmp_path: Path) -> None:
    if obstacle := why_not():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(obstacle)
    result = await worker(tmp_path / "w", SAMPLE)
    assert result.findings == []
    assert result.hit.total() == len(SAMPLE), "each of these calls is made by the store's only thread"
