"""One seed: a province under faults, then without them, then compared. The same seed gives the same run, exactly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import structlog

from yikatong.core.orders import Payer
from yikatong.core.reasons import YikatongError
from yikatong.core.values import CardIdentificationCode, CardNumber, SocialSecurityNumber, TerminalId
from yikatong.ledger import seed as sample
from yikatong.simulation import checks
from yikatong.simulation.chance import Chance, Rates, draw_rates
from yikatong.simulation.checks import Files
from yikatong.simulation.his import Bill, His, Till
from yikatong.simulation.loop import Stuck, VirtualLoop, of_a_store
from yikatong.simulation.machines import FAR, HERE, CityMachine, GatewayMachine, Machine, TerminalMachine, World
from yikatong.simulation.network import Line

_SETTLED_WITHIN_S: Final = 300.0
"""I6: everything is final this long after the last fault."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a seed has shown. `broken` is empty where every invariant held."""

    seed: int
    broken: list[str]
    digest: str
    points: Counter[str]
    trace: list[str]
    virtual_s: float
    steps: int


def run(seed: int, *, verbose: bool = False, rates: Rates | None = None) -> Run:
    """Plays one seed. `rates` instead of those that the seed draws, for directed tests."""
    drawn = draw_rates(random.Random(f"rates {seed}"))  # noqa: S311 - repeatable on purpose
    chance = Chance(seed, rates or drawn)
    folder = Path(tempfile.mkdtemp(prefix="yikatong-seed-", dir=_memory_folder()))
    loop = VirtualLoop()
    state = random.getstate()
    random.seed(seed)  # the shipped back-off spreads its load with it
    province = _Province(folder, loop, chance)
    try:
        with _alarms_counted(loop, chance), _garbage_kept():
            broken = loop.run_until_complete(province.play())
    except Stuck as error:
        broken = [f"I6 {error}"]
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed repeats it
        broken = [f"I0 the run ended: {error!r}"]
    finally:
        random.setstate(state)

        loop.close()
        province.close()
        shutil.rmtree(folder)
    broken += [f"I0 {failure}" for failure in loop.failures]
    for line in broken:
        chance.note(loop.time(), line)
    trace = chance.lines if verbose else []
    return Run(seed, broken, chance.digest, chance.points, trace, loop.time(), loop.steps)


