"""An invented person in a real one's place: the same for the same card as long as one recording lasts.

Each value keeps its form and its length: BCD stays BCD, a right check character right and a wrong one wrong, a blank
date blank, so that whoever reads the recording as a card does what was done at the real one. What is not understood
becomes zeros. Nothing real goes into it but through the salt, and the salt dies with the recording.
"""

from __future__ import annotations

import re
import secrets
import string
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Final

from yikatong.core.reasons import YikatongError
from yikatong.core.values import SocialSecurityNumber
from yikatong.drivers.card import atr_layout, dictionary, text, tlv
from yikatong.drivers.card.dictionary import Form
from yikatong.drivers.trace.conversation import Content, Understood
from yikatong.drivers.trace.dice import Dice
from yikatong.drivers.trace.invented_names import InventedName

REGION: Final = "990001"
"""Divisions 99xxxx belong to nobody."""

_RID: Final = bytes.fromhex("D156000005")
_PADDING: Final = b"\x00\xff\x20"
_PERSON_NUMBER: Final = re.compile(rb"[0-9]{17}[0-9X]")
_CARD_NUMBER: Final = re.compile(rb"[0-9A-Z]+")
_CHECKS: Final = "0123456789X"
_CARD_ALPHABET: Final = string.digits + string.ascii_uppercase
_CARD_WEIGHTS: Final = (3, 7, 9, 10, 5, 8, 4, 2)
_NO_TLV: Final = b"\xff"


@dataclass(frozen=True, slots=True)
class Invented:
    """An answer's data with nobody in them; `left_out` where they are mere fill."""

    data: bytes
    left_out: bool = False


class Inventor:
    """Invents for one recording."""

    def __init__(self, salt: bytes | None = None) -> None:
        """A salt of one's own is for tests."""
        self.salt = salt or secrets.token_bytes(32)

    def dice(self, purpose: str, thing: bytes) -> Dice:
        return Dice(self.salt, purpose, thing)

    def atr(self, real: bytes) -> bytes:
        """Another card's serial; its last four bytes are those in the invented identification code."""
        at = atr_layout.layout(real)
        own = real[at.own : at.end]
        if atr_layout.is_ours(real):
            invented = self._digits("ATR", own[:-4]) + self.serial(own[-4:])
        else:
            invented = self.dice("ATR", own).bytes(len(own))
        made = real[: at.own] + invented
        return made + bytes((reduce(xor, made[1:]),)) if at.checked else made

    def serial(self, real: bytes) -> bytes:
        return self._digits("serial", real)

    def _digits(self, purpose: str, real: bytes) -> bytes:
        """BCD of as many bytes, other than `real`."""
        return bytes.fromhex(_digits_like(real.hex(), self.dice(purpose, real)))

    def card(self) -> InventedCard:
        return InventedCard(self)


class InventedCard:
    """One card's answers, in the order in which it gives them."""

    def __init__(self, inventor: Inventor) -> None:
        self._inventor = inventor
        self._name = InventedName(inventor.salt)

    def answer(self, exchange: Understood) -> Invented:
        data = exchange.data
        match exchange.content:
            case _ if not data:
                return Invented(b"")
            case Content.CONTROL_INFORMATION:
                return Invented(_control_information(data))
            case Content.RANDOM:
                return Invented(self._inventor.dice("random", data).bytes(len(data)))
            case Content.RECORD if exchange.entry is not None:
                head, value = data[: tlv.RECORD_HEADER], data[tlv.RECORD_HEADER :]
                return Invented(head + self._value(exchange.entry.form, value))
            case Content.RECORD if len(data) >= tlv.RECORD_HEADER and data[1] == len(data) - tlv.RECORD_HEADER:
                return Invented(data[: tlv.RECORD_HEADER] + bytes(data[1]), left_out=True)
            case Content.RECORD:  # no record, and it has to stay none
                return Invented(_NO_TLV * len(data), left_out=True)
            case Content.STRANGE:
                return Invented(bytes(len(data)), left_out=True)

    def _value(self, form: Form, value: bytes) -> bytes:
        """Of the same length and form, or of no form at all where it has none."""
        dice = self._inventor.dice(form.name, value)
        match form:
            case Form.VERSION | Form.KIND:
                return value if _says_nothing(form, value) else b"?" * len(value)
            case Form.CODE:
                return self._code(value, dice)
            case Form.DATE:
                return _date(value, dice)
            case Form.BIRTH:
                return self._birth(value)
            case Form.CARD_NUMBER:
                return _card_number(value, dice)
            case Form.PERSON_NUMBER:
                return self._person_number(value, dice)
            case Form.NAME:
                return self._name.first(value)
            case Form.NAME_EXTENSION:
                return self._name.extension(value)
            case Form.SEX:
                return b"1" * len(value)  # as the invented numbers say
            case Form.BIRTHPLACE:
                return _cut(bytes.fromhex(REGION), len(value))
            case Form.ETHNIC_GROUP:
                return _cut(b"\x01", len(value))
            case Form.DIGITS:
                return bytes.fromhex(_digits_like(value.hex(), dice))

    def _code(self, value: bytes, dice: Dice) -> bytes:
        """Who issued it stays; the serial is the invented ATR's. Without its form it keeps none."""
        try:
            region = bytes.fromhex(str(text.identification_code(value).issuing_region))
        except YikatongError:
            return _NO_TLV * len(value)  # no region begins so
        rid, serial, mac = value[3:8], value[8:12], value[12:]
        kept = _RID if rid == _RID else bytes(len(rid))
        return region + kept + self._inventor.serial(serial) + dice.bytes(len(mac))

    def _birth(self, value: bytes) -> bytes:
        if not _is_date(value):
            return _no_date(value)
        return bytes.fromhex(self._birthday(value.hex()))

    def _birthday(self, real: str) -> str:
        """`YYYYMMDD`, the same in item 0D and in the social security number."""
        dice = self._inventor.dice("birthday", real.encode("ascii"))
        year = dice.other(range(1950, 2000), int(real[:4]))
        return f"{year}{1 + dice.below(12):02d}{1 + dice.below(28):02d}"

    def _person_number(self, value: bytes, dice: Dice) -> bytes:
        content = value.rstrip(_PADDING)
        if not _PERSON_NUMBER.fullmatch(content):
            return _alike(value, dice)
        real = content.decode("ascii")
        first = f"{REGION}{self._birthday(real[6:14])}{2 * dice.below(500) + 1:03d}"
        right = next(check for check in _CHECKS if SocialSecurityNumber(first + check).check_ok)
        sound = SocialSecurityNumber(real).check_ok
        check = right if sound else dice.other(_CHECKS, right)
        return (first + check).encode("ascii") + value[len(content) :]


