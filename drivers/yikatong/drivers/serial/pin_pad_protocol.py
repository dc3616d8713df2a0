"""What the documented serial PIN pad says and hears (card-facts §9.2). Pure: bytes in, events out.

Documented, by one source: 9600 8N1; the command bytes below; the query's answer; keys come back one byte each, in
clear, and Enter ends. Assumptions, until a device is at hand: which bytes Enter, cancel and backspace are; that digits
are ASCII; that the pad sends keys only between `OPEN` and `CLOSE`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

BAUD: Final = 9600

ASK: Final = b"\x82"
"""Shows "enter password"."""
ASK_AGAIN: Final = b"\x81"
OPEN: Final = b"\x8a"
"""Switches the keys on."""
CLOSE: Final = b"\x8b"
QUERY: Final = b"\x89"
ALIVE: Final = b"OK\r"
"""The answer to `QUERY`."""

KEY_ENTER: Final = 0x0D  # assumption
KEY_CANCEL: Final = 0x1B  # assumption
KEY_BACKSPACE: Final = 0x08  # assumption

DIGITS_MIN: Final = 4
DIGITS_MAX: Final = 16


class Entry(Enum):
    """How an entry ended."""

    ENTERED = "entered"
    """`take()` has the digits."""
    LENGTH_REFUSED = "length refused"
    """Enter after fewer than 4 or more than 16 digits: ask again."""
    CANCELLED = "cancelled"
    GARBLED = "garbled"
    """A byte that no key sends. It may have been a digit, and a wrong PIN costs the card a try: give the entry up."""


class PinEntryBuffer:
    """Collects one PIN from key bytes, in a buffer that is wiped whatever happens.

    After an event the buffer stands still until `start()`; bytes behind Enter belong to nobody and are ignored.
    """

    __slots__ = ("_count", "_digits", "_ended")

    def __init__(self) -> None:
        self._digits = bytearray(DIGITS_MAX)
        self._count = 0  # goes past DIGITS_MAX where more was typed than a PIN can be; the excess is not kept
        self._ended = False

    def start(self) -> None:
        """Empty, ready for the next entry."""
        self.wipe()
        self._ended = False

    def feed(self, keys: memoryview) -> Entry | None:
        """Takes key bytes as they come, in any pieces; the event, once there is one."""
        for key in keys:
            if self._ended:
                return None
            event = self._press(key)
            if event is not None:
                self._ended = True
                if event is not Entry.ENTERED:
                    self.wipe()
                return event
        return None

    def take(self) -> bytearray:
        """The digits of an ENTERED entry, ASCII, the caller's to wipe; our own copy is wiped."""
        assert self._ended, "there is nothing to take before Enter"
        assert DIGITS_MIN <= self._count <= DIGITS_MAX, "there is nothing to take unless ENTERED"
        digits = bytearray(self._count)
        for i in range(self._count):  # a slice assignment copies through a temporary that is freed unwiped
            digits[i] = self._digits[i]
        self.wipe()
        return digits

    def wipe(self) -> None:
        for i in range(DIGITS_MAX):
            self._digits[i] = 0
        self._count = 0

    def __repr__(self) -> str:
        return "PinEntryBuffer(hidden)"

    def _press(self, key: int) -> Entry | None:
        match key:
            case _ if 0x30 <= key <= 0x39:
                if self._count < DIGITS_MAX:
                    self._digits[self._count] = key
                self._count += 1
            case _ if key == KEY_ENTER:
                return Entry.ENTERED if DIGITS_MIN <= self._count <= DIGITS_MAX else Entry.LENGTH_REFUSED
            case _ if key == KEY_CANCEL:
                return Entry.CANCELLED
            case _ if key == KEY_BACKSPACE:
                self._count = max(self._count - 1, 0)
                if self._count < DIGITS_MAX:
                    self._digits[self._count] = 0
            case _:
                return Entry.GARBLED
        return None


class AliveAnswer:
    """Looks for the answer to `QUERY`; what stands before it (a key pressed meanwhile, noise) does not matter."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = bytearray()

    def feed(self, answer: memoryview) -> bool:
        """Whether the answer is complete."""
        self._tail += answer
        found = ALIVE in self._tail
        del self._tail[: -len(ALIVE)]
        return found
