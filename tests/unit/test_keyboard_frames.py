"""The packets between the daemon and a prompt: each is itself, and anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.drivers.keyboard import frames
from yikatong.drivers.keyboard.frames import Wanted


def test_what_the_daemon_says() -> None:
    assert frames.ask(7, 60) == bytes.fromhex("01 00000007 003C")
    assert frames.wanted(frames.ask(7, 60)) == Wanted(7, 60)
    assert frames.wanted(frames.ask(7, 0)) == Wanted(7, 1), "0 says that nothing is wanted"
    assert frames.wanted(frames.ask(2**32 - 1, 10**6)) == Wanted(2**32 - 1, 0xFFFF)
    assert frames.wanted(frames.over(7)) == Wanted(7, 0)
    assert frames.wanted(frames.taken()) is None


@pytest.mark.parametrize("packet", ["", "00", "0100000007", "0200000007003C", "0300", "FF00000007003C"])
def test_what_the_daemon_never_says(packet: str) -> None:
    with pytest.raises(ValueError, match="packet"):
        frames.wanted(bytes.fromhex(packet))


@pytest.mark.parametrize("digits", ["1234", "123456", "1234567890123456"])
def test_what_a_prompt_answers(digits: str) -> None:
    packet = frames.entered(9, bytearray(digits.encode()))
    assert packet == bytes.fromhex("01 00000009") + digits.encode()
    buffer = bytearray(packet) + bytearray(5)
    assert frames.answered(buffer, len(packet)) == 9
    assert frames.answer(buffer, len(packet)) == digits.encode()
    cancelled = bytearray(frames.cancelled(9))
    assert (frames.answered(cancelled, 5), frames.answer(cancelled, 5)) == (9, None)


@pytest.mark.parametrize(
    "packet",
    [
        "0100000009",
        "0100000009313233",
        "010000000931323334353637383930313233343536" + "37",
        "02000000090A",
        "0300000009",
    ],
)
def test_what_is_no_answer(packet: str) -> None:
    buffer = bytearray.fromhex(packet)
    with pytest.raises(ValueError, match="packet"):
        frames.answer(buffer, len(buffer))


@given(st.binary(max_size=30))
def test_whatever_comes_is_an_answer_or_refused(packet: bytes) -> None:
    buffer = bytearray(packet)
    try:
        frames.answered(buffer, len(buffer))
        digits = frames.answer(buffer, len(buffer))
    except ValueError:
        return
    assert digits is None or 4 <= len(digits) <= 16
