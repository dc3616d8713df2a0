"""The pcscd driver of the simulated reader with keys, compiled."""

from __future__ import annotations

import subprocess
from pathlib import Path

from yikatong.simulators.keypad_reader import SOURCE


def compiled(folder: Path) -> Path:
    """Warnings are errors. Needs the headers of pcsc-lite, as pyscard does."""
    driver = folder / "libifdkeypad.so"
    command = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I/usr/include/PCSC"]
    subprocess.run([*command, "-o", str(driver), str(SOURCE)], check=True)
    return driver
