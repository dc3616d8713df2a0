"""Authentication by a PSAM (终端安全模块) in the terminal (card-facts §5.3).

A PSAM is a card like any other: it may be missing, mute or hostile, and the limits of a card's stay hold for it too.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import BLOCK, KeyHolder, demand_genuine, demand_known
from yikatong.core.ports import CardReader
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region
from yikatong.drivers.card.authentication import CardAtHand
from yikatong.drivers.card.chain import Budget, CorrectedLength, FetchedResponse, Limited
from yikatong.drivers.card.records import OK, split

T = TypeVar("T")

_SELECTS: Final = tuple(map(bytes.fromhex, ("00A4040006D15600000590", "00A4000002DF01", "00A4020002DF01")))
"""By name, then by file id: a cardholder's card in the wrong slot has a DF01 too, but not this name."""
_DIVERSIFY: Final = bytes.fromhex("BFDE")
_ENCIPHER: Final = bytes.fromhex("80FA000008")
_TERMINAL_NUMBER: Final = bytes.fromhex("00B0960006")
_NOT_AUTHORISED: Final = 0x6982
_OF_THE_PSAM: Final = {
    Reason.NO_CARD: Reason.NO_PSAM,
    Reason.NO_READER: Reason.NO_PSAM,
    Reason.CARD_MUTE: Reason.PSAM_FAILED,
    Reason.CARD_REMOVED: Reason.PSAM_FAILED,
    Reason.CARD_MALFORMED: Reason.PSAM_FAILED,
    Reason.READER_FAILED: Reason.PSAM_FAILED,
}


@dataclass(frozen=True, slots=True)
class PsamKey:
    """A key of a PSAM: its usage, whose upper bits are the number of levels, and its id (card-facts §2.7, §5.3)."""

    usage: int
    id: int

    @classmethod
    def parse(cls, text: str) -> PsamKey:
        """Usage and id as four hexadecimal digits, `470A`. Raises ValueError."""
        if not re.fullmatch(r"[2-7][0-9A-Fa-f]{3}", text):
            raise ValueError("a PSAM's key is a usage of one to three levels and an id")
        return cls(*bytes.fromhex(text))

    @property
    def levels(self) -> int:
        return self.usage >> 5

    def __str__(self) -> str:
        return f"{self.usage:02X}{self.id:02X}"


RKSSSE: Final = PsamKey(0x47, 0x0A)
_NOBODY: Final = KeyHolder(CardAlgorithm.TRIPLE_DES, bytes(BLOCK), Region("000000"))


