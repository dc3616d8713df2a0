"""A folder that a demo has used before: it goes on where the books stand, and says so truly."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def _demo(folder: Path) -> str:
    ran = subprocess.run(
        [Path(sys.executable).with_name("yikatong"), "demo", "--in-process", "--lang", "en", "--keep", folder],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    assert "✗" not in ran.stdout
    return ran.stdout


def test_a_used_folder_begins_with_the_balance_that_is_left(tmp_path: Path) -> None:
    for balance in ("1000.00", "963.50"):
        shown = _demo(tmp_path / "kept")
        assert re.findall(r"^   card     .*, balance ([0-9.]+) yuan$", shown, re.MULTILINE) == [balance]
        assert re.findall(r"personal account ([0-9.]+) yuan$", shown, re.MULTILINE) == [balance]
