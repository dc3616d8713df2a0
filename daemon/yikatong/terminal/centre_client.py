"""The terminal's way to the centre's security module: AuthenticateCard, within a time that a person waits for."""

from __future__ import annotations

from typing import Final

import grpc
import structlog

from yikatong.core.card_authentication import BLOCK, CardQuestion
from yikatong.core.reasons import Moved, Reason, YikatongError
from yikatong.runtime import edge
from yikatong.runtime.wire_authentication import question_to_wire
from yikatong.terminal.gateway_client import GatewayChannel
from yikatong.terminal.session import Session

_log = structlog.get_logger(__name__)
_NOT_OF_THE_TERMINAL: Final = frozenset({"outcome", "retry"})
"""What the gateway says of its own call; here they follow from the reason."""


class CentreLink:
    """Implements `core.ports.CardCentre` over the channel to the gateway."""

    def __init__(self, gateway: GatewayChannel, session: Session, *, timeout_ms: int) -> None:
        self._stub, self._session, self._timeout_s = gateway.stub, session, timeout_ms / 1000

    async def authenticate(self, question: CardQuestion) -> bytes:
        """See the port; NOT_SIGNED_IN and the like where the session says that the gateway would refuse."""
        self._session.require()
        try:
            answer = await self._stub.AuthenticateCard(question_to_wire(question), timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            told = _told(error)
            _log.info("card authentication failed", reason=told.reason.value)
            raise told from error
        if len(answer.cryptogram) != (BLOCK if question.challenge else 0):
            raise YikatongError(Reason.HSM_UNAVAILABLE, "the gateway's answer is no cryptogram")
        return answer.cryptogram

    async def check(self) -> None:
        """See the port. What is known from the sign-in; a line that is down is told elsewhere."""
        granted = self._session.granted
        if granted is not None and not granted.authenticates_cards:
            raise YikatongError(Reason.HSM_UNAVAILABLE, "this gateway has no security module")


def _told(error: grpc.aio.AioRpcError) -> YikatongError:
    """What the gateway says, or that it says nothing. No money was asked for, so none can have moved."""
    told = edge.error_of(error)
    if told is not None and told.meaning.moved is Moved.NOT_MOVED:
        facts = {name: value for name, value in told.facts.items() if name not in _NOT_OF_THE_TERMINAL}
        return YikatongError(told.reason, "the gateway refuses", **facts)
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return YikatongError(Reason.HSM_UNAVAILABLE, "this gateway authenticates no cards")
    if told is not None:
        return YikatongError(Reason.HSM_UNAVAILABLE, "the gateway failed")
    return YikatongError(Reason.GATEWAY_UNREACHABLE, "the card can't be authenticated", status=error.code().name)
