"""PC/SC part 10 as bytes: what a reader with keys says it can do, and what it is told."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.drivers.pcsc.part10 import VERIFY_PIN_DIRECT, control_code, verify_structure
from yikatong.simulators.keypad_reader import NotUnderstood, taken_apart, with_pin

HEADER = bytes.fromhex("00200000")


@pytest.mark.parametrize(
    ("features", "code"),
    [
        ("", None),
        ("060442330006", 0x42330006),
        ("0704423300070604423300060A0442330012", 0x42330006),
        ("0704423300070A0442330012", None),
        ("0604423300", None),
        ("060342330006", None),
        ("07024233060442330006", None),
    ],
)
def test_what_a_reader_says_it_can_do(features: str, code: int | None) -> None:
    assert control_code(bytes.fromhex(features), VERIFY_PIN_DIRECT) == code


@given(st.binary(max_size=80))
def test_whatever_a_reader_says_is_a_code_or_none(features: bytes) -> None:
    code = control_code(features, VERIFY_PIN_DIRECT)
    assert code is None or 0 <= code <= 0xFFFFFFFF


def test_what_it_is_told() -> None:
    """Written out from the part's table, in the order of its fields."""
    told = verify_structure(HEADER, digits=6, timeout_ms=60_000, key_gap_ms_max=15_000)
    number = lambda value, size: value.to_bytes(size, sys.byteorder)  # noqa: E731
    assert told == (
        bytes((60, 15, 0x81, 0x03, 0x00))
        + number(0x0606, 2)
        + bytes((0x02, 0x01))
        + number(0x0804, 2)
        + bytes((0x00, 0x00, 0x00, 0x00))
        + number(8, 4)
        + bytes.fromhex("0020000003FFFFFF")
    )


@pytest.mark.parametrize("digits", range(4, 17))
def test_a_reader_makes_of_it_what_the_driver_makes_itself(digits: int) -> None:
    pin = "1234567890123456"[:digits]
    asked = taken_apart(verify_structure(HEADER, digits=digits, timeout_ms=1, key_gap_ms_max=10**6))
    assert (asked.digits_min, asked.digits_max) == (digits, digits)
    assert (asked.timeout_s, asked.timeout_after_first_key_s) == (1, 255)
    expected = pin + "F" * (digits % 2)
    assert with_pin(asked, pin).hex().upper() == f"00200000{len(expected) // 2:02X}" + expected


@pytest.mark.parametrize("at", range(23))
def test_the_simulated_reader_takes_nothing_else(at: int) -> None:
    told = bytearray(verify_structure(HEADER, digits=6, timeout_ms=60_000, key_gap_ms_max=15_000))
    free = {0, 1, 9, 10, 19, 20, 21, 22}  # times, language, and the command's header
    told[at] ^= 0x40
    if at in free:
        taken_apart(bytes(told))
    else:
        with pytest.raises(NotUnderstood):
            taken_apart(bytes(told))
