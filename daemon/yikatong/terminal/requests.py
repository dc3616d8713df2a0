"""A request that meets an earlier one: the same request again, or another for the same order."""

from __future__ import annotations

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.terminal_table import Told, verdict
from yikatong.core.transaction import Transaction


def require_same(known: Transaction, request: Transaction) -> None:
    """Raises REQUEST_ID_REUSED where the two differ."""
    if field_name := known.differing_field(request):
        raise YikatongError(
            Reason.REQUEST_ID_REUSED,
            "the request id was used with other content",
            field=field_name,
            transaction_id=known.transaction_id,
            outcome=verdict(known.state).moved.value,  # of the transaction that is named
        )


def order_taken(other: Transaction) -> YikatongError:
    """What a caller hears whose order has another transaction, which it names."""
    paid = verdict(other.state).told is Told.APPROVED
    return YikatongError(
        Reason.ORDER_ALREADY_PAID if paid else Reason.ORDER_IN_PROGRESS,
        "the order has another transaction",
        transaction_id=other.transaction_id,
        request_id=other.request_id,
    )
