"""The identity-card module's frames and the card's text record, without a port: pieces, limits, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.core.card import ResidentCard
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import PersonName, SocialSecurityNumber
from yikatong.drivers.serial import id_card_protocol as module
from yikatong.drivers.serial.id_card_record import parse
from yikatong.simulators.id_card_module import IdCard

# card-facts §9.1, as documented: requests, and the answers to find and select
DOCUMENTED_FOUND = bytes.fromhex("AAAAAA9669 0008 00009F 00000000 97")
DOCUMENTED_SELECTED = bytes.fromhex("AAAAAA9669 000C 000090 0000000000000000 9C")


def framed(content: bytes) -> bytes:
    body = (len(content) + 1).to_bytes(2) + content
    check = 0
    for byte in body:
        check ^= byte
    return bytes.fromhex("AAAAAA9669") + body + bytes([check])


def collected(*pieces: bytes) -> module.Answer | Reason | None:
    frame = module.AnswerFrame()
    for piece in pieces:
        try:
            answer = frame.feed(memoryview(piece))
        except YikatongError as error:
            return error.reason
        if answer is not None:
            return answer
    return None


def test_the_requests_are_those_that_are_documented() -> None:
    assert bytes.fromhex("AAAAAA9669 0003 20 01 22") == module.FIND
    assert bytes.fromhex("AAAAAA9669 0003 20 02 21") == module.SELECT
    assert bytes.fromhex("AAAAAA9669 0003 30 01 32") == module.READ


@pytest.mark.parametrize(
    ("frame", "status", "data"),
    [
        (DOCUMENTED_FOUND, module.FOUND, bytes(4)),
        (DOCUMENTED_SELECTED, module.DONE, bytes(8)),
        (framed(b"\x00\x00\x80"), module.NOT_FOUND, b""),
        (framed(b"\x00\x00\x90" + b"x" * 2316), module.DONE, b"x" * 2316),
    ],
)
@pytest.mark.parametrize("noise", [b"", b"\xaa", b"\xaa\xaa\xaa\x96", b"\x00" * 4000])
def test_answers_are_found_behind_noise(frame: bytes, status: int, data: bytes, noise: bytes) -> None:
    assert collected(noise + frame) == module.Answer(status, data)
    assert collected(*(bytes([byte]) for byte in noise + frame)) == module.Answer(status, data)


@pytest.mark.parametrize(
    "frame",
    [
        DOCUMENTED_FOUND[:-1] + b"\x96",
        DOCUMENTED_FOUND[:8] + b"\x01" + DOCUMENTED_FOUND[9:],
        bytes.fromhex("AAAAAA9669 0000"),
        bytes.fromhex("AAAAAA9669 0003"),
        bytes.fromhex("AAAAAA9669 1001"),
        bytes.fromhex("AAAAAA9669 FFFF"),
        b"\x00" * 4102,
    ],
)
def test_what_is_no_answer(frame: bytes) -> None:
    assert collected(frame) is Reason.ID_CARD_READER_FAILED


@pytest.mark.parametrize("frame", [b"", DOCUMENTED_FOUND[:5], DOCUMENTED_FOUND[:6], DOCUMENTED_FOUND[:-1]])
def test_half_an_answer_is_none_yet(frame: bytes) -> None:
    assert collected(frame) is None


part = st.sampled_from(
    [b"\xaa", b"\xaa\xaa\xaa\x96\x69", b"\x00\x08", b"\x0f\xff", DOCUMENTED_FOUND, DOCUMENTED_FOUND[:9], b"\x69" * 700]
)


@given(st.one_of(st.binary(max_size=300), st.lists(part, max_size=20).map(b"".join)), st.data())
def test_any_bytes_in_any_pieces_give_the_same_answer(line: bytes, data: st.DataObject) -> None:
    pieces, rest = [], line
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:size])
        rest = rest[size:]
    assert collected(*pieces) == collected(line)


def test_endless_input_takes_no_more_memory_than_a_frame() -> None:
    frame = module.AnswerFrame()
    for piece in (bytes.fromhex("AAAAAA9669 1000"), *(b"\xaa" * 400 for _ in range(10))):
        assert frame.feed(memoryview(piece)) is None
    with pytest.raises(YikatongError, match="ID_CARD_READER_FAILED"):
        frame.feed(memoryview(b"\xaa" * 400))
    assert len(frame._bytes) < 2 * module.FRAME_MAX


@pytest.mark.parametrize("photo", [b"", bytes(1024)])
def test_the_text_of_an_answer(photo: bytes) -> None:
    text = bytes(range(256))
    assert module.text_of(b"\x01\x00" + len(photo).to_bytes(2) + text + photo) == text


@given(st.one_of(st.binary(max_size=400), st.binary(max_size=400).map(lambda data: b"\x01\x00\x00\x00" + data)))
def test_an_answer_without_a_text(data: bytes) -> None:
    if len(data) == 260 and data.startswith(b"\x01\x00\x00\x00"):
        assert module.text_of(data) == data[4:]
        return
    with pytest.raises(YikatongError, match="ID_CARD_READER_FAILED"):
        module.text_of(data)


NUMBER = "110101190001010014"


def test_a_card_says_who_pays_and_shows_it_to_nobody() -> None:
    card = parse(IdCard(name="测试·甲𠮷").text())
    assert card == ResidentCard(SocialSecurityNumber(NUMBER), PersonName("测试·甲𠮷"), "2020-01-01", "")
    for shown in (f"{card}", f"{card!r}"):
        assert NUMBER not in shown
        assert "测试" not in shown


def test_an_end_of_validity() -> None:
    assert parse(IdCard(valid_until="20401231").text()).valid_until == "2040-12-31"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("\x1b[2J测\u202e试", "[2J测试"),
        ("\ue123甲", "\ue123甲"),  # a rare character, coded privately
        ("", ""),
    ],
)
def test_what_is_no_part_of_a_name_is_taken_out(name: str, read: str) -> None:
    card = parse(IdCard(name=name).text())
    assert card.name.reveal() == read
    assert card.unreadable_fields == (() if read else ("name",))


def test_a_name_that_is_not_text_stops_nothing() -> None:
    card = parse(b"\x00\xd8" + IdCard().text()[2:])  # half of a pair
    assert card.number == SocialSecurityNumber(NUMBER)
    assert card.unreadable_fields == ("name",)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        IdCard().text()[:-1],
        IdCard(number="110101190001010015").text(),
        IdCard(number="11010119000101001").text(),
        IdCard(number="1" * 17 + "甲").text(),
        IdCard(birth="19000102").text(),
        IdCard(valid_from="20200230").text(),
        IdCard(valid_from="２０２００１０１").text(),
        IdCard(valid_until="").text(),
        IdCard(valid_until="长").text(),
        bytes(256),
        b"\xff" * 256,
        b"\x00\xd8" * 128,
    ],
)
def test_what_is_no_resident_card(record: bytes) -> None:
    with pytest.raises(YikatongError, match="ID_CARD_MALFORMED") as caught:
        parse(record)
    assert NUMBER[6:] not in f"{caught.value!r}{caught.value.__cause__!r}"


@given(st.binary(min_size=256, max_size=256), st.integers(0, 255), st.integers(0, 40))
def test_any_record_is_read_or_refused(noise: bytes, start: int, length: int) -> None:
    good = IdCard().text()
    for record in (noise, good[:start] + noise[start : start + length] + good[start + length :]):
        try:
            assert parse(record).number.check_ok
        except YikatongError as error:
            assert error.reason is Reason.ID_CARD_MALFORMED
