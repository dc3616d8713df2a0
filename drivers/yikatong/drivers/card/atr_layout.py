"""Which bytes of an ATR are a kind of card, and which are the card's own (card-facts §1.1; ISO/IEC 7816-3). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from yikatong.core.reasons import YikatongError
from yikatong.drivers.card.atr import historical_span

_OURS: Final = bytes.fromhex("3B6D0000")
_OURS_LENGTH: Final = 17
_KIND: Final = 7
"""Historical bytes T1 to T7: chip maker, operating system, card maker. T8 to TD are the card's serial."""
_HEAD: Final = 2


@dataclass(frozen=True, slots=True)
class AtrLayout:
    """Indices into the ATR: from `own` on its bytes may be this card's alone; the historical bytes end at `end`.

    `checked`: a check byte (TCK) stands behind them.
    """

    own: int
    end: int
    checked: bool


def layout(atr: bytes) -> AtrLayout:
    """Of an ATR that is none everything but its first two bytes is the card's own."""
    if is_ours(atr):
        return AtrLayout(len(_OURS) + _KIND, _OURS_LENGTH, checked=False)
    try:
        span = historical_span(atr)
    except YikatongError:
        return AtrLayout(min(_HEAD, len(atr)), len(atr), checked=False)
    checked = len(atr) == span.stop + 1
    if not checked and len(atr) != span.stop:
        return AtrLayout(_HEAD, len(atr), checked=False)
    return AtrLayout(span.start, span.stop, checked)


def is_ours(atr: bytes) -> bool:
    """Whether it has the shape of a social security card's. Another one may be one all the same."""
    return len(atr) == _OURS_LENGTH and atr.startswith(_OURS)


def chip(atr: bytes) -> str:
    """Chip, operating system and card maker, 14 hex digits; empty where the shape does not say which these are."""
    return atr[len(_OURS) : len(_OURS) + _KIND].hex().upper() if is_ours(atr) else ""
