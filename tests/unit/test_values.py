"""Values: what they refuse, and that those that name a person, or open a card, never show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.core.values import (
    CardIdentificationCode,
    CardNumber,
    Fen,
    Institution,
    PersonName,
    Pin,
    Region,
    SocialSecurityNumber,
    VoucherCode,
)

NUMBER = "110101190001010014"
CODE = bytes.fromhex("990001D156000005010000014E8CE1CA")
HIDING: list[tuple[Any, str, str]] = [
    (SocialSecurityNumber(NUMBER), NUMBER, "1101**********0014"),
    (CardNumber("T0000001X"), "T0000001X", "T*****01X"),
    (CardNumber("7"), "", "7*7"),
    (PersonName("测试甲"), "测试甲", "测**"),
    (PersonName("测"), "", "测*"),
    (PersonName(""), "", ""),
    (CardIdentificationCode(CODE), CODE.hex(), "990001…"),
    (VoucherCode("MADE-UP-0001"), "MADE-UP", "12 characters"),
]
REFUSED: list[tuple[Callable[[Any], object], Any]] = [
    *((Fen, count) for count in (True, 1.5, "1", None)),
    *((Region, code) for code in ("", "37010", "3701000", "37010x", "370100\n", "３７０１００")),
    *((Institution, code) for code in ("", "X37010000001", "P3701000001", "p37010000001", "P370100000011")),
    *((SocialSecurityNumber, digits) for digits in ("", NUMBER[:-1], NUMBER[:-1] + "x", NUMBER + "0", NUMBER + "\n")),
    *((CardNumber, digits) for digits in ("", "t0000001x", "T 1", "1" * 28, "1\n")),
    *((CardIdentificationCode, code) for code in (b"", CODE[:-1], CODE + b"0")),
    *((VoucherCode, code) for code in ("", "a b", "a\n", "码", "\x1b", "7" * 513)),
]


@given(st.integers(0, 10**14 - 1))
def test_yuan_are_read_as_they_are_written(count: int) -> None:
    assert Fen.from_yuan(str(Fen(count))) == Fen(count)


@pytest.mark.parametrize(("text", "count"), [("36", 3600), ("36.5", 3650), ("36.50", 3650), ("0.05", 5), ("007", 700)])
def test_ways_to_write_an_amount(text: str, count: int) -> None:
    assert Fen.from_yuan(text) == Fen(count)


@pytest.mark.parametrize("text", ["", ".5", "36.", "36.505", "-1", "+1", "1e3", "1,000", " 1", "1\n", "３", "9" * 13])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match=r"36\.50"):
        Fen.from_yuan(text)


@given(st.integers(), st.integers())
def test_fen_add_up(one: int, other: int) -> None:
    assert Fen(one) + Fen(other) == Fen(one + other)
    assert (Fen(one) < Fen(other)) is (one < other)
    assert str(Fen(-abs(one) - 1)).startswith("-")


@pytest.mark.parametrize(("kind", "value"), REFUSED)
def test_what_is_no_value_is_refused_without_being_repeated(kind: Callable[[Any], object], value: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        kind(value)
    if kind in (SocialSecurityNumber, CardNumber) and value:
        assert str(value) not in str(caught.value)


def test_codes_are_shown_whole() -> None:
    assert str(Region("370100")) == "370100"
    assert str(Institution("P37010000001")) == "P37010000001"


@pytest.mark.parametrize(("value", "hidden", "shown"), HIDING)
def test_what_names_a_person_is_masked_however_it_is_shown(value: Any, hidden: str, shown: str) -> None:
    assert str(value) == shown
    assert repr(value) == f"{type(value).__name__}({shown})"
    if hidden:
        for text in (f"{value}", f"{value!r}", f"{[value]}", f"{{0: {value}}}"):
            assert hidden not in text
    assert type(value)(value.reveal()) == value


@given(st.text("0123456789", min_size=17, max_size=17))
def test_exactly_one_check_character_fits(digits: str) -> None:
    assert sum(SocialSecurityNumber(digits + last).check_ok for last in "0123456789X") == 1
    # GB 11643: the weighted sum of all eighteen, the last with weight 1, is 1 modulo 11.
    (right,) = (last for last in "0123456789X" if SocialSecurityNumber(digits + last).check_ok)
    values = [*map(int, digits), 10 if right == "X" else int(right)]
    assert sum(value * 2 ** (17 - place) for place, value in enumerate(values)) % 11 == 1


def test_the_issuing_region_stands_in_the_code() -> None:
    assert CardIdentificationCode(CODE).issuing_region == Region("990001")
    with pytest.raises(ValueError, match="six digits"):
        _ = CardIdentificationCode(b"\xaa" + CODE[1:]).issuing_region


def test_a_pin_is_wiped_and_never_shown() -> None:
    buffer = bytearray(b"123456")
    with Pin(buffer) as pin:
        assert pin.digits is buffer, "no copy"
        assert "123456" not in f"{pin} {pin!r}"
    assert buffer == bytearray(6)


@pytest.mark.parametrize("digits", [b"", b"123", b"1" * 17, b"12a4", b"12 4", b"\xff234"])
def test_what_is_no_pin_is_wiped_all_the_same(digits: bytes) -> None:
    buffer = bytearray(digits)
    with pytest.raises(ValueError, match=r"^a PIN is 4 to 16 digits$"):
        Pin(buffer)
    assert buffer == bytearray(len(digits))
