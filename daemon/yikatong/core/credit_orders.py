"""Credits: the cancellation (撤销) and the refund (退费) of a debit, as they travel, and what the far end answers.

A credit is a transaction of its own, with its own id, that names the whole original. It is pushed forward with the
same id until it is decided, and is never reversed: reversing it would debit again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

from yikatong.core.orders import Conflict, DebitOrder, Undecided, Unfit
from yikatong.core.reasons import Reason
from yikatong.core.values import Fen, RequestId, TransactionId


class CreditKind(Enum):
    """A cancellation takes back a whole debit of the same accounting date; a refund any part of it, at any time."""

    CANCELLATION = "CANCELLATION"
    REFUND = "REFUND"


@dataclass(frozen=True, slots=True)
class CreditOrder:
    """One credit. `accounting_date` (YYYY-MM-DD) is empty until the gateway stamps it, once, when it first comes.

    The original's `home_region` is stamped with it: that is where the credit goes.
    """

    transaction_id: TransactionId
    kind: CreditKind
    original: DebitOrder
    amount: Fen
    request_id: RequestId
    accounting_date: str = ""

    def __post_init__(self) -> None:
        if self.amount.count <= 0:
            raise ValueError("a credit is more than nothing")
        if self.kind is CreditKind.CANCELLATION and self.amount != self.original.amount:
            raise ValueError("a cancellation takes back the whole debit")

    @property
    def fingerprint(self) -> bytes:
        """SM3 over the fields that money depends on, 32 bytes; the original counts with its own fingerprint."""
        digest = hashlib.new("sm3")
        for field in (self.transaction_id, self.kind.value, str(self.amount.count), self.request_id):
            encoded = field.encode()
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
        digest.update(self.original.fingerprint)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Credited:
    """The money is back, for good. `refundable` is what is left of the debit.

    `balance` is the personal account's afterwards. None: the account is closed, the money lies in its city's
    suspense account until an operator decides.
    """

    reference: str
    amount: Fen
    fingerprint: bytes
    accounting_date: str
    refundable: Fen
    balance: Fen | None


@dataclass(frozen=True, slots=True)
class CreditDeclined:
    """Not credited, and remembered: this id is never weighed again.

    `other_transaction` names the transaction that holds the request id, where that is the reason.
    """

    reason: Reason
    other_transaction: str = ""


@dataclass(frozen=True, slots=True)
class CreditAccepted:
    """Durably promised: the city is closed or away, the far end goes on pushing. It is not decided yet."""


CreditAnswer = Credited | CreditDeclined | CreditAccepted | Undecided | Conflict | Unfit


def fitting_credit(order: CreditOrder, answer: CreditAnswer) -> CreditAnswer:
    """The answer itself, or Unfit where it says CREDITED about other content than `order`."""
    if isinstance(answer, Credited) and (answer.amount, answer.fingerprint) != (order.amount, order.fingerprint):
        return Unfit()
    return answer
