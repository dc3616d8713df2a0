"""TerminalService: what the HIS asks. The one place where the terminal speaks protobuf to it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import grpc
import msgspec

from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1 import terminal_pb2_grpc
from yikatong.core.bill import Bill, Fund, Item, Share
from yikatong.core.card import CardIdentity, ReaderState
from yikatong.core.credit import Credit
from yikatong.core.credit_receipt import credit_receipt
from yikatong.core.credit_table import credit_verdict
from yikatong.core.credits import CreditKind
from yikatong.core.orders import Purpose
from yikatong.core.reasons import MEANING, Moved, Reason, Retry, YikatongError
from yikatong.core.receipt import Issuer, as_text, explanation, receipt
from yikatong.core.terminal_table import State, Told, Verdict, verdict
from yikatong.core.transaction import Transaction
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.runtime import wire
from yikatong.runtime.edge import Context, wants_english
from yikatong.terminal import reconciliation_rpc
from yikatong.terminal.events import Happening, Readiness, StageReached
from yikatong.terminal.terminal import Terminal

Row = TypeVar("Row", bound=Transaction | Credit)

_MARGIN_S: Final = 1.0
_PAGE: Final = 50

_STATES: Final = {told: api.TransactionState.Value(f"TRANSACTION_STATE_{told.value}") for told in Told}
_KINDS: Final = {kind: api.TransactionKind.Value(f"TRANSACTION_KIND_{kind.value}") for kind in CreditKind}
_OUTCOMES: Final = {moved: api.Outcome.Value(f"OUTCOME_{moved.value}") for moved in Moved}
_RETRIES: Final = {retry: api.Retry.Value(f"RETRY_{retry.value}") for retry in Retry}


class TerminalServicer(terminal_pb2_grpc.TerminalServiceServicer):
    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    async def GetTerminal(self, request: api.GetTerminalRequest, context: Context) -> api.GetTerminalResponse:
        terminal = self._terminal
        granted, refusal = terminal.session.granted, terminal.not_ready()
        return api.GetTerminalResponse(
            terminal_id=terminal.session.terminal_id,
            institution=granted.institution if granted else "",
            institution_name=granted.institution_name if granted else "",
            treatment_region=granted.treatment_region if granted else "",
            software_version=terminal.version,
            signed_in=granted is not None,
            ready=refusal is None,
            not_ready_reason=refusal.value if refusal else "",
            policy_hotline=terminal.hotlines[0],
            fault_hotline=terminal.hotlines[1],
            open_transactions=len(terminal.runner.open_rows()) + len(terminal.credits.open_rows()),
        )

    async def WatchTerminal(
        self, request: api.WatchTerminalRequest, context: Context
    ) -> AsyncIterator[api.WatchTerminalResponse]:
        english = wants_english(context)
        with self._terminal.hub.watching() as queue:
            await context.send_initial_metadata(())  # from here on the caller misses nothing
            yield self._event(self._terminal.readiness(), english=english)
            yield self._event(await self._terminal.desk.reader.state(), english=english)
            while True:
                yield self._event(await queue.get(), english=english)

    def _event(self, happening: Happening, *, english: bool) -> api.WatchTerminalResponse:
        event = api.WatchTerminalResponse()
        event.at.FromDatetime(self._terminal.clock.now())
        match happening:
            case ReaderState():
                event.card.CopyFrom(api.CardEvent(reader=happening.name, present=happening.card_present))
            case StageReached():
                event.stage.request_id = happening.request_id
                event.stage.stage = api.Stage.Value(f"STAGE_{happening.stage.name}")
                event.stage.prompt = happening.stage.value[1 if english else 0]
            case Transaction() | Credit():
                event.transaction.transaction.CopyFrom(_told(happening, english=english))
            case Readiness():
                event.health.CopyFrom(api.HealthEvent(ready=not happening.reason, reason=happening.reason))
        return event

    async def ReadCard(self, request: api.ReadCardRequest, context: Context) -> api.ReadCardResponse:
        if request.full and not self._terminal.his_may_read_identity:
            raise YikatongError(Reason.NOT_ALLOWED, "personal data in clear is not allowed here", field="full")
        identity = await self._terminal.desk.read(wait_ms=request.wait_ms)
        return api.ReadCardResponse(card=_card(identity, self._terminal.desk.reader.name, full=request.full))

    async def GetAccount(self, request: api.GetAccountRequest, context: Context) -> api.GetAccountResponse:
        identity, account = await self._terminal.account(wait_ms=request.wait_ms)
        english = wants_english(context)
        return api.GetAccountResponse(
            card=_card(identity, self._terminal.desk.reader.name, full=False),
            balance_fen=account.balance.count,
            home_region=account.city.region.code,
            home_city=account.city.name_en if english else account.city.name_zh,
        )

    async def Debit(self, request: api.DebitRequest, context: Context) -> api.DebitResponse:
        bill = Bill(
            tuple(
                Item(item.name, item.national_code, item.local_code, item.quantity_milli, item.amount_fen)
                for item in request.items
            ),
            tuple(
                Share(Fund[api.Fund.Name(share.fund).removeprefix("FUND_")].name, share.amount_fen)
                for share in request.shares
            ),
            request.bill_total_fen,
            request.operator_id,
        )
        bill.check(request.amount_fen)
        row = Transaction(
            transaction_id=TransactionId(""),
            request_id=RequestId(request.request_id),
            order_no=request.order_no,
            order_part=request.order_part,
            amount_fen=request.amount_fen,
            purpose=wire.purpose_from_wire(request.purpose),
            state=State.PREPARED,
            confirm_within_ms=request.confirm_within_ms,
            bill_digest=hashlib.new("sm3", msgspec.json.encode(bill)).hexdigest(),
        )
        done = await self._terminal.runner.debit(row, bill, wait_ms=request.wait_ms, patience_s=_patience_s(context))
        return api.DebitResponse(transaction=_transaction(done, english=wants_english(context)))

    async def ConfirmTransaction(
        self, request: api.ConfirmTransactionRequest, context: Context
    ) -> api.ConfirmTransactionResponse:
        row = await self._terminal.runner.confirm(TransactionId(request.transaction_id))
        return api.ConfirmTransactionResponse(transaction=_transaction(row, english=wants_english(context)))

    async def CancelTransaction(
        self, request: api.CancelTransactionRequest, context: Context
    ) -> api.CancelTransactionResponse:
        row = await self._terminal.credits.cancel(
            TransactionId(request.transaction_id),
            RequestId(request.request_id),
            operator_id=request.operator_id,
            patience_s=_patience_s(context),
        )
        return api.CancelTransactionResponse(transaction=_told(row, english=wants_english(context)))

    async def RefundTransaction(
        self, request: api.RefundTransactionRequest, context: Context
    ) -> api.RefundTransactionResponse:
        row = await self._terminal.credits.refund(
            TransactionId(request.transaction_id),
            RequestId(request.request_id),
            Fen(request.amount_fen),
            operator_id=request.operator_id,
            patience_s=_patience_s(context),
        )
        return api.RefundTransactionResponse(transaction=_credit(row, english=wants_english(context)))

    async def GetTransaction(self, request: api.GetTransactionRequest, context: Context) -> api.GetTransactionResponse:
        journal = self._terminal.journal
        row: Transaction | Credit | None
        match request.WhichOneof("key"):
            case "transaction_id":
                key = request.transaction_id
                row = await journal.by_id(key) or await journal.credits.by_id(key)
            case "request_id":
                key = request.request_id
                row = await journal.by_request(key) or await journal.credits.by_request(key)
            case _:
                row = await journal.by_order(request.order_no, request.order_part)
        found, english = _found(row), wants_english(context)
        made = await journal.credits.of(found.transaction_id)
        return api.GetTransactionResponse(
            transaction=(await self._shown([found], english=english))[0],
            credits=[_credit(credit, english=english) for credit in made],
        )

    async def _shown(self, rows: Sequence[Transaction | Credit], *, english: bool) -> list[api.Transaction]:
        """Debits and credits as they are told; a debit with what can still be refunded of it."""
        approved = [row for row in rows if isinstance(row, Transaction) and row.state is State.APPROVED]
        given_fen = await self._terminal.journal.credits.given_back(row.transaction_id for row in approved)
        shown = []
        for row in rows:
            told = _told(row, english=english)
            if row in approved:
                told.refundable_fen = row.amount_fen - given_fen.get(row.transaction_id, 0)
            shown.append(told)
        return shown

    async def ListTransactions(
        self, request: api.ListTransactionsRequest, context: Context
    ) -> api.ListTransactionsResponse:
        size = request.page_size or _PAGE
        journal = self._terminal.journal.credits
        rows = await journal.newest(size + 1, open_only=request.open_only, before=request.page_token)
        return api.ListTransactionsResponse(
            transactions=await self._shown(rows[:size], english=wants_english(context)),
            next_page_token=rows[size - 1].transaction_id if len(rows) > size else "",
        )

    async def GetReceipt(self, request: api.GetReceiptRequest, context: Context) -> api.GetReceiptResponse:
        journal, key = self._terminal.journal, request.transaction_id
        row = _found(await journal.by_id(key) or await journal.credits.by_id(key))
        granted = self._terminal.session.granted
        policy, fault = self._terminal.hotlines
        issuer = Issuer(granted.institution_name if granted else "", self._terminal.session.terminal_id, policy, fault)
        if isinstance(row, Credit):
            lines = credit_receipt(row, issuer)
        else:
            lines = receipt(row, await journal.bill(row.transaction_id), issuer)
        return api.GetReceiptResponse(
            text=as_text(lines),
            lines=[api.ReceiptLine(label_zh=line.label_zh, label_en=line.label_en, value=line.value) for line in lines],
            transaction=(await self._shown([row], english=wants_english(context)))[0],
        )

    async def Reconcile(self, request: api.ReconcileRequest, context: Context) -> api.ReconcileResponse:
        return await reconciliation_rpc.reconcile(
            self._terminal.reconciliation, request, english=wants_english(context)
        )


def add_to(server: grpc.aio.Server, terminal: Terminal) -> None:
    terminal_pb2_grpc.add_TerminalServiceServicer_to_server(TerminalServicer(terminal), server)


def _patience_s(context: Context) -> float | None:
    """How long the caller listens: its deadline less what it takes to make a reversal durable and to answer."""
    remaining: Any = context.time_remaining()
    return None if remaining is None else max(float(remaining) - _MARGIN_S, float(remaining) / 2)


def _found(row: Row | None) -> Row:
    if row is None:
        raise YikatongError(Reason.TRANSACTION_NOT_FOUND, "no transaction has this key")
    return row


def _told(row: Transaction | Credit, *, english: bool) -> api.Transaction:
    return _credit(row, english=english) if isinstance(row, Credit) else _transaction(row, english=english)


def _transaction(row: Transaction, *, english: bool) -> api.Transaction:
    told = verdict(row.state)
    wired = api.Transaction(
        transaction_id=row.transaction_id,
        request_id=row.request_id,
        order_no=row.order_no,
        order_part=row.order_part,
        state=_STATES[told.told],
        outcome=_OUTCOMES[told.moved],
        retry=_RETRIES[_retry(told, row.why)],
        resolves_to=_STATES[told.resolves_to] if told.resolves_to else api.TRANSACTION_STATE_UNSPECIFIED,
        reason=row.reason,
        amount_fen=row.amount_fen,
        purpose=wire.purpose_to_wire(row.purpose),
        balance_fen=row.balance_fen or 0,
        reference=row.reference,
        home_region=row.home_region,
        home_city=row.home_city_en if english else row.home_city_zh,
        treatment_region=row.treatment_region,
        accounting_date=row.accounting_date,
        card_number=row.card_number_masked,
        cardholder_name=row.cardholder_masked,
        confirmed=row.confirmed,
        journal_state=row.state.value,
        kind=api.TRANSACTION_KIND_DEBIT,
    )
    _explain(wired, told, row.why, english=english)
    for name in ("created_at", "decided_at", "confirm_by"):
        if text := getattr(row, name):
            getattr(wired, name).FromDatetime(datetime.fromisoformat(text))
    return wired


def _retry(told: Verdict, reason: Reason | None) -> Retry:
    """A decline may be tried again; not where it says that another transaction has, or may have, paid the order."""
    elsewhere = reason is not None and MEANING[reason].moved is not Moved.NOT_MOVED
    return Retry.NEVER if told.told is Told.DECLINED and elsewhere else told.retry


def _explain(wired: api.Transaction, told: Verdict, reason: Reason | None, *, english: bool) -> None:
    """What a person is told where it is not simply approved."""
    if (said := explanation(told, reason)) is not None:
        wired.message = said.en if english else said.zh
        wired.next_step = said.next_en if english else said.next_zh


def _credit(row: Credit, *, english: bool) -> api.Transaction:
    told = credit_verdict(row.state)
    wired = api.Transaction(
        transaction_id=row.transaction_id,
        request_id=row.request_id,
        order_no=row.order_no,
        order_part=row.order_part,
        state=_STATES[told.told],
        outcome=_OUTCOMES[told.moved],
        retry=_RETRIES[told.retry],
        reason=row.reason,
        amount_fen=row.amount_fen,
        purpose=wire.purpose_to_wire(Purpose(row.purpose)),
        balance_fen=row.balance_fen or 0,
        reference=row.reference,
        home_region=row.home_region,
        home_city=row.home_city_en if english else row.home_city_zh,
        treatment_region=row.treatment_region,
        accounting_date=row.accounting_date,
        card_number=row.card_number_masked,
        cardholder_name=row.cardholder_masked,
        journal_state=row.state.value,
        kind=_KINDS[row.kind],
        original_transaction_id=row.original,
        refundable_fen=row.refundable_fen,
        suspense=row.in_suspense,
    )
    _explain(wired, told, row.why, english=english)
    for name in ("created_at", "decided_at"):
        if text := getattr(row, name):
            getattr(wired, name).FromDatetime(datetime.fromisoformat(text))
    return wired


def _card(identity: CardIdentity, reader: str, *, full: bool) -> api.Card:
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
