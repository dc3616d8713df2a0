"""The chain of hashes that runs through a journal."""

from __future__ import annotations

import hashlib
from typing import Final

GENESIS: Final = bytes(32)
"""What the first event is linked to."""


def link(previous: bytes, number: int, content: bytes) -> bytes:
    """Hash of an event: over the one before it, its number and its content. SM3, 32 bytes."""
    return hashlib.new("sm3", previous + number.to_bytes(8, "big") + content).digest()
