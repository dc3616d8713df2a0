"""The gateway's word to a terminal that a code was resolved: sealed, short-lived, for one terminal and one person.

The terminal carries it from ResolveVoucher to its debit; nothing of it is kept here, so that a code which is resolved
and never paid with leaves nothing behind. The code itself is in it as a nonce: HMAC-SM3 under the store's key. So two
resolutions of one code, from whatever terminals, have one nonce, and the guard of that nonce lets one of them pay.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

import msgspec

from yikatong.core.orders import DebitOrder, Payer, VoucherPayer
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import VoucherCode
from yikatong.core.voucher import ResolvedVoucher, VoucherHolder
from yikatong.runtime.clock import Clock
from yikatong.runtime.keyfile import Seal

LIFE_MS: Final = 60_000
_SHORTEST: Final = 28
"""Nonce and tag of the seal."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the proof of a voucher payer says now; `refusal` is None where it is good.

    `nonce` is the code's, 64 hexadecimal digits; empty where the proof is not ours, and so says nothing.
    """

    nonce: str
    refusal: Reason | None = None


class _Content(msgspec.Struct, array_like=True, frozen=True):
    nonce: str
    number: str
    region: str
    until_ms: int
    """Wall clock: milliseconds since 1970."""


class VoucherProofs:
    """Makes proofs and judges them, under a key of its own made from the store's."""

    def __init__(self, key: bytes, clock: Clock, *, life_ms: int = LIFE_MS) -> None:
        self._nonce_key = hmac.digest(key, b"voucher nonce", "sm3")
        self._seal = Seal(hmac.digest(key, b"voucher proof", "sm3"))
        self._clock, self._life_ms = clock, life_ms

    def made(self, code: VoucherCode, holder: VoucherHolder, terminal_id: str) -> ResolvedVoucher:
        content = _Content(
            hmac.digest(self._nonce_key, code.reveal().encode(), "sm3").hex(),
            holder.number.reveal(),
            holder.region.code if holder.region else "",
            self._now_ms() + self._life_ms,
        )
        return ResolvedVoucher(holder, self._seal.close(msgspec.json.encode(content), subject=terminal_id))

    def shown(self, order: DebitOrder) -> Shown | None:
        """What the order's proof says; None where the payer needs none, because it was not shown by voucher."""
        return self.judged(order.payer, order.terminal_id) if isinstance(order.payer, VoucherPayer) else None

    def demand(self, payer: Payer, terminal_id: str) -> None:
        """For an enquiry. Raises VOUCHER_INVALID, VOUCHER_EXPIRED; a card or an identity card needs no proof."""
        if isinstance(payer, VoucherPayer) and (refusal := self.judged(payer, terminal_id).refusal) is not None:
            raise YikatongError(refusal, "the voucher's proof is not good")

    def judged(self, payer: VoucherPayer, terminal_id: str) -> Shown:
        """Who carries it, about whom, and until when: in this order, because only a proof of ours names a code."""
        content = self._opened(payer.proof, terminal_id)
        person = (payer.social_security_number.reveal(), payer.region.code if payer.region else "")
        if content is None or (content.number, content.region) != person:
            return Shown("", Reason.VOUCHER_INVALID)
        return Shown(content.nonce, Reason.VOUCHER_EXPIRED if content.until_ms <= self._now_ms() else None)

    def _opened(self, proof: bytes, terminal_id: str) -> _Content | None:
        if len(proof) < _SHORTEST:
            return None
        try:
            return msgspec.json.decode(self._seal.open(proof, subject=terminal_id), type=_Content)
        except (YikatongError, msgspec.DecodeError):
            return None

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def __repr__(self) -> str:
        return "VoucherProofs(hidden)"
