"""Ctrl-C, however often and whenever: the demo leaves no process and no folder behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = [Path(sys.executable).with_name("yikatong"), "demo", "--lang", "en"]


def _until(condition: object, process: subprocess.Popen[str]) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the demo ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _that_use(folder: Path) -> list[str]:
    """Command lines of the processes that a demo with this TMPDIR has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={folder}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended
            continue
    return found


MOMENTS = {
    "folder": lambda temporary: any(temporary.iterdir()),
    "pcscd": lambda temporary: any(temporary.glob("*/pcscd/run/pcscd.comm")) or any(temporary.glob("*/city.toml")),
    "city": lambda temporary: any(temporary.glob("*/city.log")),
    "gateway": lambda temporary: any(temporary.glob("*/gateway.port")),
    "daemon": lambda temporary: any(temporary.glob("*/his.sock")),
    "silence": lambda temporary: any(temporary.glob("*/city.faults")),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_three_times_leaves_nothing(moment: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    temporary = tmp_path_factory.mktemp("t")
    environment = {**os.environ, "TMPDIR": str(temporary)}
    pipe = subprocess.PIPE
    demo = subprocess.Popen(DEMO, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    try:
        _until(lambda: MOMENTS[moment](temporary), demo)
        for _ in range(3):  # as a terminal does it: to the whole process group
            os.killpg(demo.pid, signal.SIGINT)
        _, error = demo.communicate(timeout=60)
    finally:
        demo.kill()
        demo.wait()
    assert (demo.returncode, error) == (130, "Interrupted; everything is being stopped.\n")
    assert list(temporary.iterdir()) == []
    deadline = time.monotonic() + 10  # the private pcscd sees the end of its leash, and ends in its own time
    while (left := _that_use(temporary)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []
