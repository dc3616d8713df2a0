"""Check characters of invented numbers, computed from the published rules."""

from __future__ import annotations

from typing import Final

_CARD_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CARD_WEIGHTS: Final = (3, 7, 9, 10, 5, 8, 4, 2)
_PERSON_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def social_security_number(first_17: str) -> str:
    """Appends the check character of GB 11643 to region 6, birth date 8 and sequence 3."""
    total = sum(weight * int(digit) for weight, digit in zip(_PERSON_WEIGHTS, first_17, strict=True))
    return first_17 + "10X98765432"[total % 11]


def card_number(first_8: str) -> str:
    """Appends the check character of GB 11714, which card numbers use (card-facts §3.5)."""
    total = sum(
        weight * _CARD_ALPHABET.index(character) for weight, character in zip(_CARD_WEIGHTS, first_8, strict=True)
    )
    check = 11 - total % 11
    return first_8 + {10: "X", 11: "0"}.get(check, str(check))
