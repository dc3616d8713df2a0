"""Items to values: names, numbers and dates as cards hold them (card-facts §3.1)."""

from __future__ import annotations

from datetime import date
from typing import Final

from yikatong.core.values import CardIdentificationCode, CardNumber, PersonName, SocialSecurityNumber
from yikatong.drivers.card.tlv import malformed
from yikatong.drivers.characters import is_shown

_PADDING: Final = b"\x00\xff\x20"


def person_name(name: bytes, extension: bytes) -> PersonName | None:
    """The name with its extension, joined before decoding: a character may be split between them.

    GB18030, strictly; None where it cannot be read or nothing is left of it. Control and bidirectional characters are
    taken out: a name is shown, printed and logged.
    """
    joined = name.rstrip(b"\x00\xff") + extension.rstrip(b"\x00\xff")
    try:
        text = joined.decode("gb18030", "strict")
    except UnicodeDecodeError:
        return None
    shown = "".join(character for character in text if is_shown(character)).strip()
    return PersonName(shown) if shown else None


def social_security_number(value: bytes) -> SocialSecurityNumber:
    """18 characters with a right check character (GB 11643). Raises CARD_MALFORMED."""
    try:
        number = SocialSecurityNumber(_ascii(value))
    except ValueError as error:
        raise malformed("the social security number has not its form") from error
    if not number.check_ok:
        raise malformed("the check digit of the social security number is wrong")
    return number


def card_number(value: bytes) -> CardNumber:
    """Digits and capitals. Its own check character is no reason to refuse: schemes differ (card-facts §3.5)."""
    try:
        return CardNumber(_ascii(value))
    except ValueError as error:
        raise malformed("the card number has not its form") from error


def identification_code(value: bytes) -> CardIdentificationCode:
    """16 bytes, the first three a region in BCD. Raises CARD_MALFORMED."""
    try:
        code = CardIdentificationCode(value)
        _ = code.issuing_region
    except ValueError as error:
        raise malformed("the card identification code has not its form", length=len(value)) from error
    return code


def spec_version(value: bytes) -> str:
    """ "1.00", "2.00", "2.01", "3.00", … Raises CARD_MALFORMED."""
    text = _ascii(value)
    if len(text) != 4 or text[1] != "." or not (text[0] + text[2:]).isdigit():
        raise malformed("the specification's version has not its form")
    return text


def calendar_date(value: bytes) -> str:
    """`YYYY-MM-DD` of four BCD bytes; empty where the issuer left them blank (all F, or zeros)."""
    digits = value.hex()
    if digits in {"f" * 8, "0" * 8}:
        return ""
    if len(digits) != 8 or not digits.isdecimal():
        raise malformed("a date is not eight digits")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).isoformat()
    except ValueError as error:
        raise malformed("a date that no calendar has") from error


def _ascii(value: bytes) -> str:
    try:
        return value.rstrip(_PADDING).decode("ascii", "strict")
    except UnicodeDecodeError as error:
        raise malformed("a number holds other characters") from error
