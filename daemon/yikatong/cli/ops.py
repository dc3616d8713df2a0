"""`yikatong ops`: the operator's side. It asks the gateway with a certificate whose name begins with `operator-`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from yikatong.cli import client, output
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.reconciliation import Class, Difference, Row, Totals
from yikatong.core.values import Fen

if TYPE_CHECKING:
    import grpc.aio
    from google.protobuf.message import Message

    from yikatong.api.operations.v1 import reconciliation_pb2 as api

OPERATOR_DEFAULT: Final = Path("/etc/yikatong/operator.toml")
OPERATOR_VARIABLE: Final = "YIKATONG_OPERATOR"

_CALL_S: Final = 60.0
_COMPARE_S: Final = 1800.0
_SHOWN: Final = 200

Answer = TypeVar("Answer")
Command = TypeVar("Command", bound=Callable[..., Any])


class Operator(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """operator.toml: where the gateway is, and who the operator is (PEM files)."""

    gateway: str
    authority: str
    certificate: str
    key: str
    server_name: str = ""


def with_operator(command: Command) -> Command:
    """Adds the options that say who asks; handed on as `operator: Operator`."""

    def made(
        gateway: str, authority: str, certificate: str, key: str, server_name: str, operator: Path | None, **others: Any
    ) -> Any:
        from yikatong.runtime.config import load

        said = {"gateway": gateway, "authority": authority, "certificate": certificate, "key": key}
        missing = [name for name, value in said.items() if not value]
        if not missing:
            return command(operator=Operator(**said, server_name=server_name), **others)
        if len(missing) < len(said):
            raise click.UsageError(f"--{missing[0]} 缺失 / is missing")
        try:
            found = load(operator or OPERATOR_DEFAULT, Operator)
        except YikatongError as error:
            sys.exit(client.tell(error))
        return command(operator=found, **others)

    made.__name__, made.__doc__ = command.__name__, command.__doc__
    made.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]  # where click keeps a command's options
    path = click.Path(path_type=str, dir_okay=False)
    for option in (
        click.option("--gateway", default="", metavar="HOST:PORT", help="网关地址 / the gateway's address"),
        click.option("--authority", type=path, default="", help="CA 证书 / the authority's certificate (PEM)"),
        click.option("--certificate", type=path, default="", help="操作员证书 / the operator's certificate (PEM)"),
        click.option("--key", type=path, default="", help="操作员私钥 / the operator's key (PEM)"),
        click.option("--server-name", default="", help="网关证书中的名称 / name in the gateway's certificate"),
        click.option(
            "--operator",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar=OPERATOR_VARIABLE,
            default=None,
            help=f"以上各项的 TOML 文件 / a TOML file with the above ({OPERATOR_DEFAULT})",
        ),
    ):
        made = option(made)
    return made  # type: ignore[return-value]  # it is called as click calls commands, by keyword


@click.group()
def ops() -> None:
    """省级运维：对账、账务自证 / The operator's side: reconciliation, and the books' proof."""


@ops.command()
@with_operator
@output.with_json
@output.with_language
@output.with_debug
@click.option("--date", required=True, metavar="YYYY-MM-DD", help="记账日 / accounting date")
def reconcile(operator: Operator, date: str) -> None:
    """与各参保地核对一个记账日，并列出终端的核对结果 / Compare an accounting date with every city; show the terminals'.

    Exit status: 0 everything equal, 1 something differs or a city did not answer, 2 the gateway could not be asked.
    """
    from yikatong.api.operations.v1 import reconciliation_pb2 as api
    from yikatong.api.operations.v1.reconciliation_pb2_grpc import ReconciliationServiceStub

    async def work() -> tuple[list[api.Reconciliation], api.ListDifferencesResponse]:
        async with _channel(operator) as channel:
            stub = ReconciliationServiceStub(channel)
            await _asked(stub.ReconcileCities(api.ReconcileCitiesRequest(accounting_date=date), timeout=_COMPARE_S))
            days = await _asked(
                stub.ListReconciliations(api.ListReconciliationsRequest(accounting_date=date), timeout=_CALL_S)
            )
            listed = api.ListDifferencesRequest(accounting_date=date, page_size=_SHOWN)
            return list(days.reconciliations), await _asked(stub.ListDifferences(listed, timeout=_CALL_S))

    days, listed = _run(work())
    if output.wants_json():
        result = api.ListReconciliationsResponse(reconciliations=days)
        output.echo_json({**_plain(result), **_plain(listed)})
    else:
        for day in days:
            _show_day(day)
        for difference in listed.differences:
            _show(difference)
        _say_more(listed)
    sys.exit(int(any(day.outcome != api.RECONCILIATION_OUTCOME_EQUAL for day in days)))


@ops.command()
@with_operator
@output.with_json
@output.with_language
@output.with_debug
@click.option("--date", default="", metavar="YYYY-MM-DD", help="记账日 / accounting date (默认全部 / all)")
@click.option("--settled", is_flag=True, help="包括已消除的差异 / those too that are settled")
def differences(operator: Operator, date: str, settled: bool) -> None:
    """对账差异清单，最严重的在前 / The list of differences, the worst first. Exit status 1 where any stands."""
    from yikatong.api.operations.v1 import reconciliation_pb2 as api
    from yikatong.api.operations.v1.reconciliation_pb2_grpc import ReconciliationServiceStub

    async def work() -> api.ListDifferencesResponse:
        async with _channel(operator) as channel:
            request = api.ListDifferencesRequest(accounting_date=date, settled=settled, page_size=_SHOWN)
            return await _asked(ReconciliationServiceStub(channel).ListDifferences(request, timeout=_CALL_S))

    listed = _run(work())
    if output.wants_json():
        output.echo_json(_plain(listed))
    elif not listed.differences:
        output.say("✓ 没有差异。", "✓ No differences.")
    else:
        for difference in listed.differences:
            _show(difference)
        _say_more(listed)
    sys.exit(int(any(not difference.HasField("settled_at") for difference in listed.differences)))


@ops.command()
@with_operator
@output.with_json
@output.with_language
@output.with_debug
def audit(operator: Operator) -> None:
    """账务自证：一次扫描，不停业务 / Prove the gateway's books from their rows, in one pass, while it works.

    Exit status: 0 everything holds, 1 something does not, 2 the gateway could not be asked.
    """
    from yikatong.api.operations.v1 import operations_pb2
    from yikatong.api.operations.v1.operations_pb2_grpc import ClearingServiceStub

    async def work() -> operations_pb2.AuditResponse:
        async with _channel(operator) as channel:
            return await _asked(ClearingServiceStub(channel).Audit(operations_pb2.AuditRequest(), timeout=_COMPARE_S))

    answer = _run(work())
    found = answer.findings
    if output.wants_json():
        output.echo_json(_plain(answer))
    elif not found:
        output.say(
            "✓ 账务自证通过：分录合计为零，余额等于分录之和，债权与路由一致。",
            "✓ The books hold: entries add up to zero, balances to their entries, claims fit their routes.",
        )
    for finding in [] if output.wants_json() else found:
        click.echo(f"✗ {finding.invariant}  {finding.subject}  {finding.detail}")
    sys.exit(int(bool(found)))


# --- asking -----------------------------------------------------------------------------------------------------


def _channel(operator: Operator) -> grpc.aio.Channel:
    import grpc.aio

    from yikatong.runtime.tls import CLIENT_OPTIONS, Identity

    identity = Identity(Path(operator.authority), Path(operator.certificate), Path(operator.key))
    options: list[tuple[str, Any]] = list(CLIENT_OPTIONS)
    if operator.server_name:
        options.append(("grpc.ssl_target_name_override", operator.server_name))
    return grpc.aio.secure_channel(operator.gateway, identity.channel_credentials(), options=options)


async def _asked(call: Awaitable[Answer]) -> Answer:
    """The answer. Raises YikatongError: what the gateway says, or GATEWAY_UNREACHABLE."""
    import grpc.aio

    from yikatong.runtime import edge

    try:
        return await call
    except grpc.aio.AioRpcError as error:
        told = edge.error_of(error)
        raise told or YikatongError(Reason.GATEWAY_UNREACHABLE, error.code().name) from error


def _run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs `work`; a failure is told to the person and ends the command with exit status 2."""
    try:
        return asyncio.run(work)
    except YikatongError as error:
        if output.wants_debug():
            raise
        client.tell(error)
        sys.exit(client.EXIT_NOT_ASKED)


