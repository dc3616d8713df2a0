"""`yikatong card`, `pay`, `cancel`, `refund`, `transactions`, `receipt`: a small HIS in the terminal."""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import grpc.aio
from google.protobuf.json_format import MessageToDict

from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.cli import client, first_screen, output, pin_prompt, prompts
from yikatong.core.reasons import MEANING, Reason, YikatongError
from yikatong.core.values import Fen
from yikatong.core.words import Word

if TYPE_CHECKING:
    from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceAsyncStub

_WAIT_S = 60.0
_AMOUNT_FEN_MAX = 100_000_000
_TRANSACTION_ID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_APPROVED = api.TRANSACTION_STATE_APPROVED
_REVERSED = api.TRANSACTION_STATE_REVERSED
_PENDING = api.TRANSACTION_STATE_PENDING


_CREDENTIALS = {
    "card": money.CREDENTIAL_CARD,
    "voucher": money.CREDENTIAL_VOUCHER,
    "resident-id": money.CREDENTIAL_RESIDENT_ID,
}
_with_credential = click.option(
    "--credential",
    type=click.Choice(list(_CREDENTIALS)),
    default="card",
    show_default=True,
    help="社会保障卡、医保电子凭证或居民身份证 / social security card, e-voucher or resident identity card",
)


@click.command()
@client.with_config
@output.with_json
@output.with_language
@output.with_debug
@_with_credential
@click.option(
    "--wait",
    "wait_s",
    type=click.IntRange(0, 60),
    default=0,
    help="等待插卡、扫码或放证秒数 / seconds to wait for a card, a code or an identity card",
)
def card(config: Path | None, credential: str, wait_s: int) -> None:
    """读卡、扫码或读身份证（脱敏）并查询个人账户 / Find out who it is, masked, and the personal account.

    退出码：0 已读取，1 不成功，2 守护进程没有应答。
    Exit status: 0 read, 1 refused, 2 the daemon did not answer.
    """
    at = client.found_place(config)

    async def work() -> api.GetAccountResponse:
        async with client.channel(at.his) as channel:
            request = api.GetAccountRequest(wait_ms=wait_s * 1000, credential=_CREDENTIALS[credential])
            return await _stub(channel).GetAccount(request, metadata=client.metadata(), timeout=_WAIT_S + wait_s)

    answer = client.run(work(), at)
    if output.wants_json():
        output.echo_json(MessageToDict(answer, preserving_proto_field_name=True))
        return
    shown = answer.card
    if shown.card_number:
        output.say(f"读卡器　　{shown.reader}", f"reader         {shown.reader}")
        output.say(f"卡号　　　{shown.card_number}", f"card number    {shown.card_number}")
    output.say(f"社保号码　{shown.social_security_number}", f"person         {shown.social_security_number}")
    output.say(f"姓名　　　{shown.name or '姓名无法显示'}", f"name           {shown.name or '(cannot be shown)'}")
    if shown.card_number:
        output.say(
            f"发卡地　　{shown.issuing_region}　规范 {shown.spec_version}　算法 {shown.algorithm}",
            f"issued by      {shown.issuing_region}, specification {shown.spec_version}, {shown.algorithm}",
        )
    output.say(
        f"参保地　　{answer.home_city}（{answer.home_region}）",
        f"home city      {answer.home_city} ({answer.home_region})",
    )
    output.say(f"账户余额　{Fen(answer.balance_fen)} 元", f"balance        {Fen(answer.balance_fen)} yuan")


