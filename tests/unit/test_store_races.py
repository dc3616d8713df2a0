"""The store: whatever a job raises, whoever leaves, nobody waits for ever and nothing is half done."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from yikatong.runtime.store import Store, StoreFailed

INSERT = "INSERT INTO t VALUES(1)"


def opened(folder: Path) -> Store:
    return Store(folder / "store.db", application_id=7, version=1, schema="CREATE TABLE t(a)")


def count(connection: apsw.Connection) -> Any:
    return connection.execute("SELECT count(*) FROM t").fetchone()


async def test_a_job_that_runs_out_of_rows_answers_its_caller(tmp_path: Path) -> None:
    """`next()` of an empty cursor raises StopIteration, which no future takes: its caller waits for ever."""
    store = opened(tmp_path)

    def job(connection: apsw.Connection) -> Any:
        return next(iter(connection.execute("SELECT a FROM t")))

    asking = asyncio.ensure_future(store.commit(job))
    done, _ = await asyncio.wait({asking}, timeout=1)
    asking.cancel()
    await store.close()
    assert done, "its caller waits for ever"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
async def test_whatever_a_job_raises_its_batch_is_told(tmp_path: Path, error: type[BaseException]) -> None:
    store = opened(tmp_path)
    block = threading.Event()

    def slow(connection: apsw.Connection) -> None:
        block.wait(5)

    def job(connection: apsw.Connection) -> None:
        connection.execute(INSERT)
        raise error

    first = asyncio.ensure_future(store.commit(slow))
    await asyncio.sleep(0.05)
    batch = [asyncio.ensure_future(store.commit(j)) for j in (lambda c: c.execute(INSERT), job, count)]
    await asyncio.sleep(0)
    block.set()
    await first
    done = await asyncio.wait_for(asyncio.gather(*batch, return_exceptions=True), 2)
    assert all(isinstance(outcome, StoreFailed) for outcome in done), done
    assert store.failed
    with pytest.raises(StoreFailed):
        await store.commit(count)
    await asyncio.wait_for(store.close(), 2)
    again = opened(tmp_path)
    assert await again.commit(count) == (0,)
    await again.close()


async def test_refusals_in_a_batch_undo_themselves_alone(tmp_path: Path) -> None:
    store = opened(tmp_path)
    block = threading.Event()
    first = asyncio.ensure_future(store.commit(lambda c: block.wait(5)))
    await asyncio.sleep(0.05)

    def refused(connection: apsw.Connection) -> None:
        connection.execute(INSERT)
        raise ValueError("no")

    batch = [asyncio.ensure_future(store.commit(j)) for j in (lambda c: c.execute(INSERT).fetchall(), refused, count)]
    batch[0].cancel()
    await asyncio.sleep(0)
    batch[0].cancel()
    block.set()
    await first
    kinds = [type(outcome) for outcome in await asyncio.gather(*batch, return_exceptions=True)]
    assert kinds == [asyncio.CancelledError, ValueError, tuple]
    await store.close()


def test_a_loop_that_ends_while_the_store_answers_harms_no_other(tmp_path: Path) -> None:
    stores = list[Store]()
    block = threading.Event()

    async def first() -> None:
        stores.append(opened(tmp_path))
        asking = asyncio.ensure_future(stores[0].commit(lambda c: (block.wait(5), c.execute(INSERT).fetchall())))
        await asyncio.sleep(0.05)
        asking.cancel()

    asyncio.run(first())
    block.set()

    async def second() -> Any:
        found = await asyncio.wait_for(stores[0].commit(count), 2)
        await asyncio.gather(stores[0].close(), stores[0].close())
        return found

    assert asyncio.run(second()) == (1,)


async def test_closing_answers_what_is_queued_and_refuses_what_comes(tmp_path: Path) -> None:
    store = opened(tmp_path)
    block = threading.Event()
    first = asyncio.ensure_future(store.commit(lambda c: block.wait(5)))
    await asyncio.sleep(0.05)
    queued = [asyncio.ensure_future(store.commit(lambda c: c.execute(INSERT).fetchall())) for _ in range(300)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreFailed, match="closed"):
        await store.commit(count)
    block.set()
    await asyncio.wait_for(asyncio.gather(first, *queued, closing), 5)
    again = opened(tmp_path)
    assert await again.commit(count) == (300,)
    await again.close()
