"""What a scanner sends, without a port: pieces, limits, and scans that are no single code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import VoucherCode
from yikatong.drivers.serial.scanned_code import ScannedCode

CODE = b"MADE-UP-28-CHARACTERS-000001"
OTHER = b"MADE-UP-28-CHARACTERS-000002"


def scanned(*pieces: bytes) -> VoucherCode | Reason:
    scan = ScannedCode()
    for piece in pieces:
        scan.feed(memoryview(piece))
    try:
        return scan.take()
    except YikatongError as error:
        assert "MADE-UP" not in str(error)
        return error.reason


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("times", [1, 3])
def test_one_code_however_its_line_ends_and_however_often_it_is_read(end: bytes, times: int) -> None:
    assert scanned(b"\r\n" + (CODE + end) * times) == VoucherCode(CODE.decode())


def test_the_longest_code() -> None:
    assert scanned(b"7" * 512 + b"\r") == VoucherCode("7" * 512)


@pytest.mark.parametrize(
    "line",
    [
        CODE,  # no end: nobody knows whether more was to come
        CODE + b"\r" + CODE[:5],
        CODE + b"\r" + OTHER + b"\r",
        CODE[:14] + b"\r" + CODE[14:] + b"\r",
        b"\x00" + CODE + b"\r",
        CODE + b"\x1b[2J\r",
        CODE[:5] + b" " + CODE[5:] + b"\r",
        CODE[:-1] + b"\xb1\r",  # "1" with its top bit flipped on the line
        "码".encode("gb18030") + b"\r",
        b"7" * 513 + b"\r",
        b"7" * 100_000,
    ],
)
def test_a_scan_that_is_not_one_whole_code_is_none(line: bytes) -> None:
    assert scanned(line) is Reason.SCAN_UNREADABLE


@pytest.mark.parametrize("line", [b"", b"\r\n\r\n"])
def test_nothing_was_scanned(line: bytes) -> None:
    assert scanned(line) is Reason.SCAN_TIMEOUT


def test_a_collected_code_is_not_shown() -> None:
    scan = ScannedCode()
    scan.feed(memoryview(CODE))
    assert "MADE-UP" not in repr(scan)


part = st.sampled_from([CODE, OTHER, b"\r", b"\n", b"7" * 300, b"\x1b", b" "])


@given(st.one_of(st.binary(max_size=200), st.lists(part, max_size=12).map(b"".join)), st.data())
def test_any_bytes_in_any_pieces_end_alike(line: bytes, data: st.DataObject) -> None:
    pieces, rest = [], line
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:size])
        rest = rest[size:]
    whole = scanned(line)
    assert scanned(*pieces) == whole
    if isinstance(whole, VoucherCode):
        assert {text for text in line.replace(b"\n", b"\r").split(b"\r") if text} == {whole.reveal().encode()}
    else:
        assert whole in {Reason.SCAN_TIMEOUT, Reason.SCAN_UNREADABLE}


def test_a_flood_takes_no_more_memory_than_a_code() -> None:
    scan = ScannedCode()
    for _ in range(200):
        scan.feed(memoryview(b"7" * 500 + b"\xff" * 500))
    assert len(scan._line) <= VoucherCode.LENGTH_MAX
