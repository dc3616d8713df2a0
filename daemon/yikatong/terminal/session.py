"""The terminal's session with the gateway: signs in until it is granted an epoch, and says whether debits may start."""

from __future__ import annotations

import asyncio
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
_FINAL: Final = frozenset({Reason.TERMINAL_SUPERSEDED})
_DISMISSED: Final = frozenset({Reason.TERMINAL_UNKNOWN, Reason.INSTITUTION_UNKNOWN})


class Session:
    """Signed in or not, and why not."""

    def __init__(self, terminal_id: str, version: str, gateway: GatewayChannel, journal: Journal, clock: Clock) -> None:
        self.terminal_id, self._version = terminal_id, version
        self._gateway, self._link, self._journal, self._clock = gateway, SessionLink(gateway), journal, clock
        self.granted: Granted | None = None
        self.refusal: YikatongError | None = None
        self.clock_offset = timedelta()
        self.fenced = False
        self.signed_in = asyncio.Event()

    async def run(self, on_change: Callable[[], None]) -> None:
        """Signs in, with pauses between tries, until it succeeds or another machine holds this identity."""
        attempt = 0
        while not self.signed_in.is_set():
            try:
                granted = await self._link.sign_in(self.terminal_id, await self._journal.head(), self._version)
            except LinkDown as error:
                _log.info("sign-in: the gateway can't be reached", detail=str(error))
            except YikatongError as error:
                _log.warning("sign-in refused", reason=error.reason.value)
                self.refusal = error
                if error.reason in _FINAL:
                    self.fence()
                    on_change()
                    return
            else:
                await self._journal.grant(granted.epoch)
                self.granted, self.refusal = granted, None
                self.clock_offset = self._clock.now() - granted.gateway_time
                self.signed_in.set()
                _log.info("signed in", epoch=granted.epoch, institution=granted.institution)
                on_change()
                return
            on_change()
            await asyncio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
            attempt += 1

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
        if self.granted is None:
            if self.refusal is not None:
                raise YikatongError(self.refusal.reason, "the gateway refuses the sign-in")
            raise YikatongError(Reason.NOT_SIGNED_IN, "the terminal has not signed in yet")
        if not self._gateway.reachable:
            raise YikatongError(Reason.GATEWAY_UNREACHABLE, "the link to the gateway is down")
        return self.granted
