"""A durable store: one SQLite file, one connection, one thread that writes, and group commit.

What `commit` returns is on the disk. A commit that failed is *unknown*, not undone (quality, fact 2): the store then
refuses everything, and its owner leaves the service and reads the file again at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apsw
import structlog

_log = structlog.get_logger(__name__)

T = TypeVar("T")
U = TypeVar("U")
Job = Callable[[apsw.Connection], T]

_OF_THE_DISK = (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CorruptError)
_BATCH_MAX = 128
_DEPTH_MAX = 4096
_SYNCHRONOUS_EXTRA = 3
_PAGE_SIZE = 4096
_PIECE_SIZE = 64 * 1024
"""SQLite's own file layer takes at most 128 KiB less one byte at a time, and calls the disk full above that."""


class StoreFailed(Exception):
    """The file can't be used, or a commit's outcome is unknown. Nothing more is done with this store."""


class NotOurFile(StoreFailed):
    """The file belongs to another program, or to a newer version of this one: it is refused, never migrated back."""


class DurableStore(Protocol):
    """What the owner of a store needs: it says what is to be done in one transaction, and waits until it is durable."""

    @property
    def failed(self) -> bool:
        """Whether a commit's outcome is unknown; then nothing more is done with this store."""

    async def commit(self, job: Job[T]) -> T:
        """Runs `job` in a transaction and returns once that is durable. Raises StoreFailed, or what `job` raises."""

    async def commit_then(self, job: Job[T], then: Callable[[T], U]) -> U:
        """As `commit`; what `job` returned is given to `then` in the loop once it is durable, also where the caller
        has left by then: what a record demands is begun by `then`. Returns what `then` returns, raises what it raises.
        """

    async def look(self, job: Job[T]) -> T:
        """Runs a short `job` that only reads: at once where there is nothing else to do. Raises as `commit` does."""

    async def close(self) -> None:
        """Finishes what is queued, then closes the file. May be called twice."""


class OpenStore(Protocol):
    """How a store is opened or created; `Store` is one way. Raises StoreFailed, NotOurFile."""

    def __call__(self, path: Path, *, application_id: int, version: int, schema: str) -> DurableStore: ...


