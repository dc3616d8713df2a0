"""What the three transaction tables (terminal, router, ledger) share."""

from __future__ import annotations


class IllegalEvent(AssertionError):
    """A state and an event that no table lists together: our own mistake. The caller stops and alarms."""
