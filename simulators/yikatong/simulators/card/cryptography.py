"""The card's ciphers: sessions, cryptograms and MAC of card-facts §5 and §10 (their formulas are assumptions)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4


def encrypt(key: bytes, block: bytes) -> bytes:
    """ECB with a key of 8 (single DES) or 16 bytes (two-key 3DES)."""
    encryptor = Cipher(TripleDES(_three(key)), modes.ECB()).encryptor()  # noqa: S305 - the card's scheme is ECB
    return encryptor.update(block) + encryptor.finalize()


def decrypt(key: bytes, block: bytes) -> bytes:
    decryptor = Cipher(TripleDES(_three(key)), modes.ECB()).decryptor()  # noqa: S305 - the card's scheme is ECB
    return decryptor.update(block) + decryptor.finalize()


def session_key(key: bytes, factor: bytes) -> bytes:
    """8 bytes: the process factor, or the card's challenge, under the card's key."""
    return encrypt(key, factor)


def diversified(master: bytes, factor: bytes) -> bytes:
    """16 bytes: the factor under the master key, then its complement (PBOC's way; that cards use it is inferred)."""
    return encrypt(master, factor) + encrypt(master, _complement(factor))


def mac(session: bytes, message: bytes) -> bytes:
    """CBC-MAC with a zero start value over the message padded with 80 00…; the first 4 bytes."""
    padded = message + b"\x80" + bytes(-(len(message) + 1) % 8)
    block = bytes(8)
    for start in range(0, len(padded), 8):
        block = encrypt(session, bytes(a ^ b for a, b in zip(block, padded[start : start + 8], strict=True)))
    return block[:4]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """How the keys of a chip work: all of them take and give blocks of eight bytes."""

    diversified: Callable[[bytes, bytes], bytes]
    """(master, factor) → key"""
    session_key: Callable[[bytes, bytes], bytes]
    """(key, factor) → session"""
    cryptogram: Callable[[bytes, bytes], bytes]
    """(session, data) → cryptogram"""


TRIPLE_DES: Final = Algorithm(diversified, session_key, encrypt)


def _sm4(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(SM4(key), modes.ECB()).encryptor()  # noqa: S305 - one block
    return encryptor.update(block) + encryptor.finalize()


def _sm4_of_factor(key: bytes, factor: bytes) -> bytes:
    return _sm4(key, factor + _complement(factor))


def _sm4_cryptogram(session: bytes, data: bytes) -> bytes:
    return _sm4(session, data + b"\x80" + bytes(7))[:8]


SM4_ASSUMED: Final = Algorithm(_sm4_of_factor, _sm4_of_factor, _sm4_cryptogram)
"""Nobody says how SM4's blocks of sixteen bytes meet the card's of eight (card-facts §5.5): a factor goes with its
complement, as PBOC does it; data are padded with 80 00…, and the first eight bytes are the cryptogram.
"""


def _complement(block: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in block)


def _three(key: bytes) -> bytes:
    return key * 3 if len(key) == 8 else key + key[:8]
