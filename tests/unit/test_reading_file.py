"""The record of reads on the disk: goes on after a restart; damaged it is set aside, told of, and begun anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.reads import READER, Hours, Window
from yikatong.terminal.reading_file import FILE_MAX, NAME, SET_ASIDE, ReadingFile
from yikatong.terminal.reading_window import BATCHES_MAX, Tally


def saved(folder: Path, window: Window) -> bytes:
    ReadingFile(folder).save(window.book)
    return (folder / NAME).read_bytes()


def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    window = Window()
    window.day(60, 3)
    window.clock.on(days=1)
    window.day(5)
    saved(tmp_path, window)
    book = ReadingFile(tmp_path).book(Hours())
    assert book.records == window.book.records
    assert book.records[READER].all().all == Tally(65, 3)
    assert book.set_aside == ""
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_there_is_none_yet(tmp_path: Path) -> None:
    book = ReadingFile(tmp_path).book(Hours())
    assert (book.records, book.set_aside) == ({}, "")


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"\0" * len(raw),
        lambda raw: raw.replace(b'"version":1', b'"version":2'),
        lambda raw: raw.replace(b'"cards":60', b'"cards":-1'),
        lambda raw: raw.replace(b'"cards":60', b'"cards":1e400'),
        lambda raw: raw.replace(b'"cards":60', b'"cards":' + b"9" * 30),
        lambda raw: raw.replace(b'"since":"2026-11-22"', b'"since":"2026-99-99"'),
        lambda raw: raw.replace(b'"since":"2026-11-22"', b'"since":"yesterday"'),
        lambda raw: raw.replace(b'"mute"', b'"weather"'),
        lambda raw: raw.replace(b"371000/2.00/", b"990001197001010017/"),
        lambda raw: raw.replace(b'"reads"', b'"names"'),
        lambda raw: raw.replace(b'"times":[', b'"times":[1,'),
        lambda raw: raw + b" " * FILE_MAX,
        lambda raw: b"[" * 10_000,
        lambda raw: b'{"version":1,"readers":' + b"[" * 10_000,
        lambda raw: b'{"version":1,"readers":{"a":null}}',
        lambda raw: b'{"version":1,"readers":{"":{}, "b":{}, "c":{}, "d":{}, "e":{}}}',
    ],
)
def test_a_damaged_one_is_set_aside_and_told_of(
    tmp_path: Path, damage: object, capsys: pytest.CaptureFixture[str]
) -> None:
    window = Window()
    window.day(60, 3)
    raw = saved(tmp_path, window)
    damaged = damage(raw)  # type: ignore[operator]
    assert damaged != raw
    (tmp_path / NAME).write_bytes(damaged)
    file = ReadingFile(tmp_path)
    book = file.book(window.clock)
    assert book.records == {}
    assert book.set_aside == str(tmp_path / SET_ASIDE)
    assert (tmp_path / SET_ASIDE).read_bytes() == damaged
    assert not (tmp_path / NAME).exists()
    assert "reading_record_damaged" in capsys.readouterr().out
    file.save(book)
    assert ReadingFile(tmp_path).book(window.clock).set_aside == ""


def test_a_folder_in_its_place_is_set_aside_too(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    book = ReadingFile(tmp_path).book(Hours())
    assert book.set_aside == str(tmp_path / SET_ASIDE)
    assert (tmp_path / SET_ASIDE).is_dir()


def test_what_cannot_be_set_aside_or_saved_is_logged_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).write_bytes(b"damaged")
    (tmp_path / SET_ASIDE / "taken").mkdir(parents=True)
    book = ReadingFile(tmp_path).book(Hours())
    assert book.records == {}
    assert "reading_record_not_set_aside" in capsys.readouterr().out
    (tmp_path / "reading.new").mkdir()
    ReadingFile(tmp_path).save(book)
    assert "reading_record_not_saved" in capsys.readouterr().out
    ReadingFile(tmp_path / "gone").save(book)
    assert "reading_record_not_saved" in capsys.readouterr().out


def test_the_largest_one_is_small(tmp_path: Path) -> None:
    window = Window()
    for record in ("a" * 128, "b" * 128, "c" * 128, "d" * 128):
        window.day(1)
        window.book.records[record] = window.record
    counted = window.record.current
    for number in range(1, BATCHES_MAX):
        counted.batches[f"{number:06d}/2.00/00815443308699"] = Tally(1_000_000, 1_000_000)
    window.record.previous = counted
    window.book.records.pop(READER)
    assert len(saved(tmp_path, window)) < FILE_MAX / 2
    assert ReadingFile(tmp_path).book(window.clock).set_aside == ""


async def test_it_is_saved_after_a_count_and_not_at_each(tmp_path: Path) -> None:
    window, file = Window(), ReadingFile(tmp_path)
    keeping = asyncio.create_task(file.keep(window.book, every_s=3600))
    await asyncio.sleep(0)
    assert not (tmp_path / NAME).exists()
    window.day(3)
    async with asyncio.timeout(10):
        while not (tmp_path / NAME).exists():
            await asyncio.sleep(0.005)
    window.day(3)
    await asyncio.sleep(0)
    assert ReadingFile(tmp_path).book(window.clock).records[READER].current.all == Tally(3, 0)
    keeping.cancel()
    file.save(window.book)
    assert ReadingFile(tmp_path).book(window.clock).records[READER].current.all == Tally(6, 0)