def _says_nothing(form: Form, value: bytes) -> bool:
    """Whether it is what it should be: then it is the same on millions of cards."""
    if form is Form.KIND:
        return len(value) == 1 and value.isdigit()
    return re.fullmatch(rb"[0-9]\.[0-9]{2}", value) is not None


def _card_number(value: bytes, dice: Dice) -> bytes:
    content = value.rstrip(_PADDING)
    invented = _alike(value, dice)
    if len(content) != len(_CARD_WEIGHTS) + 1 or not _CARD_NUMBER.fullmatch(content):
        return invented
    if content[-1:] != _card_check(content[:-1]):
        return invented
    return invented[: len(content) - 1] + _card_check(invented[: len(content) - 1]) + value[len(content) :]


def _card_check(first: bytes) -> bytes:
    """The check character of GB 11714 (card-facts §3.5)."""
    characters = zip(_CARD_WEIGHTS, first.decode("ascii"), strict=True)
    check = 11 - sum(weight * _CARD_ALPHABET.index(character) for weight, character in characters) % 11
    return {10: "X", 11: "0"}.get(check, str(check)).encode("ascii")


def _alike(value: bytes, dice: Dice) -> bytes:
    """Other digits for digits, other letters for letters; padding stays, anything else is a question mark."""
    content = value.rstrip(_PADDING)
    made = []
    for char in content.decode("latin-1"):
        for alphabet in (string.digits, string.ascii_uppercase, string.ascii_lowercase):
            if char in alphabet:
                made.append(dice.other(alphabet, char))
                break
        else:
            made.append("?")
    return "".join(made).encode("ascii") + value[len(content) :]


def _digits_like(real: str, dice: Dice) -> str:
    """Hex digits: other decimal ones for decimal ones, F stays what it is."""
    return "".join(digit if digit not in string.digits else dice.other(string.digits, digit) for digit in real)


def _date(value: bytes, dice: Dice) -> bytes:
    """The year stays: whether a card has expired is what the recording may be about."""
    if not _is_date(value):
        return _no_date(value)
    digits = value.hex()
    day = dice.other([f"{month:02d}{day:02d}" for month in range(1, 13) for day in range(1, 29)], digits[4:])
    return bytes.fromhex(digits[:4] + day)


def _is_date(value: bytes) -> bool:
    try:
        return text.calendar_date(value) != ""
    except YikatongError:
        return False


def _no_date(value: bytes) -> bytes:
    """Blank stays blank, what no calendar has is nothing that any has."""
    return value if value in {b"\x00" * 4, b"\xff" * 4} else b"\x99" * len(value)


def _cut(value: bytes, length: int) -> bytes:
    return value[:length].ljust(length, b"\0")


def _control_information(data: bytes) -> bytes:
    """The algorithm and the names of known applications; everything else in it becomes zeros, in its shape."""
    try:
        tlv.parse_ber(data)
    except YikatongError:
        return _NO_TLV * len(data)  # it has to stay what cannot be read
    made = bytearray(data)
    _blank(data, 0, len(data), made)
    return bytes(made)


def _blank(data: bytes, at: int, end: int, made: bytearray) -> None:
    """In a copy of BER-TLV that has been parsed."""
    while at < end:
        tag, at = tlv.read_tag(data, at)
        length, at = tlv.read_length(data, at)
        value = data[at : at + length]
        if tlv.is_constructed(tag):
            _blank(data, at, at + length, made)
        elif not _is_public(tag, value):
            made[at : at + length] = bytes(length)
        at += length


def _is_public(tag: int, value: bytes) -> bool:
    """What the control information says of the kind of card (card-facts §2.2)."""
    match tag:
        case 0x84:
            return value in dictionary.APPLICATIONS
        case 0x88:
            return len(value) == 1
        case 0x9F0C:
            return len(value) == 3 and value.startswith(b"\x86\x01")
    return False
