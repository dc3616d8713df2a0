"""The card's memory of who proved what: PIN, keys, challenges, counters (card-facts §4 and §5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from yikatong.simulators.card import cryptography
from yikatong.simulators.card.chip import CardRefusalError
from yikatong.simulators.card.files import Access

TRIES_MAX: Final = 6
KEY_TRIES_MAX: Final = 6

IRK: Final = bytes(range(0x10))
RKSSSE: Final = bytes(range(0x10, 0x20))
PUK: Final = bytes(range(0x40, 0x50))
STK: Final = bytes(range(0x50, 0x60))
"""Test keys of the simulated card; real key values were never seen."""

KEY_RKSSSE: Final = 0x0A
KEY_PUK: Final = 0x06


class Remembers(Enum):
    """Which of several challenges a card answers to: sources contradict each other (card-facts §11.11)."""

    LAST = "last"
    FIRST = "first"


class WithoutPin(Enum):
    """What a VERIFY without data does: nobody knows it of real cards (an assumption, card-facts §11.8)."""

    REFUSES = "refuses"
    TELLS = "tells how many tries are left"
    COUNTS = "counts as a wrong PIN"


def pin_block(digits: str) -> bytes:
    """BCD, an odd count padded with F."""
    return bytes.fromhex(digits + "F" * (len(digits) % 2))


@dataclass(slots=True)
class Security:
    """Tries survive power; rights and challenges do not."""

    pin: bytes
    without_pin: WithoutPin = WithoutPin.REFUSES
    tries_left: int = TRIES_MAX
    algorithm: cryptography.Algorithm = cryptography.TRIPLE_DES
    remembers: Remembers = Remembers.LAST
    irk: bytes = IRK
    credulous: bool = False
    """A forger's chip: it takes every cryptogram for right."""
    keys: dict[int, bytes] = field(default_factory=lambda: {KEY_RKSSSE: RKSSSE, KEY_PUK: PUK})
    key_tries: dict[int, int] = field(default_factory=dict)
    rights: set[Access] = field(default_factory=set)
    pin_may_be_reloaded: bool = False
    challenge: bytes | None = None

    def forget(self) -> None:
        """Power was off, or the card was reset."""
        self.end_rights()
        self.challenge = None

    def end_rights(self) -> None:
        """Another environment or application was selected, or the same one again (an assumption, card-facts §11)."""
        self.rights = set()
        self.pin_may_be_reloaded = False

    def may(self, access: Access) -> bool:
        return access is Access.FREE or access in self.rights

    def verify(self, block: bytes) -> None:
        if not block and self.without_pin is WithoutPin.REFUSES:
            raise CardRefusalError(0x6700)
        if not block and self.without_pin is WithoutPin.TELLS and self.tries_left:
            raise CardRefusalError(0x63C0 | self.tries_left)
        if self.tries_left == 0:
            raise CardRefusalError(0x6983)
        if block != self.pin:
            self.tries_left -= 1
            self.rights.discard(Access.PIN)
            raise CardRefusalError(0x63C0 | self.tries_left)
        self.tries_left = TRIES_MAX
        self.rights.add(Access.PIN)

    def change(self, data: bytes) -> None:
        """Old PIN, FF, new PIN."""
        old, separator, new = data.partition(b"\xff")
        if not separator or not 2 <= len(new) <= 8:
            raise CardRefusalError(0x6A80)
        self.verify(old)
        self.pin = new

    def new_challenge(self, length: int, random: Callable[[int], bytes]) -> bytes:
        """Which one wins differs; it serves once (assumptions, card-facts §11.11)."""
        challenge = random(length)
        if self.challenge is None or self.remembers is Remembers.LAST:
            self.challenge = challenge
        return challenge

    def take_challenge(self) -> bytes:
        challenge, self.challenge = self.challenge, None
        if challenge is None or len(challenge) != 8:
            raise CardRefusalError(0x6984)
        return challenge

    def internal_authenticate(self, data: bytes) -> bytes:
        if len(data) != 16:
            raise CardRefusalError(0x6700)
        return self.algorithm.cryptogram(self.algorithm.session_key(self.irk, data[:8]), data[8:])

    def external_authenticate(self, key_id: int, data: bytes) -> None:
        if len(data) != 16:
            raise CardRefusalError(0x6700)
        key = self.keys.get(key_id)
        if key is None:
            raise CardRefusalError(0x6A88)
        tries = self.key_tries.get(key_id, KEY_TRIES_MAX)
        if tries == 0:
            raise CardRefusalError(0x6983)
        session = self.algorithm.session_key(key, self.take_challenge())
        if not self.credulous and self.algorithm.cryptogram(session, data[8:]) != data[:8]:
            self.key_tries[key_id] = tries - 1
            raise CardRefusalError(0x63C0 | (tries - 1))
        self.key_tries.pop(key_id, None)
        if key_id == KEY_RKSSSE:
            self.rights.add(Access.READ_KEY)
        elif key_id == KEY_PUK:
            self.pin_may_be_reloaded = True

    def reload_pin(self, header: bytes, data: bytes) -> None:
        """Enciphered `length, PIN, 80 00…` and a MAC, both under the session key of STK (card-facts §4, §10.5)."""
        if not self.pin_may_be_reloaded:
            raise CardRefusalError(0x6982)
        session = cryptography.session_key(STK, self.take_challenge())
        enciphered, mac = data[:-4], data[-4:]
        if cryptography.mac(session, header + enciphered) != mac:
            raise CardRefusalError(0x6988)
        if header[3] == 0:  # unblock: the counter only
            self.tries_left = TRIES_MAX
            return
        plain = cryptography.decrypt(session, enciphered)
        length = plain[0]
        if not 2 <= length <= 6 or plain[1 + length] != 0x80:
            raise CardRefusalError(0x6A80)
        self.pin, self.tries_left = plain[1 : 1 + length], TRIES_MAX
