"""Reconciliation at the gateway's edges: Reconcile for terminals, ReconciliationService for operators."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from yikatong.api.gateway.v1 import gateway_pb2 as gateway
from yikatong.api.operations.v1 import reconciliation_pb2 as operations
from yikatong.api.operations.v1 import reconciliation_pb2_grpc as operations_grpc
from yikatong.core.reasons import Reason, YikatongError
from yikatong.gateway import reconciliation_book as book
from yikatong.gateway.reconciliation import Cities, Terminals
from yikatong.gateway.registry import Registry
from yikatong.gateway.router import Router
from yikatong.runtime import wire_reconciliation as wire
from yikatong.runtime.edge import Context

_PAGE: Final = 200
_PARTIES: Final = {party: operations.Party.Value(f"PARTY_{party.value}") for party in book.Party}
_OUTCOMES: Final = {
    outcome: operations.ReconciliationOutcome.Value(f"RECONCILIATION_OUTCOME_{outcome.value}")
    for outcome in book.Outcome
}


async def reconcile(terminals: Terminals, request: gateway.ReconcileRequest) -> gateway.ReconcileResponse:
    """One step of a terminal's comparison. Raises YikatongError INVALID_FIELD, STORE_UNAVAILABLE."""
    terminal_id, date = request.terminal_id, request.accounting_date
    if request.HasField("query"):
        rows, more = await terminals.rows(terminal_id, date, request.query.after_transaction_id)
        return gateway.ReconcileResponse(records=[wire.record_of(row) for row in rows], more=more)
    if request.HasField("totals"):
        told = wire.totals_of(request.totals.day)
        if len(told.hash_total) != 32:
            raise YikatongError(Reason.INVALID_FIELD, "a terminal tells its hash total", field="hash_total")
        compared = await terminals.compare(terminal_id, date, told, still_open=request.totals.open_transactions)
    else:
        unmatched = {record.transaction_id: wire.row_of(record) for record in request.unmatched.records}
        compared = await terminals.judge(terminal_id, date, unmatched)
    return gateway.ReconcileResponse(
        closed=compared.closed,
        equal=compared.equal,
        totals=wire.day_of(compared.booked),
        differences=wire.differences_to_wire(compared.found),
        due_dates=await terminals.due(terminal_id),
    )


class Reconciliations(operations_grpc.ReconciliationServiceServicer):
    """The operator's look at what was compared, and the order to compare the cities now."""

    def __init__(self, router: Router, registry: Registry, cities: Cities) -> None:
        self._router, self._registry, self._cities = router, registry, cities

    async def ReconcileCities(
        self, request: operations.ReconcileCitiesRequest, context: Context
    ) -> operations.ReconcileCitiesResponse:
        results = [await self._cities.compare(region, request.accounting_date) for region in self._registry.cities]
        return operations.ReconcileCitiesResponse(reconciliations=[_result(result) for result in results])

    async def ListReconciliations(
        self, request: operations.ListReconciliationsRequest, context: Context
    ) -> operations.ListReconciliationsResponse:
        results = await self._router.commit(partial(book.of_date, date=request.accounting_date))
        return operations.ListReconciliationsResponse(reconciliations=[_result(result) for result in results])

    async def ListDifferences(
        self, request: operations.ListDifferencesRequest, context: Context
    ) -> operations.ListDifferencesResponse:
        size = request.page_size or _PAGE
        found = await self._router.commit(
            partial(book.listed, date=request.accounting_date, settled=request.settled, limit=size + 1)
        )
        return operations.ListDifferencesResponse(
            differences=[_listed(listed) for listed in found[:size]], more=len(found) > size
        )


def _result(result: book.Result) -> operations.Reconciliation:
    return operations.Reconciliation(
        party=_PARTIES[result.day.party],
        name=result.day.name,
        accounting_date=result.day.accounting_date,
        outcome=_OUTCOMES[result.outcome],
        told=wire.day_of(result.told),
        booked=wire.day_of(result.booked),
        differences=result.standing,
        compared_at=_timestamp(result.compared_at),
    )


def _listed(listed: book.Listed) -> operations.ListedDifference:
    return operations.ListedDifference(
        party=_PARTIES[listed.day.party],
        name=listed.day.name,
        accounting_date=listed.day.accounting_date,
        difference=wire.difference_to_wire(listed.difference),
        found_at=_timestamp(listed.found_at),
        settled_at=_timestamp(listed.settled_at) if listed.settled_at else None,
    )


def _timestamp(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.fromisoformat(text))
    return stamp
