"""The PIN pad's protocol, without a port: pieces, limits, and what is left in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.drivers.serial.pin_pad_protocol import AliveAnswer, Entry, PinEntryBuffer

ENTER, CANCEL, BACKSPACE = b"\x0d", b"\x1b", b"\x08"


def feed(buffer: PinEntryBuffer, keys: bytes) -> Entry | None:
    return buffer.feed(memoryview(keys))


@pytest.mark.parametrize(
    ("keys", "digits"),
    [
        (b"123456" + ENTER, b"123456"),
        (b"0000" + ENTER, b"0000"),
        (b"1234567890123456" + ENTER, b"1234567890123456"),
        (b"1234567" + BACKSPACE + ENTER, b"123456"),
        (BACKSPACE * 3 + b"1234" + ENTER, b"1234"),
        (b"12345678901234567" + BACKSPACE + ENTER, b"1234567890123456"),  # typed one too many, took it back
        (b"12345678901234567" + BACKSPACE * 2 + b"9" + ENTER, b"1234567890123459"),
    ],
)
def test_what_was_typed_is_what_is_taken(keys: bytes, digits: bytes) -> None:
    buffer = PinEntryBuffer()
    buffer.start()
    assert feed(buffer, keys) is Entry.ENTERED
    assert buffer.take() == digits


@pytest.mark.parametrize(
    ("keys", "event"),
    [
        (ENTER, Entry.LENGTH_REFUSED),
        (b"123" + ENTER, Entry.LENGTH_REFUSED),
        (b"12345678901234567" + ENTER, Entry.LENGTH_REFUSED),
        (b"123" + CANCEL, Entry.CANCELLED),
        (b"12\x0034", Entry.GARBLED),
        (b"12\xb334", Entry.GARBLED),  # "3" with its top bit flipped on the line
        (b"OK\r", Entry.GARBLED),  # a late answer to a query is no entry
        (b"123456", None),
    ],
)
def test_an_entry_that_is_none(keys: bytes, event: Entry | None) -> None:
    buffer = PinEntryBuffer()
    buffer.start()
    assert feed(buffer, keys) is event


def test_bytes_behind_enter_change_nothing() -> None:
    buffer = PinEntryBuffer()
    assert feed(buffer, b"1234" + ENTER + b"99" + CANCEL) is Entry.ENTERED
    assert feed(buffer, b"77" + CANCEL) is None
    assert buffer.take() == b"1234"


def test_a_new_start_forgets_the_entry_before() -> None:
    buffer = PinEntryBuffer()
    assert feed(buffer, b"9" * 20 + ENTER) is Entry.LENGTH_REFUSED
    buffer.start()
    assert feed(buffer, b"1234" + ENTER) is Entry.ENTERED
    assert buffer.take() == b"1234"


@pytest.mark.parametrize("ending", [CANCEL, b"x", b"7" * 20 + ENTER])
def test_an_entry_that_ended_badly_leaves_no_digit(ending: bytes) -> None:
    buffer = PinEntryBuffer()
    assert feed(buffer, b"8888" + ending) not in {None, Entry.ENTERED}
    assert buffer._digits == bytes(16)


def test_taking_leaves_no_digit_behind() -> None:
    buffer = PinEntryBuffer()
    assert feed(buffer, b"8888" + ENTER) is Entry.ENTERED
    buffer.take()
    assert buffer._digits == bytes(16)
    assert "8" not in repr(buffer)


keystroke = st.sampled_from([b"0", b"5", b"9", ENTER, CANCEL, BACKSPACE, b"\xff"])


@given(st.one_of(st.binary(max_size=64), st.lists(keystroke, max_size=40).map(b"".join)), st.data())
def test_any_bytes_in_any_pieces_give_the_same_event(keys: bytes, data: st.DataObject) -> None:
    whole, pieces = PinEntryBuffer(), PinEntryBuffer()
    expected = feed(whole, keys)
    rest, events = keys, []
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        piece, rest = rest[:size], rest[size:]
        if (event := feed(pieces, piece)) is not None:
            events.append(event)
    assert events == ([expected] if expected else [])
    if expected is Entry.ENTERED:
        digits = whole.take()
        assert pieces.take() == digits
        assert 4 <= len(digits) <= 16
        assert all(chr(digit).isdigit() for digit in digits)


@pytest.mark.parametrize("answer", [b"OK\r", b"7\x00OK\r", b"OOK\r", b"OK\nOK\r"])
def test_the_answer_is_found_behind_noise_and_in_pieces(answer: bytes) -> None:
    alive = AliveAnswer()
    found = [alive.feed(memoryview(answer[i : i + 1])) for i in range(len(answer))]
    assert found == [False] * (len(answer) - 1) + [True]


@pytest.mark.parametrize("answer", [b"", b"OK", b"OK\n", b"ok\r", b"O K\r" * 50])
def test_another_answer_is_none(answer: bytes) -> None:
    assert not AliveAnswer().feed(memoryview(answer))
