"""A secret key beside the file that it protects."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from yikatong.core.reasons import Reason, YikatongError

_LENGTH: Final = 32


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


def load_or_create(path: Path) -> bytes:
    """The 32 bytes in `path`, made at the first call; readable by the owner alone. Raises YikatongError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) != _LENGTH:
            raise YikatongError(Reason.STORE_UNAVAILABLE, "the store's key file is damaged", file=path.name) from None
        return key
    except OSError as error:
        raise YikatongError(Reason.STORE_UNAVAILABLE, "the store's key can't be made", file=path.name) from error
    key = secrets.token_bytes(_LENGTH)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key
