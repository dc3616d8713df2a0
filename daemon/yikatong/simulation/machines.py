"""Machines of the simulated province: each runs a process of the shipped code, and starts it again after a death."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import apsw
import grpc

from yikatong.api.citycore.v1 import citycore_pb2_grpc
from yikatong.api.gateway.v1 import gateway_pb2_grpc
from yikatong.core.card import CardAlgorithm, CardIdentity
from yikatong.core.orders import CardPayer, City
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, Institution, PersonName, Region, TerminalId
from yikatong.gateway import rpc as gateway_rpc
from yikatong.gateway.card_authentication import CardAuthentication
from yikatong.gateway.city_client import CityClient
from yikatong.gateway.directory import SampleDirectory
from yikatong.gateway.partition import Partition
from yikatong.gateway.reconciliation import Cities
from yikatong.gateway.registry import Agreement, HomeCity, Member, Registry
from yikatong.gateway.router import WAITS
from yikatong.gateway.routing import Rules
from yikatong.gateway.vouchers import Vouchers
from yikatong.ledger import entries, report, seed
from yikatong.ledger.book import Book
from yikatong.ledger.link import BookLink
from yikatong.ledger.rpc import CityCore
from yikatong.runtime import keyfile
from yikatong.runtime.clock import accounting_date
from yikatong.runtime.edge import Edge
from yikatong.runtime.store import open_file
from yikatong.simulation import books
from yikatong.simulation.chance import Chance
from yikatong.simulation.clock import SimulatedClock
from yikatong.simulation.disk import SimulatedStore, open_fresh
from yikatong.simulation.loop import Life, VirtualLoop, outside
from yikatong.simulation.network import Channel, Line, Server
from yikatong.terminal import rpc as terminal_rpc
from yikatong.terminal.config import DaemonConfig, Gateway
from yikatong.terminal.credits import Credits
from yikatong.terminal.desk import Desk, Presented
from yikatong.terminal.events import Hub
from yikatong.terminal.gateway_client import GatewayChannel, ReconciliationLink, money_link
from yikatong.terminal.journal import Journal
from yikatong.terminal.reconciliation import Reconciliation
from yikatong.terminal.recovered import Recovered
from yikatong.terminal.runner import Runner
from yikatong.terminal.session import Session
from yikatong.terminal.stages import Stage
from yikatong.terminal.terminal import Terminal
from yikatong.terminal.who_pays import WhoPays

HERE: Final = City(Region("370100"), "济南", "Jinan")
"""The treatment city: its ledger lies in the gateway's own database."""
FAR: Final = (City(Region("371000"), "威海", "Weihai"), City(Region("370200"), "青岛", "Qingdao"))
"""Home cities with a ledger and a process of their own."""
PHARMACY: Final = Institution("P37010000001")
CITY_ID: Final = 0x594B4359
DEBIT_MAX: Final = Fen(50_000)


@dataclass(frozen=True, slots=True)
class World:
    """What every machine stands in. `accounts`: the opening balances."""

    folder: Path
    loop: VirtualLoop
    chance: Chance
    start: datetime
    accounts: list[seed.SeedAccount]
    broken: list[str]
    """Invariants that were seen to be broken while it ran."""