@click.command()
@client.with_config
@output.with_json
@output.with_language
@output.with_debug
@click.argument("amount")
@click.option("--order", "order_no", default="", help="单据号 / order number (默认新建 / made up)")
@click.option("--request-id", default="", help="请求号 / idempotency key (默认新建 / made up)")
@_with_credential
@click.option(
    "--wait",
    "wait_s",
    type=click.IntRange(0, 60),
    default=30,
    help="等待插卡、扫码或放证秒数 / seconds to wait for a card, a code or an identity card",
)
@click.option(
    "--acknowledge-last-pin-try",
    "acknowledged",
    is_flag=True,
    help="持卡人同意使用密码的最后一次机会 / the cardholder wants to use the last try at the PIN",
)
def pay(
    config: Path | None,
    amount: str,
    order_no: str,
    request_id: str,
    credential: str,
    wait_s: int,
    acknowledged: bool,
) -> None:
    """收取 AMOUNT 元 / Take a payment of AMOUNT yuan and print the receipt.

    密码可能只剩最后一次机会时，先询问再输入。
    Where the PIN may have one try left it asks first.

    退出码：0 已支付，1 未支付（没有动钱），2 守护进程没有应答，3 结果未定。
    Exit status: 0 paid, 1 not paid (no money moved), 2 the daemon did not answer, 3 still being settled.
    """
    amount_fen = _amount_fen(amount)
    at = client.found_place(config)
    request = api.DebitRequest(
        request_id=request_id or str(uuid.uuid4()),
        order_no=order_no or f"cli-{uuid.uuid4().hex[:12]}",
        amount_fen=amount_fen,
        purpose=money.PURPOSE_PHARMACY_PURCHASE,
        wait_ms=wait_s * 1000,
        acknowledge_last_pin_try=acknowledged,
        credential=_CREDENTIALS[credential],
    )

    async def debit(stub: TerminalServiceAsyncStub) -> api.DebitResponse:
        if not output.wants_json():
            output.say(f"请求号 {request.request_id}", f"request id {request.request_id}")
        async with prompts.shown(stub, _prompt, request_id=request.request_id):
            return await stub.Debit(request, metadata=client.metadata(), timeout=_WAIT_S + wait_s)

    async def work() -> api.GetReceiptResponse:
        async with client.channel(at.his) as channel:
            stub = _stub(channel)
            try:
                done = await debit(stub)
            except grpc.aio.AioRpcError as error:
                if client.failure_of(error).reason is not Reason.PIN_LAST_TRY or not _last_try_wanted():
                    raise
                request.request_id, request.acknowledge_last_pin_try = str(uuid.uuid4()), True
                done = await debit(stub)
            key = api.GetReceiptRequest(transaction_id=done.transaction.transaction_id)
            return await stub.GetReceipt(key, metadata=client.metadata())

    with pin_prompt.offered(at.pin):
        answer = client.run(work(), at, money=True, asked_before=bool(request_id))
    _end(answer)


@click.command()
@client.with_config
@output.with_json
@output.with_language
@output.with_debug
@click.argument("transaction")
@click.option("--request-id", default="", help="请求号 / idempotency key (默认新建 / made up)")
def cancel(config: Path | None, transaction: str, request_id: str) -> None:
    """撤销当日扣款 TRANSACTION / Cancel the debit TRANSACTION of today, and print the receipt.

    退出码：0 已收回（退回，或未定时冲正），1 未收回，2 守护进程没有应答，3 结果未定。
    Exit status: 0 taken back (credited, or reversed where it was not final), 1 not, 2 the daemon did not answer,
    3 still being settled.
    """
    request = api.CancelTransactionRequest(transaction_id=transaction, request_id=request_id or str(uuid.uuid4()))
    _credit(config, request, asked_before=bool(request_id))


@click.command()
@client.with_config
@output.with_json
@output.with_language
@output.with_debug
@click.argument("transaction")
@click.argument("amount")
@click.option("--request-id", default="", help="请求号 / idempotency key (默认新建 / made up)")
def refund(config: Path | None, transaction: str, amount: str, request_id: str) -> None:
    """退还扣款 TRANSACTION 中的 AMOUNT 元 / Refund AMOUNT yuan of the debit TRANSACTION, and print the receipt.

    退出码：0 已退回，1 未退回，2 守护进程没有应答，3 结果未定。
    Exit status: 0 credited, 1 not credited, 2 the daemon did not answer, 3 still being settled.
    """
    request = api.RefundTransactionRequest(
        transaction_id=transaction, request_id=request_id or str(uuid.uuid4()), amount_fen=_amount_fen(amount)
    )
    _credit(config, request, asked_before=bool(request_id))


