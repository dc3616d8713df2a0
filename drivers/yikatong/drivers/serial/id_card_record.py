"""The text record of a resident identity card: 256 bytes of UTF-16LE fields (card-facts §9.1). Pure.

Fields, in bytes: name 30, sex 2, nation 4, birth 16, address 70, number 36, issuer 30, valid from 16, valid until 16,
spare 36. Of these only number, name and validity say who pays; birth is compared with the number; the others are not
even decoded. Permits of foreigners and of residents of Hong Kong, Macao and Taiwan have another layout and are refused.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from yikatong.core.card import ResidentCard
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import PersonName, SocialSecurityNumber
from yikatong.drivers.characters import is_shown
from yikatong.drivers.serial.id_card_protocol import TEXT_LENGTH

_NAME: Final = slice(0, 30)
_BIRTH: Final = slice(36, 52)
_NUMBER: Final = slice(122, 158)
_VALID_FROM: Final = slice(188, 204)
_VALID_UNTIL: Final = slice(204, 220)

_NO_END: Final = "长期"


def parse(record: bytes) -> ResidentCard:
    """Raises ID_CARD_MALFORMED. A name that can't be read stops nothing where the number is sound (quality)."""
    if len(record) != TEXT_LENGTH:
        raise _malformed("the text record has another length")
    number = _number(_text(record[_NUMBER]))
    if _text(record[_BIRTH]) != number.reveal()[6:14]:
        raise _malformed("birth and number contradict each other")
    name = _name(record[_NAME])
    until = _text(record[_VALID_UNTIL])
    return ResidentCard(
        number=number,
        name=name,
        valid_from=_date(_text(record[_VALID_FROM])),
        valid_until="" if until == _NO_END else _date(until),
        unreadable_fields=() if name.reveal() else ("name",),
    )


def _text(field: bytes) -> str:
    try:
        return field.decode("utf-16-le", "strict").rstrip(" \0")
    except UnicodeDecodeError:
        # without `from`: the error would carry the field, and tracebacks are logged
        raise _malformed("a field is not UTF-16") from None


def _number(text: str) -> SocialSecurityNumber:
    try:
        number = SocialSecurityNumber(text)
    except ValueError as error:
        raise _malformed("the number has not its form") from error
    if not number.check_ok:
        raise _malformed("the check digit of the number is wrong")
    return number


def _name(field: bytes) -> PersonName:
    text = field.decode("utf-16-le", "replace")
    if "\N{REPLACEMENT CHARACTER}" in text:
        return PersonName("")
    return PersonName("".join(char for char in text if is_shown(char)).strip())


def _date(text: str) -> str:
    if len(text) != 8 or not text.isascii() or not text.isdigit():
        raise _malformed("a date is not eight digits")
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:])).isoformat()
    except ValueError as error:
        raise _malformed("a date that no calendar has") from error


def _malformed(detail: str) -> YikatongError:
    return YikatongError(Reason.ID_CARD_MALFORMED, detail)