class PsamAuthenticator:
    """Implements `Authenticator` and `core.ports.CardAuthenticator`. Has the PSAM's reader to itself.

    `genuineness`: the PSAM's key that knows right answers to INTERNAL AUTHENTICATE; no source names one, and without it
    a card is not asked to prove anything. `algorithms`: of which cards the PSAM has keys; another card is not tried,
    because that would cost it a try. The PSAM is powered for each use, so that one that was changed is noticed.
    """

    def __init__(
        self,
        reader: CardReader,
        *,
        reading: PsamKey = RKSSSE,
        genuineness: PsamKey | None = None,
        algorithms: frozenset[CardAlgorithm] = frozenset({CardAlgorithm.TRIPLE_DES, CardAlgorithm.SM4}),
        random: Callable[[int], bytes] = secrets.token_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, self._reading, self._genuineness = reader, reading, genuineness
        self._algorithms, self._random, self._clock = algorithms, random, clock
        self._in_use = asyncio.Lock()

    async def authenticate(self, card: CardAtHand, *, opening: bool) -> None:
        """See `Authenticator`; raises NO_PSAM, PSAM_FAILED, PSAM_UNSUITABLE."""
        known = card.known
        demand_known(known.algorithm)
        if known.algorithm not in self._algorithms:
            raise _unsuitable("the PSAM has no keys of this algorithm", algorithm=known.algorithm.value)
        holder = known.key_holder
        if self._genuineness is not None:
            proof = await card.prove(self._random(BLOCK), self._random(BLOCK))
            demand_genuine(proof, await self._cryptogram(self._genuineness, holder, proof.factor, proof.data))
        if opening:
            (challenge,) = await card.challenges(1)
            data = self._random(BLOCK)
            await card.open(await self._cryptogram(self._reading, holder, challenge, data), data)

    async def check(self) -> str:
        """The PSAM is there, and has the keys that are configured; its terminal number, where it tells that."""
        if self._in_use.locked():
            raise YikatongError(Reason.DEVICE_BUSY, "a card is being authenticated", reader=self._reader.name)

        def job(psam: Psam) -> str:
            for key in filter(None, (self._reading, self._genuineness)):
                psam.diversify(key, _NOBODY, bytes(BLOCK))
            return psam.terminal_number()

        return await self._on_psam(job)

    async def _cryptogram(self, key: PsamKey, holder: KeyHolder, factor: bytes, data: bytes) -> bytes:
        def job(psam: Psam) -> bytes:
            psam.diversify(key, holder, factor)
            return psam.encipher(data)

        return await self._on_psam(job)

    async def _on_psam(self, job: Callable[[Psam], T]) -> T:
        async with self._in_use:
            try:
                async with self._reader.visit() as visit:
                    return await visit.run(lambda link: job(Psam(Limited(link, Budget(), self._clock))))
            except YikatongError as error:
                raise self._of_the_psam(error) from error

    def _of_the_psam(self, error: YikatongError) -> YikatongError:
        """Said of the PSAM's reader and of the PSAM, so that nobody looks for it at the cardholder's card."""
        reason = _OF_THE_PSAM.get(error.reason, error.reason)
        return YikatongError(reason, f"PSAM: {error.detail}", **{**error.facts, "reader": self._reader.name})


class Psam:
    """A powered PSAM with its application selected; used in its reader's thread. Raises PSAM_UNSUITABLE, …"""

    def __init__(self, limited: Limited) -> None:
        self._limited = limited
        self._chain = FetchedResponse(CorrectedLength(limited))
        for select in _SELECTS:
            _, status = split(limited.transmit(select))
            if status == OK or status >> 8 == 0x61:  # what it says of itself stays there: nobody needs it
                return
        raise _unsuitable("it has no application of a PSAM", sw=f"{status:04X}")

    def diversify(self, key: PsamKey, holder: KeyHolder, factor: bytes) -> None:
        """Makes the session key ready: the holder's own key, and of that the key that `factor` makes."""
        data = b"".join(holder.factors(key.levels)) + factor
        command = _DIVERSIFY + bytes((key.usage, key.id, len(data))) + data
        _, status = split(self._limited.transmit(command))
        if status == _NOT_AUTHORISED:
            raise _unsuitable("it waits to be authorised", psam_key=str(key), sw=f"{status:04X}")
        if status != OK:
            raise _unsuitable("it has no such key", psam_key=str(key), sw=f"{status:04X}")

    def encipher(self, data: bytes) -> bytes:
        """One block under the session key."""
        answer, status = split(self._chain.transmit(_ENCIPHER + data))
        if status != OK:
            raise _unsuitable("its key enciphers nothing", sw=f"{status:04X}")
        if len(answer) != BLOCK:
            raise YikatongError(Reason.PSAM_FAILED, "a cryptogram of the wrong length", length=len(answer))
        return answer

    def terminal_number(self) -> str:
        """Twelve digits; empty where the PSAM does not tell them."""
        number, status = split(self._chain.transmit(_TERMINAL_NUMBER))
        digits = number.hex()
        return digits if status == OK and re.fullmatch(r"[0-9]{12}", digits) else ""


def _unsuitable(detail: str, **facts: str | int) -> YikatongError:
    return YikatongError(Reason.PSAM_UNSUITABLE, detail, **facts)