class Store:
    """Runs jobs against one SQLite file, in order, and makes them durable together.

    Jobs that wait while another commit is on its way share the next one; a lone job is committed at once. A job that
    raises is undone alone and its exception reaches its caller.
    """

    def __init__(self, path: Path, *, application_id: int, version: int, schema: str, vfs: str = "") -> None:
        """Opens or creates the file. Raises StoreFailed, NotOurFile.

        `vfs`: name of a registered SQLite file system that keeps the files and their names; "" is the machine's.
        """
        self.path = path
        self._queue: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._closing = False
        self._turn = threading.Lock()
        """Held by whoever uses the connection: the store's thread, or one who looks while that has nothing to do."""
        opened: Future[apsw.Connection] = Future()
        self._thread = threading.Thread(
            target=self._work,
            args=(opened, application_id, version, schema, vfs),
            name=f"store-{path.name}",
            daemon=True,
        )
        self._thread.start()
        self._connection = opened.result()

    @property
    def failed(self) -> bool:
        return self._failure is not None

    async def commit(self, job: Job[T]) -> T:
        """Runs `job` in a transaction and returns once that is durable. Raises StoreFailed, or what `job` raises.

        Cancelling the caller does not undo the job.
        """
        return await self.commit_then(job, _itself)

    async def commit_then(self, job: Job[T], then: Callable[[T], U]) -> U:
        """See DurableStore."""
        self._demand_use()
        if self._queue.qsize() >= _DEPTH_MAX:
            raise StoreFailed("the store has too much to do")
        slip: asyncio.Future[U] = asyncio.get_running_loop().create_future()
        self._queue.put(Asked(slip, job, then))
        return await slip

    async def look(self, job: Job[T]) -> T:
        """Runs a short `job` that only reads: here and now where the store's thread has nothing to do, else there.

        To wake up a thread and be woken up by it takes ten times as long as to look up a row.
        """
        if self._queue.empty() and self._turn.acquire(blocking=False):
            try:
                self._demand_use()
                return job(self._connection)
            except _OF_THE_DISK as error:
                self._failure = error
                raise StoreFailed("the store can't be read") from error
            finally:
                self._turn.release()
        return await self.commit(job)

    def _demand_use(self) -> None:
        if self._failure is not None:
            raise StoreFailed("the store has failed before") from self._failure
        if self._closing:
            raise StoreFailed("the store is closed")

    async def close(self) -> None:
        """Finishes what is queued, then closes the file. May be called twice."""
        self._closing = True
        if self._thread.is_alive():
            await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._queue.put(None)
        self._thread.join()

    # --- everything below runs in the store's own thread ----------------------------------------------------------

    def _work(self, opened: Future[apsw.Connection], application_id: int, version: int, schema: str, vfs: str) -> None:
        try:
            connection = open_file(self.path, application_id, version, schema, vfs)
        except (apsw.Error, OSError) as error:
            opened.set_exception(StoreFailed(f"can't open the store {self.path.name}: {type(error).__name__}"))
            return
        except StoreFailed as error:
            opened.set_exception(error)
            return
        opened.set_result(connection)
        ending = False
        while not ending:
            batch: list[Asked] = []
            item = self._queue.get()
            while item is not None:
                batch.append(item)
                if len(batch) == _BATCH_MAX:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            ending = item is None
            if batch:
                with self._turn:
                    outcomes = self._run(connection, batch)
                for asked, outcome in zip(batch, outcomes, strict=True):
                    asked.answer(outcome)
        try:
            with self._turn:
                connection.close()
        except apsw.Error as error:  # of a disk that fails: what was acknowledged stands in the log, for the next start
            self._failure = error

    def _run(self, connection: apsw.Connection, batch: list[Asked]) -> list[Outcome]:
        try:
            if self._failure is not None:
                raise StoreFailed("the store has failed before") from self._failure
            return carry_out(connection, [asked.job for asked in batch])
        except BaseException as error:  # noqa: BLE001 - whatever it was, the outcome of this batch is unknown
            self._failure = error
            return [Outcome(refusal=_unknown(error)) for _ in batch]


@dataclass(frozen=True, slots=True)
class Asked:
    """A job, what is begun once it is durable, and who waits for that (`slip`), in which loop and context."""

    slip: asyncio.Future[Any]
    job: Job[Any]
    then: Callable[[Any], Any]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def answer(self, outcome: Outcome) -> None:
        """From any thread. Where the loop is closed nobody waits any more."""
        with contextlib.suppress(RuntimeError):
            self.slip.get_loop().call_soon_threadsafe(self.hand_over, outcome, context=self.context)

    def hand_over(self, outcome: Outcome) -> None:
        """In the loop: begins what follows, whether or not the one who asked has left, and wakes who has not."""
        result, refusal = outcome.result, outcome.refusal
        if refusal is None:
            try:
                result = self.then(result)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller, whatever it is
                refusal = error
        if self.slip.done():
            if refusal is not None:
                _log.warning("a commit or what follows it failed, and who asked has left", exc_info=refusal)
        elif refusal is None:
            self.slip.set_result(result)
        elif isinstance(refusal, StopIteration):  # no future takes it, and its caller would wait for ever
            self.slip.set_exception(RuntimeError(f"a job ran dry: {refusal!r}"))
        else:
            self.slip.set_exception(refusal)


def _itself(result: T) -> T:
    return result


