"""A daemon through which PINs may pass hides its memory, as its command starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

LOOKING = """
import ctypes, resource, sys
from yikatong.terminal import main as terminal
from yikatong.cli.main import main
async def serve(config, *, stop):
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0])
    return 0
terminal.serve = serve
resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))
main(["daemon", "-c", sys.argv[1]])
"""


@pytest.mark.parametrize(
    ("keypad", "seen"),
    [
        ({}, "1 4096"),
        ({"pin_keypad": {"device": "/dev/pad"}}, "0 0"),
        ({"pin_keypad": {"device": "software", "allow_software": True}}, "0 0"),
    ],
)
def test_the_daemon(tmp_path: Path, keypad: dict[str, Any], seen: str) -> None:
    file = tmp_path / "daemon.toml"
    gateway = {"address": "a:1", "authority": "a", "certificate": "a", "key": "a"}
    (tmp_path / "state").mkdir()
    content = {"terminal_id": "t", "gateway": gateway, "state": str(tmp_path / "state"), **keypad}
    file.write_bytes(msgspec.toml.encode(content))
    arguments = [sys.executable, "-c", LOOKING, str(file)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, seen), done.stderr
