"""TerminalService: what the HIS asks. The one place where the terminal speaks protobuf to it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypeVar

import grpc
import msgspec

from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1 import terminal_pb2_grpc
from yikatong.core.bill import Bill, Fund, Item, Share
from yikatong.core.credit_transaction import Credit
from yikatong.core.reasons import Moved, Reason, Retry, YikatongError
from yikatong.core.receipt import as_text
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.core.words import Word, word
from yikatong.runtime import wire, wire_payer
from yikatong.runtime.edge import Context, wants_english
from yikatong.terminal import reconciliation_rpc, slips, watch_rpc
from yikatong.terminal import transaction_rpc as messages
from yikatong.terminal.terminal import Terminal

Row = TypeVar("Row", bound=Transaction | Credit)

_MARGIN_S: Final = 1.0
_PAGE: Final = 50


class TerminalServicer(terminal_pb2_grpc.TerminalServiceServicer):
    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    async def GetTerminal(self, request: api.GetTerminalRequest, context: Context) -> api.GetTerminalResponse:
        terminal = self._terminal
        granted, refusal = terminal.session.granted, terminal.not_ready()
        answer = api.GetTerminalResponse(
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
        answer.started_at.FromDatetime(terminal.recovered.started_at)
        return answer

    async def WatchTerminal(
        self, request: api.WatchTerminalRequest, context: Context
    ) -> AsyncIterator[api.WatchTerminalResponse]:
        with self._terminal.hub.watching() as queue:
            await context.send_initial_metadata(())  # from here on the caller misses nothing
            async for event in watch_rpc.events(self._terminal, queue, english=wants_english(context)):
                yield event

    async def ReadCard(self, request: api.ReadCardRequest, context: Context) -> api.ReadCardResponse:
        if request.full and not self._terminal.his_may_read_identity:
            raise YikatongError(Reason.NOT_ALLOWED, "personal data in clear is not allowed here", field="full")
        identity = await self._terminal.desk.read(wait_ms=request.wait_ms)
        return api.ReadCardResponse(card=messages.card(identity, self._terminal.desk.reader.name, full=request.full))

    async def GetAccount(self, request: api.GetAccountRequest, context: Context) -> api.GetAccountResponse:
        credential = wire_payer.credential_from_wire(request.credential)
        identified, account = await self._terminal.account(credential, wait_ms=request.wait_ms)
        english = wants_english(context)
        return api.GetAccountResponse(
            card=messages.identified(identified, self._terminal.desk.reader.name),
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
            credential=wire_payer.credential_from_wire(request.credential),
            bill_digest=hashlib.new("sm3", msgspec.json.encode(bill)).hexdigest(),
        )
        done = await self._terminal.runner.debit(
            row,
            bill,
            wait_ms=request.wait_ms,
            patience_s=_patience_s(context),
            last_try_acknowledged=request.acknowledge_last_pin_try,
        )
        return api.DebitResponse(transaction=self._answered(done, context))

    async def ConfirmTransaction(
        self, request: api.ConfirmTransactionRequest, context: Context
    ) -> api.ConfirmTransactionResponse:
        row = await self._terminal.runner.confirm(TransactionId(request.transaction_id))
        return api.ConfirmTransactionResponse(transaction=self._answered(row, context))

    async def CancelTransaction(
        self, request: api.CancelTransactionRequest, context: Context
    ) -> api.CancelTransactionResponse:
        row = await self._terminal.credits.cancel(
            TransactionId(request.transaction_id),
            RequestId(request.request_id),
            operator_id=request.operator_id,
            patience_s=_patience_s(context),
        )
        return api.CancelTransactionResponse(transaction=self._answered(row, context))

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
        return api.RefundTransactionResponse(transaction=self._answered(row, context))

    def _answered(self, row: Transaction | Credit, context: Context) -> api.Transaction:
        """What the caller is told of its own transaction."""
        self._terminal.recovered.heard(row)
        return messages.told(row, english=wants_english(context))

    async def GetTransaction(self, request: api.GetTransactionRequest, context: Context) -> api.GetTransactionResponse:
        journal, runner = self._terminal.journal, self._terminal.runner
        row: Transaction | Credit | None
        match request.WhichOneof("key"):
            case "transaction_id":
                row = await self._row(request.transaction_id)
            case "request_id":
                key = request.request_id
                row = await journal.by_request(key) or await journal.credits.by_request(key)
                row = row or runner.at_work(lambda row: row.request_id == key)
            case _:
                order = request.order_no, request.order_part
                row = await journal.by_order(*order)
                if row is None or word(row) is Word.NOT_PAID:
                    row = runner.at_work(lambda row: (row.order_no, row.order_part) == order) or row
        if row is None:
            # Another window may know it, or the machine that was here before: not to know it is not to know that it
            # did not move. The same request once more is safe, and finds out.
            raise YikatongError(
                Reason.TRANSACTION_NOT_FOUND,
                "this terminal knows none with this key",
                outcome=Moved.PENDING.value,
                retry=Retry.SAME_REQUEST.value,
            )
        found, english = row, wants_english(context)
        self._terminal.recovered.heard(found)
        made = await journal.credits.of(found.transaction_id)
        return api.GetTransactionResponse(
            transaction=(await self._shown([found], english=english))[0],
            credits=[messages.credit(credit, english=english) for credit in made],
        )

    async def _row(self, transaction_id: str) -> Transaction | Credit | None:
        """On the disk, being worked on, or refused a while ago."""
        journal, runner = self._terminal.journal, self._terminal.runner
        return (
            await journal.by_id(transaction_id)
            or await journal.credits.by_id(transaction_id)
            or runner.at_work(lambda row: row.transaction_id == transaction_id)
            or runner.refused(transaction_id)
        )

    async def _shown(self, rows: Sequence[Transaction | Credit], *, english: bool) -> list[api.Transaction]:
        """Debits and credits as they are told; a debit with what can still be refunded of it."""
        approved = [row for row in rows if isinstance(row, Transaction) and row.state is State.APPROVED]
        given_fen = await self._terminal.journal.credits.given_back(row.transaction_id for row in approved)
        shown = []
        for row in rows:
            told = messages.told(row, english=english)
            if row in approved:
                told.refundable_fen = row.amount_fen - given_fen.get(row.transaction_id, 0)
            shown.append(told)
        return shown

    async def ListTransactions(
        self, request: api.ListTransactionsRequest, context: Context
    ) -> api.ListTransactionsResponse:
        english, size = wants_english(context), request.page_size or _PAGE
        if request.recovered_only:
            found = await self._terminal.recovered.rows()
            return api.ListTransactionsResponse(transactions=await self._shown(found, english=english))
        journal = self._terminal.journal.credits
        rows = await journal.newest(size + 1, open_only=request.open_only, before=request.page_token)
        return api.ListTransactionsResponse(
            transactions=await self._shown(rows[:size], english=english),
            next_page_token=rows[size - 1].transaction_id if len(rows) > size else "",
        )

    async def GetReceipt(self, request: api.GetReceiptRequest, context: Context) -> api.GetReceiptResponse:
        row = _found(await self._row(request.transaction_id))
        self._terminal.recovered.heard(row)
        if request.print:
            await slips.put_on_paper(self._terminal, row)
        lines = await slips.compose(self._terminal, row)
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
