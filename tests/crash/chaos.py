"""A bad day: real terminals, gateway and city over a bad network, killed and stopped at random, with nervous cashiers.

    python -m tests.crash.chaos --terminals 50 --debits 10000 --seed 1

Every terminal is a `yikatong daemon` of its own; clients, cashiers and network live in this process. Once all bills
have been taken, the faults end: the network is calm, every process runs. Then everything must become final, and what
the cashiers were ever told must agree with journals, route log and ledgers. Exit status 1 where it does not.

The seed decides what is done; when it happens is the machine's affair, so a run cannot be repeated exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.aftermath import operators_view, settle
from tests.support.cashiers import Cashier, Heard, Manners, Window, windows
from tests.support.judgement import Books, Judgement, judge
from yikatong.cli.province import Province
from yikatong.simulators.network import CALM, Relay, Weather

CARDS = (
    "works",
    "works-qingdao",
    "version-2-01",
    "foreign-city",
    "third-generation",
    "first-generation",
    "works-yantai",
    "long-name",
)
"""Five of the eight are insured in the city that is a process of its own."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How bad the day is. Times in seconds; `strikes_every_s` is a mean, over all processes."""

    weathers: Sequence[Weather]
    weather_for_s: tuple[float, float]
    strikes_every_s: float
    paused: float = 0.3
    """Strikes that stop a process (SIGSTOP) for `paused_for_s`; the others kill it."""
    paused_for_s: tuple[float, float] = (1.0, 15.0)
    away_for_s: tuple[float, float] = (0.0, 3.0)
    manners: Manners = field(default_factory=Manners)


LONG = Plan(
    weathers=(
        CALM,
        Weather(delay_s=0.05),
        Weather(delay_s=0.02, held=0.05, hold_s=4.0),
        Weather(dropped=0.03, truncated=0.03),
        Weather(refused=0.5, dropped=0.05, delay_s=0.02),
        Weather(swallowed=0.005, held=0.02, hold_s=12.0),
        Weather(refused=0.1, dropped=0.02, truncated=0.02, swallowed=0.002, held=0.02, hold_s=2.0, delay_s=0.1),
    ),
    weather_for_s=(2.0, 15.0),
    strikes_every_s=2.0,
)
SHORT = Plan(
    weathers=(
        CALM,
        Weather(delay_s=0.02, held=0.1, hold_s=0.5),
        Weather(refused=0.3, dropped=0.05, truncated=0.05, delay_s=0.02),
    ),
    weather_for_s=(0.3, 2.0),
    strikes_every_s=1.0,
    paused_for_s=(0.2, 2.0),
    away_for_s=(0.0, 0.5),
    manners=Manners(patience_s=(2.0, 8.0), confirm_within_ms=(1_000, 4_000), pause_s=0.2),
)


@dataclass
class Report:
    """What came of a campaign."""

    judgement: Judgement
    strikes: Counter[str]
    network: Counter[str]
    died: list[str]
    """Processes that ended by themselves."""
    began: float
    faults_ended: float
    final: float
    memory_bytes: int = 0

    @property
    def findings(self) -> list[str]:
        return [*self.judgement.findings, *self.died]


@dataclass
class Strikes:
    """Kills and stops processes, one at a time each, and starts them again."""

    province: Province
    plan: Plan
    dice: random.Random
    names: Sequence[str]
    counted: Counter[str] = field(default_factory=Counter)
    died: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._struck: dict[str, asyncio.Task[None]] = {}

    async def rain(self) -> None:
        """Until cancelled; what is down then, `heal` brings back."""
        while True:
            await asyncio.sleep(self.dice.expovariate(1 / self.plan.strikes_every_s))
            # The two that everybody needs are struck as often as half of all terminals.
            role = self.dice.choice(["gateway", "city", "daemon", "daemon"])
            name = self.dice.choice([name for name in self.names if name.startswith(role)])
            if name not in self._struck:
                task = self._struck[name] = asyncio.create_task(self._strike(name, role))
                task.add_done_callback(lambda _, name=name: self._struck.pop(name))

    async def supervise(self) -> None:
        """Until cancelled. Nobody ends by himself: whoever does is a finding, and is started again."""
        while True:
            for name in self.names:
                if name not in self._struck and (status := self.province.ended(name)) is not None:
                    self.died.append(f"{name} ended by itself with status {status}")
                    await self._start(name)
            await asyncio.sleep(1.0)

    async def heal(self) -> None:
        """Until everything that was struck runs again."""
        await asyncio.gather(*self._struck.values())

    async def _strike(self, name: str, role: str) -> None:
        if self.dice.random() < self.plan.paused:
            self.counted[f"{role} stopped"] += 1
            self.province.pause(name)
            await asyncio.sleep(self.dice.uniform(*self.plan.paused_for_s))
            self.province.resume(name)
        else:
            self.counted[f"{role} killed"] += 1
            await asyncio.to_thread(self.province.kill, name)
            await asyncio.sleep(self.dice.uniform(*self.plan.away_for_s))
            await self._start(name)

    async def _start(self, name: str) -> None:
        await asyncio.to_thread(self.province.start, name, until_it_serves=False)