def _memory_folder() -> Path | None:
    """Files in memory: a simulated crash is no power cut, so nothing has to reach a disk."""
    folder = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    return folder if folder.is_dir() else None


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """A run is short: what it leaves is collected after it, and not looked at again and again meanwhile."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def _alarms_counted(loop: VirtualLoop, chance: Chance) -> Iterator[None]:
    """Log lines are dropped; alarms are counted, and an error with a traceback is our own mistake."""

    def collect(logger: object, name: str, event: MutableMapping[str, Any]) -> NoReturn:
        error = event.get("exc_info")
        if error is not None and not of_a_store(error):
            loop.failures.append(f"{event['event']}: {error!r}")
        kind = event.get("router_event") or event.get("ledger_event") or event.get("state", "")
        chance.points[f"alarm: {event['event']} {kind}"] += 1
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[collect],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


class _Province:
    """Terminals, their HIS, the gateway and a far city, and what befalls them."""

    def __init__(self, folder: Path, loop: VirtualLoop, chance: Chance) -> None:
        self._loop, self._chance, dice = loop, chance, chance.dice
        # A third of the runs crosses midnight in China (16:00 UTC), so that the accounting date changes.
        evening = timedelta(hours=15, minutes=57) if dice.random() < 1 / 3 else timedelta(hours=3)
        start = datetime(2026, 3, 2, tzinfo=UTC) + evening
        self._payers = [_payer(number) for number in range(1, 5)]
        accounts = [
            sample.SeedAccount(
                payer.social_security_number.reveal(),
                (HERE if number == 0 else FAR).region.code,
                balance_fen=dice.choice([150, 1_000, 100_000]),
            )
            for number, payer in enumerate(self._payers)
        ]
        self._world = World(folder, loop, chance, start, accounts, [])
        names = [TerminalId(f"terminal-{number}") for number in range(1, dice.randint(1, 3) + 1)]
        line = partial(Line, loop=loop, chance=chance)
        self._to_city = line("city line", "gateway")
        self._to_gateway = {name: line(f"{name} line", name) for name in names}
        his_lines = {name: line(f"{name} till", "", honest=True) for name in names}
        self._city = CityMachine("city", self._world, self._to_city)
        self._gateway = GatewayMachine("gateway", self._world, self._to_gateway, self._to_city)
        self._terminals = [
            TerminalMachine(name, self._world, self._to_gateway[name], his_lines[name]) for name in names
        ]
        tills = [Till.at(machine, his_lines[machine.terminal_id]) for machine in self._terminals]
        self._his = His(loop, chance, tills, self._moved_fen)

    @property
    def _machines(self) -> list[Machine]:
        return [self._city, self._gateway, *self._terminals]

    def close(self) -> None:
        """Lets the files go."""
        for machine in self._machines:
            machine.close()

    async def play(self) -> list[str]:
        """Both phases, then the comparison. Returns what was broken."""
        dice, rates = self._chance.dice, self._chance.rates
        for machine in self._machines:
            machine.start()
        lasts_s = dice.uniform(40.0, 200.0)
        cashiers = [asyncio.create_task(self._his.pay(self._bill(n, lasts_s))) for n in range(dice.randint(3, 9))]
        lines = [self._to_city, *self._to_gateway.values()]
        troubles = [
            asyncio.create_task(self._again_and_again(every_s, strike))
            for every_s, strike in (
                (rates.terminal_killed_every_s, lambda: dice.choice(self._terminals).kill("killed")),
                (rates.gateway_killed_every_s, lambda: self._gateway.kill("killed")),
                (rates.city_killed_every_s, lambda: self._city.kill("killed")),
                (rates.partition_every_s, lambda: self._partition(dice.choice(lines))),
                (rates.city_closed_every_s, self._close_city),
                (rates.account_frozen_every_s, self._freeze),
            )
        ]
        await asyncio.sleep(lasts_s)
        self._chance.faults = False
        self._chance.note(self._loop.time(), "the faults stop")
        for trouble in troubles:
            trouble.cancel()
        for line in lines:
            line.cut(cut=False)
        self._gateway.close_city(closed=False)
        for machine in self._machines:
            machine.start()
        await asyncio.sleep(_SETTLED_WITHIN_S)
        broken = self._unsettled(cashiers)
        await asyncio.gather(*cashiers)
        await self._his.rest()
        for request in self._his.requests:
            await self._his.enquire(request)
        for terminal in self._terminals:
            assert terminal.journal is not None
            try:
                await terminal.journal.prove()
            except YikatongError as error:
                broken.append(f"I8 {terminal.name}: {error}")
        for machine in self._machines:
            machine.stop()
        return [*self._world.broken, *broken, *self._compared()]

    def _compared(self) -> list[str]:
        files = self._files
        for journal in files.journals.values():
            for row in checks.rows_of(journal):
                self._chance.points[f"outcome {row.state.value}"] += 1
                self._chance.note(self._loop.time(), f"{row.transaction_id} {row.state.value} {row.reason}")
        return checks.compare(files, self._his)

    @property
    def _files(self) -> Files:
        return Files(
            {terminal.name: terminal.file for terminal in self._terminals},
            self._gateway.file,
            self._city.file,
            self._gateway.forgot,
        )

    def _unsettled(self, cashiers: list[asyncio.Task[None]]) -> list[str]:
        """I6, five minutes after the last fault."""
        broken = [f"I6 a cashier still waits for {number}" for number, task in enumerate(cashiers) if not task.done()]
        for terminal in self._terminals:
            if terminal.runner is None:
                broken.append(f"I6 {terminal.name} is not there")
                continue
            broken += [
                f"I6 {row.transaction_id}: {row.state.value} after {_SETTLED_WITHIN_S:.0f} s"
                for row in terminal.runner.open_rows()
            ]
        return broken

    # --- what befalls them ----------------------------------------------------------------------------------------

    async def _again_and_again(self, every_s: float, strike: Callable[[], None]) -> None:
        if every_s <= 0.0:
            return
        while True:
            await asyncio.sleep(self._chance.dice.expovariate(1 / every_s))
            strike()

    def _partition(self, line: Line) -> None:
        self._chance.points["partition"] += 1
        line.cut(cut=True)
        self._loop.call_later(self._chance.dice.choice([1.0, 4.0, 12.0, 50.0]), partial(line.cut, cut=False))

    def _close_city(self) -> None:
        self._chance.points["city closed"] += 1
        self._gateway.close_city(closed=True)
        self._loop.call_later(self._chance.dice.uniform(1.0, 60.0), partial(self._gateway.close_city, closed=False))

    def _freeze(self) -> None:
        self._chance.points["account frozen"] += 1
        self._city.freeze(frozen=True)
        self._loop.call_later(self._chance.dice.uniform(1.0, 20.0), partial(self._city.freeze, frozen=False))

    def _moved_fen(self, transaction_id: str) -> int:
        sql = "SELECT amount_fen FROM posting WHERE transaction_id = ? AND account LIKE 'personal:%'"
        ledgers: tuple[Machine, ...] = (self._gateway, self._city)
        return sum(amount for machine in ledgers for (amount,) in machine.read(sql, transaction_id))

    def _bill(self, number: int, lasts_s: float) -> Bill:
        chance, dice = self._chance, self._chance.dice
        confirms = chance.hits(chance.rates.confirms, "bill to be confirmed")
        return Bill(
            f"order-{number}",
            dice.choice([1, 100, 100, 700, 700, 60_000]),
            dice.choice(self._payers),
            dice.choice([2_000, 10_000, 60_000]) if confirms else 0,
            dice.uniform(0.0, lasts_s * 0.8),
        )


def _payer(number: int) -> Payer:
    """An invented person: region 990001 is nobody's."""
    return Payer(
        SocialSecurityNumber(f"99000119700101{number:03d}X"),
        CardNumber(f"T{number:08d}"),
        CardIdentificationCode(number.to_bytes(16, "big")),
        HERE.region,
    )
