"""TerminalService.Reconcile: what a HIS sends of its day, and what it hears."""

from __future__ import annotations

from typing import Final

from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.reconciliation import Row
from yikatong.runtime import wire_reconciliation as wire
from yikatong.terminal.reconciliation import Outcome, Reconciliation

_PAGE: Final = 50
_GATEWAY: Final = {
    outcome: api.GatewayReconciliation.Value(f"GATEWAY_RECONCILIATION_{outcome.value}") for outcome in Outcome
}


async def reconcile(reconciliation: Reconciliation, request: api.ReconcileRequest) -> api.ReconcileResponse:
    """Raises YikatongError INVALID_FIELD. Only the first page compares the journal with the gateway."""
    date, his = request.accounting_date, wire.totals_of(request.totals)
    if request.page_token and not request.page_token.isdecimal():
        raise YikatongError(Reason.INVALID_FIELD, "not a token of ours", field="page_token")
    start = int(request.page_token or 0)
    told = _rows(request, date) if request.HasField("details") else None
    try:
        totals, found = await reconciliation.with_his(date, told)
    except ValueError as error:
        raise YikatongError(Reason.INVALID_FIELD, "a transaction is there twice", field="details") from error
    same = his.kinds == totals.kinds and his.hash_total in (b"", totals.hash_total)
    end = start + (request.page_size or _PAGE)
    return api.ReconcileResponse(
        totals=wire.day_of(totals),
        equal=same if told is None else not found,
        differences=wire.differences_to_wire(found[start:end]),
        next_page_token=str(end) if end < len(found) else "",
        gateway=api.GATEWAY_RECONCILIATION_UNSPECIFIED if start else _GATEWAY[await reconciliation.with_gateway(date)],
    )


def _rows(request: api.ReconcileRequest, date: str) -> list[Row]:
    """The HIS's rows, on the date that it asks for where they say none, without what a HIS does not have."""
    rows = [row for record in request.details.records if (row := wire.row_of(record)) is not None]
    return [row._replace(accounting_date=row.accounting_date or date, fingerprint="") for row in rows]
