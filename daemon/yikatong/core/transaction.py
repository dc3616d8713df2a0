"""A transaction as the terminal's journal keeps it: plain values, so that what is written is what is read.

Personal data is kept only as far as a reversal needs it, sealed (`payer_sealed`); for people there are masked forms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from yikatong.core.orders import Credential, Declined, Posted, Purpose
from yikatong.core.reasons import Reason
from yikatong.core.terminal_table import UNRESOLVED, State, Step
from yikatong.core.values import Fen, RequestId, TransactionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One debit. Times are ISO 8601 in UTC; `_boot_ms` is CLOCK_BOOTTIME under `boot_id`.

    `answered_after_ms` is how long the far end took to decide, from the first sending; 0 where it did not.
    `initial_pin`: the card's PIN was one that issuers give out. `recovered`: a start found it open, and it has been
    written since. `card_tag` and `card_number_masked` are of the card, or where none was used of the person.
    `sequence` is the terminal's gap-free count of
    debits, 0 until the journal gives it out with the first record.
    """

    transaction_id: TransactionId
    request_id: RequestId
    order_no: str
    order_part: str
    amount_fen: int
    purpose: Purpose
    state: State
    self_test: bool = False
    confirm_within_ms: int = 0
    bill_digest: str = ""
    institution: str = ""
    treatment_region: str = ""
    epoch: int = 0
    sequence: int = 0
    fingerprint: str = ""
    payer_sealed: str = ""
    card_tag: str = ""
    card_number_masked: str = ""
    cardholder_masked: str = ""
    created_at: str = ""
    created_boot_ms: int = 0
    boot_id: str = ""
    sent_boot_ms: int = 0
    answered_after_ms: int = 0
    decided_at: str = ""
    confirm_by: str = ""
    confirm_by_boot_ms: int = 0
    reason: str = ""
    cause: str = ""
    other_transaction: str = ""
    reference: str = ""
    balance_fen: int | None = None
    home_region: str = ""
    home_city_zh: str = ""
    home_city_en: str = ""
    accounting_date: str = ""
    confirmed: bool = False
    confirm_acknowledged: bool = False
    late_answer: str = ""
    recovered: bool = False
    initial_pin: bool = False
    credential: Credential = Credential.CARD

    @property
    def amount(self) -> Fen:
        return Fen(self.amount_fen)

    @property
    def why(self) -> Reason | None:
        return Reason(self.reason) if self.reason else None

    @property
    def needs_work(self) -> bool:
        """Whether a start takes it up: its outcome is open, or its confirmation is not yet acknowledged."""
        return self.state in UNRESOLVED or (self.state is State.APPROVED and not self.confirm_acknowledged)

    def differing_field(self, other: Transaction) -> str:
        """Name of the first field in which two requests with one id differ; empty where they are the same request."""
        for field in (
            "order_no", "order_part", "amount_fen", "purpose", "confirm_within_ms", "bill_digest", "credential",
        ):  # fmt: skip
            if getattr(self, field) != getattr(other, field):
                return {"confirm_within_ms": field, "bill_digest": "bill"}.get(field, field)
        return ""

    def moved(self, step: Step, *, at: str, at_boot_ms: int) -> Transaction:
        """The row after `step`, which happens at `at` (ISO 8601, UTC), at `at_boot_ms` by the boot clock."""
        sent = self.state is State.PREPARED and step.next is State.SENT
        answered = self.state is State.SENT and step.next in {State.HELD, State.APPROVED, State.DECLINED}
        final = step.next is not self.state and step.next not in {State.SENT, State.REVERSING, State.ACCEPTED}
        return replace(
            self,
            state=step.next,
            reason=step.reason.value if step.reason else self.reason,
            cause=step.cause.name if step.cause else self.cause,
            confirmed=self.confirmed or step.confirm,
            decided_at=at if final else self.decided_at,
            sent_boot_ms=at_boot_ms if sent else self.sent_boot_ms,
            answered_after_ms=at_boot_ms - self.sent_boot_ms if answered else self.answered_after_ms,
        )

    def learned(self, posted: Posted) -> Transaction:
        """The row with what a posting says about itself."""
        return replace(
            self,
            reference=posted.reference,
            balance_fen=posted.balance.count,
            accounting_date=posted.accounting_date,
            home_region=posted.city.region.code,
            home_city_zh=posted.city.name_zh,
            home_city_en=posted.city.name_en,
        )

    def refused(self, declined: Declined) -> Transaction:
        """The row with what a decline says besides its reason."""
        row = replace(self, other_transaction=declined.other_transaction)
        if (city := declined.city) is None:
            return row
        return replace(row, home_region=city.region.code, home_city_zh=city.name_zh, home_city_en=city.name_en)
