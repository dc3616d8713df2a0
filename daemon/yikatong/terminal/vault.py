"""Keys of the terminal: one chains the journal, one seals what a reversal needs of a person."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from yikatong.core.orders import Payer
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import CardIdentificationCode, CardNumber, Region, SocialSecurityNumber

_MAC_KEY, _SEAL_KEY, _NONCE, _TAG = 32, 16, 12, 16


class Vault:
    """HMAC-SM3 for the journal's chain and for tags of cards; SM4-GCM for the payer. Software keys in a 0600 file."""

    def __init__(self, keys: bytes) -> None:
        if len(keys) != _MAC_KEY + _SEAL_KEY:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "the journal's key file has the wrong size")
        self._mac_key, self._seal_key = keys[:_MAC_KEY], keys[_MAC_KEY:]

    @classmethod
    def open(cls, path: Path, *, may_create: bool) -> Vault:
        """Reads the key file, or makes it where `may_create`. Raises YikatongError JOURNAL_UNAVAILABLE."""
        try:
            if may_create and not path.exists():
                _write_once(path, secrets.token_bytes(_MAC_KEY + _SEAL_KEY))
            return cls(path.read_bytes())
        except OSError as error:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "the journal's key file can't be used") from error

    def mac(self, content: bytes) -> bytes:
        """HMAC-SM3, 32 bytes."""
        return hmac.digest(self._mac_key, content, "sm3")

    def card_tag(self, payer: Payer) -> str:
        """The same for the same card, and useless without the key: 32 hexadecimal digits."""
        return self.mac(b"card" + payer.identification_code.reveal()).hex()[:32]

    def seal(self, payer: Payer, *, transaction_id: str) -> str:
        """The payer, readable only with our key and only for this transaction; hexadecimal."""
        plain = msgspec.json.encode(
            (
                payer.social_security_number.reveal(),
                payer.card_number.reveal(),
                payer.identification_code.reveal().hex(),
                payer.card_region.code,
            )
        )
        nonce = secrets.token_bytes(_NONCE)
        encryptor = Cipher(algorithms.SM4(self._seal_key), modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(transaction_id.encode())
        return (nonce + encryptor.update(plain) + encryptor.finalize() + encryptor.tag).hex()

    def unseal(self, sealed: str, *, transaction_id: str) -> Payer:
        """Raises YikatongError JOURNAL_UNAVAILABLE where it was not sealed by this key for this transaction."""
        raw = bytes.fromhex(sealed)
        nonce, tag = raw[:_NONCE], raw[-_TAG:]
        decryptor = Cipher(algorithms.SM4(self._seal_key), modes.GCM(nonce, tag)).decryptor()
        decryptor.authenticate_additional_data(transaction_id.encode())
        try:
            plain = decryptor.update(raw[_NONCE:-_TAG]) + decryptor.finalize()
        except InvalidTag as error:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "a sealed payer can't be opened") from error
        number, card, code, region = msgspec.json.decode(plain, type=tuple[str, str, str, str])
        return Payer(
            SocialSecurityNumber(number), CardNumber(card), CardIdentificationCode(bytes.fromhex(code)), Region(region)
        )


def _write_once(path: Path, content: bytes) -> None:
    """The key is on the disk before anything is written with it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
