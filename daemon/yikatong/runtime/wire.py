"""Protobuf on a leg, to and from the core's types. The one place that knows both."""

from __future__ import annotations

from datetime import date

from yikatong.api.money.v1 import money_pb2 as money
from yikatong.core.credit_orders import (
    CreditAccepted,
    CreditAnswer,
    CreditDeclined,
    Credited,
    CreditKind,
    CreditOrder,
)
from yikatong.core.orders import (
    Accepted,
    Account,
    AlreadyReversed,
    City,
    ConfirmAnswer,
    Confirmed,
    ConfirmedTooLate,
    Conflict,
    DebitAnswer,
    DebitOrder,
    Declined,
    Denied,
    Fenced,
    NotFound,
    Posted,
    Purpose,
    ReversalAnswer,
    ReversalCause,
    Reversed,
    Tombstoned,
    Undecided,
    Unfit,
    WasDeclined,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import (
    Fen,
    Institution,
    Region,
    RequestId,
    TerminalId,
    TransactionId,
)
from yikatong.runtime.wire_payer import payer_from_wire, payer_to_wire


class AnswerUnfit(Exception):
    """An answer to anything but a debit that does not fit its question: nothing was learned from it."""


_PURPOSES = {purpose: money.Purpose.Value(f"PURPOSE_{purpose.value}") for purpose in Purpose}
_PURPOSES_BACK = {value: purpose for purpose, value in _PURPOSES.items()}
_CAUSES = {cause: money.ReversalCause.Value(f"REVERSAL_CAUSE_{cause.name}") for cause in ReversalCause}
_CAUSES_BACK = {value: cause for cause, value in _CAUSES.items()}


def purpose_to_wire(purpose: Purpose) -> money.Purpose.ValueType:
    return _PURPOSES[purpose]


def purpose_from_wire(value: int) -> Purpose:
    return _PURPOSES_BACK[money.Purpose.ValueType(value)]


def order_to_wire(order: DebitOrder) -> money.DebitOrder:
    return money.DebitOrder(
        transaction_id=order.transaction_id,
        institution=order.institution.code,
        terminal_id=order.terminal_id,
        treatment_region=order.treatment_region.code,
        request_id=order.request_id,
        order_no=order.order_no,
        order_part=order.order_part,
        amount_fen=order.amount.count,
        purpose=_PURPOSES[order.purpose],
        payer=payer_to_wire(order.payer),
        fingerprint=order.fingerprint,
        epoch=order.epoch,
        sequence=order.sequence,
        home_region=order.home_region.code if order.home_region else "",
        accounting_date=order.accounting_date,
    )


def order_from_wire(order: money.DebitOrder) -> DebitOrder:
    """Raises YikatongError INVALID_FIELD where a field breaks its rule or the fingerprint does not fit the content."""
    try:
        parsed = DebitOrder(
            TransactionId(order.transaction_id),
            Institution(order.institution),
            TerminalId(order.terminal_id),
            Region(order.treatment_region),
            RequestId(order.request_id),
            order.order_no,
            order.order_part,
            Fen(order.amount_fen),
            purpose_from_wire(order.purpose),
            payer_from_wire(order.payer),
            order.epoch,
            order.sequence,
            Region(order.home_region) if order.home_region else None,
            order.accounting_date,
        )
    except (ValueError, KeyError) as error:
        raise YikatongError(Reason.INVALID_FIELD, "the order breaks a rule", field="order") from error
    if parsed.fingerprint != order.fingerprint:
        raise YikatongError(Reason.INVALID_FIELD, "the fingerprint does not fit the order", field="fingerprint")
    return parsed


def reversal_to_wire(order: DebitOrder, cause: ReversalCause) -> money.ReversalOrder:
    return money.ReversalOrder(original=order_to_wire(order.unproven), cause=_CAUSES[cause])


def reversal_from_wire(reversal: money.ReversalOrder) -> tuple[DebitOrder, ReversalCause]:
    """Raises YikatongError INVALID_FIELD."""
    cause = _CAUSES_BACK.get(reversal.cause, ReversalCause.RECOVERY)
    return order_from_wire(reversal.original), cause


def debit_answer_to_wire(transaction_id: str, answer: DebitAnswer) -> money.DebitAnswer:
    wire = money.DebitAnswer(transaction_id=transaction_id)
    match answer:
        case Posted():
            wire.outcome = money.DEBIT_OUTCOME_POSTED
            wire.reference = answer.reference
            wire.amount_fen = answer.amount.count
            wire.fingerprint = answer.fingerprint
            wire.balance_fen = answer.balance.count
            _name_city(wire, answer.city)
            wire.accounting_date = answer.accounting_date
            wire.confirmed = answer.confirmed
        case Declined():
            wire.outcome = money.DEBIT_OUTCOME_DECLINED
            wire.reason = answer.reason.value
            wire.other_transaction_id = answer.other_transaction
            if answer.city is not None:
                _name_city(wire, answer.city)
        case AlreadyReversed():
            wire.outcome = money.DEBIT_OUTCOME_ALREADY_REVERSED
        case Undecided():
            wire.outcome = money.DEBIT_OUTCOME_UNKNOWN
        case NotFound():
            wire.outcome = money.DEBIT_OUTCOME_NOT_FOUND
        case Fenced():
            wire.outcome = money.DEBIT_OUTCOME_FENCED
        case Conflict():
            wire.outcome = money.DEBIT_OUTCOME_CONFLICT
        case Unfit():
            raise AssertionError("Unfit is what a receiver makes of an answer, never an answer")
    return wire


def debit_answer_from_wire(transaction_id: str, wire: money.DebitAnswer) -> DebitAnswer:
    """Unfit where the answer is about another transaction or makes no sense."""
    if wire.transaction_id != transaction_id:
        return Unfit()
    try:
        match wire.outcome:
            case money.DEBIT_OUTCOME_POSTED:
                return Posted(
                    wire.reference,
                    Fen(wire.amount_fen),
                    wire.fingerprint,
                    Fen(wire.balance_fen),
                    _named_city(wire),
                    _dated(wire.accounting_date),
                    wire.confirmed,
                )
            case money.DEBIT_OUTCOME_DECLINED:
                return Declined(
                    Reason(wire.reason), wire.other_transaction_id, _named_city(wire) if wire.home_region else None
                )
            case money.DEBIT_OUTCOME_ALREADY_REVERSED:
                return AlreadyReversed()
            case money.DEBIT_OUTCOME_UNKNOWN:
                return Undecided()
            case money.DEBIT_OUTCOME_NOT_FOUND:
                return NotFound()
            case money.DEBIT_OUTCOME_FENCED:
                return Fenced()
            case money.DEBIT_OUTCOME_CONFLICT:
                return Conflict()
    except ValueError:
        return Unfit()
    return Unfit()


def _dated(accounting_date: str) -> str:
    """Raises ValueError where it is no date, YYYY-MM-DD: it is a key of books, days and statements from here on."""
    if date.fromisoformat(accounting_date).isoformat() != accounting_date:
        raise ValueError("not written as an accounting date is")
    return accounting_date


def _name_city(wire: money.DebitAnswer, city: City) -> None:
    wire.home_region, wire.home_city_zh, wire.home_city_en = city.region.code, city.name_zh, city.name_en


def _named_city(wire: money.DebitAnswer) -> City:
    """Raises ValueError where the region is none."""
    return City(Region(wire.home_region), wire.home_city_zh, wire.home_city_en)


def reversal_answer_to_wire(transaction_id: str, answer: ReversalAnswer) -> money.ReversalAnswer:
    wire = money.ReversalAnswer(transaction_id=transaction_id)
    match answer:
        case Reversed():
            wire.outcome, wire.reference = money.REVERSAL_OUTCOME_REVERSED, answer.reference
        case Tombstoned():
            wire.outcome, wire.reference = money.REVERSAL_OUTCOME_TOMBSTONED, answer.reference
        case WasDeclined():
            wire.outcome = money.REVERSAL_OUTCOME_WAS_DECLINED
        case Accepted():
            wire.outcome = money.REVERSAL_OUTCOME_ACCEPTED
        case Denied():
            wire.outcome, wire.reason = money.REVERSAL_OUTCOME_DENIED, answer.reason.value
        case Undecided():
            wire.outcome = money.REVERSAL_OUTCOME_UNKNOWN
    return wire


def reversal_answer_from_wire(transaction_id: str, wire: money.ReversalAnswer) -> ReversalAnswer:
    """Raises AnswerUnfit."""
    if wire.transaction_id != transaction_id:
        raise AnswerUnfit("the answer names another transaction")
    match wire.outcome:
        case money.REVERSAL_OUTCOME_REVERSED:
            return Reversed(wire.reference)
        case money.REVERSAL_OUTCOME_TOMBSTONED:
            return Tombstoned(wire.reference)
        case money.REVERSAL_OUTCOME_WAS_DECLINED:
            return WasDeclined()
        case money.REVERSAL_OUTCOME_ACCEPTED:
            return Accepted()
        case money.REVERSAL_OUTCOME_DENIED:
            known = wire.reason in Reason.__members__
            return Denied(Reason(wire.reason) if known else Reason.NEEDS_OPERATOR)
        case money.REVERSAL_OUTCOME_UNKNOWN:
            return Undecided()
    raise AnswerUnfit("the answer has no outcome")


def confirm_answer_to_wire(transaction_id: str, answer: ConfirmAnswer) -> money.ConfirmAnswer:
    wire = money.ConfirmAnswer(transaction_id=transaction_id)
    match answer:
        case Confirmed():
            wire.outcome = money.CONFIRM_OUTCOME_CONFIRMED
        case ConfirmedTooLate():
            wire.outcome = money.CONFIRM_OUTCOME_REVERSED
        case Undecided():
            wire.outcome = money.CONFIRM_OUTCOME_UNKNOWN
    return wire


def confirm_answer_from_wire(transaction_id: str, wire: money.ConfirmAnswer) -> ConfirmAnswer:
    """Raises AnswerUnfit."""
    if wire.transaction_id != transaction_id:
        raise AnswerUnfit("the answer names another transaction")
    match wire.outcome:
        case money.CONFIRM_OUTCOME_CONFIRMED:
            return Confirmed()
        case money.CONFIRM_OUTCOME_REVERSED:
            return ConfirmedTooLate()
        case money.CONFIRM_OUTCOME_UNKNOWN:
            return Undecided()
    raise AnswerUnfit("the answer has no outcome")


def account_to_wire(account: Account) -> money.AccountAnswer:
    return money.AccountAnswer(
        reason=account.reason.value if account.reason else "",
        balance_fen=account.balance.count,
        home_region=account.city.region.code,
        home_city_zh=account.city.name_zh,
        home_city_en=account.city.name_en,
    )


def account_from_wire(wire: money.AccountAnswer) -> Account:
    """Raises AnswerUnfit."""
    try:
        return Account(
            Fen(wire.balance_fen),
            City(Region(wire.home_region), wire.home_city_zh, wire.home_city_en),
            Reason(wire.reason) if wire.reason else None,
        )
    except ValueError as error:
        raise AnswerUnfit("the answer breaks a rule") from error


_CREDIT_KINDS = {kind: money.CreditKind.Value(f"CREDIT_KIND_{kind.value}") for kind in CreditKind}


def credit_to_wire(order: CreditOrder) -> money.CreditOrder:
    return money.CreditOrder(
        transaction_id=order.transaction_id,
        kind=_CREDIT_KINDS[order.kind],
        original=order_to_wire(order.original.unproven),
        amount_fen=order.amount.count,
        request_id=order.request_id,
        fingerprint=order.fingerprint,
        accounting_date=order.accounting_date,
    )


def cancellation_from_wire(credit: money.CreditOrder) -> CreditOrder:
    """Raises YikatongError INVALID_FIELD, also for a credit of the other kind."""
    return _credit_from_wire(credit, CreditKind.CANCELLATION)


def refund_from_wire(credit: money.CreditOrder) -> CreditOrder:
    """Raises YikatongError INVALID_FIELD, also for a credit of the other kind."""
    return _credit_from_wire(credit, CreditKind.REFUND)


def credit_from_wire(credit: money.CreditOrder) -> CreditOrder:
    """A credit of either kind. Raises YikatongError INVALID_FIELD."""
    cancels = credit.kind == money.CREDIT_KIND_CANCELLATION
    return _credit_from_wire(credit, CreditKind.CANCELLATION if cancels else CreditKind.REFUND)


def _credit_from_wire(credit: money.CreditOrder, kind: CreditKind) -> CreditOrder:
    if credit.kind != _CREDIT_KINDS[kind]:
        raise YikatongError(Reason.INVALID_FIELD, "the credit is of another kind", field="kind")
    original = order_from_wire(credit.original)
    try:
        parsed = CreditOrder(
            TransactionId(credit.transaction_id),
            kind,
            original,
            Fen(credit.amount_fen),
            RequestId(credit.request_id),
            credit.accounting_date,
        )
    except ValueError as error:
        raise YikatongError(Reason.INVALID_FIELD, "the credit breaks a rule", field="amount_fen") from error
    if parsed.fingerprint != credit.fingerprint:
        raise YikatongError(Reason.INVALID_FIELD, "the fingerprint does not fit the credit", field="fingerprint")
    return parsed


def credit_answer_to_wire(transaction_id: str, answer: CreditAnswer) -> money.CreditAnswer:
    wire = money.CreditAnswer(transaction_id=transaction_id)
    match answer:
        case Credited():
            wire.outcome = money.CREDIT_OUTCOME_CREDITED
            wire.reference = answer.reference
            wire.amount_fen = answer.amount.count
            wire.fingerprint = answer.fingerprint
            wire.accounting_date = answer.accounting_date
            wire.refundable_fen = answer.refundable.count
            if answer.balance is not None:
                wire.balance_fen = answer.balance.count
        case CreditDeclined():
            wire.outcome = money.CREDIT_OUTCOME_DECLINED
            wire.reason = answer.reason.value
            wire.other_transaction_id = answer.other_transaction
        case CreditAccepted():
            wire.outcome = money.CREDIT_OUTCOME_ACCEPTED
        case Undecided():
            wire.outcome = money.CREDIT_OUTCOME_UNKNOWN
        case Conflict():
            wire.outcome = money.CREDIT_OUTCOME_CONFLICT
        case Unfit():
            raise AssertionError("Unfit is what a receiver makes of an answer, never an answer")
    return wire


def credit_answer_from_wire(transaction_id: str, wire: money.CreditAnswer) -> CreditAnswer:
    """Unfit where the answer is about another transaction or makes no sense."""
    if wire.transaction_id != transaction_id:
        return Unfit()
    try:
        match wire.outcome:
            case money.CREDIT_OUTCOME_CREDITED:
                return Credited(
                    wire.reference,
                    Fen(wire.amount_fen),
                    wire.fingerprint,
                    _dated(wire.accounting_date),
                    Fen(wire.refundable_fen),
                    Fen(wire.balance_fen) if wire.HasField("balance_fen") else None,
                )
            case money.CREDIT_OUTCOME_DECLINED:
                return CreditDeclined(Reason(wire.reason), wire.other_transaction_id)
            case money.CREDIT_OUTCOME_ACCEPTED:
                return CreditAccepted()
            case money.CREDIT_OUTCOME_UNKNOWN:
                return Undecided()
            case money.CREDIT_OUTCOME_CONFLICT:
                return Conflict()
    except ValueError:
        return Unfit()
    return Unfit()
