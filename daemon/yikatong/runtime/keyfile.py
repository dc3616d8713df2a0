"""Keys that lie beside the store that they protect, and what is done with them."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from yikatong.core.reasons import Reason, YikatongError

_LENGTH: Final = 32
_SEAL_KEY, _NONCE, _TAG = 16, 12, 16


class PersonKey:
    """Stands for a person in a store: HMAC-SM3 of the social security number under the store's own key.

    Identity numbers have so few possible values that a plain digest of one is as good as the number itself.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, number: str) -> bytes:
        """32 bytes; the same number gives the same bytes under the same key."""
        return hmac.digest(self._key, number.encode(), "sm3")

    def __repr__(self) -> str:
        return "PersonKey(hidden)"


class Seal:
    """SM4-GCM over what must be readable later, but not from a copy of the store."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"seal", "sm3")[:_SEAL_KEY]

    def close(self, content: bytes, *, subject: str) -> bytes:
        """Nonce, ciphertext, tag; can be opened for the same subject (a transaction id) alone."""
        nonce = secrets.token_bytes(_NONCE)
        encryptor = Cipher(algorithms.SM4(self._key), modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(subject.encode())
        return nonce + encryptor.update(content) + encryptor.finalize() + encryptor.tag

    def open(self, sealed: bytes, *, subject: str) -> bytes:
        """Raises YikatongError STORE_UNAVAILABLE where it was not closed by this key for this subject."""
        decryptor = Cipher(algorithms.SM4(self._key), modes.GCM(sealed[:_NONCE], sealed[-_TAG:])).decryptor()
        decryptor.authenticate_additional_data(subject.encode())
        try:
            return decryptor.update(sealed[_NONCE:-_TAG]) + decryptor.finalize()
        except InvalidTag as error:
            raise YikatongError(Reason.STORE_UNAVAILABLE, "sealed content can't be opened") from error

    def __repr__(self) -> str:
        return "Seal(hidden)"


def load_or_create(path: Path) -> bytes:
    """The 32 bytes in `path`, made at the first call; readable by the owner alone. Raises YikatongError."""
    try:
        if not path.exists():
            _create(path)
        key = path.read_bytes()
    except OSError as error:
        raise YikatongError(Reason.STORE_UNAVAILABLE, "the store's key can't be used", file=path.name) from error
    if len(key) != _LENGTH:
        raise YikatongError(Reason.STORE_UNAVAILABLE, "the store's key file is damaged", file=path.name)
    return key


def _create(path: Path) -> None:
    """The key has its name only once it is on the disk: a loss of power leaves a whole key, or none."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_LENGTH))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):  # another process was quicker: its key is the key
        os.link(beside, path)
    beside.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
