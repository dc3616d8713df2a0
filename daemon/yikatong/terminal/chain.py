"""The chain of hashes that runs through a journal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import apsw

GENESIS: Final = bytes(32)
"""What the first event is linked to."""


def link(previous: bytes, number: int, content: bytes) -> bytes:
    """Hash of an event: over the one before it, its number and its content. SM3, 32 bytes."""
    return hashlib.new("sm3", previous + number.to_bytes(8, "big") + content).digest()


def append(connection: apsw.Connection, mac: Callable[[bytes], bytes], transaction_id: str, content: bytes) -> int:
    """Adds an event to the chain of the journal on `connection`; returns its number."""
    last = connection.execute("SELECT number, head FROM event ORDER BY number DESC LIMIT 1").fetchone()
    number, previous = (int(last[0]) + 1, bytes(last[1])) if last else (1, GENESIS)
    head = link(previous, number, content)
    connection.execute("INSERT INTO event VALUES(?,?,?,?,?)", (number, transaction_id, content, head, mac(head)))
    return number
