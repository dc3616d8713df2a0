"""`yikatong demo`: one debit between two cities, and the promise, on one screen."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import grpc.aio

from yikatong.api.citycore.v1 import citycore_pb2
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.operations.v1 import operations_pb2
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.cli import client, output, prompts
from yikatong.cli.folder import FolderUnusable, kept
from yikatong.cli.province import HOME, TREATMENT, Province
from yikatong.core.reasons import YikatongError
from yikatong.core.values import Fen

if TYPE_CHECKING:
    from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceAsyncStub

AMOUNT: Final = Fen(3650)
_CARD: Final = "works"
_EXIT_INTERRUPTED: Final = 130
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HIS_PATIENCE_S: Final = 5.0
"""How long the demo's HIS waits for a debit whose answer is lost; real ones wait longer."""


@click.command()
@output.with_language
@output.with_debug
@click.option("--in-process", is_flag=True, help="不用 PC/SC，卡在进程内 / no PC/SC: the card in process")
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="保留文件的目录 / folder to keep the files in"
)
def demo(in_process: bool, keep: Path | None) -> None:
    """两座模拟城市之间的一笔扣款 / A debit between two simulated cities: card, daemon, gateway, ledgers.

    文件夹可以再次使用；余额接着上次。 / A folder may be used again: its balances go on where they stood.

    退出码：0 完成，1 未能完成，2 文件夹不能用，130 被中断。
    Exit status: 0 done, 1 could not be done, 2 the folder can't be used, 130 interrupted.
    """
    with _signals_held_back(), contextlib.ExitStack() as stack:
        try:
            folder = keep.resolve() if keep else _temporary(stack)
            stack.enter_context(kept(folder))
            province = Province(folder, card=_CARD, in_process=in_process)
            stack.callback(province.close)
            with _interruptible():
                asyncio.run(_show(province.__enter__()))
        except FolderUnusable as error:
            output.say(f"✗ {error.zh}\n  下一步：{error.next_zh}", f"✗ {error.en}\n  next: {error.next_en}", error=True)
            sys.exit(client.EXIT_NOT_ASKED)
        except KeyboardInterrupt:
            output.say("已中断，正在停止全部进程。", "Interrupted; everything is being stopped.", error=True)
            sys.exit(_EXIT_INTERRUPTED)
        except (YikatongError, grpc.aio.AioRpcError) as error:
            if output.wants_debug():
                raise
            sys.exit(client.tell(error if isinstance(error, YikatongError) else client.failure_of(error, money=True)))


