"""The terminal's end of the link to the gateway: one mTLS channel, and what its answers mean in the core's words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import grpc
import structlog

from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.core.credit_orders import CreditAnswer, CreditKind, CreditOrder, fitting_credit
from yikatong.core.orders import (
    Account,
    ConfirmAnswer,
    DebitAnswer,
    DebitOrder,
    Payer,
    ReversalAnswer,
    ReversalCause,
    fitting,
)
from yikatong.core.reasons import Moved, Reason, YikatongError
from yikatong.core.reconciliation import Difference, Row, Totals
from yikatong.core.selftest import Report
from yikatong.core.session import Granted
from yikatong.core.values import Region
from yikatong.runtime import edge, wire, wire_payer, wire_reconciliation
from yikatong.runtime.leg import LinkDown
from yikatong.runtime.tls import CLIENT_OPTIONS, Identity
from yikatong.terminal.journal import Head

_log = structlog.get_logger(__name__)
_CALL_S: Final = 20.0
_DOWN: Final = frozenset({grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN})
_NOT_OF_THE_TERMINAL: Final = frozenset({"outcome", "retry"})
"""What the gateway says of its own call; here they follow from the reason."""

Answer = TypeVar("Answer")


class GatewayChannel:
    """One channel to the gateway. `reachable` is what is known without sending anything."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.stub = gateway_pb2_grpc.GatewayServiceStub(channel)

    @classmethod
    def connect(cls, address: str, identity: Identity, *, server_name: str = "") -> GatewayChannel:
        """Raises YikatongError CERTIFICATE_INVALID where the certificate files can't be read."""
        options: list[tuple[str, Any]] = list(CLIENT_OPTIONS)
        if server_name:
            options.append(("grpc.ssl_target_name_override", server_name))
        return cls(grpc.aio.secure_channel(address, identity.channel_credentials(), options=options))

    @property
    def reachable(self) -> bool:
        return self.channel.get_state(try_to_connect=True) not in _DOWN

    async def next_change(self) -> None:
        """Returns when the state of the link has changed."""
        await self.channel.wait_for_state_change(self.channel.get_state(try_to_connect=True))

    async def close(self) -> None:
        await self.channel.close()


