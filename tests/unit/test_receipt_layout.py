"""Receipts as bytes, and the printer's answers, without a port."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.receipt import Line, as_text
from yikatong.drivers.serial import receipt_status as status
from yikatong.drivers.serial.receipt_layout import BLOCK_MAX, blocks

INIT, CHINESE, FEED_AND_CUT = b"\x1b@", b"\x1c&", b"\x1bd\x06\x1dV\x00"


def text_of(composed: list[bytes]) -> bytes:
    whole = b"".join(composed)
    assert whole.startswith(INIT + CHINESE)
    assert whole.endswith(FEED_AND_CUT)
    return whole[len(INIT + CHINESE) : -len(FEED_AND_CUT)]


def test_a_receipt_with_chinese_and_rare_characters() -> None:
    receipt = as_text((Line("", "", "医保个人账户 / Personal account"), Line("药品", "Item", "阿莫西林 𠮷")))
    (block,) = blocks(receipt, "default")
    assert text_of([block]).decode("gb18030") == receipt + "\n"


def test_a_long_receipt_comes_in_blocks_of_whole_lines() -> None:
    receipt = "\n".join(f"{number:4} 药品一盒" for number in range(500))
    composed = blocks(receipt, "default")
    assert len(composed) > 5
    assert all(len(block) <= BLOCK_MAX + len(FEED_AND_CUT) for block in composed)
    assert all(block.endswith(b"\n") for block in composed[:-1])
    assert text_of(composed).decode("gb18030") == receipt + "\n"


@pytest.mark.parametrize(
    "name", ["\x1bp\x00\x19\xfa", "\x1d\x56\x00", "\x10\x14\x01", "a\rb", "\x7f", "\u202e", "\ud800"]
)
def test_nothing_in_a_text_becomes_a_command(name: str) -> None:
    printed = text_of(blocks(name, "default"))
    assert b"?" in printed
    assert all(byte >= 0x20 for byte in printed[:-1])
    assert b"\x7f" not in printed


@given(st.text(st.characters(exclude_characters="\n"), max_size=60))
def test_any_text_is_printed_without_control_bytes(text: str) -> None:
    printed = text_of(blocks(text, "default"))
    assert not set(printed[:-1]) & set(range(0x20))
    assert printed.decode("gb18030").count("\n") == 1


@pytest.mark.parametrize("text", ["7" * 256, "\n" * 2000])
def test_what_is_no_receipt(text: str) -> None:
    with pytest.raises(YikatongError, match="INVALID_FIELD"):
        blocks(text, "default")


def test_profiles() -> None:
    assert blocks("x", "POS-5890")[0].endswith(b"x\n\x1bd\x06"), "it has no cutter, and is only fed"
    with pytest.raises(YikatongError, match="CONFIGURATION_INVALID"):
        blocks("x", "no such printer")


def test_the_library_leaves_no_folder_behind() -> None:
    from escpos import capabilities

    blocks("x", "default")
    assert not Path(capabilities.pickle_dir).exists()


def test_answers_are_told_from_noise() -> None:
    assert status.at_once(memoryview(b"\xff\x11\x13\x00\x16")) == 0x16
    assert status.in_turn(memoryview(b"\xff\x11\x13\x0c")) == 0x0C
    assert status.at_once(memoryview(b"")) is None
    assert status.in_turn(memoryview(b"\x12\x92")) is None


@pytest.mark.parametrize(
    ("printer", "cause", "paper", "reason"),
    [
        (0x12, 0x12, 0x12, None),
        (0x12, 0x12, 0x1E, None),  # the roll is near its end
        (0x1A, 0x32, 0x72, Reason.PRINTER_OUT_OF_PAPER),
        (0x12, 0x12, 0x72, Reason.PRINTER_OUT_OF_PAPER),
        (0x1A, 0x32, 0x12, Reason.PRINTER_OUT_OF_PAPER),
        (0x1A, 0x16, 0x12, Reason.PRINTER_NOT_READY),
        (0x1A, 0x12, 0x12, Reason.PRINTER_NOT_READY),
        (0x1A, 0x52, 0x12, Reason.PRINTER_FAILED),
    ],
)
def test_what_a_printer_says(printer: int, cause: int, paper: int, reason: Reason | None) -> None:
    if reason is None:
        status.judge(printer, cause, paper)
        return
    with pytest.raises(YikatongError, match=reason.value):
        status.judge(printer, cause, paper)


def test_any_answer_is_ready_or_a_reason() -> None:
    possible = [byte for byte in range(256) if status.at_once(memoryview(bytes([byte]))) is not None]
    assert len(possible) == 16
    for printer, cause, paper in itertools.product(possible, repeat=3):
        try:
            status.judge(printer, cause, paper)
        except YikatongError as error:
            assert error.reason.value.startswith("PRINTER_")
        else:
            assert not printer & 0x08


def test_the_paper_ended_meanwhile() -> None:
    status.judge_done(0x03)  # near its end
    with pytest.raises(YikatongError, match="PRINTER_OUT_OF_PAPER"):
        status.judge_done(0x0C)