@click.command()
@client.with_config
@output.with_json
@output.with_language
@output.with_debug
@click.option(
    "--open",
    "open_only",
    is_flag=True,
    help="未决交易，及启动后已有结果的 / what is open, and what was when the daemon started",
)
@click.option(
    "--slips",
    is_flag=True,
    help="与 --open 同用：附未扣款的凭条 / with --open: and the slips of those for which no money is taken",
)
@click.option("--count", type=click.IntRange(1, 200), default=20, help="条数 / how many")
def transactions(config: Path | None, open_only: bool, slips: bool, count: int) -> None:
    """列出最近的交易（北京时间）/ List transactions, newest first, in Beijing time.

    --open 是断电后的第一屏：每笔未决单据的状态和下一步。
    --open is the first screen after a power cut: each open bill in one word, and what to do.

    退出码：0 已列出，1 不成功，2 守护进程没有应答。
    Exit status: 0 listed, 1 refused, 2 the daemon did not answer.
    """
    at = client.found_place(config)

    if open_only:
        _first_screen(at, with_slips=slips)
        return

    async def work() -> api.ListTransactionsResponse:
        async with client.channel(at.his) as channel:
            request = api.ListTransactionsRequest(page_size=count)
            return await _stub(channel).ListTransactions(request, metadata=client.metadata(), timeout=_WAIT_S)

    rows = client.run(work(), at).transactions
    if output.wants_json():
        output.echo_json([MessageToDict(row, preserving_proto_field_name=True) for row in rows])
        return
    if not rows:
        output.say("没有交易。", "No transactions.")
    for row in rows:
        click.echo(
            f"{first_screen.beijing(row.created_at)}  {row.order_no:<20}  {Fen(row.amount_fen)!s:>10}  {_word(row)}"
            + (f"  {row.reason}" if row.reason else "")
        )


@click.command()
@client.with_config
@output.with_json
@output.with_language
@output.with_debug
@click.argument("key")
@click.option("--print", "on_paper", is_flag=True, help="同时在终端的打印机上打印 / on the terminal's own printer, too")
def receipt(config: Path | None, key: str, on_paper: bool) -> None:
    """显示凭条，或未扣款证明 / Show the receipt of KEY, or the slip that proves that no money was taken.

    KEY: 交易号、请求号或单据号 / a transaction id, request id or order number.

    退出码：0 已显示（已打印），1 没有这笔交易或打印机故障，2 守护进程没有应答。
    Exit status: 0 shown (and printed), 1 no such transaction or the printer failed, 2 the daemon did not answer.
    """
    at = client.found_place(config)

    async def work() -> api.GetReceiptResponse:
        async with client.channel(at.his) as channel:
            stub = _stub(channel)
            request = api.GetReceiptRequest(transaction_id=await _transaction_id(stub, key), print=on_paper)
            return await stub.GetReceipt(request, metadata=client.metadata(), timeout=_WAIT_S)

    answer = client.run(work(), at)
    if output.wants_json():
        output.echo_json(MessageToDict(answer, preserving_proto_field_name=True))
    else:
        click.echo(answer.text, nl=False)


async def _transaction_id(stub: TerminalServiceAsyncStub, key: str) -> str:
    """Whose id, request id or order number `key` is. Raises AioRpcError, and TRANSACTION_NOT_FOUND: it is nobody's."""
    names = [api.GetTransactionRequest(request_id=key), api.GetTransactionRequest(order_no=key)]
    if re.fullmatch(_TRANSACTION_ID, key):
        names.insert(0, api.GetTransactionRequest(transaction_id=key))
    for request in names:
        try:
            return (
                await stub.GetTransaction(request, metadata=client.metadata(), timeout=_WAIT_S)
            ).transaction.transaction_id
        except grpc.aio.AioRpcError as error:
            if client.failure_of(error).reason is not Reason.TRANSACTION_NOT_FOUND:
                raise
    raise YikatongError(Reason.TRANSACTION_NOT_FOUND, "this terminal knows none with this key")


