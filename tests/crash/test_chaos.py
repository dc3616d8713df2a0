"""A bad day in small: see chaos.py, which is also run by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.chaos import SHORT, campaign, table


@pytest.mark.timeout(600)
async def test_a_bad_day_ends_with_equal_books_and_true_answers(tmp_path: Path) -> None:
    report = await campaign(tmp_path / "c", terminals=5, debits=150, seed=1, plan=SHORT)
    assert report.findings == [], table(report)
    assert report.judgement.figures["transactions APPROVED"] > 0
    assert report.strikes.total() > 0
    assert report.network["connections"] > report.strikes.total()