class Machine:
    """Runs one process. `boot` is its start-up, as the shipped `main` does it."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self.world = name, world
        self.clock = SimulatedClock(name, world.loop, world.start)
        self.life: Life | None = None
        self.stopped = False
        self._store: SimulatedStore | None = None
        self._file: apsw.Connection | None = None
        self._commits = 0

    def start(self) -> None:
        if self.life is not None or self.stopped:
            return
        life = self.life = Life(self.name)
        life.at_death(partial(self._died, life))
        self.world.chance.note(self.world.loop.time(), f"{self.name} starts")
        booting = self.world.loop.create_task(self.boot(life), context=life.context)
        booting.add_done_callback(partial(outside, self._booted))

    async def boot(self, life: Life) -> None:
        raise NotImplementedError

    def kill(self, why: str) -> None:
        if self.life is not None:
            self.world.chance.points[f"{self.life.kind} {why}"] += 1
            self.life.kill()

    def stop(self) -> None:
        """Ends for good, so that its file can be read."""
        self.stopped = True
        if self.life is not None:
            self.life.kill()

    def _booted(self, booting: asyncio.Task[None]) -> None:
        failed = self._store is not None and self._store.failed
        if not booting.cancelled() and (error := booting.exception()) is not None and not failed:
            self.world.loop.failures.append(f"{self.name} does not start: {error!r}")

    def _died(self, life: Life) -> None:
        self.life = None
        if self.stopped:
            return
        chance = self.world.chance
        chance.note(self.world.loop.time(), f"{self.name} is dead")
        self.after_death()
        long = chance.faults and chance.dice.random() < 0.25
        down_s = chance.dice.uniform(5.0, 40.0) if long else chance.dice.uniform(0.3, 3.0)
        self.world.loop.call_later(down_s, self.start)

    def after_death(self) -> None:
        """What may happen to the machine while its process is away."""

    @property
    def path(self) -> Path:
        return self.world.folder / f"{self.name}.db"

    def open_store(self, life: Life, path: Path, *, application_id: int, version: int, schema: str) -> SimulatedStore:
        if self._file is None:
            opened = open_file if path.exists() else open_fresh
            self._file = opened(path, application_id, version, schema)
        self._store = SimulatedStore(
            self._file,
            life=life,
            chance=self.world.chance,
            committed=self.committed,
            failed=partial(self.store_failed, life),
        )
        return self._store

    def store_failed(self, life: Life) -> None:
        """A commit's outcome is unknown: the process leaves, as its `main` does, and is started again."""
        outside(self.world.loop.call_later, self.world.chance.dice.uniform(0.0, 0.5), life.kill)

    def read(self, sql: str, *values: str | int) -> list[tuple[Any, ...]]:
        """What is on the machine's disk, whether its process lives or not."""
        return [] if self._file is None else self._file.execute(sql, values).fetchall()

    @property
    def file(self) -> apsw.Connection:
        """The store's file, once there is one; it stays open over every death."""
        assert self._file is not None, "the machine has never started"
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # nobody will read it
            self._file.close()

    def committed(self, connection: apsw.Connection) -> None:
        """A look at the file after each commit."""

    def audit(self, connection: apsw.Connection) -> bool:
        """I1, I2 and I7, while it runs: after every sixteenth commit. Whether this was one."""
        self._commits += 1
        if self._commits % 16:
            return False
        for finding in report.audit(connection):
            self.world.broken.append(f"{finding.invariant} {self.name}: {finding.detail} ({finding.subject})")
        return True


class CityMachine(Machine):
    """A far city's core."""

    def __init__(self, name: str, world: World, city: City, line: Line) -> None:
        super().__init__(name, world)
        self.city, self._line = city, line

    async def boot(self, life: Life) -> None:
        key = keyfile.load_or_create(self.path.with_suffix(".key"))
        book = Book({self.city.region: self.city}, keyfile.PersonKey(key))
        store = self.open_store(life, self.path, application_id=CITY_ID, version=1, schema=entries.SCHEMA)
        today = accounting_date(self.clock.now())
        await store.commit(lambda c: seed.open_accounts(c, book, self.world.accounts, date=today))
        server = Server(life, Edge())
        service = CityCore(BookLink(store, book, self.clock), store)
        citycore_pb2_grpc.add_CityCoreServiceServicer_to_server(service, server)  # type: ignore[arg-type]  # duck-typed
        self._line.listen(server)

    def freeze(self, *, frozen: bool) -> None:
        """The city freezes an account, or releases it."""
        if self._file is not None:
            status, account = ("FROZEN" if frozen else "ACTIVE"), self.world.chance.dice.randint(1, 3)
            self._file.execute("UPDATE account SET status = ? WHERE account = ?", (status, account))

    def committed(self, connection: apsw.Connection) -> None:
        self.audit(connection)


