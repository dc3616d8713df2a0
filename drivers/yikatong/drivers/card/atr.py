"""The answer to reset, as far as keys are made of it (ISO/IEC 7816-3 §8.2)."""

from __future__ import annotations

from typing import Final

from yikatong.drivers.card.tlv import malformed

_TD: Final = 0x80


def historical_bytes(atr: bytes) -> bytes:
    """Those behind the interface bytes, without a check byte. Raises CARD_MALFORMED where they do not fit in."""
    return atr[historical_span(atr)]


def historical_span(atr: bytes) -> slice:
    """Where they stand. Raises CARD_MALFORMED."""
    if len(atr) < 2:
        raise malformed("the ATR is too short", length=len(atr))
    count, present, at = atr[1] & 0x0F, atr[1] & 0xF0, 2
    while present:
        at += (present & ~_TD).bit_count()
        if not present & _TD:
            break
        if at >= len(atr):
            raise malformed("the ATR ends before its interface bytes do", length=len(atr))
        present, at = atr[at] & 0xF0, at + 1
    if at + count > len(atr):
        raise malformed("the ATR is shorter than it says", length=len(atr))
    return slice(at, at + count)
