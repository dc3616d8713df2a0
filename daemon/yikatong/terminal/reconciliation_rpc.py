"""TerminalService.Reconcile: what a HIS sends of its day, and what it hears."""

from __future__ import annotations

from typing import Final

from yikatong.api.money.v1 import reconciliation_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.reconciliation import Class, Difference, Row
from yikatong.runtime import wire_reconciliation as wire
from yikatong.terminal.reconciliation import Outcome, Reconciliation

_PAGE: Final = 50
_GATEWAY: Final = {
    outcome: api.GatewayReconciliation.Value(f"GATEWAY_RECONCILIATION_{outcome.value}") for outcome in Outcome
}

FOR_HIS: Final = {
    Class.MERCHANT_LOSS: (
        "HIS 已记为扣款，但终端没有这笔成功的扣款。",
        "Booked as paid in the HIS, but the terminal has no such approval.",
        "请在 HIS 中撤销该笔记账；需要时重新收费。",
        "Undo the booking in the HIS; charge again if needed.",
    ),
    Class.CUSTOMER_LOSS: (
        "HIS 未记账，但已成功扣款。",
        "Not booked in the HIS, but paid.",
        "请在 HIS 中补记账，或为持卡人退费。",
        "Book it in the HIS, or refund it.",
    ),
    Class.UNKNOWN_TO_TELLER: (
        "HIS 没有这笔已成功的扣款或退费。",
        "The HIS has no record of a payment or credit that was made.",
        "请按单据号补记账，或为持卡人退费。",
        "Book it by its order number, or refund it.",
    ),
    Class.CONTENT_DIFFERS: (
        "HIS 与终端的金额、单据或记账日不一致。",
        "Amount, order or accounting date differ between HIS and terminal.",
        "请冻结该笔账务，由两人核对凭条后处理。",
        "Freeze it; two persons compare it with the receipt.",
    ),
    Class.STILL_OPEN: (
        "该笔交易结果未定。",
        "The transaction is still open.",
        "请勿重复收费；次日再次对账。",
        "Do not charge again; compare again on the next day.",
    ),
    Class.DUPLICATE_ORDER: (
        "同一单据扣款不止一次。",
        "One order was debited more than once.",
        "请核实后退还多扣的一笔。",
        "Look into it, and refund the debit that is too much.",
    ),
}
"""What each class means between HIS and terminal, and the next step: zh, en, zh, en. Nothing happens by itself."""


async def reconcile(
    reconciliation: Reconciliation, request: api.ReconcileRequest, *, english: bool
) -> api.ReconcileResponse:
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
        differences=[_explained(difference, english=english) for difference in found[start:end]],
        next_page_token=str(end) if end < len(found) else "",
        gateway=api.GATEWAY_RECONCILIATION_UNSPECIFIED if start else _GATEWAY[await reconciliation.with_gateway(date)],
    )


def _explained(difference: Difference, *, english: bool) -> money.Difference:
    wired = wire.difference_to_wire(difference)
    zh, en, next_zh, next_en = FOR_HIS[difference.found]
    wired.message, wired.next_step = (en, next_en) if english else (zh, next_zh)
    return wired


def _rows(request: api.ReconcileRequest, date: str) -> list[Row]:
    """The HIS's rows, on the date that it asks for where they say none, without what a HIS does not have."""
    rows = [row for record in request.details.records if (row := wire.row_of(record)) is not None]
    return [row._replace(accounting_date=row.accounting_date or date, fingerprint="") for row in rows]
