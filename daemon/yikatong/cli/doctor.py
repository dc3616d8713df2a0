"""`yikatong doctor`: the health of this terminal on one screen, also while its daemon is down."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from yikatong.cli import client, output
from yikatong.core.reasons import Reason, YikatongError
from yikatong.terminal.probes import Probe, Severity

if TYPE_CHECKING:
    from yikatong.runtime.config import ConfigurationInvalid

_LIMIT_S: Final = 30.0
_MARKS: Final = {Severity.OK: ("✓", "green"), Severity.DEGRADED: ("!", "yellow"), Severity.FAILED: ("✗", "bold red")}


@dataclass(frozen=True, slots=True)
class Screen:
    """What the doctor shows."""

    terminal_id: str
    probes: Sequence[Probe]
    policy_hotline: str
    fault_hotline: str
    checked_at: datetime

    @property
    def exit_status(self) -> int:
        """0: all is well; 1: degraded; 2: the terminal can't take money."""
        severities = {probe.severity for probe in self.probes}
        return 2 if Severity.FAILED in severities else 1 if Severity.DEGRADED in severities else 0


@click.command()
@client.with_config
@output.with_json
@output.with_language
@output.with_debug
def doctor(config: Path | None) -> None:
    """检查本终端，逐项给出原因和下一步 / What is wrong with this terminal, and what to do.

    退出码 / exit status: 0 正常 ok, 1 有隐患 degraded, 2 不能收费 cannot take money.
    """
    screen = _examine(config)
    if output.wants_json():
        output.echo_json(_as_json(screen))
    else:
        _show(screen)
    sys.exit(screen.exit_status)


def _examine(config: Path | None) -> Screen:
    from yikatong.runtime.config import ConfigurationInvalid

    now = datetime.now(UTC)
    try:
        at = client.place(config)
    except ConfigurationInvalid as error:
        return Screen("", [_bad_configuration(config, error)], "", "", now)
    try:
        return _with_holders(asyncio.run(_ask(at)), at.technician)
    except client.DaemonDown as error:
        cause = error.cause
    except YikatongError as error:
        if output.wants_debug():
            raise
        cause = client.SocketCause(
            f"守护进程没有完成检查（{error.detail}）。",
            f"The daemon did not finish the check ({error.detail}).",
            error.meaning.next_zh,
            error.meaning.next_en,
        )
    if at.config is None:
        return Screen("", [_down(cause), _no_configuration()], at.policy_hotline, at.fault_hotline, now)
    from yikatong.cli import outside

    found = outside.look(at.config, cause)
    return Screen(at.config.terminal_id, found, at.policy_hotline, at.fault_hotline, now)


async def _ask(at: client.Place) -> Screen:
    """Raises YikatongError where the daemon does not say."""
    import grpc.aio

    from yikatong.api.diagnostics.v1 import diagnostics_pb2 as api
    from yikatong.api.diagnostics.v1 import diagnostics_pb2_grpc

    async with client.channel(at.technician) as channel:
        stub = diagnostics_pb2_grpc.DiagnosticsServiceStub(channel)
        try:
            answer = await stub.GetHealth(api.GetHealthRequest(), timeout=_LIMIT_S, metadata=client.metadata())
        except grpc.aio.AioRpcError as error:
            raise client.failure_of(error) from error
    found = [
        Probe(
            probe.name,
            Severity(api.Severity.Name(probe.severity).removeprefix("SEVERITY_")),
            Reason(probe.reason) if probe.reason else None,
            probe.finding_zh,
            probe.finding_en,
            probe.next_step_zh,
            probe.next_step_en,
        )
        for probe in answer.probes
    ]
    checked_at = answer.checked_at.ToDatetime(tzinfo=UTC)
    return Screen(answer.terminal_id, found, answer.policy_hotline, answer.fault_hotline, checked_at)


def _with_holders(screen: Screen, daemon_socket: str) -> Screen:
    """Where another program holds the reader, says which: only we may run as root, the daemon does not."""
    if not any(probe.reason is Reason.DEVICE_BUSY for probe in screen.probes):
        return screen
    from yikatong.cli import outside

    named = outside.pcsc_users(daemon_socket)
    told = [
        replace(
            probe,
            finding_zh=f"{probe.finding_zh}{named.zh}",
            finding_en=f"{probe.finding_en} {named.en}",
            next_zh=named.next_zh,
            next_en=named.next_en,
        )
        if probe.reason is Reason.DEVICE_BUSY
        else probe
        for probe in screen.probes
    ]
    return replace(screen, probes=told)


def _down(cause: client.SocketCause) -> Probe:
    return Probe("daemon", Severity.FAILED, Reason.DAEMON_UNREACHABLE, cause.zh, cause.en, cause.next_zh, cause.next_en)


def _no_configuration() -> Probe:
    path = client.CONFIG_DEFAULT
    return Probe(
        "configuration",
        Severity.FAILED,
        Reason.CONFIGURATION_INVALID,
        f"没有可读的配置文件 {path}。",
        f"There is no configuration that can be read: {path}.",
        "请用 -c 指定配置文件，或用 sudo 运行。",
        "Name one with -c, or use sudo.",
    )


def _bad_configuration(config: Path | None, error: ConfigurationInvalid) -> Probe:
    path = config or client.CONFIG_DEFAULT
    zh = "；".join(mistake.in_chinese() for mistake in error.mistakes)
    en = "; ".join(mistake.in_english() for mistake in error.mistakes)
    return Probe(
        "configuration",
        Severity.FAILED,
        Reason.CONFIGURATION_INVALID,
        f"配置文件 {path} 有错误：{zh}",
        f"{path} is not valid: {en}",
        f"请运行 yikatong check-config {path} 并改正。",
        f"Run yikatong check-config {path} and correct it.",
    )


def _as_json(screen: Screen) -> dict[str, Any]:
    return {
        "terminal_id": screen.terminal_id,
        "checked_at": screen.checked_at.isoformat(),
        "exit_status": screen.exit_status,
        "policy_hotline": screen.policy_hotline,
        "fault_hotline": screen.fault_hotline,
        "probes": [
            {
                "name": probe.name,
                "severity": probe.severity.value,
                "reason": probe.reason.value if probe.reason else "",
                "finding": output.choose(probe.finding_zh, probe.finding_en),
                "next_step": output.choose(probe.next_zh, probe.next_en),
            }
            for probe in screen.probes
        ],
    }


def _show(screen: Screen) -> None:
    console = output.console()
    title = output.choose("终端", "Terminal")
    console.print(f"{title} {screen.terminal_id or '?'}  {screen.checked_at:%Y-%m-%d %H:%M:%S} UTC", style="bold")
    width = max(len(probe.name) for probe in screen.probes)
    for probe in screen.probes:
        mark, style = _MARKS[probe.severity]
        finding = output.choose(probe.finding_zh, probe.finding_en)
        code = f" [{probe.reason.value}]" if probe.reason else ""
        console.print(f"{mark} {probe.name:<{width}}  {finding}{code}", style=style)
        if probe.reason:
            console.print(f"  {'':<{width}}  → {output.choose(probe.next_zh, probe.next_en)}")
    if screen.policy_hotline or screen.fault_hotline:
        console.print(
            output.choose(
                f"政策热线 {screen.policy_hotline}    故障热线 {screen.fault_hotline}",
                f"policy hotline {screen.policy_hotline}    fault hotline {screen.fault_hotline}",
            )
        )
