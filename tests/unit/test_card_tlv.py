"""TLV, strictly; and that no bytes whatever bring anything but values or CARD_MALFORMED."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.cards import AnswersLink
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import SocialSecurityCard, text, tlv

CONTROL_INFORMATION = bytes.fromhex("6F1C840F7378312E73682EC9E7BBE1B1A3D5CFA5098801059F0C03860101")

DANGEROUS = {*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)}
"""Controls, line separators, and what turns the direction of text (Unicode UAX 9)."""


def test_a_select_answer() -> None:
    nodes = tlv.parse_ber(CONTROL_INFORMATION)
    assert [node.tag for node in nodes[0].walk()] == [0x6F, 0x84, 0xA5, 0x88, 0x9F0C]
    assert tlv.single(nodes, 0x9F0C) == b"\x86\x01\x01"
    assert tlv.single(nodes, 0x50) is None


def test_long_lengths() -> None:
    assert tlv.parse_ber(b"\x84\x81\x80" + bytes(128))[0].value == bytes(128)
    assert tlv.parse_ber(b"\x84\x82\x01\x00" + bytes(256))[0].value == bytes(256)


@pytest.mark.parametrize(
    "data",
    ["84", "8405AA", "8480AA0000", "848300000100", "84820001", "9F", "9F810100", "6F038405AA"],
    ids=["no length", "too long", "indefinite", "three bytes", "cut", "half a tag", "long tag", "child too long"],
)
def test_what_is_refused(data: str) -> None:
    with pytest.raises(YikatongError) as caught:
        tlv.parse_ber(bytes.fromhex(data))
    assert caught.value.reason is Reason.CARD_MALFORMED


def test_depth_and_count_are_limited() -> None:
    nested = b""
    for _ in range(tlv.DEPTH_MAX):
        nested = bytes((0x6F, len(nested))) + nested
    tlv.parse_ber(nested[2:])
    with pytest.raises(YikatongError):
        tlv.parse_ber(bytes((0x6F, len(nested))) + nested)
    tlv.parse_ber(b"\x84\x00" * tlv.NODES_MAX)
    with pytest.raises(YikatongError):
        tlv.parse_ber(b"\x84\x00" * (tlv.NODES_MAX + 1))


def test_a_tag_that_may_stand_once_stands_once() -> None:
    with pytest.raises(YikatongError):
        tlv.single(tlv.parse_ber(b"\x84\x01a\x84\x01b"), 0x84)


@pytest.mark.parametrize("record", [b"", b"\x08", b"\x09\x01a", b"\x08\x02a", b"\x08\x01ab"])
def test_a_record_is_exactly_what_it_says(record: bytes) -> None:
    with pytest.raises(YikatongError) as caught:
        tlv.record_value(record, 0x08)
    assert caught.value.reason is Reason.CARD_MALFORMED


def test_a_name_is_joined_before_it_is_decoded() -> None:
    encoded = ("测" * 15 + "试甲").encode("gb18030")
    shifted = b"a" + encoded  # the thirtieth byte is half a character
    name = text.person_name(shifted[:30], shifted[30:].ljust(20, b"\xff"))
    assert name is not None
    assert name.reveal() == "a" + "测" * 15 + "试甲"


@pytest.mark.parametrize(
    ("encoded", "shown"),
    [
        (b"\x1b[31m\xb2\xe2\xca\xd4\r\n", "[31m测试"),
        ("测\u202e试\u200b".encode("gb18030"), "测试"),
        (b"\xb2\xe2\x00\x00\xff\xff", "测"),
        (b"\x20" * 30, None),
        (b"\xff" * 30, None),
        (b"\xb2", None),
        (b"\xff\x41", None),
    ],
    ids=["control", "bidirectional", "padding", "blank", "unwritten", "half a character", "no character"],
)
def test_names(encoded: bytes, shown: str | None) -> None:
    name = text.person_name(encoded, b"")
    assert (name.reveal() if name else None) == shown


@pytest.mark.parametrize(
    ("value", "read"),
    [("20350101", "2035-01-01"), ("FFFFFFFF", ""), ("00000000", ""), ("99991231", "9999-12-31")],
)
def test_dates(value: str, read: str) -> None:
    assert text.calendar_date(bytes.fromhex(value)) == read


@pytest.mark.parametrize("value", ["20350231", "2035011F", "203501", "20350101FF", ""])
def test_dates_that_are_none(value: str) -> None:
    with pytest.raises(YikatongError):
        text.calendar_date(bytes.fromhex(value))


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_tree_or_malformed(data: bytes) -> None:
    with contextlib.suppress(YikatongError):  # anything else is a defect
        assert sum(1 for top in tlv.parse_ber(data) for _ in top.walk()) <= tlv.NODES_MAX


@given(st.binary(max_size=50), st.binary(max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_name_is_clean_or_none(name: bytes, extension: bytes) -> None:
    read = text.person_name(name, extension)
    if read is not None:
        assert read.reveal()
        assert not DANGEROUS.intersection(map(ord, read.reveal()))


@given(st.lists(st.binary(max_size=260), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_answers_whatever_are_an_identity_or_an_error(answers: list[bytes]) -> None:
    with pytest.raises(YikatongError):  # by chance alone no card comes out of random bytes: the check digits see to it
        SocialSecurityCard().read_identity(AnswersLink(*answers))


@given(st.integers(0, 0xFFFF))
@settings(max_examples=300, deadline=None)
def test_every_status_word_to_every_read_is_an_error(status: int) -> None:
    answers = (CONTROL_INFORMATION + b"\x90\x00", b"\x90\x00", status.to_bytes(2, "big"))
    with pytest.raises(YikatongError):
        SocialSecurityCard().read_identity(AnswersLink(*answers))