class GatewayMachine(Machine):
    """The gateway; `lines` are those on which terminals come, `to_cities` lead to the far cities."""

    def __init__(
        self,
        name: str,
        world: World,
        lines: Mapping[TerminalId, Line],
        to_cities: Mapping[Region, Line],
        posted: Callable[[str], bool],
    ) -> None:
        """`posted`: whether any ledger has ever posted the debit of that id."""
        super().__init__(name, world)
        self._posted = posted
        self._proved: set[str] = set()
        self._lines, self._to_cities = list(lines.values()), to_cities
        self.forgot = False
        self.cities: Cities | None = None
        self._server: Server | None = None
        self._registry = Registry(
            [HomeCity(HERE, "OPEN", "", "9", "", ""), *(HomeCity(city, "OPEN", "", "9", "far", "") for city in FAR)],
            [Member(PHARMACY, "测试药店", HERE.region, Agreement.ACTIVE)],
            dict.fromkeys(lines, PHARMACY),
        )

    def add_line(self, line: Line) -> None:
        """One more machine calls, with the certificate of a terminal that is known."""
        self._lines.append(line)
        if self.life is not None and self._server is not None and self._server.life is self.life:
            line.listen(self._server)

    def close_city(self, city: City, *, closed: bool) -> None:
        """A city takes no new debits, by the registry; everything else for it waits at the gateway."""
        home = self._registry.cities[city.region]
        self._registry.cities[city.region] = replace(home, state="CLOSED_FOR_MAINTENANCE" if closed else "OPEN")

    async def boot(self, life: Life) -> None:
        clients = {
            region: CityClient(_channel(line), call_s=WAITS.patience.call_s) for region, line in self._to_cities.items()
        }
        partition = await Partition.open(
            self.path,
            embedded={HERE.region: HERE},
            links=clients,
            registry=self._registry,
            directory=SampleDirectory(
                seed.SeedPerson(account.social_security_number, account.home_region) for account in self.world.accounts
            ),
            rules=Rules(fenced=True, debit_max=DEBIT_MAX),
            clock=self.clock,
            waits=WAITS,
            accounts=self.world.accounts,
            open_store=partial(self.open_store, life),
        )
        await partition.router.start()
        server = Server(life, Edge(gateway_rpc.admit))
        cards = CardAuthentication(None, self._registry, self.clock, per_minute=1)
        vouchers = Vouchers(None, self._registry, partition.proofs, self.clock)
        service = gateway_rpc.Gateway(
            partition.router, self._registry, cards, vouchers, self.clock, policy_hotline="", fault_hotline=""
        )
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(service, server)  # type: ignore[arg-type]  # duck-typed
        for line in self._lines:
            line.listen(server)
        self._server = server
        self.cities = Cities(partition.router, self._registry, clients, self.clock)

    def after_death(self) -> None:
        """Route rows may be lost, but for promises and refusals of the gateway's own; guards and ledgers never are."""
        if not self.world.chance.hits(self.world.chance.rates.forgets, "gateway forgets"):
            return
        self.forgot = True
        self.file.execute(
            """BEGIN; DROP TRIGGER claim_is_never_deleted;
                DELETE FROM claim WHERE transaction_id IN
                    (SELECT transaction_id FROM route WHERE state NOT IN ('REV', 'REJECTED'));
                DELETE FROM route WHERE state NOT IN ('REV', 'REJECTED');
                DELETE FROM claim WHERE transaction_id IN
                    (SELECT transaction_id FROM credit_route WHERE state <> 'FWD');
                DELETE FROM credit_route WHERE state <> 'FWD';
                CREATE TRIGGER claim_is_never_deleted BEFORE DELETE ON claim
                    BEGIN SELECT RAISE(ABORT, 'claims are only added'); END; COMMIT"""
        )

    def committed(self, connection: apsw.Connection) -> None:
        if self.audit(connection):
            for (txid,) in connection.execute(
                "SELECT transaction_id FROM route WHERE state IN ('POSTED', 'CONFIRMED')"
            ):
                if txid in self._proved or self._posted(txid):
                    self._proved.add(txid)  # postings are never taken out
                else:
                    self.world.broken.append(f"I3 {txid}: posted, says the gateway, and no ledger does")


