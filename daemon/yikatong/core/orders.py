"""A debit as it travels, and every answer that the far end of a leg can give.

Terminal to gateway and gateway to city are the same kind of leg, so they share these types. An answer is a fact about
the far end; what to do about it stands in the tables.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import ClassVar

from yikatong.core.reasons import Reason
from yikatong.core.values import (
    CardIdentificationCode,
    CardNumber,
    Fen,
    Institution,
    Region,
    RequestId,
    SocialSecurityNumber,
    TerminalId,
    TransactionId,
)


class Purpose(Enum):
    """What is paid."""

    PHARMACY_PURCHASE = "PHARMACY_PURCHASE"
    OUTPATIENT_BILL = "OUTPATIENT_BILL"
    INPATIENT_SELF_PAID = "INPATIENT_SELF_PAID"


class ReversalCause(Enum):
    """Why a debit is reversed (冲正); the value is the reason that a person is told."""

    TIMEOUT = Reason.NO_ANSWER_IN_TIME
    BAD_ANSWER = Reason.ANSWER_DOES_NOT_FIT
    CANCELLED = Reason.CANCELLED_BY_CALLER
    RECOVERY = Reason.RECOVERED_AFTER_RESTART
    UNCONFIRMED = Reason.NOT_CONFIRMED_IN_TIME


class Credential(Enum):
    """By what a person shows who pays."""

    CARD = "CARD"
    VOUCHER = "VOUCHER"
    RESIDENT_ID = "RESIDENT_ID"


@dataclass(frozen=True, slots=True)
class CardPayer:
    """Who pays, as the social security card says it. Personal data in types that hide themselves."""

    credential: ClassVar[Credential] = Credential.CARD
    social_security_number: SocialSecurityNumber
    card_number: CardNumber
    identification_code: CardIdentificationCode
    card_region: Region

    @property
    def fields(self) -> tuple[str, ...]:
        """What of the payer an order's fingerprint covers. A card's fields name no credential: they were first."""
        return (
            self.social_security_number.reveal(),
            self.card_number.reveal(),
            self.identification_code.reveal().hex(),
            self.card_region.code,
        )


@dataclass(frozen=True, slots=True)
class VoucherPayer:
    """Who pays, as the e-voucher service (医保电子凭证) says it of a code.

    `region`: where it says that the person is insured, None where it does not; a hint, as a card's. `proof`: the
    gateway's own word, sealed, that it has heard this from the service for one terminal and a short while. Only a debit
    and an enquiry need it, so it is no part of who pays: neither of the fingerprint, nor of what is kept.
    """

    credential: ClassVar[Credential] = Credential.VOUCHER
    social_security_number: SocialSecurityNumber
    region: Region | None = None
    proof: bytes = field(default=b"", repr=False, compare=False)

    @property
    def fields(self) -> tuple[str, ...]:
        """What of the payer an order's fingerprint covers."""
        region = self.region.code if self.region else ""
        return self.credential.value, self.social_security_number.reveal(), region


@dataclass(frozen=True, slots=True)
class IdCardPayer:
    """Who pays, as the resident identity card (居民身份证) says it: its number is the social security number."""

    credential: ClassVar[Credential] = Credential.RESIDENT_ID
    social_security_number: SocialSecurityNumber

    @property
    def fields(self) -> tuple[str, ...]:
        """What of the payer an order's fingerprint covers."""
        return self.credential.value, self.social_security_number.reveal()


Payer = CardPayer | VoucherPayer | IdCardPayer


@dataclass(frozen=True, slots=True)
class DebitOrder:
    """One debit. `home_region` and `accounting_date` (YYYY-MM-DD) are empty until the gateway stamps them."""

    transaction_id: TransactionId
    institution: Institution
    terminal_id: TerminalId
    treatment_region: Region
    request_id: RequestId
    order_no: str
    order_part: str
    amount: Fen
    purpose: Purpose
    payer: Payer
    epoch: int
    sequence: int
    home_region: Region | None = None
    accounting_date: str = ""

    def __post_init__(self) -> None:
        if self.amount.count <= 0:
            raise ValueError("a debit is more than nothing")

    @property
    def unproven(self) -> DebitOrder:
        """The order without its voucher's proof: what is kept, and what goes to a city."""
        if isinstance(self.payer, VoucherPayer) and self.payer.proof:
            return replace(self, payer=replace(self.payer, proof=b""))
        return self

    @property
    def fingerprint(self) -> bytes:
        """SM3 over the fields that money depends on, 32 bytes. Stamps, epoch, sequence and proof are outside it."""
        fields = (
            self.transaction_id,
            self.institution.code,
            self.terminal_id,
            self.treatment_region.code,
            self.request_id,
            self.order_no,
            self.order_part,
            str(self.amount.count),
            self.purpose.value,
            *self.payer.fields,
        )
        encoded = [field.encode() for field in fields]
        return hashlib.new("sm3", b"".join([len(part).to_bytes(4, "big") + part for part in encoded])).digest()


@dataclass(frozen=True, slots=True)
class City:
    """A home city, as it is named to a person."""

    region: Region
    name_zh: str
    name_en: str


# --- answers to a debit, and to an enquiry about one ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Posted:
    """The money is posted in the home city's ledger."""

    reference: str
    amount: Fen
    fingerprint: bytes
    balance: Fen
    city: City
    accounting_date: str
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class Declined:
    """Refused by gateway or city, and remembered: this id is never evaluated again.

    `other_transaction` names the transaction that holds the order, where the reason is an ORDER_… one. `city` is the
    home city where that was found out, for people; it is no part of the decision.
    """

    reason: Reason
    other_transaction: str = ""
    city: City | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class AlreadyReversed:
    """A reversal of this id was there first, or has undone it."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """The far end does not know yet. Never a refusal."""


@dataclass(frozen=True, slots=True)
class NotFound:
    """The far end has never heard of it. Never an outcome: the original may still be on its way."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """The sender's epoch is over: another machine holds its identity."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Same id, other content: nothing was executed."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """The answer does not fit the question: another transaction, amount or fingerprint, or no sense at all."""


DebitAnswer = Posted | Declined | AlreadyReversed | Undecided | NotFound | Fenced | Conflict | Unfit


def fitting(order: DebitOrder, answer: DebitAnswer) -> DebitAnswer:
    """The answer itself, or Unfit where it says POSTED about other content than `order`."""
    if isinstance(answer, Posted) and (answer.amount, answer.fingerprint) != (order.amount, order.fingerprint):
        return Unfit()
    return answer


# --- answers to a reversal --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reversed:
    """The posting is undone; `reference` is the ledger's proof."""

    reference: str


@dataclass(frozen=True, slots=True)
class Tombstoned:
    """There was no posting, and there never will be one for this id."""

    reference: str


@dataclass(frozen=True, slots=True)
class WasDeclined:
    """The debit had been declined: no money had moved."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Durably promised: the city is closed or away, the far end goes on sending."""


@dataclass(frozen=True, slots=True)
class Denied:
    """Not undone: confirmed, or the content differs."""

    reason: Reason


ReversalAnswer = Reversed | Tombstoned | WasDeclined | Accepted | Denied | Undecided


# --- answers to a confirmation ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The debit is final for the terminal's role."""


@dataclass(frozen=True, slots=True)
class ConfirmedTooLate:
    """The debit has been reversed."""


ConfirmAnswer = Confirmed | ConfirmedTooLate | Undecided


@dataclass(frozen=True, slots=True)
class Account:
    """A personal account as its home city sees it; `reason` says why it cannot be used, None where it can."""

    balance: Fen
    city: City
    reason: Reason | None = None
