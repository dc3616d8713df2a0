"""The terminal's session with the gateway: signs in until it is granted an epoch, then renews it; may debits start?

A renewal keeps the epoch: debits that are on their way must not be fenced by their own terminal. It brings what has
changed meanwhile (hotlines, the gateway's clock), and tells a gateway whose record was lost who is here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.session import Granted
from yikatong.runtime.clock import Clock
from yikatong.runtime.leg import LinkDown
from yikatong.terminal.gateway_client import GatewayChannel, SessionLink
from yikatong.terminal.journal import Journal

_log = structlog.get_logger(__name__)
_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_RENEWAL_S: Final = 3600.0
_FINAL: Final = frozenset({Reason.TERMINAL_SUPERSEDED})
_DISMISSED: Final = frozenset({Reason.TERMINAL_UNKNOWN, Reason.INSTITUTION_UNKNOWN})


class Session:
    """Signed in or not, and why not."""

    def __init__(
        self,
        terminal_id: str,
        version: str,
        gateway: GatewayChannel,
        journal: Journal,
        clock: Clock,
        *,
        link: SessionLink | None = None,
    ) -> None:
        self.terminal_id, self._version = terminal_id, version
        self._gateway, self._link, self._journal, self._clock = gateway, link or SessionLink(gateway), journal, clock
        self.granted: Granted | None = None
        self.refusal: YikatongError | None = None
        self.clock_offset = timedelta()
        self.fenced = False
        self.signed_in = asyncio.Event()
        self._stale = asyncio.Event()

    async def run(self, on_change: Callable[[], None]) -> None:
        """Signs in, again and again until that succeeds, and renews it from then on: each hour, and when it is stale.

        Ends where another machine holds this identity.
        """
        attempt = 0
        while not self.fenced:
            self._stale.clear()
            was = self.granted is None, self.refusal
            if await self._sign_in():
                attempt, pause_s = 0, _RENEWAL_S
            else:
                attempt, pause_s = attempt + 1, _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            if (self.granted is None, self.refusal) != was or attempt:
                on_change()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stale.wait()

    async def _sign_in(self) -> bool:
        """One sign-in or renewal. A grant that can't be kept is not used: StoreFailed goes up."""
        head, renewal = await self._journal.head(), self.granted is not None
        try:
            granted = await self._link.sign_in(self.terminal_id, head, self._version, renewal=renewal)
        except LinkDown as error:
            _log.info("sign-in: the gateway can't be reached", detail=str(error))
            return False
        except YikatongError as error:
            _log.warning("sign-in refused", reason=error.reason.value)
            self.refusal = error
            if error.reason in _FINAL:
                self.fence()
            return False
        if granted.epoch != head.epoch:
            await self._journal.grant(granted.epoch)
        self.granted, self.refusal = granted, None
        self.clock_offset = self._clock.now() - granted.gateway_time
        self.signed_in.set()
        _log.info("signed in", epoch=granted.epoch, institution=granted.institution, renewal=renewal)
        return True

    def stale(self) -> None:
        """What the gateway knows of this terminal may have changed: ask now."""
        self._stale.set()

    def fence(self) -> None:
        """Another machine holds this identity: no debit and no reversal from here any more."""
        self.fenced = True

    @property
    def may_reverse(self) -> bool:
        """Whether the gateway has said who we are, and not that another machine is this terminal.

        A copy of a journal would else undo what the true terminal has told as approved. Not to be registered any more
        is no hindrance: reversals pass for a terminal that may not debit.
        """
        dismissed = self.refusal is not None and self.refusal.reason in _DISMISSED
        return not self.fenced and (self.granted is not None or dismissed)

    @property
    def reachable(self) -> bool:
        """Whether the link to the gateway is up, as far as is known without sending anything."""
        return self._gateway.reachable

    async def link_changed(self) -> None:
        """Returns when the state of the link to the gateway has changed."""
        await self._gateway.next_change()

    def require(self) -> Granted:
        """The grant, where debits may be sent now. Raises YikatongError: nothing has been sent."""
        if self.fenced:
            raise YikatongError(Reason.TERMINAL_SUPERSEDED, "another machine holds this terminal's identity")
        if self.refusal is not None:
            raise YikatongError(self.refusal.reason, "the gateway refuses the sign-in")
        if self.granted is None:
            raise YikatongError(Reason.NOT_SIGNED_IN, "the terminal has not signed in yet")
        if not self._gateway.reachable:
            raise YikatongError(Reason.GATEWAY_UNREACHABLE, "the link to the gateway is down")
        return self.granted
