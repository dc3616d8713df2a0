"""A disk that loses power, or fails, under SQLite: a file system in memory that tells what is durable from what is not.

What is written is kept as *pending* until its file is synced; a new or deleted name until its directory is. A `Moment`
is the state between two operations; `Moment.files` draws what may lie there when the power comes back: of the pending
writes none, all, any subset (which is every reordering), or pieces torn at 512 bytes, and the same of the names.

What it takes from the machine's own file system for SQLite (sqlite.org, os_unix.c): the directory is synced with the
first sync of a new journal or write-ahead log, and by a deletion that asks for it; a sector that is not written keeps
its content when a neighbour is (SQLITE_IOCAP_POWERSAFE_OVERWRITE).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeVar

import apsw

T = TypeVar("T")

SECTOR_SIZE: Final = 512
"""A write is torn here at the smallest."""

_REPORTED_SECTOR_SIZE: Final = 4096
"""What the machine's file system says to SQLite."""

Change = tuple[int, bytes | None]
"""A pending change of a file: data at an offset, or None and the size to which it is truncated."""


class Operation(Enum):
    """What SQLite asks of a disk that can fail."""

    OPEN = "OPEN"
    READ = "READ"
    WRITE = "WRITE"
    TRUNCATE = "TRUNCATE"
    SYNC = "SYNC"
    DELETE = "DELETE"


@dataclass(eq=False, slots=True)
class _File:
    """`content` is what programs see, `durable` what a loss of power leaves at least; `pending` leads to the former."""

    durable: bytes = b""
    content: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        _apply(self.content, change)
        self.pending.append(change)

    def copy(self) -> _File:
        return _File(self.durable, bytearray(self.content), list(self.pending))


@dataclass(frozen=True, slots=True)
class Moment:
    """The disk between two operations: durable content, and what may or may not be there yet."""

    names: Mapping[str, int]
    pending_names: tuple[tuple[str, int | None], ...]
    contents: tuple[tuple[bytes, tuple[Change, ...]], ...]

    def files(self, dice: random.Random) -> dict[str, bytes]:
        """One of the disks that a loss of power at this moment can leave: content by name."""
        names = dict(self.names)
        for name, number in _survivors(self.pending_names, dice):
            if number is None:
                names.pop(name, None)
            else:
                names[name] = number
        return {name: _after(*self.contents[number], dice) for name, number in names.items()}


