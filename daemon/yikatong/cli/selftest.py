"""`yikatong selftest`: the weekly test, now."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from yikatong.cli import client, output
from yikatong.core.reasons import MEANING, Reason, YikatongError

if TYPE_CHECKING:
    from yikatong.api.diagnostics.v1 import diagnostics_pb2 as api

_LIMIT_S: Final = 90.0


@click.command()
@client.with_config
@click.option("--report", is_flag=True, help="把结果报送网关 / file the result at the gateway.")
@output.with_json
@output.with_language
@output.with_debug
def selftest(config: Path | None, *, report: bool) -> None:
    """每周自检：用模拟卡和测试账户走完整条链路，不动真实资金 / The weekly test, with a pretend card and test accounts.

    退出码 / exit status: 0 通过 passed, 1 未通过 failed, 2 未能运行 could not run.
    """
    at = None
    try:
        at = client.place(config)
        done = asyncio.run(_run(at, report=report))
    except YikatongError as error:
        if output.wants_debug():
            raise
        client.tell(error, at)
        sys.exit(client.EXIT_NOT_ASKED)
    if output.wants_json():
        output.echo_json(_as_json(done))
    else:
        _conclude(done, at, wanted=report)
    sys.exit(0 if done.passed else client.EXIT_FAILED)


async def _run(at: client.Place, *, report: bool) -> api.SelfTestReport:
    """The whole report; each step is shown as it ends. Raises YikatongError where the test did not come to its end."""
    import grpc.aio

    from yikatong.api.diagnostics.v1 import diagnostics_pb2 as api
    from yikatong.api.diagnostics.v1 import diagnostics_pb2_grpc

    async with client.channel(at.technician) as channel:
        stub = diagnostics_pb2_grpc.DiagnosticsServiceStub(channel)
        call = stub.RunSelfTest(api.RunSelfTestRequest(report=report), timeout=_LIMIT_S, metadata=client.metadata())
        try:
            async for message in call:
                if message.HasField("report"):
                    return message.report
                if not output.wants_json():
                    _show(message.step)
        except grpc.aio.AioRpcError as error:
            raise client.failure_of(error) from error
    raise YikatongError(Reason.DAEMON_UNREACHABLE, "the daemon ended before the test did")


def _show(step: api.SelfTestStep) -> None:
    mark, style = ("✓", "green") if step.passed else ("✗", "bold red")
    code = f" [{step.reason}]" if step.reason else ""
    finding = output.choose(step.finding_zh, step.finding_en)
    console = output.console()
    console.print(f"{mark} {step.name:<14}  {finding}{code}  {step.duration_ms} ms", style=style)
    if not step.passed:
        console.print(f"  {'':<14}  → {_next_step(step.reason)}")


def _next_step(code: str) -> str:
    meaning = MEANING[Reason(code)]
    return output.choose(meaning.next_zh, meaning.next_en)


def _conclude(done: api.SelfTestReport, at: client.Place, *, wanted: bool) -> None:
    if done.passed:
        output.say("自检通过。", "The self-test passed.")
    else:
        output.say(
            f"自检未通过。故障热线 {at.fault_hotline}，政策热线 {at.policy_hotline}。",
            f"The self-test failed. Fault hotline {at.fault_hotline}, policy hotline {at.policy_hotline}.",
        )
    if wanted and not done.reported:
        output.say(
            "结果暂未送达网关，已保存，连通后自动补送。",
            "The gateway has not got the result yet; it is kept and will be sent.",
        )
    elif done.reported:
        output.say("结果已报送网关。", "The result is filed at the gateway.")


def _as_json(done: api.SelfTestReport) -> dict[str, Any]:
    return {
        "run_id": done.run_id,
        "started_at": done.started_at.ToDatetime(tzinfo=UTC).isoformat(),
        "passed": done.passed,
        "reported": done.reported,
        "steps": [
            {
                "name": step.name,
                "passed": step.passed,
                "reason": step.reason,
                "finding": output.choose(step.finding_zh, step.finding_en),
                "next_step": _next_step(step.reason) if step.reason else "",
                "duration_ms": step.duration_ms,
            }
            for step in done.steps
        ],
    }
