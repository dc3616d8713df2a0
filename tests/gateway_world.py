"""A province for tests: cities as processes of their own, a gateway in this process or as one, certificates for all.

Every person, number and account is invented.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.api.operations.v1 import operations_pb2, operations_pb2_grpc
from yikatong.core.orders import CardPayer, DebitOrder, Purpose
from yikatong.core.values import (
    CardIdentificationCode,
    CardNumber,
    Fen,
    Institution,
    Region,
    RequestId,
    SocialSecurityNumber,
    TerminalId,
    TransactionId,
)
from yikatong.gateway import main as gateway_main
from yikatong.gateway.config import CityConfig, GatewayConfig, InstitutionConfig, TerminalConfig, Tls
from yikatong.gateway.development_ca import DevelopmentCa
from yikatong.gateway.router import Waits
from yikatong.runtime.clock import Clock
from yikatong.runtime.leg import Patience
from yikatong.runtime.tls import Identity
from yikatong.simulators import city as city_simulator
from yikatong.terminal.gateway_client import GatewayChannel, MoneyLink, money_link

HERE, FAR = Region("370100"), Region("371000")
"""The embedded city, where the pharmacy stands, and the one that is a process of its own."""
PHARMACY = Institution("P37010000001")
TERMINAL = TerminalId("terminal-1")
OTHER_TERMINAL = TerminalId("terminal-2")
BALANCE_FEN = 100_000
QUICK = Waits(
    Patience(total_s=2.0, call_s=0.5, resend_s=0.05, enquire_s=0.1), accept_after_s=1.0, backoff=lambda _: 0.1
)
"""Shorter than any deadline of a test; no test asserts a time."""

_GATEWAY = """
import asyncio, signal, sys
from pathlib import Path
from yikatong.gateway.config import GatewayConfig
from yikatong.gateway.main import serve
from yikatong.runtime import logs
from yikatong.runtime.config import load
async def run():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return await serve(load(Path(sys.argv[1]), GatewayConfig), stop=stop)
logs.configure()
sys.exit(asyncio.run(run()))
"""
_serials = itertools.count(1)


def person(number: int) -> SocialSecurityNumber:
    """An invented person: region 990001 is nobody's."""
    return SocialSecurityNumber(f"99000119700101{number:03d}X")


def payer(number: int, *, card_region: Region = HERE) -> CardPayer:
    return CardPayer(
        person(number), CardNumber(f"T{number:08d}"), CardIdentificationCode(number.to_bytes(16, "big")), card_region
    )