def _word(row: api.Transaction) -> str:
    word = Word[api.Word.Name(row.word).removeprefix("WORD_")]
    if row.original_transaction_id:
        cancels = row.kind == api.TRANSACTION_KIND_CANCELLATION
        what = output.choose("撤销", "CANCELLATION") if cancels else output.choose("退费", "REFUND")
        return output.choose(f"{what}：{word.value[0]}", f"{what}: {word.value[1].lower()}")
    ends = output.choose("（冲正中，最终不扣款）", " (being reversed: nothing is taken in the end)")
    return output.choose(*word.value) + (ends if row.resolves_to == _REVERSED else "")


def _prompt(text: str) -> None:
    """For a person who looks on: progress is shown on a terminal only."""
    if sys.stderr.isatty():
        click.echo(f"› {text}", err=True)


def _last_try_wanted() -> bool:
    """Asks the cashier; nobody who could answer has not said yes."""
    if output.wants_json() or not sys.stdin.isatty():
        return False
    meaning = MEANING[Reason.PIN_LAST_TRY]
    output.say(f"! {meaning.zh}", f"! {meaning.en}", error=True)
    question = output.choose(
        "持卡人确定记得密码，要用这次机会吗？", "Is the cardholder sure of the PIN, and wants to use it?"
    )
    return click.confirm(question, default=False, err=True)


def _first_screen(at: client.Place, *, with_slips: bool) -> None:
    async def work() -> first_screen.FirstScreen:
        async with client.channel(at.his) as channel:
            return await first_screen.ask(_stub(channel), with_slips=with_slips)

    found = client.run(work(), at)
    if output.wants_json():
        output.echo_json(first_screen.as_json(found))
    else:
        first_screen.show(found)


def _stub(channel: grpc.aio.Channel) -> TerminalServiceAsyncStub:
    return TerminalServiceStub(channel)


def _amount_fen(amount: str) -> int:
    try:
        amount_fen = Fen.from_yuan(amount).count
    except ValueError as error:
        raise click.BadParameter("金额格式如 36.50 / an amount looks like 36.50", param_hint="AMOUNT") from error
    if not 0 < amount_fen <= _AMOUNT_FEN_MAX:
        limit = f"金额应大于 0，至多 {Fen(_AMOUNT_FEN_MAX)} 元 / more than 0, at most {Fen(_AMOUNT_FEN_MAX)} yuan"
        raise click.BadParameter(limit, param_hint="AMOUNT")
    return amount_fen


def _credit(
    config: Path | None, request: api.CancelTransactionRequest | api.RefundTransactionRequest, *, asked_before: bool
) -> None:
    """Gives back, prints the receipt, and ends the command."""
    at = client.found_place(config)
    if not output.wants_json():
        output.say(f"请求号 {request.request_id}", f"request id {request.request_id}")

    async def work() -> api.GetReceiptResponse:
        named = request.transaction_id
        if re.fullmatch(_TRANSACTION_ID, named) is None:  # an order, or a slip of the hand: nothing to ask
            raise YikatongError(Reason.TRANSACTION_NOT_FOUND, "a transaction id is a UUID", transaction_id=named)
        async with client.channel(at.his) as channel:
            stub = _stub(channel)
            done: api.CancelTransactionResponse | api.RefundTransactionResponse
            if isinstance(request, api.CancelTransactionRequest):
                done = await stub.CancelTransaction(request, metadata=client.metadata(), timeout=_WAIT_S)
            else:
                done = await stub.RefundTransaction(request, metadata=client.metadata(), timeout=_WAIT_S)
            key = api.GetReceiptRequest(transaction_id=done.transaction.transaction_id)
            return await stub.GetReceipt(key, metadata=client.metadata())

    _end(client.run(work(), at, money=True, asked_before=asked_before), wanted=(_APPROVED, _REVERSED))


def _end(answer: api.GetReceiptResponse, wanted: Sequence[int] = (_APPROVED,)) -> NoReturn:
    """Prints the receipt, or the transaction as JSON; the exit status is 0 for the states that were `wanted`."""
    if output.wants_json():
        output.echo_json(MessageToDict(answer.transaction, preserving_proto_field_name=True))
    else:
        click.echo(answer.text, nl=False)
    state = answer.transaction.state
    sys.exit(0 if state in wanted else client.EXIT_PENDING if state == _PENDING else client.EXIT_FAILED)