# --- showing ----------------------------------------------------------------------------------------------------


def _plain(message: Message) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _show_day(day: api.Reconciliation) -> None:
    from yikatong.api.operations.v1 import reconciliation_pb2 as api
    from yikatong.runtime.wire_reconciliation import totals_of

    mark, zh, en = {
        api.RECONCILIATION_OUTCOME_EQUAL: ("✓", "相符", "equal"),
        api.RECONCILIATION_OUTCOME_UNREACHABLE: ("✗", "参保地无应答", "the city does not answer"),
    }.get(day.outcome, ("✗", "不符", "different"))
    party = output.choose("终端", "terminal") if day.party == api.PARTY_TERMINAL else output.choose("参保地", "city")
    sides = f"{_amounts(totals_of(day.told))} | {_amounts(totals_of(day.booked))}"
    click.echo(f"{mark} {party} {day.name}  {day.accounting_date}  {output.choose(zh, en)}  {sides}")


def _amounts(totals: Totals) -> str:
    parts = [f"{kind.value} {total.count} / {Fen(total.amount_fen)}" for kind, total in totals.kinds.items()]
    return ", ".join(parts) or "0"


def _show(listed: api.ListedDifference) -> None:
    from yikatong.runtime.wire_reconciliation import difference_from_wire

    difference = difference_from_wire(listed.difference)
    treatment = difference.treatment
    settled = output.choose("（已消除）", " (settled)") if listed.HasField("settled_at") else ""
    click.echo(
        f"{difference.found.value}  {listed.accounting_date}  {listed.name}  {difference.transaction_id}"
        f"  {output.choose(treatment.zh, treatment.en)}{settled}"
    )
    for zh, en, row in _sides(difference):
        click.echo(f"    {output.choose(zh, en)}: {_words(row)}")
    if difference.other_transaction:
        click.echo(f"    {output.choose('首笔', 'first')}: {difference.other_transaction}")
    click.echo(f"    {output.choose('处理', 'next')}: {output.choose(treatment.action_zh, treatment.action_en)}")


def _sides(difference: Difference) -> list[tuple[str, str, Row | None]]:
    if difference.found is Class.DUPLICATE_ORDER:
        return [("重复", "again", difference.booked)]
    return [("告知方", "told", difference.told), ("记账方", "booked", difference.booked)]


def _words(row: Row | None) -> str:
    if row is None:
        return output.choose("没有记录", "no record")
    since = f"  {row.since}" if row.since else ""
    return f"{row.state or row.standing.value}  {Fen(row.amount_fen)}  {row.order_no}{since}".rstrip()


def _say_more(listed: api.ListDifferencesResponse) -> None:
    if listed.more:
        output.say(f"……只显示前 {_SHOWN} 条。", f"… only the first {_SHOWN} are shown.")
