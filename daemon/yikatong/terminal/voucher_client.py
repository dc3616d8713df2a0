"""The terminal's way to the e-voucher service: ResolveVoucher at the gateway, within a time that a person waits for."""

from __future__ import annotations

import grpc
import structlog

from yikatong.api.gateway.v1 import gateway_pb2 as gateway
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import VoucherCode
from yikatong.core.voucher import ResolvedVoucher
from yikatong.runtime.wire_voucher import resolved_from_wire
from yikatong.terminal.gateway_client import GatewayChannel, refusal_of
from yikatong.terminal.session import Session

_log = structlog.get_logger(__name__)


class VoucherLink:
    """Implements `core.ports.VoucherResolver` over the channel to the gateway. A code is asked about once."""

    def __init__(self, gateway: GatewayChannel, session: Session, *, timeout_ms: int) -> None:
        self._stub, self._session, self._timeout_s = gateway.stub, session, timeout_ms / 1000

    async def resolve(self, code: VoucherCode) -> ResolvedVoucher:
        """See the port; NOT_SIGNED_IN and the like where the session says that the gateway would refuse."""
        self._session.require()
        request = gateway.ResolveVoucherRequest(code=code.reveal())
        try:
            return resolved_from_wire(await self._stub.ResolveVoucher(request, timeout=self._timeout_s))
        except grpc.aio.AioRpcError as error:
            told = refusal_of(error, lacking=Reason.VOUCHER_NOT_ACCEPTED, failed=Reason.VOUCHER_SERVICE_UNREACHABLE)
            _log.info("voucher not resolved", reason=told.reason.value)
            raise told from error
        except ValueError:
            # without `from`: what it quotes may be a person's, and tracebacks are logged
            raise YikatongError(Reason.VOUCHER_SERVICE_UNREACHABLE, "the gateway's answer names nobody") from None

    async def check(self) -> None:
        """See the port. What is known from the sign-in."""
        if not self._session.require().resolves_vouchers:
            raise YikatongError(Reason.VOUCHER_NOT_ACCEPTED, "this gateway has no e-voucher service")
