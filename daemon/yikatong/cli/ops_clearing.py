"""`yikatong ops clearing`: what cities owe each other for a month, closed once."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from yikatong.cli import output
from yikatong.cli.asking import CALL_S, Operator, asked, china_time, plain, run, tell, to_gateway, with_operator
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen

if TYPE_CHECKING:
    from yikatong.api.operations.v1 import operations_pb2 as api

_CLOSE_S: Final = 600.0
_HEADER: Final = "accounting_date,transaction_id,kind,original,institution,amount_fen"
_KINDS: Final = {
    "DEBIT": ("扣款", "debits"),
    "REVERSAL": ("冲正", "reversals"),
    "CANCELLATION": ("撤销", "cancellations"),
    "REFUND": ("退费", "refunds"),
}


@click.group(invoke_without_command=True)
@with_operator
@output.with_json
@output.with_language
@output.with_debug
@click.option("--month", default="", metavar="YYYY-MM", help="清算月份 / month (默认全部 / all)")
@click.pass_context
def clearing(context: click.Context, operator: Operator, month: str) -> None:
    """月度清算单：参保地欠就医地多少 / Monthly statements: what home cities owe treatment cities."""
    context.obj = operator
    if context.invoked_subcommand is not None:
        return
    _show_all(_listed(operator, month))


@clearing.command("close")
@output.with_json
@output.with_language
@output.with_debug
@click.argument("month", metavar="YYYY-MM")
@click.option("--reason", required=True, help="原因，写入操作留痕 / why; it is kept on record")
@click.pass_obj
def close_month(operator: Operator, month: str, reason: str) -> None:
    """关账：一个月只关一次，之后的计入下月 / Close a month, once; what comes late goes into the next.

    未确认的扣款不清算，转入下月 / A debit that is not confirmed does not settle: it is carried on.
    """
    from yikatong.api.operations.v1 import operations_pb2 as api
    from yikatong.api.operations.v1.operations_pb2_grpc import ClearingServiceStub

    async def work() -> api.CloseMonthResponse:
        async with to_gateway(operator) as channel:
            request = api.CloseMonthRequest(month=month, reason=reason)
            return await asked(ClearingServiceStub(channel).CloseMonth(request, timeout=_CLOSE_S))

    closed = run(work())
    _show_all(api.ListStatementsResponse(statements=closed.statements))


@clearing.command("show")
@output.with_json
@output.with_language
@output.with_debug
@click.argument("month", metavar="YYYY-MM")
@click.argument("treatment", metavar="就医地/TREATMENT")
@click.argument("home", metavar="参保地/HOME")
@click.option(
    "--csv",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="把明细写入此文件 / write the details into this file",
)
@click.pass_obj
def show(operator: Operator, month: str, treatment: str, home: str, file: Path | None) -> None:
    """一张清算单及其明细，并核对其摘要 / One statement with its details; its digest is proved.

    Exit status: 0 the digest holds, 1 it does not or there is no such statement, 2 the gateway could not be asked.
    """
    from yikatong.api.operations.v1 import operations_pb2 as api

    pair = [s for s in _listed(operator, month).statements if (s.treatment_region, s.home_region) == (treatment, home)]
    if not pair:
        sys.exit(tell(YikatongError(Reason.INVALID_FIELD, "there is no such statement", why="NO_SUCH_STATEMENT")))
    statement = pair[0]
    details = run(_details(operator, statement))
    text = f"{_HEADER}\n" + "".join(f"{_csv(line)}\n" for line in details)
    digest = hashlib.new("sm3", f"{month},{treatment},{home}\n{text}".encode()).digest()
    if file is not None:
        file.write_text(text, encoding="utf-8")
    if output.wants_json():
        output.echo_json({**plain(statement), **plain(api.GetStatementResponse(lines=details))})
    else:
        _show(statement)
        if file is None:
            click.echo(text, nl=False)
    if digest != statement.digest:
        output.say("✗ 明细与摘要不符。", "✗ The details do not fit the digest.", error=True)
    sys.exit(int(digest != statement.digest))


COMMANDS: Final[tuple[click.Command, ...]] = (clearing,)


# --- asking -----------------------------------------------------------------------------------------------------


def _listed(operator: Operator, month: str) -> api.ListStatementsResponse:
    from yikatong.api.operations.v1 import operations_pb2 as api
    from yikatong.api.operations.v1.operations_pb2_grpc import ClearingServiceStub

    async def work() -> api.ListStatementsResponse:
        async with to_gateway(operator) as channel:
            request = api.ListStatementsRequest(month=month)
            return await asked(ClearingServiceStub(channel).ListStatements(request, timeout=CALL_S))

    return run(work())


async def _details(operator: Operator, statement: api.Statement) -> list[api.StatementLine]:
    from yikatong.api.operations.v1 import operations_pb2 as api
    from yikatong.api.operations.v1.operations_pb2_grpc import ClearingServiceStub

    found: list[api.StatementLine] = []
    async with to_gateway(operator) as channel:
        stub, more = ClearingServiceStub(channel), True
        while more:
            after = found[-1].entry if found else 0
            request = api.GetStatementRequest(number=statement.number, after_entry=after)
            page = await asked(stub.GetStatement(request, timeout=CALL_S))
            found += page.lines
            more = page.more
    return found


# --- showing ----------------------------------------------------------------------------------------------------


def _csv(line: api.StatementLine) -> str:
    who = f"{line.transaction_id},{line.kind},{line.original_id},{line.institution}"
    return f"{line.accounting_date},{who},{line.amount_fen}"


def _show_all(listed: api.ListStatementsResponse) -> None:
    if output.wants_json():
        output.echo_json(plain(listed))
        return
    for statement in listed.statements:
        _show(statement)
    if not listed.statements:
        output.say("没有清算单。", "There are no statements.")


def _show(statement: api.Statement) -> None:
    net = Fen(statement.net_fen)
    home, treatment = statement.home_region, statement.treatment_region
    click.echo(
        f"{statement.month}  "
        + output.choose(f"参保地 {home} 应付就医地 {treatment}：{net} 元", f"{home} owes {treatment}: {net} yuan")
    )
    parts = [
        f"{output.choose(*_KINDS[total.kind])} {total.count} / {Fen(total.amount_fen)}" for total in statement.totals
    ]
    click.echo(f"    {'  '.join(parts)}")
    closed = china_time(statement.closed_at)
    output.say(f"    关账 {closed}  摘要 {statement.digest.hex()}", f"    closed {closed}  {statement.digest.hex()}")