class Disk:
    """Files by name, in memory. `before` sees every operation, and fails it by raising an apsw.Error.

    A sync that fails makes nothing durable, now or later: a kernel takes the pages for clean and forgets them.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.before: Callable[[Operation, str], None] = lambda operation, name: None
        self._names = {name: _File(content, bytearray(content)) for name, content in (files or {}).items()}
        self._durable_names = dict(self._names)
        self._pending_names: list[tuple[str, _File | None]] = []

    def moment(self) -> Moment:
        """What a loss of power now has to work with."""
        numbers: dict[int, int] = {}
        contents: list[tuple[bytes, tuple[Change, ...]]] = []
        for file in self._files():
            if id(file) not in numbers:
                numbers[id(file)] = len(contents)
                contents.append((file.durable, tuple(file.pending)))
        return Moment(
            {name: numbers[id(file)] for name, file in self._durable_names.items()},
            tuple((name, None if made is None else numbers[id(made)]) for name, made in self._pending_names),
            tuple(contents),
        )

    def copy(self) -> Disk:
        """The disk as the next process finds it when this one is killed now: the machine goes on running."""
        twin = Disk()
        twins = {id(file): file.copy() for file in self._files()}
        twin._names = {name: twins[id(file)] for name, file in self._names.items()}
        twin._durable_names = {name: twins[id(file)] for name, file in self._durable_names.items()}
        twin._pending_names = [(name, made and twins[id(made)]) for name, made in self._pending_names]
        return twin

    def _files(self) -> list[_File]:
        """Every file that has a name, had one, or may get its name back."""
        made = [file for _, file in self._pending_names if file is not None]
        return [*self._names.values(), *self._durable_names.values(), *made]

    def exists(self, name: str) -> bool:
        return name in self._names

    def open(self, name: str, *, create: bool) -> tuple[_File, bool]:
        """The file, and whether it is new. Raises apsw.CantOpenError."""
        self.before(Operation.OPEN, name)
        file = self._names.get(name)
        if file is not None:
            return file, False
        if not create:
            raise apsw.CantOpenError(f"there is no {name}")
        file = self._names[name] = _File()
        self._pending_names.append((name, file))
        return file, True

    def delete(self, name: str, *, sync: bool) -> None:
        self.before(Operation.DELETE, name)
        if name in self._names:
            del self._names[name]
            self._pending_names.append((name, None))
        if sync:
            self.sync_names()

    def sync(self, name: str, file: _File) -> None:
        try:
            self.before(Operation.SYNC, name)
        except apsw.Error:
            file.pending.clear()
            raise
        content = bytearray(file.durable)
        for change in file.pending:
            _apply(content, change)
        file.durable = bytes(content)
        file.pending.clear()

    def sync_names(self) -> None:
        self._durable_names = dict(self._names)
        self._pending_names.clear()


class PowerLossVfs(apsw.VFS):
    """The disk as a SQLite file system, under the name `name`. One connection at a time: it keeps no locks.

    `disk` may be exchanged while no connection is open.
    """

    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "")
        self.disk = disk

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        return self.disk.exists(pathname)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.disk.delete(filename, sync=syncdir)

    # apsw asks for a VFSFile only where one inherits from another file system; ours does not.
    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _OpenFile:  # type: ignore[override]
        flags[1] = flags[0]
        if name is None:  # a temporary file: nothing of it outlives the connection
            return _OpenFile(Disk(), "", _File(), syncs_directory=False)
        path = name if isinstance(name, str) else name.filename()
        file, new = self.disk.open(path, create=bool(flags[0] & apsw.SQLITE_OPEN_CREATE))
        log = bool(flags[0] & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL))
        return _OpenFile(self.disk, path, file, syncs_directory=new and log)


class _OpenFile:
    """What SQLite holds of an open file; the methods are those of apsw.VFSFile."""

    def __init__(self, disk: Disk, name: str, file: _File, *, syncs_directory: bool) -> None:
        self._disk = disk
        self._name = name
        self._file = file
        self._syncs_directory = syncs_directory

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.before(Operation.READ, self._name)
        return bytes(self._file.content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.before(Operation.WRITE, self._name)
        self._file.change((offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        self._disk.before(Operation.TRUNCATE, self._name)
        self._file.change((newsize, None))

    def xSync(self, flags: int) -> None:
        self._disk.sync(self._name, self._file)
        if self._syncs_directory:
            self._disk.sync_names()
            self._syncs_directory = False

    def xFileSize(self) -> int:
        return len(self._file.content)

    def xSectorSize(self) -> int:
        return _REPORTED_SECTOR_SIZE

    def xDeviceCharacteristics(self) -> int:
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xCheckReservedLock(self) -> bool:
        return False

    def xLock(self, level: int) -> None:
        """There is one connection."""

    def xUnlock(self, level: int) -> None:
        """There is one connection."""

    def xClose(self) -> None:
        """What is pending stays so: closing makes nothing durable."""


def _apply(content: bytearray, change: Change, hole: bytes = b"\0") -> None:
    """`hole` fills what lies between the end of the file and the change."""
    offset, data = change
    if offset > len(content):
        missing = offset - len(content)
        content += (hole * (missing // len(hole) + 1))[:missing]
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def _after(durable: bytes, pending: tuple[Change, ...], dice: random.Random) -> bytes:
    if not pending:
        return durable
    content = bytearray(durable)
    # A file may have grown before its data came: with zeros, or with what the sectors held before.
    hole = b"\0" if dice.random() < 0.5 else dice.randbytes(SECTOR_SIZE)
    for change in _survivors(_torn(pending), dice) if dice.random() < 0.25 else _survivors(pending, dice):
        _apply(content, change, hole)
    return bytes(content)


def _survivors(pending: tuple[T, ...], dice: random.Random) -> list[T]:
    """None, all, the first so many, or any: in the order in which they were made."""
    if not pending:
        return []
    manner = dice.randrange(10)
    if manner < 2:
        return list(pending) if manner else []
    if manner < 4:
        return list(pending[: dice.randrange(len(pending) + 1)])
    kept = dice.choice((0.1, 0.5, 0.5, 0.9))
    return [change for change in pending if dice.random() < kept]


def _torn(pending: tuple[Change, ...]) -> tuple[Change, ...]:
    """Each write in pieces that end where a sector ends."""
    pieces: list[Change] = []
    for offset, data in pending:
        if data is None:
            pieces.append((offset, None))
            continue
        start = 0
        while start < len(data):
            end = min(start + SECTOR_SIZE - (offset + start) % SECTOR_SIZE, len(data))
            pieces.append((offset + start, data[start:end]))
            start = end
    return tuple(pieces)