def _unknown(error: BaseException) -> StoreFailed:
    failure = StoreFailed("a commit failed; whether it is on the disk is unknown")
    failure.__cause__ = error
    return failure


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job returned, or raised (`refusal`); then it alone was undone."""

    result: Any = None
    refusal: Exception | None = None


def carry_out(connection: apsw.Connection, jobs: Sequence[Job[Any]]) -> list[Outcome]:
    """All jobs in one transaction, durable on return. What the disk or the commit raises leaves all of them unknown."""
    connection.execute("BEGIN IMMEDIATE")
    if len(jobs) == 1:
        outcome = _carried_out(connection, jobs[0], undo="ROLLBACK")
        if outcome.refusal is None:
            connection.execute("COMMIT")
        return [outcome]
    outcomes = []
    for job in jobs:
        connection.execute("SAVEPOINT job")
        outcomes.append(_carried_out(connection, job, undo="ROLLBACK TO job"))
        connection.execute("RELEASE job")
    connection.execute("COMMIT")
    return outcomes


def _carried_out(connection: apsw.Connection, job: Job[Any], *, undo: str) -> Outcome:
    try:
        return Outcome(job(connection))
    except _OF_THE_DISK:
        raise  # not the job's failure
    except Exception as error:  # noqa: BLE001 - it belongs to the job's caller, whatever it is
        connection.execute(undo)
        return Outcome(refusal=error)


def open_file(path: Path, application_id: int, version: int, schema: str, vfs: str = "") -> apsw.Connection:
    """Opens with the settings of the design, in their order, and reads each one back."""
    fresh = not vfs and not path.exists()  # a file system of our own makes its names by itself
    if fresh:  # the write-ahead log gets the mode of its file
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = apsw.Connection(str(path), vfs=vfs or None)
    connection.set_busy_timeout(0)

    def pragma(name: str, value: str | int | None = None) -> Any:
        row = connection.execute(f"PRAGMA {name}" + ("" if value is None else f"={value}")).fetchone()
        return row[0] if row else None

    # First of all, for it alone reads nothing: one process, one connection, and so no shared-memory file.
    pragma("locking_mode", "EXCLUSIVE")
    pragma("synchronous", "EXTRA")  # before WAL: the other order loses acknowledged rows
    if pragma("journal_mode", "WAL") != "wal":
        raise StoreFailed("the store can't use a write-ahead log here")
    pragma("foreign_keys", "ON")
    pragma("trusted_schema", "OFF")
    pragma("wal_autocheckpoint", 1000)
    found = (pragma("application_id"), pragma("user_version"))
    if found == (0, 0) and not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        with connection:
            connection.execute(schema)
            pragma("application_id", application_id)
            pragma("user_version", version)
    elif found[0] != application_id:
        raise NotOurFile(f"{path.name} belongs to another program")
    elif found[1] > version:
        raise NotOurFile(f"{path.name} was written by a newer version ({found[1]} > {version})")
    elif found[1] < version:
        raise NotOurFile(f"{path.name} was written by an older version ({found[1]} < {version})")
    _write_again(path, vfs)
    settings = (pragma("synchronous"), pragma("locking_mode"), pragma("journal_mode"), pragma("foreign_keys"))
    if settings != (_SYNCHRONOUS_EXTRA, "exclusive", "wal", 1):
        raise StoreFailed(f"the store's settings did not hold: {settings}")
    if fresh:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return connection


def _write_again(path: Path, vfs: str) -> None:
    """Writes the log and the file's first page once more, as they are, and syncs them.

    After a sync that failed, the kernel shows pages that are not on the disk and never will be, and calls them clean.
    A process that starts would build on them, and a loss of power would take away what it acknowledges. In the file
    itself only the first page can be such a page: the others come from the log, and do so again.
    """
    for name, kind, size in (
        (str(path), apsw.SQLITE_OPEN_MAIN_DB, _PAGE_SIZE),
        (f"{path}-wal", apsw.SQLITE_OPEN_WAL, None),
    ):
        # Opened by SQLite itself: closing a file of our own would drop the connection's POSIX locks.
        file = apsw.VFSFile(vfs, name, [kind | apsw.SQLITE_OPEN_READWRITE, 0])
        try:
            end = file.xFileSize() if size is None else size
            for offset in range(0, end, _PIECE_SIZE):
                if content := file.xRead(min(_PIECE_SIZE, end - offset), offset):
                    file.xWrite(content, offset)
            file.xSync(apsw.SQLITE_SYNC_FULL)
        finally:
            file.xClose()
