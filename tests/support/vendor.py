"""The vendor's library of the simulated unit, compiled."""

from __future__ import annotations

import subprocess
from pathlib import Path

from yikatong.simulators.vendor_unit import SOURCE


def compiled(folder: Path, *options: str) -> Path:
    """Warnings are errors."""
    library = folder / "libssse32.so"
    command = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *options]
    subprocess.run([*command, "-o", str(library), str(SOURCE)], check=True)
    return library
