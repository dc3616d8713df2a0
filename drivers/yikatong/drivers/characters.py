"""Characters that are shown: controls in what cards and other programs say never reach a screen, paper or log."""

from __future__ import annotations

import unicodedata
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls (ESC begins a command), bidirectional marks, surrogates, line separators. Private-use
characters are shown: rare characters in names are coded so."""


def is_shown(char: str) -> bool:
    """Whether one character may be shown, printed, logged."""
    return unicodedata.category(char) not in _HIDDEN
