"""The gate on core's coverage stands, and the test command goes through it without running a test twice."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_test_command_demands_every_branch_of_core() -> None:
    coverage = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["coverage"]
    assert (coverage["run"]["source_pkgs"], coverage["run"]["branch"]) == (["yikatong.core"], True)
    assert coverage["report"]["fail_under"] == 100
    assert coverage["report"]["exclude_also"] == ["case never:"], "nothing else is left out"
    recipe = re.search(r"(?m)^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert recipe is not None
    assert recipe[1] == "\t@tests/run.sh\n"
    script = (ROOT / "tests/run.sh").read_text(encoding="utf-8")
    assert re.findall(r'(?m)^(?:play \w+|"\$bin/pytest") ([^|\n]+?)(?: \|\|.*)?$', script) == [
        "tests/simulation/test_faults.py",
        "tests/simulation --ignore=tests/simulation/test_faults.py",
        "tests/unit --cov",
        "--ignore=tests/unit --ignore=tests/simulation",
    ]


def test_nothing_in_core_is_left_out_by_hand() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "daemon/yikatong/core").rglob("*.py")]
    assert len(sources) > 20
    assert not any("pragma" in text for text in sources)
    assert all(text.count("case never:") == text.count("assert_never(never)") for text in sources)
