"""A province of real processes, new for every test that kills some of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from yikatong.cli.province import Province


@pytest.fixture
def province(tmp_path: Path) -> Iterator[Province]:
    with Province(tmp_path, card="works", in_process=True, pin_keypad=False) as made:
        yield made
