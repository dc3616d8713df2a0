"""`yikatong simulate faults`: a province under seeded faults, and the proof that money moved once or not at all."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from yikatong.cli import output

if TYPE_CHECKING:
    from yikatong.simulation.campaign import Played


class Seeds(click.ParamType[range]):
    """`A..B`, both included, or one number."""

    name = "A..B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        if isinstance(value, range):
            return value
        found = re.fullmatch(r"([0-9]{1,9})(?:\.\.([0-9]{1,9}))?", str(value))
        if found is None:
            self.fail("应为 A..B / looks like 0..999", param, ctx)
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            self.fail("范围为空 / the range is empty", param, ctx)
        return range(first, last + 1)


@click.command()
@click.option("--seeds", type=Seeds(), default="0..99", show_default=True, help="种子 / seeds, both ends included")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="进程数 / processes")
@click.option("--trace", is_flag=True, help="打印全过程 / print all that happens")
@output.with_json
@output.with_language
def faults(seeds: range, jobs: int, trace: bool) -> None:
    """在虚拟时间内对终端、网关和城市注入故障并核对账目 / Terminals, gateway and cities under faults in virtual time.

    每个种子决定全部故障；同一种子每次运行完全相同。发现违反时退出码为 1。
    A seed decides every fault and repeats exactly. Exit status 1 where an invariant was broken.
    """
    from yikatong.simulation.campaign import Played, campaign
    from yikatong.simulation.faults import run

    if trace:
        for seed in seeds:
            click.echo("\n".join(run(seed, verbose=True).trace))
    all_played = Played()
    for played in campaign(seeds, jobs):
        all_played.add(played)
        if not output.wants_json():
            for seed, broken in played.broken.items():
                _tell(seed, broken)
    _tell_all(all_played)
    if all_played.broken:
        sys.exit(1)


def _tell_all(played: Played) -> None:
    seeds, broken = len(played.digests), len(played.broken)
    if output.wants_json():
        points = dict(sorted(played.points.items()))
        output.echo_json({"seeds": seeds, "broken": played.broken, "points": points, "digests": played.digests})
        return
    for name, count in sorted(played.points.items()):
        click.echo(f"{count:8}  {name}")
    output.say(
        f"{'✗' if broken else '✓'} {seeds} 个种子，{broken} 个违反不变量。",
        f"{'✗' if broken else '✓'} {seeds} seeds, {broken} of them broke an invariant.",
    )
    if seeds == 1:
        click.echo(f"  {next(iter(played.digests.values()))}")


def _tell(seed: int, broken: list[str]) -> None:
    output.say(f"✗ 种子 {seed}：", f"✗ Seed {seed}:")
    for line in broken:
        click.echo(f"  {line}")
    click.echo(f"  yikatong simulate faults --seeds {seed}..{seed} --trace")
