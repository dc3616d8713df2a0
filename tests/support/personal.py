"""What of a card is a person's, in every form in which it could get out, and a search for it."""

from __future__ import annotations

from collections.abc import Iterable

from yikatong.core.trace import TraceEvent
from yikatong.simulators.card.personalisation import CardData


def forms(text: str, *, charset: str = "ascii") -> set[bytes]:
    """As text in each charset, and as hex of each."""
    plain = {text.encode("utf-8"), text.encode(charset), text.encode("utf-16-le")}
    return plain | {form.hex().encode() for form in plain} | {form.hex().upper().encode() for form in plain}


def pin_of(pin: str) -> dict[str, set[bytes]]:
    """A PIN of twelve digits or more: six are found by chance, in any number."""
    assert len(pin) >= 12
    return {"PIN": forms(pin) | forms(pin[:-1]) | _bytes(bytes.fromhex(pin))}


def secrets_of(data: CardData) -> dict[str, set[bytes]]:
    """Numbers without the ends that are shown everywhere; what is in BCD also as that."""
    number, birth = data.social_security_number, data.social_security_number[6:14]
    found = {
        "social security number": forms(number[4:-4]) | {bytes.fromhex(number[4:-4])},
        "card number": forms(data.card_number[:-1]),  # from its letter on: its zeros and a digit or two are everywhere
        "birth date": {bytes.fromhex(birth)} | forms(birth),
        "identification code": _bytes(data.identification_code[3:]) | _bytes(b"\x00\x05" + data.serial),
        "ATR": _bytes(data.atr[-6:]),
    }
    try:
        found["name"] = forms(data.name, charset="gb18030") | _bytes(data.name.encode("gb18030")[:30])
    except UnicodeEncodeError:
        found["name"] = forms(data.name, charset="utf-8")
    return found


def _bytes(value: bytes) -> set[bytes]:
    return {value, value.hex().encode(), value.hex().upper().encode()}


def found_in(haystacks: Iterable[bytes], secrets: dict[str, set[bytes]]) -> set[str]:
    """Which of the secrets stand in any of the haystacks, also with spaces in between."""
    spread_out = [form for haystack in haystacks for form in (haystack, haystack.replace(b" ", b""))]
    return {
        name
        for haystack in spread_out
        for name, values in secrets.items()
        if any(value in haystack for value in values)
    }


def spread(event: TraceEvent) -> list[bytes]:
    """Everything that an event holds, as bytes: its texts, and the bytes that it carries."""
    return [repr(event).encode("utf-8"), *_carried(event)]


def _carried(thing: object) -> list[bytes]:
    if isinstance(thing, bytes):
        return [thing]
    if isinstance(thing, str):
        return [thing.encode("utf-8")]
    slots = getattr(thing, "__slots__", ())
    return [carried for name in slots for carried in _carried(getattr(thing, name))]
