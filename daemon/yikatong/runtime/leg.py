"""One transaction over an unreliable link: ask until it is known or time is up; undo until it is acknowledged.

Terminal to gateway and gateway to city core run this same code. It decides nothing about money: what an answer means
stands in the tables of the core. It keeps no state that a crash could lose: the caller records before each call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from yikatong.core.credit_orders import CreditAnswer, CreditOrder
from yikatong.core.orders import (
    Account,
    ConfirmAnswer,
    DebitAnswer,
    DebitOrder,
    NotFound,
    Payer,
    ReversalAnswer,
    ReversalCause,
    Undecided,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region


class LinkDown(Exception):
    """The call failed and nothing was learned: the far end may or may not have acted."""


class AskedLink(Protocol):
    """What a debit asks of the far end. Every method may be called again with the same order, and raises LinkDown."""

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer: ...

    async def enquire(self, order: DebitOrder) -> DebitAnswer: ...


class DebitLink(AskedLink, Protocol):
    """The far end of a leg. Every method may be called again with the same order, and raises LinkDown."""

    async def account(self, payer: Payer, home_region: Region | None) -> Account:
        """Also raises YikatongError where the far end says why there is no account."""

    async def reverse(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer: ...

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer: ...


class WhileOpen:
    """A far end to which nothing is sent while it is closed; then every call raises LinkDown."""

    def __init__(self, link: AskedLink, is_open: Callable[[], bool]) -> None:
        self._link, self._is_open = link, is_open

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        self._require_open()
        return await self._link.debit(order, attempt=attempt, ttl_ms=ttl_ms)

    async def enquire(self, order: DebitOrder) -> DebitAnswer:
        self._require_open()
        return await self._link.enquire(order)

    def _require_open(self) -> None:
        if not self._is_open():
            raise LinkDown("closed")


class CreditLink(Protocol):
    """The far end of a leg for credits. `credit` may be called again with the same order, for ever; raises LinkDown."""

    async def credit(self, order: CreditOrder, *, attempt: int) -> CreditAnswer:
        """`attempt` is 1 for the very first sending alone; a repetition may meet what an earlier one has done."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds. `total_s` bounds the whole question, `call_s` one call."""

    total_s: float
    call_s: float
    resend_s: float
    enquire_s: float


TERMINAL_PATIENCE = Patience(total_s=30.0, call_s=20.0, resend_s=1.0, enquire_s=3.0)
CITY_PATIENCE = Patience(total_s=16.0, call_s=8.0, resend_s=0.2, enquire_s=2.0)

Backoff = Callable[[int], float]
Answer = TypeVar("Answer", ReversalAnswer, ConfirmAnswer, CreditAnswer)


def terminal_backoff(attempt: int) -> float:
    """Seconds before the reversal's n-th repetition (n from 1): 5, 10, 20, 40, 60 …, ±20 %, for ever."""
    return min(5.0 * 2.0 ** min(attempt - 1, 8), 60.0) * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing


def city_backoff(attempt: int) -> float:
    """Seconds before the gateway's n-th repetition towards a city: quick at first, then every 20."""
    return min(0.5 * 2.0 ** min(attempt - 1, 8), 20.0) * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing


async def ask(
    link: AskedLink,
    order: DebitOrder,
    patience: Patience,
    *,
    may_send: bool = True,
    unanswered: Callable[[int], None] = lambda attempts: None,
) -> DebitAnswer | None:
    """Sends the debit, again where the link fails, and enquires where the far end is undecided.

    Without `may_send` it only enquires: after a restart a debit is never sent again. `unanswered` hears the number of
    attempts after each fruitless one.
    Returns the first answer that decides something, or None when `patience.total_s` is over. NOT_FOUND and UNKNOWN
    decide nothing. Cancelling it leaves the outcome unknown.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience.total_s
    attempt, asked, enquire = 0, 0, not may_send
    while (left := deadline - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(patience.call_s, left)):
                if enquire:
                    answer = await link.enquire(order)
                else:
                    attempt += 1
                    answer = await link.debit(order, attempt=attempt, ttl_ms=int(left * 1000))
        except (LinkDown, TimeoutError):
            pause, enquire = patience.resend_s, not may_send
        else:
            if not isinstance(answer, Undecided | NotFound):
                return answer
            # The far end knows it but not how it ended: ask. It does not know it: the debit was lost, send it again.
            pause, enquire = patience.enquire_s, not may_send or isinstance(answer, Undecided)
        asked += 1
        unanswered(asked)
        await asyncio.sleep(min(pause, max(deadline - loop.time(), 0)))
    return None


async def insist(
    send: Callable[[], Awaitable[Answer]],
    backoff: Backoff,
    *,
    call_s: float,
    unanswered: Callable[[int], None] = lambda attempts: None,
    nudge: asyncio.Event | None = None,
) -> Answer:
    """Repeats `send` without limit until the far end decides; a reversal, a confirmation, a credit is never dropped.

    `unanswered` hears the number of attempts after each fruitless one. Setting `nudge` ends the present pause, for
    example because the link has come back.
    """
    attempts = 0
    while True:
        attempts += 1
        try:
            async with asyncio.timeout(call_s):
                answer = await send()
            if not isinstance(answer, Undecided):
                return answer
        except (LinkDown, TimeoutError):
            pass  # nothing was learned; the pause below is the answer to that
        except YikatongError as error:
            if error.reason is not Reason.STORE_UNAVAILABLE:
                raise
            # It has too much to do; where it has failed for good its owner leaves.
        unanswered(attempts)
        await _pause(backoff(attempts), nudge)


async def _pause(seconds: float, nudge: asyncio.Event | None) -> None:
    if nudge is None:
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await nudge.wait()
    except TimeoutError:
        return
    nudge.clear()
