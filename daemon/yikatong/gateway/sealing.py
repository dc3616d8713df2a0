"""The payer of a reversal or credit on its way, readable with the gateway's key alone and for its transaction only."""

from __future__ import annotations

from yikatong.api.money.v1 import money_pb2 as money
from yikatong.core.credit_orders import CreditOrder
from yikatong.core.orders import DebitOrder
from yikatong.gateway.route_log import Route
from yikatong.runtime import wire
from yikatong.runtime.keyfile import Seal


class PayerSeal:
    """Closes and opens whole orders, in their wire form: what is opened is checked against its own fingerprint."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def close(self, order: DebitOrder) -> bytes:
        return self._seal.close(wire.order_to_wire(order).SerializeToString(), subject=order.transaction_id)

    def open(self, route: Route) -> DebitOrder:
        """Raises YikatongError STORE_UNAVAILABLE, INVALID_FIELD."""
        assert route.sealed is not None
        return self.opened(route.sealed, route.transaction_id)

    def opened(self, sealed: bytes, transaction_id: str) -> DebitOrder:
        """Raises YikatongError STORE_UNAVAILABLE, INVALID_FIELD."""
        return wire.order_from_wire(money.DebitOrder.FromString(self._seal.open(sealed, subject=transaction_id)))

    def close_credit(self, order: CreditOrder) -> bytes:
        return self._seal.close(wire.credit_to_wire(order).SerializeToString(), subject=order.transaction_id)

    def open_credit(self, sealed: bytes, transaction_id: str) -> CreditOrder:
        """Raises YikatongError STORE_UNAVAILABLE, INVALID_FIELD."""
        return wire.credit_from_wire(money.CreditOrder.FromString(self._seal.open(sealed, subject=transaction_id)))
