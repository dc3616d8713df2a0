"""A security module of software (软加密), for development and tests.

Keys of real cards lie in a real module and never leave it: there an adapter for PKCS#11 takes this one's place behind
the port `Hsm`. None is shipped. Of a key our own buffers are wiped; what the cipher's library copies can't be.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4

from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import BLOCK, CardKey, KeyHolder, demand_known
from yikatong.core.reasons import Reason, YikatongError
from yikatong.gateway import soft_keys
from yikatong.gateway.soft_keys import MasterKey

_TRIPLE: Final = 24


class SoftHsm:
    """Implements `core.ports.Hsm`."""

    def __init__(self, keys: list[MasterKey]) -> None:
        """Takes the keys over."""
        self._keys = keys

    @classmethod
    def load(cls, path: Path) -> SoftHsm:
        """Raises CONFIGURATION_INVALID."""
        return cls(soft_keys.load(path))

    async def cryptogram(self, key: CardKey, holder: KeyHolder, factor: bytes, data: bytes) -> bytes:
        """See the port. 3DES as card-facts §5.1 and §5.2 have it; SM4 as §5.5 assumes it."""
        demand_known(holder.algorithm)
        master = self._master(key, holder)
        with _scheme(holder.algorithm) as scheme:
            own = master.value
            for part in reversed(holder.factors(master.levels)):
                own = scheme.diversified(own, part)
            return scheme.cryptogram(scheme.session(own, factor), data)

    def close(self) -> None:
        soft_keys.wipe(master.value for master in self._keys)
        self._keys = []

    def _master(self, key: CardKey, holder: KeyHolder) -> MasterKey:
        """The key for the issuing region; of several the one that names most of its digits."""
        fitting = [
            master
            for master in self._keys
            if (master.key, master.algorithm) == (key, holder.algorithm)
            and holder.region.code.startswith(master.regions)
        ]
        if not fitting:
            raise YikatongError(
                Reason.NO_CARD_KEY,
                "there is no such key for this issuer",
                card_key=key.value,
                algorithm=holder.algorithm.value,
                region=holder.region.code,
            )
        return max(fitting, key=lambda master: len(master.regions))

    def __repr__(self) -> str:
        return f"SoftHsm({len(self._keys)} keys)"


class _Scheme:
    """How keys of one algorithm are used. Every buffer that holds a key is kept, to be wiped."""

    def __init__(self, algorithm: CardAlgorithm) -> None:
        self._sm4 = algorithm is CardAlgorithm.SM4
        self._used: list[bytearray] = []

    def diversified(self, key: bytearray, factor: bytes) -> bytearray:
        """16 bytes of the factor and its complement: two blocks of 3DES, one of SM4."""
        return self._enciphered(key, factor + _complement(factor))

    def session(self, key: bytearray, factor: bytes) -> bytearray:
        """8 bytes for single DES; of SM4 as it diversifies."""
        return self._enciphered(key, factor + _complement(factor) if self._sm4 else factor)

    def cryptogram(self, session: bytearray, data: bytes) -> bytes:
        """8 bytes; for SM4 the data are padded with 80 00…, and the first half counts."""
        return bytes(self._enciphered(session, data + b"\x80" + bytes(7) if self._sm4 else data)[:BLOCK])

    def wipe(self) -> None:
        soft_keys.wipe(self._used)

    def _enciphered(self, key: bytearray, blocks: bytes) -> bytearray:
        cipher: BlockCipherAlgorithm
        if self._sm4:
            cipher = SM4(key)  # type: ignore[arg-type]  # any buffer will do
        else:  # one key or two, as three
            whole = self._keep(bytearray(key[i % len(key)] for i in range(_TRIPLE)))
            cipher = TripleDES(whole)  # type: ignore[arg-type]  # as above
        into = self._keep(bytearray(len(blocks) + cipher.block_size // 8 - 1))
        count = Cipher(cipher, modes.ECB()).encryptor().update_into(blocks, into)  # noqa: S305 - the card's scheme
        assert count == len(blocks)
        return self._keep(into[:count])

    def _keep(self, buffer: bytearray) -> bytearray:
        self._used.append(buffer)
        return buffer


@contextmanager
def _scheme(algorithm: CardAlgorithm) -> Iterator[_Scheme]:
    scheme = _Scheme(algorithm)
    try:
        yield scheme
    finally:
        scheme.wipe()


def _complement(block: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in block)