def _temporary(stack: contextlib.ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yikatong-")))


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Ctrl-C and its like wait until `_interruptible`: folders and processes are made and cleared away in one piece."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """The first signal ends the block with KeyboardInterrupt; those that follow are ignored, to the end."""

    def ignore() -> None:
        for name in _ENDING:
            signal.signal(name, signal.SIG_IGN)

    def end(*_: object) -> None:
        ignore()
        raise KeyboardInterrupt

    for name in _ENDING:
        signal.signal(name, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    try:
        yield
    finally:
        ignore()


@dataclass(frozen=True, slots=True)
class _Books:
    """What the two cities' books say about each other, in fen."""

    personal: int
    owed: int
    claimed: int
    to_pharmacy: int


async def _show(province: Province) -> None:
    _title("一卡通 演示：青岛药店，威海参保人", "Yikatong demo: a pharmacy in Qingdao, a person insured in Weihai")
    async with grpc.aio.insecure_channel(f"unix:{province.his_socket}") as channel:
        his = TerminalServiceStub(channel)
        account = await his.GetAccount(api.GetAccountRequest(wait_ms=10_000), metadata=client.metadata())
        for zh, en in province.described(Fen(account.balance_fen)):
            _line(zh, en)
        _show_card(account)
        before = await _books(province)
        _title("扣款前的两本账", "Both cities' books before")
        _show_books(before)
        request, paid = await _show_debit(his)
        after = await _books(province)
        _title("扣款后的两本账", "Both cities' books after")
        _show_books(after)
        assert before.personal - after.personal == AMOUNT.count
        await _show_repeat(his, province, request, paid, after)
        await _show_lost_answer(his, province, after)


def _show_card(account: api.GetAccountResponse) -> None:
    _title("1. 读卡", "1. Read the card")
    card = account.card
    _line(
        f"卡号 {card.card_number}　姓名 {card.name}　社保号码 {card.social_security_number}　规范 {card.spec_version}",
        f"card {card.card_number}, {card.name}, person {card.social_security_number}, spec {card.spec_version}",
    )
    _line(
        f"参保地 {account.home_city}（{account.home_region}）　个人账户余额 {Fen(account.balance_fen)} 元",
        f"home city {account.home_city} ({account.home_region}), personal account {Fen(account.balance_fen)} yuan",
    )


def _request() -> api.DebitRequest:
    number = uuid.uuid4().hex[:8].upper()
    request = api.DebitRequest(
        request_id=f"HIS-{number}",
        order_no=f"RX-{number}",
        amount_fen=AMOUNT.count,
        purpose=money.PURPOSE_PHARMACY_PURCHASE,
        bill_total_fen=AMOUNT.count + 500,
        operator_id="0001",
    )
    request.shares.add(fund=api.FUND_CASH, amount_fen=500)
    # Invented items; the codes have the shape of the national and a local catalogue.
    request.items.add(
        name="阿莫西林胶囊 0.25g×24",
        national_code="XJ01CAA040E001010100001",
        local_code="QD-100234",
        quantity_milli=2000,
        amount_fen=2960,
    )
    request.items.add(
        name="医用外科口罩",
        national_code="C14010200000000000000001",
        local_code="QD-730018",
        quantity_milli=1000,
        amount_fen=1190,
    )
    return request


async def _show_debit(his: TerminalServiceAsyncStub) -> tuple[api.DebitRequest, api.Transaction]:
    _title(f"2. 扣款 {AMOUNT} 元", f"2. Debit of {AMOUNT} yuan")
    request = _request()
    async with prompts.shown(his, _prompt):
        paid = await his.Debit(request, metadata=client.metadata(), timeout=60)
    answer = await his.GetReceipt(api.GetReceiptRequest(transaction_id=paid.transaction.transaction_id))
    click.echo(answer.text, nl=False)
    return request, paid.transaction


def _prompt(text: str) -> None:
    click.echo(f"   › {text}")


async def _show_repeat(
    his: TerminalServiceAsyncStub, province: Province, request: api.DebitRequest, paid: api.Transaction, after: _Books
) -> None:
    _title("3. 承诺一：同一请求再来一次", "3. The promise: the same request once more")
    again = await his.Debit(request, metadata=client.metadata(), timeout=60)
    same = again.transaction.transaction_id == paid.transaction_id
    books = await _books(province)
    _line(
        f"同一交易号 {_tick(same)}　账未变 {_tick(books == after)}　只扣一次",
        f"same transaction {_tick(same)}, books unchanged {_tick(books == after)}: money moved once",
    )
    assert same
    assert books == after


async def _show_lost_answer(his: TerminalServiceAsyncStub, province: Province, after: _Books) -> None:
    _title("4. 承诺二：应答在途中丢失", "4. The promise: an answer lost on the way")
    _line(
        f"威海已记账，但应答丢失；HIS 等待 {_HIS_PATIENCE_S:.0f} 秒。",
        f"Weihai posts it and the answer is lost; the HIS waits {_HIS_PATIENCE_S:.0f} s.",
    )
    province.lose_answers()
    async with prompts.shown(his, _prompt):
        told = (await his.Debit(_request(), metadata=client.metadata(), timeout=_HIS_PATIENCE_S)).transaction
        _line(f"HIS 得到：{_told(told)}", f"the HIS is told: {_told(told)}")
        province.heal()
        final = await _until_final(his, told)
    _line(f"最终：{_told(final)}", f"finally: {_told(final)}")
    entries = [
        entry.amount_fen
        for entry in (await province.home_core().ListEntries(citycore_pb2.ListEntriesRequest(home_region=HOME))).entries
        if entry.transaction_id == told.transaction_id and entry.account.startswith("personal")
    ]
    shown = ", ".join(f"{'+' if amount > 0 else ''}{Fen(amount)}" for amount in entries)
    _line(f"威海个人账户分录：{shown}", f"entries of the personal account in Weihai: {shown}")
    books = await _books(province)
    _line(f"净额为零 {_tick(books == after)}　谁都不用猜", f"net zero {_tick(books == after)}: nobody has to guess")
    assert final.state == api.TRANSACTION_STATE_REVERSED
    assert sum(entries) == 0
    assert entries
    assert books == after


async def _until_final(his: TerminalServiceAsyncStub, row: api.Transaction) -> api.Transaction:
    async with asyncio.timeout(60):
        while row.state == api.TRANSACTION_STATE_PENDING:
            await asyncio.sleep(0.2)
            key = api.GetTransactionRequest(transaction_id=row.transaction_id)
            row = (await his.GetTransaction(key, metadata=client.metadata())).transaction
    return row


async def _books(province: Province) -> _Books:
    cities = {
        city.region: city for city in (await province.clearing().GetBooks(operations_pb2.GetBooksRequest())).cities
    }
    home, treatment = cities[HOME], cities[TREATMENT]
    claims = {balance.account: balance.amount_fen for balance in treatment.claims}
    return _Books(
        personal=home.personal_fen,
        owed=sum(balance.amount_fen for balance in home.payables if balance.account.endswith(TREATMENT)),
        claimed=sum(amount for account, amount in claims.items() if account == f"receivable:{HOME}"),
        to_pharmacy=sum(amount for account, amount in claims.items() if account.startswith("payable:P")),
    )


def _show_books(books: _Books) -> None:
    _line(
        f"威海（参保地，独立进程与数据库）　个人账户合计 {Fen(books.personal)}　应付青岛 {Fen(abs(books.owed))}",
        f"Weihai (home, process and database of its own): personal accounts {Fen(books.personal)}, "
        f"owes Qingdao {Fen(abs(books.owed))}",
    )
    _line(
        f"青岛（就医地，账在网关）　　　　　应收威海 {Fen(abs(books.claimed))}　应付药店 {Fen(abs(books.to_pharmacy))}",
        f"Qingdao (treatment, books at the gateway): claims of Weihai {Fen(abs(books.claimed))}, "
        f"owes the pharmacy {Fen(abs(books.to_pharmacy))}",
    )


def _told(row: api.Transaction) -> str:
    words = api.TransactionState.Name(row.state).removeprefix("TRANSACTION_STATE_")
    if row.resolves_to:
        words += " → " + api.TransactionState.Name(row.resolves_to).removeprefix("TRANSACTION_STATE_")
    return f"{words}　{row.reason}"


def _tick(holds: bool) -> str:
    return "✓" if holds else "✗"


def _title(zh: str, en: str) -> None:
    output.console().print(f"\n== {output.choose(zh, en)}", style="bold")


def _line(zh: str, en: str) -> None:
    output.say(f"   {zh}", f"   {en}")
