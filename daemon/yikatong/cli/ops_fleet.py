"""`yikatong ops fleet`: which terminals passed their weekly self-test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from yikatong.cli import output
from yikatong.cli.asking import CALL_S, Operator, asked, china_time, plain, run, to_gateway, with_operator

if TYPE_CHECKING:
    from yikatong.api.operations.v1 import fleet_pb2 as api

_FITNESS: Final = {
    "FITNESS_FAILED": ("✗", "自检未通过", "failed"),
    "FITNESS_NEVER_TESTED": ("✗", "从未自检", "never tested"),
    "FITNESS_OVERDUE": ("✗", "自检超期", "overdue"),
    "FITNESS_PASSED": ("✓", "自检通过", "passed"),
}


@click.command()
@with_operator
@output.with_json
@output.with_language
@output.with_debug
@click.option("--unfit", is_flag=True, help="只列出未按期通过的 / only those that have not passed in time")
def fleet(operator: Operator, unfit: bool) -> None:
    """终端和每周自检，最差的在前 / Terminals and their weekly self-test, the worst first.

    Exit status: 0 all passed within eight days, 1 some did not, 2 the gateway could not be asked.
    """
    from yikatong.api.operations.v1 import fleet_pb2 as api
    from yikatong.api.operations.v1.fleet_pb2_grpc import FleetServiceStub

    async def work() -> api.ListTerminalsResponse:
        async with to_gateway(operator) as channel:
            request = api.ListTerminalsRequest(unfit=unfit)
            return await asked(FleetServiceStub(channel).ListTerminals(request, timeout=CALL_S))

    listed = run(work())
    if output.wants_json():
        output.echo_json(plain(listed))
    else:
        for terminal in listed.terminals:
            _show(terminal)
        output.say(
            f"共 {listed.total} 台，{listed.passed} 台按期通过自检。",
            f"{listed.total} terminals, {listed.passed} of them passed in time.",
        )
    sys.exit(int(listed.passed < listed.total))


COMMANDS: Final[tuple[click.Command, ...]] = (fleet,)


def _show(terminal: api.FleetTerminal) -> None:
    from yikatong.api.operations.v1 import fleet_pb2 as api

    mark, zh, en = _FITNESS[api.Fitness.Name(terminal.fitness)]
    tested = china_time(terminal.tested_at) if terminal.HasField("tested_at") else "-"
    known = "" if terminal.epoch else output.choose("  从未签到", "  never signed in")
    where = f"{terminal.institution}  {terminal.institution_name}"
    click.echo(f"{mark} {terminal.terminal_id}  {where}  {output.choose(zh, en)}  {tested}{known}")
    for step in terminal.failed_steps:
        click.echo(f"    ✗ {step.name}  {step.reason}")
