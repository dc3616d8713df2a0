"""GatewayService and SelfTestService, and who may call what: the gateway's edges."""

from __future__ import annotations

import json
from typing import Any, Final

import structlog

from yikatong.api.gateway.v1 import gateway_pb2 as gateway
from yikatong.api.gateway.v1 import gateway_pb2_grpc as gateway_grpc
from yikatong.core.orders import Declined, Payer
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import VoucherCode
from yikatong.gateway import reconciliation_rpc, route_log, sessions
from yikatong.gateway.card_authentication import CardAuthentication
from yikatong.gateway.reconciliation import Terminals
from yikatong.gateway.registry import Registry
from yikatong.gateway.router import Router
from yikatong.gateway.voucher_proofs import VoucherProofs
from yikatong.gateway.vouchers import Vouchers
from yikatong.runtime import wire, wire_authentication, wire_payer, wire_voucher
from yikatong.runtime.clock import Clock
from yikatong.runtime.edge import Context
from yikatong.runtime.tls import peer_name

_log = structlog.get_logger(__name__)

_OPERATOR: Final = "operator-"
_OPERATIONS: Final = "/yikatong.api.operations."


def admit(context: Context, method: str, request: Any) -> None:
    """Who may call what, and for whom: the body must name the terminal that the certificate names.

    Raises YikatongError TERMINAL_UNKNOWN, NOT_ALLOWED.
    """
    name, operations_only = peer_name(context), method.startswith(_OPERATIONS)
    if operations_only is not name.startswith(_OPERATOR):
        raise YikatongError(Reason.NOT_ALLOWED, "this certificate's role may not call this method")
    if operations_only or isinstance(request, _OF_THE_CALLER):
        return
    if (named := _terminal_named(request)) != name:
        _log.error("a terminal speaks for another", certificate=name, named=named, method=method)
        raise YikatongError(Reason.TERMINAL_UNKNOWN, "the certificate belongs to another terminal")


_OF_THE_CALLER: Final = (
    gateway.AuthenticateCardRequest,
    gateway.GetAccountRequest,
    gateway.GetTransactionRequest,
    gateway.ResolveVoucherRequest,
)
"""These name no terminal: they are about the one whose certificate asks."""


def _terminal_named(request: Any) -> str:
    """Raises YikatongError NOT_ALLOWED for a request of which nobody has said whom it names."""
    match request:
        case gateway.DebitRequest():
            return str(request.order.terminal_id)
        case gateway.ConfirmRequest():
            return str(request.original.terminal_id)
        case gateway.ReverseRequest():
            return str(request.reversal.original.terminal_id)
        case gateway.CancelRequest() | gateway.RefundRequest():
            return str(request.credit.original.terminal_id)
        case (
            gateway.SignInRequest()
            | gateway.SignOutRequest()
            | gateway.ReportSelfTestRequest()
            | gateway.ReconcileRequest()
        ):
            return str(request.terminal_id)
        case _:
            raise YikatongError(Reason.NOT_ALLOWED, "nobody has said who may ask this")


class Money:
    """The money methods of one partition; GatewayService and SelfTestService share them."""

    def __init__(self, router: Router, registry: Registry, proofs: VoucherProofs) -> None:
        self._router = router
        self._registry = registry
        self._proofs = proofs

    async def GetAccount(self, request: gateway.GetAccountRequest, context: Context) -> gateway.GetAccountResponse:
        self._registry.member_of(peer_name(context))
        payer = _payer(request)
        self._proofs.demand(payer, peer_name(context))
        account = await self._router.account(payer)
        return gateway.GetAccountResponse(account=wire.account_to_wire(account))

    async def Debit(self, request: gateway.DebitRequest, context: Context) -> gateway.DebitResponse:
        order = wire.order_from_wire(request.order)
        answer = await self._router.debit(order, attempt=request.attempt, ttl_ms=request.ttl_ms)
        if isinstance(answer, Declined) and answer.reason is Reason.TERMINAL_UNKNOWN:
            # Refused for good and on record, so that nothing can move under this id any more.
            raise YikatongError(Reason.TERMINAL_UNKNOWN, transaction_id=order.transaction_id)
        return gateway.DebitResponse(answer=wire.debit_answer_to_wire(order.transaction_id, answer))

    async def Confirm(self, request: gateway.ConfirmRequest, context: Context) -> gateway.ConfirmResponse:
        order = wire.order_from_wire(request.original)
        answer = await self._router.confirm(order)
        return gateway.ConfirmResponse(answer=wire.confirm_answer_to_wire(order.transaction_id, answer))

    async def Reverse(self, request: gateway.ReverseRequest, context: Context) -> gateway.ReverseResponse:
        order, cause = wire.reversal_from_wire(request.reversal)
        answer = await self._router.reverse(order, cause)
        return gateway.ReverseResponse(answer=wire.reversal_answer_to_wire(order.transaction_id, answer))

    async def Cancel(self, request: gateway.CancelRequest, context: Context) -> gateway.CancelResponse:
        order = wire.cancellation_from_wire(request.credit)
        answer = await self._router.credits.credit(order, attempt=request.attempt)
        return gateway.CancelResponse(answer=wire.credit_answer_to_wire(order.transaction_id, answer))

    async def Refund(self, request: gateway.RefundRequest, context: Context) -> gateway.RefundResponse:
        order = wire.refund_from_wire(request.credit)
        answer = await self._router.credits.credit(order, attempt=request.attempt)
        return gateway.RefundResponse(answer=wire.credit_answer_to_wire(order.transaction_id, answer))

    async def GetTransaction(
        self, request: gateway.GetTransactionRequest, context: Context
    ) -> gateway.GetTransactionResponse:
        answer = await self._router.enquire(request.transaction_id, peer_name(context))
        return gateway.GetTransactionResponse(answer=wire.debit_answer_to_wire(request.transaction_id, answer))


