"""Two lines as bytes, without a port."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.core.receipt import columns
from yikatong.drivers.serial.display_protocol import two_lines


def lines_of(sent: bytes) -> list[str]:
    assert sent.startswith(b"\x0c\x1bQA")
    upper, lower, rest = sent[4:].split(b"\r")
    assert lower.startswith(b"\x1bQB")
    assert rest == b""
    return [upper.decode("gb18030"), lower[3:].decode("gb18030")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("应收 36.50 元", "应收 36.50 元"),
        ("7" * 21, "7" * 20),
        ("医保个人账户扣款余额查询", "医保个人账户扣款余额"),
        ("1医保个人账户扣款余额", "1医保个人账户扣款余"),
        ("a\x1b@\rb\x0c", "a?@?b?"),
        ("𠮷", "𠮷"),
        ("", ""),
    ],
)
def test_a_line_is_cut_to_the_width_and_holds_no_command(text: str, shown: str) -> None:
    assert lines_of(two_lines(text, "")) == [shown, ""]
    assert lines_of(two_lines("", text)) == ["", shown]


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_fits(upper: str, lower: str) -> None:
    for line in lines_of(two_lines(upper, lower)):
        assert columns(line) <= 20
        assert not any(ord(char) < 0x20 for char in line)
