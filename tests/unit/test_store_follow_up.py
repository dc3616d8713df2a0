"""What a commit begins, whoever has left by then; and a look at a store that has nothing else to do."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.store import Store, StoreFailed
from yikatong.runtime.whole import WholeWork, heard

INSERT = "INSERT INTO t VALUES(1)"


def opened(folder: Path) -> Store:
    return Store(folder / "store.db", application_id=7, version=1, schema="CREATE TABLE t(a)")


def count(connection: apsw.Connection) -> Any:
    return connection.execute("SELECT count(*) FROM t").fetchone()[0]


def insert(connection: apsw.Connection) -> str:
    connection.execute(INSERT)
    return "written"


class Gate:
    """A job that holds the store's thread until it is let go."""

    def __init__(self, store: Store) -> None:
        self._held, self._go = threading.Event(), threading.Event()
        self._waiting = asyncio.ensure_future(store.commit(self._hold))

    def _hold(self, connection: apsw.Connection) -> None:
        self._held.set()
        assert self._go.wait(10)

    async def holds(self) -> None:
        assert await asyncio.to_thread(self._held.wait, 10)

    async def open(self) -> None:
        self._go.set()
        await self._waiting


async def test_what_follows_is_begun_though_the_caller_has_left(tmp_path: Path) -> None:
    store, begun = opened(tmp_path), asyncio.Event()
    gate = Gate(store)
    await gate.holds()
    said: list[str] = []

    def then(result: str) -> None:
        said.append(result)
        begun.set()

    asking = asyncio.ensure_future(store.commit_then(insert, then))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert said == []
    await gate.open()
    await asyncio.wait_for(begun.wait(), 10)
    assert said == ["written"]
    assert await store.commit(count) == 1
    await store.close()


async def test_what_follows_gives_the_answer_in_the_callers_context(tmp_path: Path) -> None:
    store, who = opened(tmp_path), contextvars.ContextVar[str]("who")
    who.set("caller")
    assert await store.commit_then(insert, lambda result: (result, who.get())) == ("written", "caller")
    await store.close()


async def test_where_the_job_refuses_nothing_follows(tmp_path: Path) -> None:
    store = opened(tmp_path)

    def job(connection: apsw.Connection) -> None:
        connection.execute(INSERT)
        raise YikatongError(Reason.REQUEST_ID_REUSED)

    with pytest.raises(YikatongError):
        await store.commit_then(job, lambda result: pytest.fail("nothing is to follow"))
    assert await store.commit(count) == 0
    assert not store.failed
    await store.close()


async def test_what_fails_after_the_commit_is_told_and_the_commit_stands(tmp_path: Path) -> None:
    store = opened(tmp_path)

    def then(result: str) -> None:
        raise LookupError("no task")

    with pytest.raises(LookupError):
        await store.commit_then(insert, then)
    assert await store.commit(count) == 1
    await store.close()


async def test_a_look_sees_what_is_committed_and_waits_for_nobody(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.commit(insert)
    seen: list[str] = []

    def look(connection: apsw.Connection) -> Any:
        seen.append(threading.current_thread().name)
        return count(connection)

    assert await store.look(look) == 1
    assert seen == [threading.current_thread().name], "the store's thread has nothing to do, and was woken up"
    await store.close()


async def test_a_look_stands_behind_what_is_under_way(tmp_path: Path) -> None:
    store = opened(tmp_path)
    gate = Gate(store)
    await gate.holds()
    written = asyncio.ensure_future(store.commit(insert))
    await asyncio.sleep(0)
    looking = asyncio.ensure_future(store.look(count))
    done, _ = await asyncio.wait({looking}, timeout=0.05)
    assert not done, "it has looked into an unfinished transaction"
    await gate.open()
    assert await looking == 1
    await written
    await store.close()


async def test_looks_and_commits_at_once(tmp_path: Path) -> None:
    """One connection, two threads: each look finds whole transactions, of two rows each, never fewer than before."""
    store, found = opened(tmp_path), [0]

    def pair(connection: apsw.Connection) -> None:
        connection.execute(INSERT)
        connection.execute(INSERT)

    async def look_on(writing: asyncio.Future[Any]) -> None:
        while not writing.done():
            found.append(await store.look(count))
            await asyncio.sleep(0)

    async def write() -> None:
        for _ in range(40):
            await asyncio.gather(*(store.commit(pair) for _ in range(5)))

    writing = asyncio.ensure_future(write())
    await look_on(writing)
    await writing
    assert all(number % 2 == 0 for number in found)
    assert found == sorted(found)
    assert await store.look(count) == 400
    await store.close()


async def test_no_look_at_a_store_that_is_closed_or_has_failed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(StoreFailed):
        await store.commit(_of_the_disk)
    with pytest.raises(StoreFailed, match="failed before"):
        await store.look(count)
    await store.close()
    again = opened(tmp_path)
    await again.close()
    with pytest.raises(StoreFailed, match="closed"):
        await again.look(count)


async def test_a_look_that_the_disk_fails_ends_the_store(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(StoreFailed):
        await store.look(_of_the_disk)
    assert store.failed
    with pytest.raises(StoreFailed, match="failed before"):
        await store.commit(count)
    await store.close()


def _of_the_disk(connection: apsw.Connection) -> None:
    raise apsw.IOError("the disk is gone")


async def test_whoever_waits_for_work_may_leave(tmp_path: Path) -> None:
    work, go, done = WholeWork(), asyncio.Event(), asyncio.Event()

    async def whole() -> str:
        await go.wait()
        done.set()
        return "done"

    task = work.begin("id", whole())
    waiting = asyncio.ensure_future(heard(task))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await heard(task) == "done"
    assert done.is_set()
    assert await heard("at once") == "at once"


async def test_nothing_is_begun_after_closing(tmp_path: Path) -> None:
    work, begun = WholeWork(), list[str]()

    async def ends_and_begins() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            work.begin("late", does())

    async def does() -> None:
        begun.append("late")

    work.begin("early", ends_and_begins())
    await asyncio.sleep(0)
    await work.close()
    late = work.begin("later still", does())
    with pytest.raises(asyncio.CancelledError):
        await late
    assert begun == []
