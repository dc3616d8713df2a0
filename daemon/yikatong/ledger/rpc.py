"""CityCoreService: a home city's ledger as the gateway sees it."""

from __future__ import annotations

from yikatong.api.citycore.v1 import citycore_pb2 as city
from yikatong.api.citycore.v1 import citycore_pb2_grpc as city_grpc
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.core.credit_orders import CreditOrder
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region
from yikatong.ledger.link import LedgerLink
from yikatong.ledger.report import list_entries
from yikatong.runtime import wire, wire_payer
from yikatong.runtime.edge import Context
from yikatong.runtime.store import DurableStore

_PAGE_MAX = 1000


class CityCore(city_grpc.CityCoreServiceServicer):
    """The service over a ledger. `store` is the ledger's own, for lists."""

    def __init__(self, link: LedgerLink, store: DurableStore) -> None:
        self._link = link
        self._store = store

    async def GetAccount(self, request: city.GetAccountRequest, context: Context) -> city.GetAccountResponse:
        try:
            payer = wire_payer.payer_from_wire(request.payer)
        except ValueError as error:
            raise YikatongError(Reason.INVALID_FIELD, "the payer breaks a rule", field="payer") from error
        account = await self._link.account(payer, Region(request.home_region))
        return city.GetAccountResponse(account=wire.account_to_wire(account))

    async def Debit(self, request: city.DebitRequest, context: Context) -> city.DebitResponse:
        order = wire.order_from_wire(request.order)
        answer = await self._link.debit(order, attempt=request.attempt, ttl_ms=0)
        return city.DebitResponse(answer=wire.debit_answer_to_wire(order.transaction_id, answer))

    async def Confirm(self, request: city.ConfirmRequest, context: Context) -> city.ConfirmResponse:
        order = wire.order_from_wire(request.original)
        answer = await self._link.confirm(order)
        return city.ConfirmResponse(answer=wire.confirm_answer_to_wire(order.transaction_id, answer))

    async def Reverse(self, request: city.ReverseRequest, context: Context) -> city.ReverseResponse:
        order, cause = wire.reversal_from_wire(request.reversal)
        answer = await self._link.reverse(order, cause)
        return city.ReverseResponse(answer=wire.reversal_answer_to_wire(order.transaction_id, answer))

    async def Cancel(self, request: city.CancelRequest, context: Context) -> city.CancelResponse:
        return city.CancelResponse(answer=await self._credit(wire.cancellation_from_wire(request.credit)))

    async def Refund(self, request: city.RefundRequest, context: Context) -> city.RefundResponse:
        return city.RefundResponse(answer=await self._credit(wire.refund_from_wire(request.credit)))

    async def _credit(self, order: CreditOrder) -> money.CreditAnswer:
        answer = await self._link.credit(order, attempt=1)
        return wire.credit_answer_to_wire(order.transaction_id, answer)

    async def GetTransaction(
        self, request: city.GetTransactionRequest, context: Context
    ) -> city.GetTransactionResponse:
        answer = await self._link.enquire_id(request.transaction_id, Region(request.home_region))
        return city.GetTransactionResponse(answer=wire.debit_answer_to_wire(request.transaction_id, answer))

    async def ListEntries(self, request: city.ListEntriesRequest, context: Context) -> city.ListEntriesResponse:
        size = request.page_size or _PAGE_MAX
        region, date, after = Region(request.home_region), request.accounting_date, request.after_entry
        found = await self._store.commit(
            lambda connection: list_entries(connection, region, date=date, after=after, limit=size + 1)
        )
        wired = [
            city.Entry(
                entry=entry.number,
                transaction_id=entry.transaction_id,
                account=entry.account,
                amount_fen=entry.amount.count,
                accounting_date=entry.accounting_date,
            )
            for entry in found[:size]
        ]
        return city.ListEntriesResponse(entries=wired, more=len(found) > size)
