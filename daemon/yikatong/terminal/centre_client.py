"""The terminal's way to the centre's security module: AuthenticateCard, within a time that a person waits for."""

from __future__ import annotations

import grpc
import structlog

from yikatong.core.card_authentication import BLOCK, CardQuestion
from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.wire_authentication import question_to_wire
from yikatong.terminal.gateway_client import GatewayChannel, refusal_of
from yikatong.terminal.session import Session

_log = structlog.get_logger(__name__)


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
            told = refusal_of(error, lacking=Reason.HSM_UNAVAILABLE, failed=Reason.HSM_UNAVAILABLE)
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
