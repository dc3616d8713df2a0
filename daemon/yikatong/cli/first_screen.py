"""`yikatong transactions --open`: what a cashier needs after a power cut. Each open bill with its word, and what to do.

In both languages, Chinese first: whoever stands at the window then has to understand it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.cli import output
from yikatong.core.receipt import china_time
from yikatong.core.values import Fen
from yikatong.core.words import Word

if TYPE_CHECKING:
    from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceAsyncStub

_MOST: Final = 200
_CALL_S: Final = 20.0
_LANGUAGES: Final = ("zh-CN", "en")
_COLOURS: Final = {
    api.WORD_PAID: "bold green",
    api.WORD_GIVEN_BACK: "bold green",
    api.WORD_BEING_SETTLED: "bold yellow",
    api.WORD_NOT_PAID: "bold red",
    api.WORD_NOT_GIVEN_BACK: "bold red",
}
_WORDS: Final = {api.Word.Value(f"WORD_{word.name}"): word for word in Word}


@dataclass(frozen=True, slots=True)
class Bill:
    """One transaction, told in Chinese and in English."""

    zh: api.Transaction
    en: api.Transaction


@dataclass(frozen=True, slots=True)
class FirstScreen:
    """What is open, and what was open when the daemon started and is settled now, both oldest first.

    `slips` by transaction id: of the bills for which no money is taken, now or in the end.
    """

    terminal: api.GetTerminalResponse
    open: Sequence[Bill]
    settled: Sequence[Bill]
    slips: dict[str, str]


async def ask(stub: TerminalServiceAsyncStub, *, with_slips: bool) -> FirstScreen:
    terminal = await stub.GetTerminal(api.GetTerminalRequest(), timeout=_CALL_S)
    recovered = await _listed(stub, api.ListTransactionsRequest(recovered_only=True))
    is_open = await _listed(stub, api.ListTransactionsRequest(open_only=True, page_size=_MOST))
    ids = {bill.zh.transaction_id for bill in is_open}
    settled = [
        bill for bill in recovered if bill.zh.word != api.WORD_BEING_SETTLED and bill.zh.transaction_id not in ids
    ]
    slips = {}
    for row in (bill.zh for bill in (*is_open[::-1], *settled) if with_slips):
        if row.word == api.WORD_NOT_PAID or row.resolves_to == api.TRANSACTION_STATE_REVERSED:
            request = api.GetReceiptRequest(transaction_id=row.transaction_id)
            slips[row.transaction_id] = (await stub.GetReceipt(request, timeout=_CALL_S)).text
    return FirstScreen(terminal, is_open[::-1], settled, slips)


async def _listed(stub: TerminalServiceAsyncStub, request: api.ListTransactionsRequest) -> list[Bill]:
    """The same list in both languages; what changes in between is told as it was first."""
    told = [
        (await stub.ListTransactions(request, metadata=(("accept-language", language),), timeout=_CALL_S)).transactions
        for language in _LANGUAGES
    ]
    english = {row.transaction_id: row for row in told[1]}
    return [Bill(row, english.get(row.transaction_id, row)) for row in told[0]]


def as_json(screen: FirstScreen) -> dict[str, Any]:
    def rows(bills: Sequence[Bill]) -> list[Any]:
        chosen = [bill.zh if output.language() == "zh" else bill.en for bill in bills]
        return [MessageToDict(row, preserving_proto_field_name=True) for row in chosen]

    return {
        "started_at": screen.terminal.started_at.ToJsonString(),
        "open": rows(screen.open),
        "settled_since_start": rows(screen.settled),
        "slips": screen.slips,
        "policy_hotline": screen.terminal.policy_hotline,
        "fault_hotline": screen.terminal.fault_hotline,
    }


def show(screen: FirstScreen) -> None:
    started = beijing(screen.terminal.started_at)
    if not screen.open:
        output.say("没有未决交易。", "No open transactions.")
    else:
        _part(f"未决交易 {len(screen.open)} 笔 / Open transactions: {len(screen.open)}", screen.open)
    if screen.settled:
        count = len(screen.settled)
        _part(f"启动（{started}）后已有结果 {count} 笔 / Settled since the start: {count}", screen.settled)
    if screen.open or screen.settled:
        console = output.console()
        console.print(f"\n政策热线 Policy hotline: {screen.terminal.policy_hotline}")
        console.print(f"故障热线 Fault hotline: {screen.terminal.fault_hotline}")
    for text in screen.slips.values():
        output.console().print(f"\n{text}", end="")


def _part(title: str, bills: Sequence[Bill]) -> None:
    console = output.console()
    console.print(f"\n== {title}", style="bold")
    for bill in bills:
        row, word = bill.zh, _WORDS[bill.zh.word]
        kind = {api.TRANSACTION_KIND_CANCELLATION: "撤销 Cancellation ", api.TRANSACTION_KIND_REFUND: "退费 Refund "}
        console.print(f"{word.value[0]} {word.value[1]}", style=_COLOURS[row.word], end="")
        order = row.order_no + (f" ({row.order_part})" if row.order_part else "")
        console.print(f"　{kind.get(row.kind, '')}{Fen(row.amount_fen)} 元　单据 Order {order}")
        console.print(f"  {beijing(row.created_at)}　姓名 Name {row.cardholder_name}　卡号 Card {row.card_number}")
        if row.HasField("confirm_by") and row.word == api.WORD_BEING_SETTLED and not row.resolves_to:
            console.print(f"  最迟确认 Confirm by {beijing(row.confirm_by)}")
        for said in (row.message, bill.en.message, f"→ {row.next_step}", f"→ {bill.en.next_step}"):
            console.print(f"  {said}")
        console.print(f"  凭条 Slip: yikatong receipt {row.transaction_id}")


def beijing(moment: Timestamp) -> str:
    """A moment of a message as the window's clock shows it."""
    return china_time(moment.ToDatetime(UTC).isoformat())
