"""A home city's core behind CityCoreService: the gateway's end of that leg."""

from __future__ import annotations

from collections.abc import Awaitable
from itertools import pairwise
from typing import Any, Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from yikatong.api.citycore.v1 import citycore_pb2 as city
from yikatong.api.citycore.v1 import citycore_pb2_grpc as city_grpc
from yikatong.core.credit_orders import CreditAnswer, CreditKind, CreditOrder, fitting_credit
from yikatong.core.orders import (
    Account,
    ConfirmAnswer,
    DebitAnswer,
    DebitOrder,
    Declined,
    Payer,
    ReversalAnswer,
    ReversalCause,
    Unfit,
    fitting,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, Region
from yikatong.ledger.entries import SUSPENSE
from yikatong.ledger.report import Entry, Totals
from yikatong.runtime import wire, wire_payer
from yikatong.runtime.leg import LinkDown
from yikatong.runtime.tls import CLIENT_OPTIONS, Identity

Answer = TypeVar("Answer")

_LIST_S = 10.0
_HEALTH_S = 2.0
_A_CITY_MAY_SAY: Final = frozenset(
    {
        *(Reason.CARD_REPORTED_LOST, Reason.PERSON_NOT_INSURED, Reason.NO_PERSONAL_ACCOUNT, Reason.ACCOUNT_FROZEN),
        *(Reason.INSUFFICIENT_BALANCE, Reason.LIMIT_EXCEEDED, Reason.CITY_NOT_OPEN, Reason.CITY_CLOSED_FOR_MAINTENANCE),
        *(Reason.INSTITUTION_SUSPENDED, Reason.INSTITUTION_TERMINATED, Reason.PRACTITIONER_SUSPENDED),
        *(Reason.VOUCHER_NOT_ACCEPTED, Reason.RESIDENT_ID_NOT_ACCEPTED),
    }
)
_SILENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


class CityClient:
    """LedgerLink over mTLS. Whatever goes wrong with a money call teaches nothing: LinkDown."""

    def __init__(self, channel: grpc.aio.Channel, *, call_s: float) -> None:
        self._channel = channel
        self._stub: city_grpc.CityCoreServiceAsyncStub = city_grpc.CityCoreServiceStub(channel)
        self._call_s = call_s

    @classmethod
    def connect(cls, address: str, identity: Identity, *, server_name: str, call_s: float) -> CityClient:
        """Connects at the first call. Raises YikatongError CERTIFICATE_INVALID."""
        options: list[tuple[str, Any]] = list(CLIENT_OPTIONS)
        if server_name:
            options.append(("grpc.ssl_target_name_override", server_name))
        return cls(grpc.aio.secure_channel(address, identity.channel_credentials(), options=options), call_s=call_s)

    async def account(self, payer: Payer, home_region: Region | None) -> Account:
        request = city.GetAccountRequest(
            payer=wire_payer.payer_to_wire(payer), home_region=home_region.code if home_region else ""
        )
        answer = await _learn(self._stub.GetAccount(request, timeout=self._call_s))
        try:
            return wire.account_from_wire(answer.account)
        except wire.AnswerUnfit as error:
            raise LinkDown("an answer that does not fit") from error

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        request = city.DebitRequest(order=wire.order_to_wire(order), attempt=attempt)
        answer = await _learn(self._stub.Debit(request, timeout=min(self._call_s, max(ttl_ms, 1) / 1000)))
        return fitting(order, _of_a_city(wire.debit_answer_from_wire(order.transaction_id, answer.answer)))

    async def enquire(self, order: DebitOrder) -> DebitAnswer:
        assert order.home_region is not None, "the router stamps what it sends"
        return fitting(order, await self.enquire_id(order.transaction_id, order.home_region))

    async def enquire_id(self, transaction_id: str, region: Region) -> DebitAnswer:
        request = city.GetTransactionRequest(transaction_id=transaction_id, home_region=region.code)
        answer = await _learn(self._stub.GetTransaction(request, timeout=self._call_s))
        return _of_a_city(wire.debit_answer_from_wire(transaction_id, answer.answer))

    async def reverse(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer:
        request = city.ReverseRequest(reversal=wire.reversal_to_wire(order, cause))
        answer = await _learn(self._stub.Reverse(request, timeout=self._call_s))
        try:
            return wire.reversal_answer_from_wire(order.transaction_id, answer.answer)
        except wire.AnswerUnfit as error:
            raise LinkDown("an answer that does not fit") from error

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer:
        request = city.ConfirmRequest(original=wire.order_to_wire(order))
        answer = await _learn(self._stub.Confirm(request, timeout=self._call_s))
        try:
            return wire.confirm_answer_from_wire(order.transaction_id, answer.answer)
        except wire.AnswerUnfit as error:
            raise LinkDown("an answer that does not fit") from error

    async def credit(self, order: CreditOrder, *, attempt: int) -> CreditAnswer:
        wired = wire.credit_to_wire(order)
        if order.kind is CreditKind.CANCELLATION:
            cancelled = await _learn(self._stub.Cancel(city.CancelRequest(credit=wired), timeout=self._call_s))
            answer = cancelled.answer
        else:
            refunded = await _learn(self._stub.Refund(city.RefundRequest(credit=wired), timeout=self._call_s))
            answer = refunded.answer
        return fitting_credit(order, wire.credit_answer_from_wire(order.transaction_id, answer))

    async def totals(self, region: Region) -> Totals:
        """The city's books, added up from its list of entries. Raises YikatongError CITY_UNREACHABLE."""
        sums: dict[str, tuple[int, int]] = {}
        suspense = []
        after, more = 0, True
        while more:
            request = city.ListEntriesRequest(home_region=region.code, after_entry=after)
            try:
                page = await self._page(request)
            except LinkDown as error:
                raise YikatongError(Reason.CITY_UNREACHABLE, "its entries can't be read", region=region.code) from error
            for entry in page.entries:
                name = "personal" if entry.account.startswith("personal:") else entry.account
                amount, count = sums.get(name, (0, 0))
                sums[name] = (amount + entry.amount_fen, count + 1)
                after = entry.entry
                if name == SUSPENSE:
                    suspense.append(
                        Entry(after, entry.transaction_id, name, Fen(entry.amount_fen), entry.accounting_date)
                    )
            more = page.more
        return Totals.of(sums, suspense)

    async def entries(self, region: Region, date: str, after: int) -> tuple[list[Entry], bool]:
        """The next entries of an accounting date, and whether there are more. Raises LinkDown."""
        page = await self._page(
            city.ListEntriesRequest(home_region=region.code, accounting_date=date, after_entry=after)
        )
        return [
            Entry(entry.entry, entry.transaction_id, entry.account, Fen(entry.amount_fen), entry.accounting_date)
            for entry in page.entries
        ], page.more

    async def _page(self, request: city.ListEntriesRequest) -> city.ListEntriesResponse:
        """Raises LinkDown, also for a list that does not advance: it would be asked for without end."""
        page = await _learn(self._stub.ListEntries(request, timeout=_LIST_S))
        numbers = [request.after_entry, *(entry.entry for entry in page.entries)]
        if any(later <= earlier for earlier, later in pairwise(numbers)) or (page.more and not page.entries):
            raise LinkDown("its list of entries does not advance")
        return page

    async def answers(self) -> bool:
        """Whether anything answers there now; a core need not offer the health service for that."""
        stub: Any = health_pb2_grpc.HealthStub(self._channel)  # typed without its methods
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_S)
        except grpc.aio.AioRpcError as error:
            return error.code() not in _SILENT
        return True

    async def close(self) -> None:
        await self._channel.close()


def _of_a_city(answer: DebitAnswer) -> DebitAnswer:
    """A city declines for account, credential, institution or calendar. What only the gateway may say does not fit."""
    return Unfit() if isinstance(answer, Declined) and answer.reason not in _A_CITY_MAY_SAY else answer


async def _learn(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise LinkDown(error.code().name) from error
