"""A store whose process was killed is opened again with everything in it, however long its log had become."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from yikatong.runtime.store import open_file

KILLED = """
import os, signal, sys
from pathlib import Path
from yikatong.runtime.store import carry_out, open_file
connection = open_file(Path(sys.argv[1]), 7, 1, "CREATE TABLE filler(number INTEGER PRIMARY KEY, content BLOB)")
for _ in range(int(sys.argv[2])):
    carry_out(connection, [lambda c: c.execute("INSERT INTO filler(content) VALUES(randomblob(2000))").fetchall()])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("rows", [1, 5, 50, 1200])
def test_a_killed_store_opens_again(tmp_path: Path, rows: int) -> None:
    """50 rows leave a log of 400 KiB, 1,200 one that was folded into the file in between."""
    path = tmp_path / "store.db"
    killed = subprocess.run([sys.executable, "-c", KILLED, path, str(rows)], timeout=60, check=False)
    assert killed.returncode == -9
    assert (tmp_path / "store.db-wal").stat().st_size > 2000 * min(rows, 1000)
    connection = open_file(path, 7, 1, "")
    try:
        assert connection.execute("SELECT count(*), max(number) FROM filler").fetchone() == (rows, rows)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()