class MoneyLink:
    """A DebitLink and CreditLink over GatewayService, or over SelfTestService, which speaks the same methods."""

    def __init__(
        self,
        stub: gateway_pb2_grpc.GatewayServiceAsyncStub | gateway_pb2_grpc.SelfTestServiceAsyncStub,
        may_reverse: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_reverse` is asked before each reversal; until it says so, none leaves."""
        self._stub, self._may_reverse = stub, may_reverse

    async def account(self, payer: Payer, home_region: Region | None) -> Account:
        """Raises LinkDown, and YikatongError where the gateway says why there is no account."""
        request = gateway_pb2.GetAccountRequest(payer=wire_payer.payer_to_wire(payer))
        try:
            answer = await self._stub.GetAccount(request, timeout=_CALL_S)
            return wire.account_from_wire(answer.account)
        except grpc.aio.AioRpcError as error:
            if (told := edge.error_of(error)) is not None:
                raise told from error
            raise LinkDown(error.code().name) from error
        except wire.AnswerUnfit as error:
            raise LinkDown(str(error)) from error

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        request = gateway_pb2.DebitRequest(order=wire.order_to_wire(order), attempt=attempt, ttl_ms=ttl_ms)
        answer = await _learn(self._stub.Debit(request, timeout=_CALL_S))
        return fitting(order, wire.debit_answer_from_wire(order.transaction_id, answer.answer))

    async def enquire(self, order: DebitOrder) -> DebitAnswer:
        request = gateway_pb2.GetTransactionRequest(transaction_id=order.transaction_id)
        answer = await _learn(self._stub.GetTransaction(request, timeout=_CALL_S))
        return fitting(order, wire.debit_answer_from_wire(order.transaction_id, answer.answer))

    async def reverse(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer:
        if not self._may_reverse():
            raise LinkDown("no reversal before the sign-in is answered")
        request = gateway_pb2.ReverseRequest(reversal=wire.reversal_to_wire(order, cause))
        answer = await _learn(self._stub.Reverse(request, timeout=_CALL_S))
        try:
            return wire.reversal_answer_from_wire(order.transaction_id, answer.answer)
        except wire.AnswerUnfit as error:
            raise LinkDown(str(error)) from error

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer:
        request = gateway_pb2.ConfirmRequest(original=wire.order_to_wire(order.unproven))
        answer = await _learn(self._stub.Confirm(request, timeout=_CALL_S))
        try:
            return wire.confirm_answer_from_wire(order.transaction_id, answer.answer)
        except wire.AnswerUnfit as error:
            raise LinkDown(str(error)) from error

    async def credit(self, order: CreditOrder, *, attempt: int) -> CreditAnswer:
        wired = wire.credit_to_wire(order)
        if order.kind is CreditKind.CANCELLATION:
            cancel = gateway_pb2.CancelRequest(credit=wired, attempt=attempt)
            answer = (await _learn(self._stub.Cancel(cancel, timeout=_CALL_S))).answer
        else:
            refund = gateway_pb2.RefundRequest(credit=wired, attempt=attempt)
            answer = (await _learn(self._stub.Refund(refund, timeout=_CALL_S))).answer
        return fitting_credit(order, wire.credit_answer_from_wire(order.transaction_id, answer))


class SessionLink:
    """Sign-in and reports: what is not money."""

    def __init__(self, gateway: GatewayChannel) -> None:
        self._stub = gateway.stub

    async def sign_in(
        self, terminal_id: str, head: Head, software_version: str, *, renewal: bool = False, only_asking: bool = False
    ) -> Granted:
        """`renewal`: this process has been granted `head.epoch` before, and keeps it. `only_asking`: grants nothing.

        Raises LinkDown, and YikatongError TERMINAL_UNKNOWN or TERMINAL_SUPERSEDED where the gateway refuses."""
        request = gateway_pb2.SignInRequest(
            terminal_id=terminal_id,
            epoch=head.epoch,
            sequence=head.sequence,
            journal_row=head.number,
            journal_head=head.hash,
            software_version=software_version,
            renewal=renewal,
            only_asking=only_asking,
        )
        try:
            answer = await self._stub.SignIn(request, timeout=_CALL_S)
        except grpc.aio.AioRpcError as error:
            if (told := edge.error_of(error)) is not None:
                raise told from error
            raise LinkDown(error.code().name) from error
        return Granted(
            epoch=answer.epoch,
            gateway_time=answer.gateway_time.ToDatetime(tzinfo=UTC),
            institution=answer.institution,
            institution_name=answer.institution_name,
            treatment_region=answer.treatment_region,
            policy_hotline=answer.policy_hotline,
            fault_hotline=answer.fault_hotline,
            accounting_date=answer.accounting_date,
            authenticates_cards=answer.authenticates_cards,
            resolves_vouchers=answer.resolves_vouchers,
        )

    async def report_self_test(self, terminal_id: str, report: Report) -> None:
        """Raises LinkDown."""
        request = gateway_pb2.ReportSelfTestRequest(terminal_id=terminal_id, run_id=report.run_id, passed=report.passed)
        request.started_at.FromDatetime(datetime.fromisoformat(report.started_at))
        for step in report.steps:
            request.steps.add(name=step.name, passed=step.passed, reason=step.reason, duration_ms=step.duration_ms)
        await _learn(self._stub.ReportSelfTest(request, timeout=_CALL_S))


@dataclass(frozen=True, slots=True)
class ComparedDay:
    """The gateway's word on an accounting date. `closed`: it is over; `due_dates`: closed ones that are not equal."""

    closed: bool
    equal: bool
    found: tuple[Difference, ...]
    due_dates: tuple[str, ...]


class ReconciliationLink:
    """Reconciliation with the gateway. Every method raises LinkDown."""

    def __init__(self, gateway: GatewayChannel, terminal_id: str) -> None:
        self._stub = gateway.stub
        self._terminal_id = terminal_id

    async def totals(self, date: str, told: Totals, *, still_open: int) -> ComparedDay:
        totals = gateway_pb2.TerminalTotals(day=wire_reconciliation.day_of(told), open_transactions=still_open)
        return await self._compared(gateway_pb2.ReconcileRequest(accounting_date=date, totals=totals))

    async def judge(self, date: str, unmatched: Mapping[str, Row | None]) -> ComparedDay:
        """`unmatched`: what the terminal has of each transaction that does not fit, None where that is nothing."""
        records = [
            wire_reconciliation.record_of(row) if row is not None else wire_reconciliation.unknown(transaction_id)
            for transaction_id, row in unmatched.items()
        ]
        told = gateway_pb2.UnmatchedRecords(records=records)
        return await self._compared(gateway_pb2.ReconcileRequest(accounting_date=date, unmatched=told))

    async def records(self, date: str) -> list[Row]:
        """All of the gateway's rows of the date."""
        rows: list[Row] = []
        more = True
        while more:
            query = gateway_pb2.RecordsQuery(after_transaction_id=rows[-1].transaction_id if rows else "")
            answer = await self._call(gateway_pb2.ReconcileRequest(accounting_date=date, query=query))
            found = [row for record in answer.records if (row := wire_reconciliation.row_of(record)) is not None]
            rows += found
            more = answer.more and bool(found)
        return rows

    async def _compared(self, request: gateway_pb2.ReconcileRequest) -> ComparedDay:
        answer = await self._call(request)
        found = tuple(wire_reconciliation.difference_from_wire(difference) for difference in answer.differences)
        return ComparedDay(answer.closed, answer.equal, found, tuple(answer.due_dates))

    async def _call(self, request: gateway_pb2.ReconcileRequest) -> gateway_pb2.ReconcileResponse:
        request.terminal_id = self._terminal_id
        return await _learn(self._stub.Reconcile(request, timeout=_CALL_S))


async def _learn(call: Awaitable[Answer]) -> Answer:
    """The answer, or LinkDown: whatever the status says, a money call that failed has taught us nothing."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        told = edge.error_of(error)
        reason = told.reason.value if told and told.reason is not Reason.INTERNAL else error.code().name
        _log.info("gateway call failed", reason=reason)
        raise LinkDown(reason) from error


def refusal_of(error: grpc.aio.AioRpcError, *, lacking: Reason, failed: Reason) -> YikatongError:
    """What the gateway says, or that it says nothing (GATEWAY_UNREACHABLE). No money was asked for, so none has moved.

    `lacking`: it does not know the method; `failed`: it says something that leaves open whether money moved.
    """
    told = edge.error_of(error)
    if told is not None and told.meaning.moved is Moved.NOT_MOVED:
        facts = {name: value for name, value in told.facts.items() if name not in _NOT_OF_THE_TERMINAL}
        return YikatongError(told.reason, "the gateway refuses", **facts)
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return YikatongError(lacking, "this gateway does not do that")
    if told is not None:
        return YikatongError(failed, "the gateway failed")
    return YikatongError(Reason.GATEWAY_UNREACHABLE, "the gateway does not answer", status=error.code().name)


def money_link(gateway: GatewayChannel, may_reverse: Callable[[], bool] = lambda: True) -> MoneyLink:
    return MoneyLink(gateway.stub, may_reverse)


def self_test_link(gateway: GatewayChannel) -> MoneyLink:
    return MoneyLink(gateway_pb2_grpc.SelfTestServiceStub(gateway.channel))
