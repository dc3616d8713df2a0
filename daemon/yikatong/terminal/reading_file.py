"""The record of reads on the disk: one small file of its own. No money depends on it, and losing it does no harm."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

from yikatong.runtime.clock import Clock
from yikatong.terminal.reading import READERS_MAX, ReadingBook
from yikatong.terminal.reading_window import Record

_log = structlog.get_logger(__name__)

NAME: Final = "reading.json"
SET_ASIDE: Final = "reading.json.damaged"
FILE_MAX: Final = 64 * 1024
"""Bytes; all that there is room for takes half of that."""
VERSION: Final = 1
SAVE_EVERY_S: Final = 60.0


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    readers: Annotated[dict[str, Record], msgspec.Meta(max_length=READERS_MAX)]


class ReadingFile:
    """In the state folder. Whatever is wrong with it, reading cards goes on."""

    def __init__(self, state: Path) -> None:
        self._path, self._aside = state / NAME, state / SET_ASIDE
        self._lock = threading.Lock()

    def book(self, clock: Clock) -> ReadingBook:
        """Goes on with what the file holds, or begins anew."""
        records = self._load()
        return ReadingBook(clock, records or {}, set_aside="" if records is not None else str(self._aside))

    def _load(self) -> dict[str, Record] | None:
        """None where it was damaged."""
        try:
            with self._path.open("rb") as file:
                raw = file.read(FILE_MAX + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._set_aside(error)
            return None
        try:
            if len(raw) > FILE_MAX:
                raise ValueError("no record is that long")
            content = msgspec.json.decode(raw, type=_Content)
            if content.version != VERSION:
                raise ValueError("a record of another version")
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            self._set_aside(error)
            return None
        return content.readers

    def save(self, book: ReadingBook) -> None:
        """Whole or not at all. A disk that takes nothing costs what was counted; doctor tells of the disk itself."""
        self._write(_encoded(book))

    async def keep(self, book: ReadingBook, *, every_s: float = SAVE_EVERY_S) -> None:
        """Saves what has changed, now and then, for ever. The caller saves once more at the end."""
        while True:
            await book.changed.wait()
            book.changed.clear()
            await asyncio.to_thread(self._write, _encoded(book))
            await asyncio.sleep(every_s)

    def _write(self, raw: bytes) -> None:
        new = self._path.with_suffix(".new")
        try:
            with self._lock:  # a job of `keep` may still run when the last one comes
                new.write_bytes(raw)
                new.replace(self._path)
        except OSError as error:
            _log.warning("reading_record_not_saved", error=str(error))

    def _set_aside(self, error: Exception) -> None:
        """What can't be read is kept beside, for whoever wants to know."""
        try:
            self._path.replace(self._aside)
        except OSError as failed:
            _log.warning("reading_record_not_set_aside", error=str(failed))
        _log.warning("reading_record_damaged", kind=type(error).__name__, set_aside=str(self._aside))


def _encoded(book: ReadingBook) -> bytes:
    return msgspec.json.encode(_Content(VERSION, book.records))
