"""The simulated province, what a run of it begins with, and what has to hold at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from yikatong.core.orders import CardPayer, City
from yikatong.core.reasons import YikatongError
from yikatong.core.values import CardIdentificationCode, CardNumber, SocialSecurityNumber, TerminalId
from yikatong.gateway.reconciliation_book import Outcome
from yikatong.ledger import seed as sample
from yikatong.simulation import books, checks
from yikatong.simulation.chance import Chance
from yikatong.simulation.checks import Files
from yikatong.simulation.his import Bill, His, Till
from yikatong.simulation.loop import VirtualLoop
from yikatong.simulation.machines import FAR, HERE, CityMachine, GatewayMachine, Machine, TerminalMachine, World
from yikatong.simulation.network import Line
from yikatong.simulation.points import TO_CITY, TO_GATEWAY

SETTLED_WITHIN_S: Final = 300.0
"""I6: everything is final this long after the last fault."""


def _payer(number: int) -> CardPayer:
    """An invented person: region 990001 is nobody's."""
    return CardPayer(
        SocialSecurityNumber(f"99000119700101{number:03d}X"),
        CardNumber(f"T{number:08d}"),
        CardIdentificationCode(number.to_bytes(16, "big")),
        HERE.region,
    )


PAYERS: Final = tuple(_payer(number) for number in range(1, 5))
_HOMES: Final = (HERE, FAR[0], FAR[0], FAR[1])
"""Where each payer is insured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run begins: time of day (UTC), how long faults last, how many terminals, balances by payer, the bills."""

    begins: timedelta
    lasts_s: float
    terminals: int
    balances_fen: tuple[int, ...]
    bills: tuple[Bill, ...]
    closed: tuple[City, float, float] | None = None
    """A city that is closed, and from and until when in seconds; seeds close theirs by their rates."""


def draw_plan(chance: Chance) -> Plan:
    """What a seed decides of it. A third of the runs crosses midnight in China (16:00 UTC), and so accounting dates."""
    dice, lasts_s = chance.dice, chance.dice.uniform(40.0, 200.0)
    return Plan(
        timedelta(hours=15, minutes=57) if dice.random() < 1 / 3 else timedelta(hours=3),
        lasts_s,
        dice.randint(1, 3),
        tuple(dice.choice([150, 1_000, 100_000]) for _ in PAYERS),
        tuple(_draw_bill(chance, number, lasts_s) for number in range(dice.randint(3, 9))),
    )


def _draw_bill(chance: Chance, number: int, lasts_s: float) -> Bill:
    dice = chance.dice
    confirms = chance.hits(chance.rates.confirms, "bill to be confirmed")
    return Bill(
        f"order-{number}",
        dice.choice([1, 100, 100, 700, 700, 60_000]),
        dice.choice(PAYERS),
        dice.choice([2_000, 10_000, 60_000]) if confirms else 0,
        dice.uniform(0.0, lasts_s * 0.8),
    )


