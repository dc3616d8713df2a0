"""The store opens as the design wants it, at the first start and at every later one."""

from __future__ import annotations

from pathlib import Path

from yikatong.runtime.store import Store


async def test_no_start_leaves_a_shared_memory_file(tmp_path: Path) -> None:
    """One that is there means that the file was read before it was ours alone."""
    for _ in range(3):
        store = Store(tmp_path / "store.db", application_id=7, version=1, schema="CREATE TABLE t(a)")
        await store.commit(lambda connection: connection.execute("INSERT INTO t VALUES(1)"))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["store.db", "store.db-wal"]
        await store.close()
