"""Chance that is the same for the same thing, as long as one recording lasts, and tells nothing about the thing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

_BLOCK: Final = 32


class Dice:
    """Throws that depend on `thing`, what it is thrown for, and a salt that nobody keeps.

    Without the salt nobody can find out what was thrown for, not even by trying all persons.
    """

    def __init__(self, salt: bytes, purpose: str, thing: bytes) -> None:
        self._salt, self._seed = salt, purpose.encode("ascii") + b"\0" + thing
        self._blocks, self._left = 0, b""

    def bytes(self, count: int) -> bytes:
        while len(self._left) < count:
            self._blocks += 1
            thrown = hashlib.blake2b(self._seed, key=self._salt, salt=self._blocks.to_bytes(4), digest_size=_BLOCK)
            self._left += thrown.digest()
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def below(self, limit: int) -> int:
        return int.from_bytes(self.bytes(4)) % limit

    def other(self, choices: Sequence[T], than: T) -> T:
        """One of `choices`, never `than`."""
        left = [choice for choice in choices if choice != than]
        return left[self.below(len(left))]
