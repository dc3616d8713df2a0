"""A credit as the terminal's journal keeps it. Whose money it is stands, sealed, in the row of its original."""

from __future__ import annotations

from dataclasses import dataclass, replace

from yikatong.core.credit_orders import Credited, CreditKind
from yikatong.core.credit_table import CreditState
from yikatong.core.reasons import Reason
from yikatong.core.values import Fen, RequestId, TransactionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """One cancellation or refund. Times are ISO 8601 in UTC; `_boot_ms` is CLOCK_BOOTTIME under `boot_id`.

    Order, purpose, card and home city are the original's, for people. `balance_fen` is the account's balance after
    it; None on an approved credit: the account is closed, the money lies in its city's suspense account.
    `recovered`: a start found it open, and it has been written since.
    """

    kind: CreditKind
    transaction_id: TransactionId
    request_id: RequestId
    original: TransactionId
    amount_fen: int
    state: CreditState
    operator_id: str = ""
    institution: str = ""
    treatment_region: str = ""
    order_no: str = ""
    order_part: str = ""
    purpose: str = ""
    original_amount_fen: int = 0
    card_number_masked: str = ""
    cardholder_masked: str = ""
    home_region: str = ""
    home_city_zh: str = ""
    home_city_en: str = ""
    fingerprint: str = ""
    created_at: str = ""
    created_boot_ms: int = 0
    boot_id: str = ""
    decided_at: str = ""
    reason: str = ""
    other_transaction: str = ""
    reference: str = ""
    accounting_date: str = ""
    refundable_fen: int = 0
    balance_fen: int | None = None
    recovered: bool = False

    @property
    def amount(self) -> Fen:
        return Fen(self.amount_fen)

    @property
    def why(self) -> Reason | None:
        return Reason(self.reason) if self.reason else None

    @property
    def in_suspense(self) -> bool:
        return self.state is CreditState.APPROVED and self.balance_fen is None

    def differing_field(self, kind: CreditKind, original: str, amount_fen: int) -> str:
        """Name of the first field in which another request with this id differs; empty where it is the same."""
        if self.kind is not kind:
            return "kind"
        if self.original != original:
            return "transaction_id"
        return "" if self.amount_fen == amount_fen else "amount_fen"

    def learned(self, credited: Credited) -> Credit:
        """The row with what a posting says about itself."""
        return replace(
            self,
            reference=credited.reference,
            accounting_date=credited.accounting_date,
            refundable_fen=credited.refundable.count,
            balance_fen=None if credited.balance is None else credited.balance.count,
        )