class CardDesk:
    """Card and keypad: the cashier puts in whose turn it is. Cards are taken out, PINs are cancelled."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.payer: CardPayer | None = None

    @asynccontextmanager
    async def identify(
        self, *, wait_ms: int, stage: Callable[[Stage], None], last_try_acknowledged: bool
    ) -> AsyncIterator[Presented]:
        await asyncio.sleep(self._chance.dice.uniform(0.2, 3.0))
        payer = self.payer
        if payer is None or self._chance.hits(0.05, "card removed"):
            raise YikatongError(Reason.CARD_REMOVED)
        identity = CardIdentity(
            atr=bytes(17),
            algorithm=CardAlgorithm.SM4,
            identification_code=payer.identification_code,
            spec_version="3.00",
            card_number=payer.card_number,
            social_security_number=payer.social_security_number,
            name=PersonName("测试"),
            issue_date="",
            expiry_date="",
        )
        yield Presented(identity, self._same_card)

    async def _same_card(self) -> None:
        """Nobody swaps cards here: tests/contract/test_same_card.py does."""


class TerminalMachine(Machine):
    """A terminal daemon beside a cashier. `number`: in its transactions' ids; a copy has one of its own."""

    def __init__(
        self, name: str, terminal_id: TerminalId, number: int, world: World, to_gateway: Line, his: Line
    ) -> None:
        super().__init__(name, world)
        self.terminal_id, self.number = terminal_id, number
        self.doubtful = False
        """Its journal was replaced by an older one, or another machine has the same: only safety holds any more."""
        self.when_sent: Callable[[], None] | None = None
        """Called once, as soon as the journal has a row SENT."""
        self.confirmed: set[str] = set()
        """Debits that a journal, now replaced, had confirmed, and knew that they were."""
        self._to_gateway, self._his = to_gateway, his
        self.desk = CardDesk(world.chance)
        self.journal: Journal | None = None
        self.runner: Runner | None = None
        self.credits: Credits | None = None
        self.session: Session | None = None
        self.reconciling: Reconciliation | None = None
        self._ids = 0

    async def boot(self, life: Life) -> None:
        clock = self.clock
        journal = Journal(self.path, partial(self.open_store, life))
        await journal.prove()
        gateway = GatewayChannel(_channel(self._to_gateway))
        hub, link = Hub(), money_link(gateway, lambda: session.may_reverse)
        session = Session(self.terminal_id, "simulated", gateway, journal, clock)
        desk = cast("Desk", self.desk)
        who, leave = WhoPays(desk), partial(self._leave, life)
        runner = Runner(journal, link, session, who, hub, clock, leave=leave, new_id=self._new_id)
        open_debits = await runner.recover()
        credited = Credits(
            journal, link, session, runner, hub, clock, leave=partial(self._leave, life), new_id=self._new_id
        )
        open_credits = await credited.recover()
        config = DaemonConfig(terminal_id=self.terminal_id, gateway=Gateway("simulated", "-", "-", "-"))
        reconciling = Reconciliation(journal, session, runner, ReconciliationLink(gateway, self.terminal_id), clock)
        terminal = Terminal(
            config,
            "simulated",
            clock,
            hub,
            journal,
            session,
            link,
            desk,
            who,
            runner,
            credited,
            reconciling,
            Recovered(journal, clock, [*open_debits, *open_credits]),
        )
        server = Server(life, Edge())
        terminal_rpc.add_to(cast("grpc.aio.Server", server), terminal)
        self.journal, self.runner, self.credits, self.reconciling = journal, runner, credited, reconciling
        self.session = session
        self._his.listen(server)
        await terminal.keep_signed_in()

    def _leave(self, life: Life, reason: Reason) -> None:
        """The store's failure ends the process by itself; being superseded is the only other reason to leave here."""
        if reason is Reason.JOURNAL_UNAVAILABLE:
            return
        if reason is not Reason.TERMINAL_SUPERSEDED or not self.doubtful:
            self.world.broken.append(f"{self.name} leaves the service: {reason.value}")
        outside(life.kill)

    def image(self) -> tuple[bytes, bytes]:
        """The journal's file and its key as they are now."""
        return self.file.serialize("main"), self.path.with_suffix(".key").read_bytes()

    def committed(self, connection: apsw.Connection) -> None:
        if self.when_sent is not None and connection.execute("SELECT 1 FROM txn WHERE state = 'SENT'").fetchone():
            call, self.when_sent = self.when_sent, None
            outside(call)

    def replace_disk(self, image: bytes, key: bytes) -> None:
        """Another disk is put in; what this one knew is gone."""
        self.doubtful = True
        self.kill("gets another disk")
        self.clock.reboot()
        if self._file is not None:
            self.confirmed |= books.acknowledged(self._file)
            self._file.close()
            self._file = None
        self.path.write_bytes(image)
        self.path.with_suffix(".key").write_bytes(key)

    def _new_id(self, clock: object) -> str:
        """Ids as a seed repeats them; UUIDs by their form."""
        self._ids += 1
        return f"{self.number:08d}-0000-7000-8000-{self._ids:012d}"

    def after_death(self) -> None:
        chance = self.world.chance
        if chance.hits(chance.rates.reboot, "terminal reboots"):
            self.clock.reboot()
        if chance.hits(chance.rates.clock_jump, "wall clock jumps"):
            self.clock.offset = timedelta(seconds=chance.dice.uniform(-86_400, 86_400))


def _channel(line: Line) -> grpc.aio.Channel:
    return cast("grpc.aio.Channel", Channel(line))
