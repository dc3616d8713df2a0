"""Wires a gateway: the place that names the concrete store, directory, city clients and services."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.api.operations.v1 import (
    fleet_pb2,
    fleet_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    reconciliation_pb2,
    reconciliation_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    resolution_pb2,
    resolution_pb2_grpc,
)
from yikatong.core.orders import City
from yikatong.core.ports import Hsm, VoucherService
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, Region
from yikatong.gateway import clearing_rpc, fleet_rpc, reconciliation_rpc, registry_rpc, resolution_rpc, rpc
from yikatong.gateway.books import Books
from yikatong.gateway.card_authentication import CardAuthentication
from yikatong.gateway.city_client import CityClient
from yikatong.gateway.config import GatewayConfig
from yikatong.gateway.directory import OneCity, SampleDirectory
from yikatong.gateway.measures import Measures
from yikatong.gateway.partition import Partition
from yikatong.gateway.reconciliation import Cities
from yikatong.gateway.registry import HomeCity, Registry, registry_from
from yikatong.gateway.replacement import Replacement
from yikatong.gateway.resolution import Resolutions
from yikatong.gateway.router import WAITS, Waits
from yikatong.gateway.routing import Rules
from yikatong.gateway.soft_hsm import SoftHsm
from yikatong.gateway.unresolved import Unsettled
from yikatong.gateway.voucher_client import HttpsVoucherService
from yikatong.gateway.voucher_proofs import LIFE_MS
from yikatong.gateway.vouchers import PER_MINUTE, Vouchers
from yikatong.ledger import seed
from yikatong.runtime.clock import Clock, SystemClock
from yikatong.runtime.edge import Edge
from yikatong.runtime.notify import Notifier, Watchdog, watchdog_limit_s
from yikatong.runtime.tls import SERVER_OPTIONS

EXIT_OK: Final = 0
EXIT_AGAIN: Final = 1
"""The store failed: systemd starts us again, and what is on the disk is read anew."""

SELF_TEST_CITY: Final = City(Region("990000"), "自检", "Self-test")
"""A region that belongs to nobody; the only city of the self-test partition."""

_SELF_TEST_BALANCE_FEN: Final = 100_000_000
_GRACE_S: Final = 5.0
_SERVICES: Final = (
    gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name,
    gateway_pb2.DESCRIPTOR.services_by_name["SelfTestService"].full_name,
    operations_pb2.DESCRIPTOR.services_by_name["ClearingService"].full_name,
    reconciliation_pb2.DESCRIPTOR.services_by_name["ReconciliationService"].full_name,
    registry_pb2.DESCRIPTOR.services_by_name["RegistryService"].full_name,
    resolution_pb2.DESCRIPTOR.services_by_name["ResolutionService"].full_name,
    fleet_pb2.DESCRIPTOR.services_by_name["FleetService"].full_name,
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Operators:
    """The services for operators."""

    clearing: clearing_rpc.Clearing
    reconciliations: reconciliation_rpc.Reconciliations
    registry: registry_rpc.RegistryRpc
    resolution: resolution_rpc.ResolutionRpc
    fleet: fleet_rpc.FleetRpc

    def add_to(self, server: grpc.aio.Server) -> None:
        operations_pb2_grpc.add_ClearingServiceServicer_to_server(self.clearing, server)
        reconciliation_pb2_grpc.add_ReconciliationServiceServicer_to_server(self.reconciliations, server)
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(self.registry, server)
        resolution_pb2_grpc.add_ResolutionServiceServicer_to_server(self.resolution, server)
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(self.fleet, server)


async def serve(
    config: GatewayConfig,
    *,
    stop: asyncio.Event,
    ready: Callable[[int], None] = lambda port: None,
    clock: Clock | None = None,
    waits: Waits = WAITS,
) -> int:
    """Runs the gateway until `stop`; returns the exit status. `ready` hears the port that it listens on.

    Raises YikatongError where it can't start: CONFIGURATION_INVALID, CERTIFICATE_INVALID, STORE_UNAVAILABLE.
    """
    clock = clock or SystemClock()
    registry = registry_from(config)
    for tls in filter(None, (config.tls, config.city_tls)):  # before any store is made
        tls.identity().check()
    async with contextlib.AsyncExitStack() as stack:
        cards = CardAuthentication(_hsm(config, stack), registry, clock, per_minute=config.hsm.per_minute)
        service = _voucher_service(config)
        clients = await stack.enter_async_context(_clients(config, registry, waits))
        money, measures = await stack.enter_async_context(_money(config, registry, clients, clock, waits))
        self_test = await stack.enter_async_context(_self_test(config, registry, clock, waits))
        vouchers = _vouchers(config, service, registry, money, clock)
        cities = Cities(money.router, registry, clients, clock)
        books = Books(money.store, registry, clients, money.acts)
        resolutions = Resolutions(money.router, money.tickets, money.acts, clock, again_s=waits.accept_after_s)
        replacement = Replacement(money.router, money.tickets, money.acts, registry, clock)
        unsettled = Unsettled(money.router, registry, books, clock)
        operators = Operators(
            clearing_rpc.Clearing(books, money.router, money.acts, clock),
            reconciliation_rpc.Reconciliations(money.router, registry, cities),
            registry_rpc.RegistryRpc(registry, measures, replacement, money.router, clients),
            resolution_rpc.ResolutionRpc(unsettled, resolutions),
            fleet_rpc.FleetRpc(money.router, registry, clock),
        )
        server, port, checks = await _start(config, registry, cards, vouchers, money, self_test, operators, clock)
        stack.push_async_callback(server.stop, _GRACE_S)
        notifier = Notifier.from_environment()

        async def probe() -> None:
            await money.router.commit(lambda connection: None)

        watchdog = asyncio.create_task(Watchdog(notifier, probe, limit_s=watchdog_limit_s()).run())
        stack.callback(watchdog.cancel)
        background_failed = asyncio.Event()
        for name, work in (
            ("reconciliation", cities.run()),
            ("resolution", resolutions.run()),
            ("unsettled", unsettled.run()),
        ):
            background = asyncio.create_task(work, name=name)
            background.add_done_callback(lambda ended: _background_ended(ended, background_failed))
            stack.push_async_callback(_end, background)
        if config.port_file:
            _write(Path(config.port_file), f"{port}\n")
        _log.info("gateway listens", port=port, cities=len(registry.cities), remote_cities=len(clients))
        notifier.ready("serving")
        ready(port)
        failed = await _until(stop, money.router.store_failed, self_test.router.store_failed, background_failed)
        notifier.stopping()
        await checks.enter_graceful_shutdown()
        if failed:
            reason = Reason.INTERNAL if background_failed.is_set() else Reason.STORE_UNAVAILABLE
            _log.error("leaving the service", reason=reason.value)
        return EXIT_AGAIN if failed else EXIT_OK


def _voucher_service(config: GatewayConfig) -> VoucherService | None:
    """Before any store is made: its certificates may be no good."""
    if (wanted := config.voucher_service) is None:
        return None
    identity = wanted.tls.identity()
    identity.check()
    return HttpsVoucherService(wanted.url, identity, timeout_s=wanted.timeout_ms / 1000)


def _vouchers(
    config: GatewayConfig, service: VoucherService | None, registry: Registry, money: Partition, clock: Clock
) -> Vouchers:
    per_minute = config.voucher_service.per_minute if config.voucher_service else PER_MINUTE
    return Vouchers(service, registry, money.proofs, clock, per_minute=per_minute)


@contextlib.asynccontextmanager
async def _clients(config: GatewayConfig, registry: Registry, waits: Waits) -> AsyncIterator[dict[Region, CityClient]]:
    """A client for each city that has a core of its own."""
    remote = [home for home in registry.cities.values() if home.address]
    if remote and config.city_tls is None:
        raise YikatongError(Reason.CONFIGURATION_INVALID, "a city with an address needs city_tls", key="city_tls")
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for home in remote:
            assert config.city_tls is not None
            client = CityClient.connect(
                home.address,
                config.city_tls.identity(),
                server_name=home.server_name,
                call_s=waits.patience.call_s,
            )
            stack.push_async_callback(client.close)
            clients[home.city.region] = client
        yield clients


@contextlib.asynccontextmanager
async def _money(
    config: GatewayConfig, registry: Registry, clients: dict[Region, CityClient], clock: Clock, waits: Waits
) -> AsyncIterator[tuple[Partition, Measures]]:
    """The partition that is for real, with what operators have ordered in force before anything is routed."""
    sample = seed.load(Path(config.seed)) if config.seed else seed.Seed()
    partition = await Partition.open(
        _state(config) / "gateway.db",
        embedded={region: home.city for region, home in registry.cities.items() if not home.address},
        links=clients,
        registry=registry,
        directory=SampleDirectory(sample.persons),
        rules=Rules(fenced=True, debit_max=Fen(config.debit_max_fen)),
        clock=clock,
        waits=waits,
        accounts=sample.accounts,
        voucher_life_ms=config.voucher_service.proof_ms if config.voucher_service else LIFE_MS,
    )
    measures = Measures(partition.router.commit, partition.acts, registry, clock)
    try:
        await measures.load()
        await partition.router.start()
        yield partition, measures
    finally:
        await partition.close()


@contextlib.asynccontextmanager
async def _self_test(config: GatewayConfig, registry: Registry, clock: Clock, waits: Waits) -> AsyncIterator[Partition]:
    """The same router over another store, where everybody is insured in a city that is none.

    Its journal at the terminal is another one too, so epochs and sequences are not compared.
    """
    region = SELF_TEST_CITY.region
    home = HomeCity(SELF_TEST_CITY, "OPEN", "0000-00-00", "9999-99-99", "", "")
    partition = await Partition.open(
        _state(config) / "selftest.db",
        embedded={region: SELF_TEST_CITY},
        links={},
        registry=registry.with_cities([home]),
        directory=OneCity(region),
        rules=Rules(fenced=False, debit_max=Fen(config.debit_max_fen)),
        clock=clock,
        waits=waits,
        accounts=[
            seed.SeedAccount(person, region.code, balance_fen=_SELF_TEST_BALANCE_FEN)
            for person in config.self_test_persons
        ],
    )
    try:
        await partition.router.start()
        yield partition
    finally:
        await partition.close()


def _hsm(config: GatewayConfig, stack: contextlib.AsyncExitStack) -> Hsm | None:
    """The security module, closed with the stack; None where there is none. Raises CONFIGURATION_INVALID."""
    if not config.hsm.keys:
        return None
    hsm = SoftHsm.load(Path(config.hsm.keys))
    stack.callback(hsm.close)
    _log.warning("cards are authenticated with soft keys: never in production")
    return hsm


def _state(config: GatewayConfig) -> Path:
    folder = Path(config.state_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


async def _start(
    config: GatewayConfig,
    registry: Registry,
    cards: CardAuthentication,
    vouchers: Vouchers,
    money: Partition,
    self_test: Partition,
    operators: Operators,
    clock: Clock,
) -> tuple[grpc.aio.Server, int, health.aio.HealthServicer]:
    server = grpc.aio.server(interceptors=[Edge(rpc.admit)], options=SERVER_OPTIONS)
    service = rpc.Gateway(
        money.router,
        registry,
        cards,
        vouchers,
        clock,
        policy_hotline=config.policy_hotline,
        fault_hotline=config.fault_hotline,
    )
    gateway_pb2_grpc.add_GatewayServiceServicer_to_server(service, server)
    gateway_pb2_grpc.add_SelfTestServiceServicer_to_server(
        rpc.SelfTest(self_test.router, registry, self_test.proofs), server
    )
    operators.add_to(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if config.development:
        reflection.enable_server_reflection([*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        port = server.add_secure_port(config.listen, config.tls.identity().server_credentials())
    except RuntimeError as error:  # grpcio's only word for an address that can't be had
        raise YikatongError(Reason.CONFIGURATION_INVALID, "the address can't be listened on", key="listen") from error
    await server.start()
    for name in ("", *_SERVICES):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    return server, port, checks


async def _until(stop: asyncio.Event, *failures: asyncio.Event) -> bool:
    """Waits for the first of them; whether it was a failure."""
    waiting = [asyncio.create_task(event.wait()) for event in (stop, *failures)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return any(event.is_set() for event in failures)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _background_ended(task: asyncio.Task[None], failed: asyncio.Event) -> None:
    """What people have decided and what the books say must not wait for a restart that nobody knows is needed."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a background task failed", task=task.get_name(), exc_info=error)
        failed.set()


def _write(path: Path, content: str) -> None:
    """Whole or not at all: a reader that finds the file finds it complete."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(content, encoding="ascii")
    draft.replace(path)
