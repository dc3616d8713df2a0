"""The store opens as the design wants it, at the first start and at every later one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from yikatong.runtime.read_only_store import ReadOnlyStore
from yikatong.runtime.store import NotOurFile, Store, StoreFailed


async def test_no_start_leaves_a_shared_memory_file(tmp_path: Path) -> None:
    """One that is there means that the file was read before it was ours alone."""
    for _ in range(3):
        store = Store(tmp_path / "store.db", application_id=7, version=1, schema="CREATE TABLE t(a)")
        await store.commit(lambda connection: connection.execute("INSERT INTO t VALUES(1)"))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["store.db", "store.db-wal"]
        await store.close()


async def test_a_store_that_is_closed_says_so(tmp_path: Path) -> None:
    """Nobody waits for ever for a commit that nobody makes."""
    store = Store(tmp_path / "store.db", application_id=7, version=1, schema="CREATE TABLE t(a)")
    queued = asyncio.ensure_future(store.commit(lambda connection: connection.execute("INSERT INTO t VALUES(1)")))
    await asyncio.sleep(0)
    await store.close()
    await queued
    with pytest.raises(StoreFailed, match="closed"):
        await store.commit(lambda connection: connection.execute("INSERT INTO t VALUES(2)"))
    again = Store(tmp_path / "store.db", application_id=7, version=1, schema="")
    assert await again.commit(lambda connection: connection.execute("SELECT a FROM t").fetchall()) == [(1,)]
    await again.close()


async def test_a_caller_that_leaves_undoes_nothing_and_disturbs_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", application_id=7, version=1, schema="CREATE TABLE t(a)")
    leaving = asyncio.ensure_future(store.commit(lambda connection: connection.execute("INSERT INTO t VALUES(1)")))
    staying = asyncio.ensure_future(
        store.commit(lambda connection: connection.execute("SELECT count(*) FROM t").fetchone())
    )
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == (1,)
    assert leaving.cancelled()
    await store.close()


async def test_a_disk_that_cannot_be_written_is_read_with_its_log(tmp_path: Path) -> None:
    """On a real read-only mount: tests/crash/test_read_only_disk.py."""
    path = tmp_path / "store.db"
    store = Store(path, application_id=7, version=1, schema="CREATE TABLE t(a)")
    await store.commit(lambda connection: connection.execute("INSERT INTO t VALUES(1)"))
    # Its process has died: what it acknowledged stands in the log alone.
    dead = tmp_path / "dead"
    dead.mkdir()
    for name in ("store.db", "store.db-wal"):
        (dead / name).write_bytes((tmp_path / name).read_bytes())
    await store.close()
    reading = ReadOnlyStore(dead / "store.db", application_id=7, version=1, schema="")
    assert await reading.commit(lambda connection: connection.execute("SELECT a FROM t").fetchall()) == [(1,)]
    with pytest.raises(StoreFailed, match="can't be written"):
        await reading.commit(lambda connection: connection.execute("INSERT INTO t VALUES(2)"))
    await reading.close()
    assert sorted(file.name for file in dead.iterdir()) == ["store.db", "store.db-wal"]
    for application_id, version in ((8, 1), (7, 2)):
        with pytest.raises(NotOurFile):
            ReadOnlyStore(dead / "store.db", application_id=application_id, version=version, schema="")
    with pytest.raises(StoreFailed, match="can't read"):
        ReadOnlyStore(dead / "none.db", application_id=7, version=1, schema="")
