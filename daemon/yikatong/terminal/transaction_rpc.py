"""Debits, credits and cards as the HIS is told of them: from the journal's rows to the messages of the interface."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.core.card import CardIdentity
from yikatong.core.credit_orders import CreditKind
from yikatong.core.credit_table import credit_verdict
from yikatong.core.credit_transaction import Credit
from yikatong.core.orders import Purpose
from yikatong.core.reasons import MEANING, Moved, Reason, Retry
from yikatong.core.terminal_table import Told, Verdict, verdict
from yikatong.core.transaction import Transaction
from yikatong.core.words import Word, advice, word
from yikatong.runtime import wire, wire_payer
from yikatong.terminal.who_pays import Identified

_STATES: Final = {told: api.TransactionState.Value(f"TRANSACTION_STATE_{told.value}") for told in Told}
_KINDS: Final = {kind: api.TransactionKind.Value(f"TRANSACTION_KIND_{kind.value}") for kind in CreditKind}
_OUTCOMES: Final = {moved: api.Outcome.Value(f"OUTCOME_{moved.value}") for moved in Moved}
_RETRIES: Final = {retry: api.Retry.Value(f"RETRY_{retry.value}") for retry in Retry}
_WORDS: Final = {each: api.Word.Value(f"WORD_{each.name}") for each in Word}


def told(row: Transaction | Credit, *, english: bool) -> api.Transaction:
    return credit(row, english=english) if isinstance(row, Credit) else debit(row, english=english)


def debit(row: Transaction, *, english: bool) -> api.Transaction:
    told = verdict(row.state)
    wired = _wired(row, told, _retry(told, row.why), row.purpose, english=english)
    wired.kind = api.TRANSACTION_KIND_DEBIT
    wired.resolves_to = _STATES[told.resolves_to] if told.resolves_to else api.TRANSACTION_STATE_UNSPECIFIED
    wired.confirmed = row.confirmed
    wired.credential = wire_payer.credential_to_wire(row.credential)
    if row.confirm_by:
        wired.confirm_by.FromDatetime(datetime.fromisoformat(row.confirm_by))
    if row.initial_pin:
        wired.notices.append(_notice(Reason.PIN_INITIAL, english=english))
    return wired


def _notice(reason: Reason, *, english: bool) -> api.Notice:
    said = MEANING[reason]
    message, next_step = (said.en, said.next_en) if english else (said.zh, said.next_zh)
    return api.Notice(reason=reason.value, message=message, next_step=next_step)


def _retry(told: Verdict, reason: Reason | None) -> Retry:
    """A decline may be tried again; not where it says that another transaction has, or may have, paid the order."""
    elsewhere = reason is not None and MEANING[reason].moved is not Moved.NOT_MOVED
    return Retry.NEVER if told.told is Told.DECLINED and elsewhere else told.retry


def credit(row: Credit, *, english: bool) -> api.Transaction:
    told = credit_verdict(row.state)
    wired = _wired(row, told, told.retry, Purpose(row.purpose), english=english)
    wired.kind = _KINDS[row.kind]
    wired.original_transaction_id = row.original
    wired.refundable_fen = row.refundable_fen
    wired.suspense = row.in_suspense
    return wired


def _wired(
    row: Transaction | Credit, told: Verdict, retry: Retry, purpose: Purpose, *, english: bool
) -> api.Transaction:
    """What a debit and a credit have in common."""
    said = advice(row)
    wired = api.Transaction(
        transaction_id=row.transaction_id,
        request_id=row.request_id,
        order_no=row.order_no,
        order_part=row.order_part,
        state=_STATES[told.told],
        outcome=_OUTCOMES[told.moved],
        retry=_RETRIES[retry],
        reason=row.reason,
        message=said.en if english else said.zh,
        next_step=said.next_en if english else said.next_zh,
        amount_fen=row.amount_fen,
        purpose=wire.purpose_to_wire(purpose),
        balance_fen=row.balance_fen or 0,
        reference=row.reference,
        home_region=row.home_region,
        home_city=row.home_city_en if english else row.home_city_zh,
        treatment_region=row.treatment_region,
        accounting_date=row.accounting_date,
        card_number=row.card_number_masked,
        cardholder_name=row.cardholder_masked,
        journal_state=row.state.value,
        other_transaction_id=row.other_transaction,
        word=_WORDS[word(row)],
    )
    for name in ("created_at", "decided_at"):
        if text := getattr(row, name):
            getattr(wired, name).FromDatetime(datetime.fromisoformat(text))
    return wired


def identified(who: Identified, reader: str) -> api.Card:
    """Masked: the card, or of whoever shows another credential number and name alone."""
    if who.card is not None:
        return card(who.card, reader, full=False)
    return api.Card(social_security_number=who.number_masked, name=str(who.name))


def card(identity: CardIdentity, reader: str, *, full: bool) -> api.Card:
    shown = (
        (identity.card_number.reveal(), identity.social_security_number.reveal(), identity.name.reveal())
        if full
        else (str(identity.card_number), str(identity.social_security_number), str(identity.name))
    )
    return api.Card(
        reader=reader,
        card_number=shown[0],
        social_security_number=shown[1],
        name=shown[2],
        issuing_region=identity.issuing_region.code,
        spec_version=identity.spec_version,
        issue_date=identity.issue_date,
        expiry_date=identity.expiry_date,
        algorithm=identity.algorithm.value,
        unreadable_fields=identity.unreadable_fields,
    )
