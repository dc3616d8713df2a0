"""A store's file on a disk that can't be written any more: it is read as it is, with its log."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import apsw

from yikatong.runtime.store import Job, NotOurFile, StoreFailed

T = TypeVar("T")
U = TypeVar("U")

_STAMPS: Final = ("application_id", "user_version")
_WITHOUT_LOCKS: Final = "unix-none"
"""SQLite's file system that takes no locks: on such a disk none can be taken, and nobody writes."""


def is_read_only(folder: Path) -> bool:
    """Whether the folder lies on a file system that is mounted read-only, which a kernel does after errors."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


class ReadOnlyStore:
    """A DurableStore in which every job that writes fails. Jobs run in the caller's thread: nobody is served meanwhile.

    What a kernel shows of a disk that failed need not be on it; but what a store has acknowledged is.
    """

    failed = False

    def __init__(self, path: Path, *, application_id: int, version: int, schema: str) -> None:
        """Raises StoreFailed, NotOurFile. `schema` is what the file must have been made with."""
        try:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=_WITHOUT_LOCKS)
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()  # so the log needs no shared memory
            found = tuple(self._connection.execute(f"PRAGMA {name}").fetchone() for name in _STAMPS)
        except apsw.Error as error:
            raise StoreFailed(f"can't read the store {path.name}: {type(error).__name__}") from error
        if found != ((application_id,), (version,)):
            raise NotOurFile(f"{path.name} belongs to another program or version")

    async def commit(self, job: Job[T]) -> T:
        try:
            return job(self._connection)
        except apsw.Error as error:
            raise StoreFailed(f"a disk that can't be written: {type(error).__name__}") from error

    async def commit_then(self, job: Job[T], then: Callable[[T], U]) -> U:
        return then(await self.commit(job))

    async def look(self, job: Job[T]) -> T:
        return await self.commit(job)

    async def close(self) -> None:
        self._connection.close()
