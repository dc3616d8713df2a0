"""`yikatong ops`: the operator's side. It asks the gateway with a certificate whose name begins with `operator-`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from yikatong.cli import ops_clearing, ops_fleet, ops_registry, ops_resolution, output
from yikatong.cli.asking import CALL_S, Operator, asked, plain, run, to_gateway, with_operator
from yikatong.core.reconciliation import Class, Difference, Row, Totals
from yikatong.core.values import Fen

if TYPE_CHECKING:
    from yikatong.api.operations.v1 import reconciliation_pb2 as api

_COMPARE_S: Final = 1800.0
_SHOWN: Final = 200


@click.group()
def ops() -> None:
    """省级运维：机构、参保地、待决交易、对账、账务自证 / The operator's side of the gateway.

    退出码：0 正常，1 被拒绝或有待处理项，2 无法询问网关，3 结果未定。
    Exit status: 0 well, 1 refused, or something needs people, 2 the gateway could not be asked, 3 nobody knows.
    """


for _command in (*ops_registry.COMMANDS, *ops_resolution.COMMANDS, *ops_clearing.COMMANDS, *ops_fleet.COMMANDS):
    ops.add_command(_command)


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
        async with to_gateway(operator) as channel:
            stub = ReconciliationServiceStub(channel)
            await asked(stub.ReconcileCities(api.ReconcileCitiesRequest(accounting_date=date), timeout=_COMPARE_S))
            days = await asked(
                stub.ListReconciliations(api.ListReconciliationsRequest(accounting_date=date), timeout=CALL_S)
            )
            listed = api.ListDifferencesRequest(accounting_date=date, page_size=_SHOWN)
            return list(days.reconciliations), await asked(stub.ListDifferences(listed, timeout=CALL_S))

    days, listed = run(work())
    if output.wants_json():
        result = api.ListReconciliationsResponse(reconciliations=days)
        output.echo_json({**plain(result), **plain(listed)})
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
        async with to_gateway(operator) as channel:
            request = api.ListDifferencesRequest(accounting_date=date, settled=settled, page_size=_SHOWN)
            return await asked(ReconciliationServiceStub(channel).ListDifferences(request, timeout=CALL_S))

    listed = run(work())
    if output.wants_json():
        output.echo_json(plain(listed))
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
        async with to_gateway(operator) as channel:
            return await asked(ClearingServiceStub(channel).Audit(operations_pb2.AuditRequest(), timeout=_COMPARE_S))

    answer = run(work())
    found = answer.findings
    if output.wants_json():
        output.echo_json(plain(answer))
    elif not found:
        output.say(
            "✓ 账务自证通过：分录合计为零，余额等于分录之和，债权与路由一致。",
            "✓ The books hold: entries add up to zero, balances to their entries, claims fit their routes.",
        )
    if not output.wants_json():
        head = answer.acts_head.hex()
        output.say(
            f"操作留痕 {answer.acts} 条，末条摘要 {head}（请另行记录，日后可证明无一缺失）。",
            f"Operators' acts: {answer.acts}, last digest {head} (note it elsewhere: it proves that none is gone).",
        )
    for finding in [] if output.wants_json() else found:
        click.echo(f"✗ {finding.invariant}  {finding.subject}  {finding.detail}")
    sys.exit(int(bool(found)))


# --- showing ----------------------------------------------------------------------------------------------------


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