class Province:
    """Terminals, their HIS, the gateway and cities, and what befalls them."""

    def __init__(self, folder: Path, loop: VirtualLoop, chance: Chance, plan: Plan) -> None:
        self._loop, self._chance, self._plan = loop, chance, plan
        start = datetime(2026, 3, 2, tzinfo=UTC) + plan.begins
        accounts = [
            sample.SeedAccount(payer.social_security_number.reveal(), home.region.code, balance_fen=balance_fen)
            for payer, home, balance_fen in zip(PAYERS, _HOMES, plan.balances_fen, strict=True)
        ]
        self._world = World(folder, loop, chance, start, accounts, [])
        names = [TerminalId(f"terminal-{number}") for number in range(1, plan.terminals + 1)]
        line = partial(Line, loop=loop, chance=chance)
        self._to_cities = {city.region: line(f"{city.name_en} line", "gateway", way=TO_CITY) for city in FAR}
        self._to_gateway = {name: line(f"{name} line", name, way=TO_GATEWAY) for name in names}
        his_lines = {name: line(f"{name} till", "") for name in names}
        self._cities = [
            CityMachine(f"city-{number}", self._world, city, self._to_cities[city.region])
            for number, city in enumerate(FAR, 1)
        ]
        self._gateway = GatewayMachine("gateway", self._world, self._to_gateway, self._to_cities, self._posted)
        self._terminals = [
            TerminalMachine(name, name, number, self._world, self._to_gateway[name], his_lines[name])
            for number, name in enumerate(names, 1)
        ]
        tills = [Till.at(machine, his_lines[machine.terminal_id]) for machine in self._terminals]
        self._his = His(loop, chance, tills, self._moved_fen, self._brought_back)

    @property
    def _machines(self) -> list[Machine]:
        return [*self._cities, self._gateway, *self._terminals]

    def close(self) -> None:
        """Lets the files go."""
        for machine in self._machines:
            machine.close()

    async def play(self) -> list[str]:
        """Both phases, then the comparison. Returns what was broken."""
        dice, rates = self._chance.dice, self._chance.rates
        for machine in self._machines:
            machine.start()
        cashiers = [asyncio.create_task(self._his.pay(bill)) for bill in self._plan.bills]
        lines = [*self._to_cities.values(), *self._to_gateway.values()]
        troubles = [
            asyncio.create_task(self._again_and_again(every_s, strike))
            for every_s, strike in (
                (rates.terminal_killed_every_s, lambda: dice.choice(self._terminals).kill("killed")),
                (rates.gateway_killed_every_s, lambda: self._gateway.kill("killed")),
                (rates.city_killed_every_s, lambda: dice.choice(self._cities).kill("killed")),
                (rates.partition_every_s, lambda: self._partition(dice.choice(lines))),
                (rates.city_closed_every_s, self._close_city),
                (rates.account_frozen_every_s, self._freeze),
                (rates.journal_copied_every_s, self._copy),
            )
        ]
        if self._plan.closed is not None:
            city, begins_s, ends_s = self._plan.closed
            self._loop.call_later(begins_s, partial(self._gateway.close_city, city, closed=True))
            self._loop.call_later(ends_s, partial(self._gateway.close_city, city, closed=False))
        await asyncio.sleep(self._plan.lasts_s)
        self._chance.faults = False
        self._chance.note(self._loop.time(), "the faults stop")
        for trouble in troubles:
            trouble.cancel()
        for line in lines:
            line.cut(cut=False)
        for city in (HERE, *FAR):
            self._gateway.close_city(city, closed=False)
        for machine in self._machines:
            machine.start()
        await asyncio.sleep(SETTLED_WITHIN_S)
        broken = self._unsettled(cashiers)
        await asyncio.gather(*cashiers)
        await self._his.rest()
        for request in self._his.requests:
            if request.refused < request.debits:  # else nothing was sent, and there is nothing to enquire about
                await self._his.enquire(request)
        for terminal in self._terminals:
            assert terminal.journal is not None
            if terminal.life is None:
                continue  # superseded, it starts again and again
            try:
                await terminal.journal.prove()
            except YikatongError as error:
                broken.append(f"I8 {terminal.name}: {error}")
        if not broken and not self._doubtful:
            broken += await self._reconciled()
        for machine in self._machines:
            machine.stop()
        return [*self._world.broken, *broken, *self._compared()]

    async def _reconciled(self) -> list[str]:
        """The day after, every side compares: nothing differs. Where the gateway has lost rows, R3s are right."""
        for machine in self._machines:
            machine.clock.offset += timedelta(days=1)
        broken = []
        for terminal in self._terminals:
            assert terminal.reconciling is not None, "it is there, else it was unsettled"
            if not await terminal.reconciling.catch_up() and not self._gateway.forgot:
                broken.append(f"R {terminal.name}: reconciliation finds differences")
        assert self._gateway.cities is not None, "it is there, else nothing was settled"
        dates = self._gateway.read(
            "SELECT DISTINCT accounting_date FROM posting UNION SELECT accounting_date FROM route"
        )
        for (date,) in dates:
            for city in (HERE, *FAR):
                compared = await self._gateway.cities.compare(city.region, date)
                if compared.outcome is not Outcome.EQUAL and not self._gateway.forgot:
                    broken.append(f"R {city.name_en} {date}: reconciliation says {compared.outcome.value}")
        return broken

    def _compared(self) -> list[str]:
        files = self._files
        for journal in files.journals.values():
            for row in books.rows_of(journal):
                self._chance.points[f"outcome {row.state.value}"] += 1
                self._chance.note(self._loop.time(), f"{row.transaction_id} {row.state.value} {row.reason}")
            for credit in books.credits_of(journal):
                self._chance.points[f"outcome of a {credit.kind.value.lower()} {credit.state.value}"] += 1
                self._chance.note(self._loop.time(), f"{credit.transaction_id} {credit.state.value} {credit.reason}")
        return checks.compare(files, self._his)

    @property
    def _files(self) -> Files:
        return Files(
            {terminal.name: terminal.file for terminal in self._terminals if not terminal.doubtful},
            frozenset(f"{terminal.number:08d}" for terminal in self._doubtful),
            frozenset().union(*(terminal.confirmed | books.acknowledged(terminal.file) for terminal in self._doubtful)),
            self._gateway.file,
            [city.file for city in self._cities],
            self._gateway.forgot,
        )

    def _unsettled(self, cashiers: list[asyncio.Task[None]]) -> list[str]:
        """I6, five minutes after the last fault."""
        broken = [f"I6 a cashier still waits for {number}" for number, task in enumerate(cashiers) if not task.done()]
        for terminal in self._terminals:
            fenced = terminal.session is not None and terminal.session.fenced
            if terminal.doubtful:
                self._chance.points["a copied journal is found out"] += fenced
                continue
            if fenced:
                broken.append(f"I6 {terminal.name} was taken for a copy")
            if terminal.runner is None:
                broken.append(f"I6 {terminal.name} is not there")
                continue
            broken += [
                f"I6 {row.transaction_id}: {row.state.value} after {SETTLED_WITHIN_S:.0f} s"
                for row in terminal.runner.open_rows()
            ]
            if terminal.credits is not None:
                broken += [f"I6 {row.transaction_id}: credit {row.state.value}" for row in terminal.credits.open_rows()]
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
        self._close(self._chance.dice.choice([HERE, *FAR]))

    def _brought_back(self, payer: CardPayer) -> None:
        """Credits must pass where nothing else does: their city is often closed just then."""
        rate = 0.6 if self._chance.rates.city_closed_every_s else 0.0
        if self._chance.hits(rate, "city closed as a bill is brought back"):
            self._close(_HOMES[PAYERS.index(payer)])

    def _close(self, city: City) -> None:
        self._chance.points["city closed"] += 1
        self._gateway.close_city(city, closed=True)
        lasts_s = self._chance.dice.uniform(1.0, 60.0)
        self._loop.call_later(lasts_s, partial(self._gateway.close_city, city, closed=False))

    @property
    def _doubtful(self) -> list[TerminalMachine]:
        return [terminal for terminal in self._terminals if terminal.doubtful]

    def _copy(self) -> None:
        """Somebody copies a terminal's disk, now or in the middle of its next debit; see `_use_copy`."""
        terminal = self._chance.dice.choice(self._terminals)
        if not terminal.doubtful and terminal.path.exists():
            if self._chance.dice.random() < 0.5:
                terminal.when_sent = partial(self._use_copy, terminal)
            else:
                self._use_copy(terminal)

    def _use_copy(self, terminal: TerminalMachine) -> None:
        """Later the copy is put in for the true disk, or into a second machine."""
        use, later_s = self._chance.dice.choice([self._restore, self._clone]), self._chance.dice.uniform(0.0, 40.0)
        self._loop.call_later(later_s, partial(use, terminal, *terminal.image()))

    def _restore(self, terminal: TerminalMachine, image: bytes, key: bytes) -> None:
        if self._chance.faults and not terminal.doubtful:
            self._chance.points["journal restored"] += 1
            terminal.replace_disk(image, key)

    def _clone(self, terminal: TerminalMachine, image: bytes, key: bytes) -> None:
        if not self._chance.faults or terminal.doubtful:
            return
        self._chance.points["terminal cloned"] += 1
        name, line = f"{terminal.name}-copy", partial(Line, loop=self._loop, chance=self._chance)
        to_gateway = line(f"{name} line", terminal.terminal_id, way=TO_GATEWAY)
        till = line(f"{name} till", "")
        clone = TerminalMachine(name, terminal.terminal_id, len(self._terminals) + 1, self._world, to_gateway, till)
        terminal.doubtful = True
        self._terminals.append(clone)
        self._gateway.add_line(to_gateway)
        self._his.add_till(Till.at(clone, till))
        clone.replace_disk(image, key)
        clone.start()

    def _freeze(self) -> None:
        self._chance.points["account frozen"] += 1
        city = self._chance.dice.choice(self._cities)
        city.freeze(frozen=True)
        self._loop.call_later(self._chance.dice.uniform(1.0, 20.0), partial(city.freeze, frozen=False))

    def _posted(self, transaction_id: str) -> bool:
        sql = "SELECT 1 FROM posting WHERE transaction_id = ? AND kind = 'DEBIT'"
        ledgers: tuple[Machine, ...] = (self._gateway, *self._cities)
        return any(machine.read(sql, transaction_id) for machine in ledgers)

    def _moved_fen(self, transaction_id: str) -> int:
        sql = "SELECT amount_fen FROM posting WHERE transaction_id = ? AND account LIKE 'personal:%'"
        ledgers: tuple[Machine, ...] = (self._gateway, *self._cities)
        return sum(amount for machine in ledgers for (amount,) in machine.read(sql, transaction_id))