@dataclass
class Network:
    """The lines to the gateway and to the far city."""

    relays: dict[str, Relay]
    plan: Plan
    dice: random.Random

    def line(self, name: str, port: int) -> int:
        """For Province: where the others find it."""
        self.relays[name].target = port
        return self.relays[name].port

    async def change(self) -> None:
        """Until cancelled."""
        while True:
            for relay in self.relays.values():
                relay.weather = self.dice.choice(self.plan.weathers)
            await asyncio.sleep(self.dice.uniform(*self.plan.weather_for_s))

    def calm(self) -> None:
        """Faults end for what comes; a connection that was forgotten stays so."""
        for relay in self.relays.values():
            relay.weather = CALM

    def happened(self) -> Counter[str]:
        return sum((relay.happened for relay in self.relays.values()), Counter())


async def campaign(folder: Path, *, terminals: int, debits: int, seed: int, plan: Plan) -> Report:
    """The bad day, and the judgement."""
    dice = random.Random(f"chaos {seed}")
    cards = list(itertools.islice(itertools.cycle(CARDS), terminals))
    folder.mkdir(exist_ok=True)
    async with Relay(seed) as to_gateway, Relay(seed + 1) as to_city:
        network = Network({"gateway": to_gateway, "city": to_city}, plan, dice)
        province = Province(
            folder, card=cards[0], in_process=True, pin_keypad=False, more_cards=cards[1:], line=network.line
        )
        await asyncio.to_thread(province.__enter__)
        try:
            return await _day(province, network, debits=debits, dice=dice, plan=plan)
        finally:
            await asyncio.to_thread(province.close)


async def _day(province: Province, network: Network, *, debits: int, dice: random.Random, plan: Plan) -> Report:
    heard: list[Heard] = []
    began = time.monotonic()
    async with windows([(name, province.his_socket_of(name)) for name in province.daemons], heard) as open_windows:
        strikes = Strikes(province, plan, dice, ["gateway", "city", *province.daemons])
        bills = (f"bill-{number}" for number in range(1, debits + 1))
        async with _while(strikes.supervise()):
            async with _while(strikes.rain(), network.change()), asyncio.TaskGroup() as work:
                for window in open_windows:
                    others = [other for other in open_windows if other is not window]
                    own_dice = random.Random(f"{dice.random()} {window.terminal}")
                    work.create_task(Cashier(window, others, own_dice, plan.manners, bills).work())
            network.calm()
            await strikes.heal()
            faults_ended = time.monotonic()
            rows = await settle(province, open_windows)
            final = time.monotonic()
            await _ask_again(open_windows, heard)
    unequal = await operators_view(province)
    memory_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    for name in (*province.daemons, "gateway", "city"):
        if status := await asyncio.to_thread(province.stop, name):
            strikes.died.append(f"{name} ended with status {status}")
    books = Books.read(rows, province.folder / "gateway" / "gateway.db", province.folder / "city" / "city.db")
    judgement = judge(heard, books)
    judgement.unequal += unequal
    return Report(
        judgement, strikes.counted, network.happened(), strikes.died, began, faults_ended, final, memory_bytes
    )


@contextlib.asynccontextmanager
async def _while(*faults: asyncio.Future[None]) -> AsyncIterator[None]:
    """Faults that go on for as long as the body runs; one that fails by itself is raised."""
    tasks = [asyncio.ensure_future(fault) for fault in faults]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(outcome, asyncio.CancelledError):
                raise AssertionError("a fault has ended") from outcome


async def _ask_again(open_windows: Sequence[Window], heard: list[Heard]) -> None:
    """Every request once more, now that it is known: what is told now is what was told before."""
    requests = {(one.terminal, one.request_id): one.order_no for one in heard if one.method == "Debit"}
    by_name = {window.terminal: window for window in open_windows}
    for (terminal, request_id), order_no in requests.items():
        await by_name[terminal].ask(request_id, order_no)


def table(report: Report) -> str:
    """The figures, a line each."""
    judgement = report.judgement
    lines = [
        *((name, count) for name, count in judgement.figures.items()),
        *((name, count) for name, count in sorted(report.strikes.items())),
        *((f"network: {name}", count) for name, count in sorted(report.network.items())),
        ("seconds under faults", round(report.faults_ended - report.began)),
        ("seconds from the end of faults until all was final", round(report.final - report.faults_ended)),
        ("largest process, MiB", report.memory_bytes >> 20),
        ("doubled", len(judgement.doubled)),
        ("lost", len(judgement.lost)),
        ("contradictory", len(judgement.contradictory)),
        ("not final", len(judgement.unfinished)),
        ("books unequal", len(judgement.unequal)),
        ("processes that ended by themselves", len(report.died)),
    ]
    return "\n".join(f"{name:52} {count:>8}" for name, count in lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.crash.chaos", description=__doc__)
    parser.add_argument("--terminals", type=int, default=50)
    parser.add_argument("--debits", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="the mild day of the test run")
    parser.add_argument("--keep", type=Path, help="keep files and logs in this folder")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yikatong-chaos-")))
        folder.mkdir(exist_ok=True)
        report = asyncio.run(
            campaign(
                folder,
                terminals=arguments.terminals,
                debits=arguments.debits,
                seed=arguments.seed,
                plan=SHORT if arguments.short else LONG,
            )
        )
    print(table(report))
    for finding in report.findings:
        print(finding)
    return int(bool(report.findings))


if __name__ == "__main__":
    sys.exit(main())