def _payer(request: gateway.GetAccountRequest) -> Payer:
    try:
        return wire_payer.payer_from_wire(request.payer)
    except ValueError as error:
        raise YikatongError(Reason.INVALID_FIELD, "the payer breaks a rule", field="payer") from error


class SelfTest(Money, gateway_grpc.SelfTestServiceServicer):
    """Money methods against test accounts, in a partition of their own."""


class Gateway(Money, gateway_grpc.GatewayServiceServicer):
    """Sessions, cards and reports, and the money methods."""

    def __init__(
        self,
        router: Router,
        registry: Registry,
        cards: CardAuthentication,
        vouchers: Vouchers,
        clock: Clock,
        *,
        policy_hotline: str,
        fault_hotline: str,
    ) -> None:
        super().__init__(router, registry, vouchers.proofs)
        self._cards, self._vouchers, self._clock = cards, vouchers, clock
        self._hotlines = policy_hotline, fault_hotline
        self._terminals = Terminals(router, registry, clock)

    async def SignIn(self, request: gateway.SignInRequest, context: Context) -> gateway.SignInResponse:
        member = self._registry.member_of(request.terminal_id)
        presented = sessions.Presented(request.epoch, request.sequence, request.journal_row, request.journal_head)
        asked = sessions.look if request.only_asking else sessions.renew if request.renewal else sessions.sign_in
        try:
            epoch = await self._router.commit(lambda connection: asked(connection, request.terminal_id, presented))
        except YikatongError as error:
            _log.error("sign-in refused", terminal_id=request.terminal_id, reason=error.reason.value, **error.facts)
            raise
        _log.info("signed in", terminal_id=request.terminal_id, epoch=epoch, version=request.software_version)
        response = gateway.SignInResponse(
            epoch=epoch,
            institution=member.institution.code,
            institution_name=member.name,
            treatment_region=member.region.code,
            policy_hotline=self._hotlines[0],
            fault_hotline=self._hotlines[1],
            accounting_date=self._router.today,
            authenticates_cards=self._cards.available,
            resolves_vouchers=self._vouchers.available,
        )
        response.gateway_time.FromDatetime(self._clock.now())
        return response

    async def SignOut(self, request: gateway.SignOutRequest, context: Context) -> gateway.SignOutResponse:
        _log.info("signed out", terminal_id=request.terminal_id, epoch=request.epoch)
        return gateway.SignOutResponse()

    async def AuthenticateCard(
        self, request: gateway.AuthenticateCardRequest, context: Context
    ) -> gateway.AuthenticateCardResponse:
        question = wire_authentication.question_from_wire(request)
        return gateway.AuthenticateCardResponse(cryptogram=await self._cards.answer(peer_name(context), question))

    async def ResolveVoucher(
        self, request: gateway.ResolveVoucherRequest, context: Context
    ) -> gateway.ResolveVoucherResponse:
        resolved = await self._vouchers.resolve(peer_name(context), VoucherCode(request.code))
        return wire_voucher.resolved_to_wire(resolved)

    async def Reconcile(self, request: gateway.ReconcileRequest, context: Context) -> gateway.ReconcileResponse:
        self._registry.member_of(request.terminal_id)
        return await reconciliation_rpc.reconcile(self._terminals, request)

    async def ReportSelfTest(
        self, request: gateway.ReportSelfTestRequest, context: Context
    ) -> gateway.ReportSelfTestResponse:
        self._registry.member_of(request.terminal_id)
        steps = [
            {"name": step.name, "passed": step.passed, "reason": step.reason, "duration_ms": step.duration_ms}
            for step in request.steps
        ]
        started = request.started_at.ToJsonString()
        values = (request.run_id, request.terminal_id, started, int(request.passed), json.dumps(steps))
        await self._router.commit(lambda connection: route_log.file_report(connection, values))
        _log.info("self-test reported", terminal_id=request.terminal_id, run=request.run_id, passed=request.passed)
        return gateway.ReportSelfTestResponse()
