"""What a transaction asks of the gateway, and what it waits for: each ends in the one event that it brings.

Nothing here decides or records. A call that is cancelled has brought nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from yikatong.core.orders import (
    DebitOrder,
    Denied,
    Posted,
    ReversalAnswer,
    ReversalCause,
    Reversed,
    Tombstoned,
    WasDeclined,
)
from yikatong.core.reasons import Reason
from yikatong.core.terminal_table import (
    Answered,
    ConfirmAnswered,
    ConfirmTimeUp,
    OperatorDecided,
    ReversalAnswered,
    State,
    TimeUp,
)
from yikatong.runtime.clock import Clock
from yikatong.runtime.leg import DebitLink, ask, insist
from yikatong.terminal.live import Limits, Live

_log = structlog.get_logger(__name__)

_REVERSAL_CALL_S: Final = 20.0


class Calls:
    """The terminal's end of the leg to the gateway."""

    def __init__(self, link: DebitLink, clock: Clock, limits: Limits) -> None:
        self._link, self._clock, self._limits = link, clock, limits

    async def outcome(self, live: Live) -> Answered | TimeUp:
        """Sends the debit, and asks, until it is decided or time is up."""
        return await self._outcome(live, may_send=True)

    async def outcome_without_sending(self, live: Live) -> Answered | TimeUp:
        """After a restart: a debit is never sent again, only enquired about."""
        return await self._outcome(live, may_send=False)

    async def _outcome(self, live: Live, *, may_send: bool) -> Answered | TimeUp:
        live.attempts = 0
        answer = await ask(
            self._link,
            order_of(live),
            self._limits.patience,
            may_send=may_send,
            unanswered=_counting(live),
        )
        return TimeUp() if answer is None else Answered(answer, hold=live.row.confirm_within_ms > 0)

    async def enquiry(self, live: Live) -> Answered:
        """Asks once. Raises LinkDown."""
        return Answered(await self._link.enquire(order_of(live)))

    async def reversal(self, live: Live) -> ReversalAnswered:
        """Repeats the reversal until it is answered, without limit."""
        live.attempts = 0
        order, cause = order_of(live), ReversalCause[live.row.cause or ReversalCause.RECOVERY.name]

        async def send() -> ReversalAnswer:
            return await self._link.reverse(order, cause)

        answer = await insist(
            send, self._limits.backoff, call_s=_REVERSAL_CALL_S, unanswered=_counting(live), nudge=live.nudge
        )
        return ReversalAnswered(answer)

    async def promised_reversal(self, live: Live) -> ReversalAnswered | OperatorDecided:
        """The reversal is promised, or people must decide: asks now and then, and when the link comes back."""
        live.asked_later += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.ask_later(live.asked_later)):
                await live.nudge.wait()
        live.nudge.clear()
        heard = await self.reversal(live)
        return heard if live.row.state is not State.MANUAL else await self._decision(live, heard)

    async def _decision(self, live: Live, heard: ReversalAnswered) -> ReversalAnswered | OperatorDecided:
        """What two persons have decided, where the answer says so. A debit that stands is told with what is posted."""
        match heard.answer:
            case Denied(reason=Reason.UPHELD_BY_OPERATORS):
                posted = await ask(self._link, order_of(live), self._limits.patience, may_send=False)
                return OperatorDecided(State.APPROVED, posted) if isinstance(posted, Posted) else heard
            case Reversed(reference=proof) | Tombstoned(reference=proof):
                return OperatorDecided(State.REVERSED, reference=proof)
            case WasDeclined():
                return OperatorDecided(State.REVERSED)
            case _:
                return heard

    async def confirmation(self, live: Live) -> ConfirmAnswered:
        """Repeats the confirmation until it is answered, without limit."""
        order = order_of(live)
        answer = await insist(
            lambda: self._link.confirm(order), self._limits.backoff, call_s=_REVERSAL_CALL_S, nudge=live.nudge
        )
        return ConfirmAnswered(answer)

    async def hold(self, live: Live) -> ConfirmTimeUp:
        """Waits for the end of the time to confirm. A reboot counts as that: its clock says nothing about this one.

        It looks again and again, because while the machine is suspended the boot clock goes on and no sleep ends.
        """
        while live.row.boot_id == self._clock.boot_id:
            left_ms = live.row.confirm_by_boot_ms - self._clock.boot_ms()
            if left_ms <= 0:
                break
            await asyncio.sleep(min(left_ms / 1000, self._limits.look_again_s))
        return ConfirmTimeUp()


def _counting(live: Live) -> Callable[[int], None]:
    """Notes how often the present question has gone unanswered."""

    def note(attempts: int) -> None:
        live.attempts = attempts
        _log.info("unanswered", transaction_id=live.row.transaction_id, state=live.row.state.value, attempts=attempts)

    return note


def order_of(live: Live) -> DebitOrder:
    assert live.order is not None, "a debit without an order can't be on the wire"
    return live.order
