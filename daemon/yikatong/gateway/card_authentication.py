"""Card authentication for terminals: who may ask, how often, and what the security module says."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from yikatong.core.card_authentication import CardKey, CardQuestion, demand_genuine
from yikatong.core.ports import Hsm
from yikatong.core.reasons import Reason, YikatongError
from yikatong.gateway.registry import Registry
from yikatong.runtime.clock import Clock

_log = structlog.get_logger(__name__)

HSM_S: Final = 3.0
"""A security module that takes longer is taken for dead: a person waits at a window."""


class CardAuthentication:
    """Answers AuthenticateCard. Keys, cryptograms and cards are in no log."""

    def __init__(
        self, hsm: Hsm | None, registry: Registry, clock: Clock, *, per_minute: int, hsm_s: float = HSM_S
    ) -> None:
        """`per_minute`: how many cards a terminal may ask about in a minute, and at once after a pause."""
        self._hsm, self._registry, self._hsm_s = hsm, registry, hsm_s
        self._budget = Budget(clock, per_minute)

    @property
    def available(self) -> bool:
        return self._hsm is not None

    async def answer(self, terminal_id: str, question: CardQuestion) -> bytes:
        """The cryptogram for the card's challenge, empty where there is none.

        Raises TERMINAL_UNKNOWN, INSTITUTION_UNKNOWN, INSTITUTION_SUSPENDED, INSTITUTION_TERMINATED: the keys of a
        province open people's data, for whom the agreement lets ask. TOO_MANY_AUTHENTICATIONS, CARD_NOT_GENUINE, and
        what the security module raises.
        """
        try:
            self._registry.demand_agreement(terminal_id)
            self._budget.spend(terminal_id)
            if self._hsm is None:
                raise YikatongError(Reason.HSM_UNAVAILABLE, "this gateway has no security module")
            async with asyncio.timeout(self._hsm_s):
                cryptogram = await _asked(self._hsm, question)
        except TimeoutError:
            error = YikatongError(Reason.HSM_UNAVAILABLE, "the security module does not answer in time")
            _told(terminal_id, question, error.reason.value)
            raise error from None
        except YikatongError as error:
            _told(terminal_id, question, error.reason.value)
            raise
        _told(terminal_id, question, "GENUINE")
        return cryptogram


async def _asked(hsm: Hsm, question: CardQuestion) -> bytes:
    holder, proof = question.holder, question.proof
    demand_genuine(proof, await hsm.cryptogram(CardKey.IRK, holder, proof.factor, proof.data))
    if question.challenge is None:
        return b""
    return await hsm.cryptogram(CardKey.RKSSSE, holder, question.challenge.factor, question.challenge.data)


def _told(terminal_id: str, question: CardQuestion, outcome: str) -> None:
    log = _log.warning if outcome == Reason.CARD_NOT_GENUINE.value else _log.info
    log(
        "card authentication",
        terminal_id=terminal_id,
        outcome=outcome,
        algorithm=question.algorithm.value,
        card_region=question.holder.region.code,
        opening=question.challenge is not None,
    )


class Budget:
    """So many a minute for each terminal; what was not used is kept, up to a minute's worth."""

    def __init__(self, clock: Clock, per_minute: int, reason: Reason = Reason.TOO_MANY_AUTHENTICATIONS) -> None:
        self._clock, self._per_minute, self._reason = clock, per_minute, reason
        self._left: dict[str, tuple[float, int]] = {}

    def spend(self, terminal_id: str) -> None:
        """For registered terminals alone: each has an entry from then on. Raises the budget's reason."""
        now_ms = self._clock.boot_ms()
        left, since_ms = self._left.get(terminal_id, (float(self._per_minute), now_ms))
        left = min(left + (now_ms - since_ms) * self._per_minute / 60_000, float(self._per_minute))
        if left < 1:
            raise YikatongError(self._reason, "this terminal asks too often", per_minute=self._per_minute)
        self._left[terminal_id] = left - 1, now_ms
