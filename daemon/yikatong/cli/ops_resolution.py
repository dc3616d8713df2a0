"""`yikatong ops unresolved|resolve`: what needs people, and how two of them decide it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from yikatong.cli import output
from yikatong.cli.asking import CALL_S, Operator, asked, china_time, plain, run, to_gateway, with_operator
from yikatong.core.values import Fen

if TYPE_CHECKING:
    from yikatong.api.operations.v1 import resolution_pb2 as api

EXIT_STANDING: Final = 1


@click.command()
@with_operator
@output.with_json
@output.with_language
@output.with_debug
def unresolved(operator: Operator) -> None:
    """需要人工处理的交易，最急的在前 / What needs people, the most urgent first. Exit status 1 where there is anything.

    每条列出网关和终端双方的记录、已等多久、要决定什么 / Each with both sides' records, its age, and what to decide.
    """
    from yikatong.api.operations.v1 import resolution_pb2 as api
    from yikatong.api.operations.v1.resolution_pb2_grpc import ResolutionServiceStub

    async def work() -> api.ListUnresolvedResponse:
        async with to_gateway(operator) as channel:
            stub = ResolutionServiceStub(channel)
            return await asked(stub.ListUnresolved(api.ListUnresolvedRequest(), timeout=CALL_S))

    listed = run(work())
    if output.wants_json():
        output.echo_json(plain(listed))
    else:
        for row in listed.unresolved:
            _show(row)
        for region in listed.unreachable_regions:
            output.say(
                f"! 参保地 {region} 无应答，其挂账未知。",
                f"! City {region} does not answer: its suspense account is not known.",
            )
        if not listed.unresolved:
            output.say("✓ 没有需要人工处理的交易。", "✓ Nothing needs people.")
    sys.exit(EXIT_STANDING if listed.unresolved else 0)


@click.command()
@with_operator
@output.with_json
@output.with_language
@output.with_debug
@click.argument("transaction_id", metavar="TXID")
@click.option(
    "--decision",
    type=click.Choice(["confirm", "reverse", "withdraw"]),
    required=True,
    help="confirm 扣款成立 / it stands; reverse 退回 / the money goes back; withdraw 撤回提议 / take back a proposal",
)
@click.option("--reason", required=True, help="原因，写入操作留痕 / why; it is kept on record")
def resolve(operator: Operator, transaction_id: str, decision: str, reason: str) -> None:
    """由两人决定一笔冲正被拒的扣款 / Decide a debit whose reversal was refused; it takes two persons.

    第一人提出，另一人（另一张证书）以相同决定复核后执行 / The first proposes; another, with another certificate and the
    same decision, approves, and it is carried out.
    """
    from yikatong.api.operations.v1 import resolution_pb2 as api
    from yikatong.api.operations.v1.resolution_pb2_grpc import ResolutionServiceStub

    async def work() -> api.ResolveResponse:
        async with to_gateway(operator) as channel:
            value = api.Decision.Value(f"DECISION_{decision.upper()}")
            request = api.ResolveRequest(transaction_id=transaction_id, decision=value, reason=reason)
            return await asked(ResolutionServiceStub(channel).Resolve(request, timeout=CALL_S))

    answer = run(work())
    if output.wants_json():
        output.echo_json(plain(answer))
    else:
        click.echo(f"✓ {_progress(answer.resolution)}")


COMMANDS: Final[tuple[click.Command, ...]] = (unresolved, resolve)


# --- showing ----------------------------------------------------------------------------------------------------

_URGENCIES: Final = {
    "URGENCY_ALARM": ("‼", "急", "alarm"),
    "URGENCY_WARNING": ("!", "提醒", "warning"),
    "URGENCY_NOTICE": ("·", "等候", "waits"),
}
_KINDS: Final = {
    "UNRESOLVED_KIND_REVERSAL_DENIED": ("冲正被拒", "reversal refused"),
    "UNRESOLVED_KIND_TERMINAL_MANUAL": ("终端报告待人工", "manual at the terminal"),
    "UNRESOLVED_KIND_REVERSAL_WAITS": ("冲正未送达", "reversal not acknowledged"),
    "UNRESOLVED_KIND_SUSPENSE": ("退费挂账", "credit in suspense"),
    "UNRESOLVED_KIND_ADOPTED": ("原终端已更换", "its terminal was replaced"),
    "UNRESOLVED_KIND_UNCONFIRMED": ("终端一直未确认", "not confirmed by its terminal"),
}
_NEXT: Final = {
    "UNRESOLVED_KIND_REVERSAL_DENIED": (
        "向机构核实是否已收费并交付：已交付的 resolve --decision confirm，未交付的 --decision reverse；须两人。",
        "Ask the institution whether it took the money as paid: if so resolve --decision confirm, else --decision"
        " reverse; it takes two persons.",
    ),
    "UNRESOLVED_KIND_TERMINAL_MANUAL": (
        "网关没有拒绝过它的冲正：请终端联网后重试，仍在清单中的联系厂商。",
        "The gateway has refused it nothing: let the terminal come back to the line; call the vendor if it stays here.",
    ),
    "UNRESOLVED_KIND_REVERSAL_WAITS": (
        "无需决定，网关会一直送到为止；请联系参保地恢复系统（yikatong ops cities 查看链路）。",
        "Nothing to decide: the gateway goes on until it is acknowledged. Call the home city (yikatong ops cities"
        " shows its link).",
    ),
    "UNRESOLVED_KIND_UNCONFIRMED": (
        "无需决定：请该终端联网，它会自行确认或冲正；机器或磁盘已失的，用 ops replace，再由两人决定。",
        "Nothing to decide: bring the terminal back to the line, it confirms or reverses by itself. Where its machine"
        " or disk is gone: ops replace; then two persons decide.",
    ),
    "UNRESOLVED_KIND_ADOPTED": (
        "按订单号在收费系统中核实：已入账的 resolve --decision confirm，未入账的 --decision reverse；须两人。",
        "Look up the order in the HIS: booked as paid, resolve --decision confirm; else --decision reverse; it takes"
        " two persons.",
    ),
    "UNRESOLVED_KIND_SUSPENSE": (
        "账户已注销，钱在参保地挂账：请参保地经办机构联系本人退付。",
        "The account is closed and the money lies with the home city: its agency has to pay it out to the person.",
    ),
}
_CONTENT_DIFFERS: Final = (
    "双方内容不一致，不能在此决定：请与机构、参保地和厂商一起核查（可能是篡改或程序错误）。",
    "The two sides' content differs, so it can't be decided here: look into it with institution, city and vendor.",
)
_CLOSED: Final = ("参保地已关闭，开通后自动送达。", "The city is closed; it is delivered once that is open.")


def _show(row: api.Unresolved) -> None:
    from yikatong.api.operations.v1 import resolution_pb2 as api

    kind = api.UnresolvedKind.Name(row.kind)
    mark, zh, en = _URGENCIES[api.Urgency.Name(row.urgency)]
    urgency, name = output.choose(zh, en), output.choose(*_KINDS[kind])
    click.echo(f"{mark} {urgency}  {name}  {row.transaction_id}  {_age(row)}")
    where = (
        f"{row.terminal_id or '-'}  {row.institution or '-'}  {row.treatment_region or '-'} → {row.home_region or '-'}"
    )
    click.echo(f"    {output.choose('终端、机构、就医地 → 参保地', 'terminal, institution, cities')}: {where}")
    for side_zh, side_en, side in (("网关", "gateway", row.gateway), ("终端", "terminal", row.terminal)):
        if side.state or side.amount_fen:
            click.echo(f"    {output.choose(side_zh, side_en)}: {_side(side)}")
    if row.HasField("resolution") and row.resolution.progress != api.PROGRESS_OPEN:
        click.echo(f"    {_progress(row.resolution)}")
    step = _NEXT[kind]
    differs = row.terminal.fingerprint and row.gateway.fingerprint != row.terminal.fingerprint
    if differs and row.gateway.state in {"POSTED", "CONFIRMED", "REV"}:
        step = _CONTENT_DIFFERS
    elif row.city_closed and kind == "UNRESOLVED_KIND_REVERSAL_WAITS":
        step = _CLOSED
    click.echo(f"    {output.choose('要做的', 'to do')}: {output.choose(*step)}")


def _age(row: api.Unresolved) -> str:
    minutes = int((datetime.now(UTC) - row.since.ToDatetime(UTC)).total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60
    if days:
        age = output.choose(f"{days} 天", f"{days} d")
    else:
        age = (
            output.choose(f"{hours} 小时", f"{hours} h") if hours else output.choose(f"{minutes} 分", f"{minutes} min")
        )
    return output.choose(f"自 {china_time(row.since)}（{age}）", f"since {china_time(row.since)} ({age})")


def _side(side: api.SideFacts) -> str:
    parts = [side.state, str(Fen(side.amount_fen)), side.order_no, side.order_part, side.accounting_date]
    if side.reference:
        parts.append(f"{output.choose('凭证', 'reference')} {side.reference}")
    if side.HasField("seen_at"):
        parts.append(f"{output.choose('最近来问', 'last asked')} {china_time(side.seen_at)}")
    return "  ".join(part for part in parts if part)


def _progress(resolution: api.Resolution) -> str:
    from yikatong.api.operations.v1 import resolution_pb2 as api

    what = {
        api.DECISION_CONFIRM: ("扣款成立", "the debit stands"),
        api.DECISION_REVERSE: ("款项退回", "the money goes back"),
    }
    if resolution.progress == api.PROGRESS_OPEN:
        return output.choose("提议已撤回，待重新提出。", "The proposal is taken back; a new one is awaited.")
    zh, en = what[resolution.decision]
    if resolution.progress == api.PROGRESS_PROPOSED:
        return output.choose(
            f"{resolution.proposed_by} 提出：{zh}（{resolution.reason}）。待另一人以相同决定复核。",
            f"{resolution.proposed_by} proposes: {en} ({resolution.reason}). Another person has to approve the same.",
        )
    who_zh = f"{resolution.proposed_by} 提出、{resolution.approved_by} 复核：{zh}。"
    who_en = f"{resolution.proposed_by} proposed, {resolution.approved_by} approved: {en}."
    if resolution.progress == api.PROGRESS_APPROVED:
        return output.choose(f"{who_zh}正在执行，完成前终端仍显示待人工。", f"{who_en} It is being carried out.")
    return output.choose(f"{who_zh}已执行，终端下次来问时得知。", f"{who_en} Done; the terminal hears it when it asks.")
