"""`yikatong simulate faults`: a province under seeded faults, and the proof that money moved once or not at all."""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import Any

import click

from yikatong.cli import output


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
@click.option("--trace", is_flag=True, help="打印全过程 / print all that happens")
@output.with_json
@output.with_language
def faults(seeds: range, trace: bool) -> None:
    """在虚拟时间内对终端、网关和城市注入故障并核对账目 / Terminals, gateway and a city under faults in virtual time.

    每个种子决定全部故障；同一种子每次运行完全相同。发现违反时退出码为 1。
    A seed decides every fault and repeats exactly. Exit status 1 where an invariant was broken.
    """
    from yikatong.simulation.faults import run

    points: Counter[str] = Counter()
    broken: dict[int, list[str]] = {}
    digests: dict[int, str] = {}
    for seed in seeds:
        played = run(seed, verbose=trace)
        points.update(played.points)
        digests[seed] = played.digest
        if trace and not output.wants_json():
            click.echo("\n".join(played.trace))
        if played.broken:
            broken[seed] = played.broken
            if not output.wants_json():
                _tell(seed, played.broken)
    if output.wants_json():
        output.echo_json({"seeds": len(seeds), "broken": broken, "points": dict(points), "digests": digests})
    else:
        for name, count in sorted(points.items()):
            click.echo(f"{count:8}  {name}")
        output.say(
            f"{'✗' if broken else '✓'} {len(seeds)} 个种子，{len(broken)} 个违反不变量。",
            f"{'✗' if broken else '✓'} {len(seeds)} seeds, {len(broken)} of them broke an invariant.",
        )
        if len(seeds) == 1:
            click.echo(f"  {digests[seeds[0]]}")
    if broken:
        sys.exit(1)


def _tell(seed: int, broken: list[str]) -> None:
    output.say(f"✗ 种子 {seed}：", f"✗ Seed {seed}:")
    for line in broken:
        click.echo(f"  {line}")
    click.echo(f"  yikatong simulate faults --seeds {seed}..{seed} --trace")