def order(number: int = 1, *, amount_fen: int = 3_650, epoch: int = 1, **changes: object) -> DebitOrder:
    """A fresh debit of person `number`; odd persons are insured far away, even ones here."""
    serial = next(_serials)
    made = DebitOrder(
        TransactionId(str(uuid.uuid4())),
        PHARMACY,
        TERMINAL,
        HERE,
        RequestId(f"request-{serial}"),
        f"order-{serial}",
        "",
        Fen(amount_fen),
        Purpose.PHARMACY_PURCHASE,
        payer(number),
        epoch,
        serial,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # tests name fields of the order


def seed() -> dict[str, object]:
    homes = {number: (FAR if number % 2 else HERE).code for number in range(1, 21)}
    return {
        "persons": [
            {"social_security_number": person(n).reveal(), "home_region": home, "insured": True}
            for n, home in homes.items()
        ],
        "accounts": [
            {"social_security_number": person(n).reveal(), "home_region": home, "balance_fen": BALANCE_FEN}
            for n, home in homes.items()
        ],
    }


@dataclass
class Process:
    """A process of ours, started from a configuration, that can be killed and started again."""

    command: list[str]
    port_file: Path
    log: Path
    running: asyncio.subprocess.Process | None = None

    async def start(self) -> int:
        """Returns the port once it listens."""
        self.port_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.running = await asyncio.create_subprocess_exec(*self.command, stderr=log)
        while not self.port_file.exists():
            if self.running.returncode is not None:
                raise AssertionError(f"it did not start: {self.log.read_text()}")
            await asyncio.sleep(0.02)
        return int(self.port_file.read_text())

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.running is not None
        if self.running.returncode is None:
            self.running.send_signal(how)
        await self.running.wait()

    async def logged(self, text: str) -> None:
        """Waits until the process has said so."""
        while text not in self.log.read_text():
            await asyncio.sleep(0.02)


@dataclass
class World:
    folder: Path
    ca: DevelopmentCa
    city: Process
    city_port: int
    config: GatewayConfig
    faults_file: Path
    channels: list[GatewayChannel] = field(default_factory=list)

    def fault(self, *words: str) -> None:
        """What befalls the far city from now on; nothing: it is well again."""
        draft = self.folder / "faults.draft"
        draft.write_text("\n".join(words))
        draft.replace(self.faults_file)

    def channel(self, port: int, name: str = TERMINAL, identity: Identity | None = None) -> GatewayChannel:
        channel = GatewayChannel.connect(f"localhost:{port}", identity or self.ca.client(name))
        self.channels.append(channel)
        return channel

    def link(self, port: int, name: str = TERMINAL) -> MoneyLink:
        return money_link(self.channel(port, name))

    async def signed_in(self, port: int, name: str = TERMINAL) -> MoneyLink:
        """A terminal's money link after its sign-in."""
        channel = self.channel(port, name)
        await gateway_pb2_grpc.GatewayServiceStub(channel.channel).SignIn(gateway_pb2.SignInRequest(terminal_id=name))
        return money_link(channel)

    async def books(self, port: int) -> dict[str, operations_pb2.CityBooks]:
        """What an operator sees, by region; the audit must have no finding."""
        stub = operations_pb2_grpc.ClearingServiceStub(self.channel(port, "operator-1").channel)
        audit = await stub.Audit(operations_pb2.AuditRequest())
        assert not audit.findings, audit
        books = await stub.GetBooks(operations_pb2.GetBooksRequest())
        return {city.region: city for city in books.cities}

    @contextlib.asynccontextmanager
    async def gateway(
        self, *, waits: Waits = QUICK, clock: Clock | None = None, **changes: object
    ) -> AsyncIterator[int]:
        """A gateway in this process; yields its port."""
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        config = msgspec.structs.replace(self.config, **changes)
        serving = gateway_main.serve(config, stop=stop, ready=ready.set_result, waits=waits, clock=clock)
        task = asyncio.create_task(serving)
        done, _ = await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            task.result()
        try:
            yield ready.result()
        finally:
            stop.set()
            assert await task == gateway_main.EXIT_OK

    def gateway_process(self) -> Process:
        """The gateway as a process, over the same state."""
        path = self.folder / "gateway.toml"
        path.write_text(_toml(self.config))
        return Process(
            [sys.executable, "-c", _GATEWAY, str(path)], self.folder / "gateway.port", self.folder / "gateway.log"
        )

    def city_rows(self, sql: str) -> list[tuple[object, ...]]:
        """Reads the far city's database; its process must be down."""
        return _rows(self.folder / "city" / "city.db", sql)

    def change_gateway(self, *statements: str) -> None:
        """Changes the gateway's database behind its back; it must be down."""
        with contextlib.closing(sqlite3.connect(self.folder / "gateway" / "gateway.db")) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def gateway_rows(self, sql: str) -> list[tuple[object, ...]]:
        """Reads the gateway's database; it must be down."""
        return _rows(self.folder / "gateway" / "gateway.db", sql)


def _rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def _toml(config: GatewayConfig) -> str:
    return msgspec.toml.encode(_given(msgspec.to_builtins(config))).decode()


def _given(value: Any) -> Any:
    """Without what is left out; TOML has no null."""
    match value:
        case dict():
            return {key: _given(inner) for key, inner in value.items() if inner is not None}
        case list():
            return [_given(inner) for inner in value]
        case _:
            return value


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A running far city, and everything that a gateway needs."""
    with tempfile.TemporaryDirectory(prefix="yikatong-") as name:
        folder = Path(name)
        ca = DevelopmentCa.create(folder / "pki")
        (folder / "seed.json").write_text(json.dumps(seed()))
        faults_file = folder / "faults"
        city_tls, gateway_tls, as_client = ca.server("city-core"), ca.server("gateway-server"), ca.client("gateway")
        city_config = city_simulator.CityConfig(
            region=FAR.code,
            name_zh="威海",
            name_en="Weihai",
            listen="localhost:0",
            state_dir=str(folder / "city"),
            authority=str(city_tls.authority),
            certificate=str(city_tls.certificate),
            key=str(city_tls.key),
            gateway_name="gateway",
            port_file=str(folder / "city.port"),
            faults_file=str(faults_file),
            seed=str(folder / "seed.json"),
        )
        path = folder / "city.toml"
        plain = msgspec.to_builtins(city_config)
        # The port is kept, so that the city is found again after a restart.
        plain["listen"] = f"localhost:{_free_port()}"
        path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in plain.items()))
        city = Process(
            [sys.executable, "-m", "yikatong.simulators.city", "--config", str(path)],
            folder / "city.port",
            folder / "city.log",
        )
        port = await city.start()
        config = GatewayConfig(
            listen="localhost:0",
            state_dir=str(folder / "gateway"),
            tls=Tls(str(gateway_tls.authority), str(gateway_tls.certificate), str(gateway_tls.key)),
            city_tls=Tls(str(as_client.authority), str(as_client.certificate), str(as_client.key)),
            port_file=str(folder / "gateway.port"),
            policy_hotline="0631-0000000",
            fault_hotline="0531-0000000",
            seed=str(folder / "seed.json"),
            self_test_persons=[person(99).reveal()],
            cities=[
                CityConfig(HERE.code, "济南", "Jinan"),
                CityConfig(FAR.code, "威海", "Weihai", address=f"localhost:{port}"),
            ],
            institutions=[
                InstitutionConfig(PHARMACY.code, "测试药店", HERE.code),
                InstitutionConfig("P37010000002", "测试药店二", HERE.code, agreement="SUSPENDED"),
            ],
            terminals=[
                TerminalConfig(TERMINAL, PHARMACY.code),
                TerminalConfig(OTHER_TERMINAL, PHARMACY.code),
                TerminalConfig("terminal-suspended", "P37010000002"),
            ],
        )
        made = World(folder, ca, city, port, config, faults_file)
        try:
            yield made
        finally:
            for channel in made.channels:
                await channel.close()
            await city.end(signal.SIGKILL)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
