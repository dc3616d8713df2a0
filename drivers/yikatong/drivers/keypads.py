"""What keypads have in common that are a part of something else."""

from __future__ import annotations

from typing import Final

from yikatong.core.reasons import Reason, YikatongError

_REASONS: Final = {
    Reason.NO_READER: Reason.NO_PIN_KEYPAD,
    Reason.READER_FAILED: Reason.PIN_KEYPAD_FAILED,
}


def of_the_keypad(error: YikatongError) -> YikatongError:
    """To one who asked for a PIN the unit is the keypad."""
    return YikatongError(_REASONS.get(error.reason, error.reason), error.detail, **error.facts)
