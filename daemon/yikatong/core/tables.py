"""What the three transaction tables share."""

from __future__ import annotations


class IllegalEvent(AssertionError):
    """An event that its state does not know: a fault of ours. The caller stops and raises the alarm."""
