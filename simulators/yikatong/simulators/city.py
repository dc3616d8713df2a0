"""A home city's core as a process of its own, with its own database; it can be told to be slow, silent or wrong.

    python -m yikatong.simulators.city --config city.toml

The faults stand in a control file, one word a line, read before every money call; an empty or missing file means
none. A fault that ends in `-once` is used up by the call that it befalls. So a test, the demo or a person with an
editor can say "lose the next answer".
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import grpc
import msgspec
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from yikatong.api.citycore.v1 import citycore_pb2, citycore_pb2_grpc
from yikatong.core.credit_orders import CreditAnswer, CreditOrder
from yikatong.core.orders import (
    Account,
    City,
    ConfirmAnswer,
    DebitAnswer,
    DebitOrder,
    Payer,
    Posted,
    ReversalAnswer,
    ReversalCause,
)
from yikatong.core.reasons import Moved, Reason, YikatongError
from yikatong.core.values import Fen, Region
from yikatong.ledger import entries, seed
from yikatong.ledger.book import Book
from yikatong.ledger.link import BookLink
from yikatong.ledger.rpc import CityCore
from yikatong.runtime import keyfile, logs
from yikatong.runtime.clock import SystemClock, accounting_date
from yikatong.runtime.config import load
from yikatong.runtime.edge import Context, Edge
from yikatong.runtime.program import run_until_told
from yikatong.runtime.store import Store, StoreFailed
from yikatong.runtime.tls import SERVER_OPTIONS, Identity, peer_name
from yikatong.simulators.faults_file import FaultsFile

APPLICATION_ID: Final = 0x594B4359  # "YKCY"
VERSION: Final = 2

FAULTS: Final = {
    "slow": "each call takes three seconds more",
    "lose-answer-once": "the next call is carried out, and its answer is lost",
    "silent": "each call is carried out, and none is ever answered",
    "hang-before": "nothing is carried out, and nothing is answered",
    "down": "each call fails at once, and nothing is carried out",
    "maintenance": "new debits are declined for good (closed for maintenance); everything else fails",
    "wrong-amount-once": "the next debit is posted, and its answer names another amount",
}

T = TypeVar("T")
_log = structlog.get_logger(__name__)
_SLOW_S: Final = 3.0
_STREAMS_MAX: Final = 4096


class CityConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The city's configuration file."""

    region: Annotated[str, msgspec.Meta(pattern="^[0-9]{6}$")]
    name_zh: str
    name_en: str
    listen: str
    """host:port; port 0 takes a free one."""
    state_dir: str
    authority: str
    certificate: str
    key: str
    gateway_name: str
    """Common name of the only certificate that may call."""
    port_file: str = ""
    """Where the port is written once the city listens."""
    faults_file: str = ""
    seed: str = ""
    """JSON file of sample accounts; what is missing is opened at the start."""


class FaultyLedger:
    """LedgerLink over a ledger, with the faults of the moment before and after each call."""

    def __init__(self, ledger: BookLink, store: Store, book: Book, faults: FaultsFile, stop: asyncio.Event) -> None:
        """`stop` is set where the store has failed: what is on the disk is then to be read anew."""
        self._ledger = ledger
        self._stop = stop
        self._store = store
        self._book = book
        self._faults = faults

    async def account(self, payer: Payer, home_region: Region | None) -> Account:
        return await self._befall(lambda: self._ledger.account(payer, home_region), self._faults.now())

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        faults = self._faults.now()
        if "maintenance" in faults:
            closed = Reason.CITY_CLOSED_FOR_MAINTENANCE
            return await self._befall(
                lambda: self._store.commit(lambda c: self._book.debit(c, order, closed=closed)), set()
            )
        answer = await self._befall(lambda: self._ledger.debit(order, attempt=attempt, ttl_ms=ttl_ms), faults)
        if "wrong-amount-once" in faults and isinstance(answer, Posted):
            return replace(answer, amount=answer.amount + Fen(1))
        return answer

    async def enquire(self, order: DebitOrder) -> DebitAnswer:
        return await self._befall(lambda: self._ledger.enquire(order), self._faults.now())

    async def enquire_id(self, transaction_id: str, region: Region) -> DebitAnswer:
        return await self._befall(lambda: self._ledger.enquire_id(transaction_id, region), self._faults.now())

    async def reverse(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer:
        return await self._befall(lambda: self._ledger.reverse(order, cause), self._faults.now())

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer:
        return await self._befall(lambda: self._ledger.confirm(order), self._faults.now())

    async def credit(self, order: CreditOrder, *, attempt: int) -> CreditAnswer:
        return await self._befall(lambda: self._ledger.credit(order, attempt=attempt), self._faults.now())

    async def _befall(self, call: Callable[[], Awaitable[T]], faults: set[str]) -> T:
        if faults & {"down", "maintenance"}:
            raise YikatongError(Reason.CITY_UNREACHABLE, "told to be down")
        if "slow" in faults:
            await asyncio.sleep(_SLOW_S)
        if "hang-before" in faults:
            _log.info("hangs before the ledger", fault="hang-before")
            await asyncio.Event().wait()
        try:
            answer = await call()
        except StoreFailed as error:
            self._stop.set()
            raise YikatongError(Reason.STORE_UNAVAILABLE, str(error), outcome=Moved.PENDING.value) from error
        if "silent" in faults:
            _log.info("keeps the answer", fault="silent")
            await asyncio.Event().wait()
        if "lose-answer-once" in faults:
            raise YikatongError(Reason.CITY_UNREACHABLE, "told to lose the answer")
        return answer


async def serve(config: CityConfig, *, stop: asyncio.Event, ready: Callable[[int], None] = lambda port: None) -> int:
    """Runs the city until `stop`; returns the exit status. `ready` hears the port that it listens on.

    Raises YikatongError where it can't start.
    """
    clock = SystemClock()
    folder = _state(config)
    city = City(Region(config.region), config.name_zh, config.name_en)
    book = Book({city.region: city}, keyfile.PersonKey(keyfile.load_or_create(folder / "city.key")))
    try:
        store = Store(folder / "city.db", application_id=APPLICATION_ID, version=VERSION, schema=entries.SCHEMA)
    except StoreFailed as error:
        raise YikatongError(Reason.STORE_UNAVAILABLE, str(error)) from error
    try:
        if config.seed:
            accounts, today = seed.load(Path(config.seed)).accounts, accounting_date(clock.now())
            await store.commit(lambda c: seed.open_accounts(c, book, accounts, date=today))
        faults = FaultsFile(Path(config.faults_file) if config.faults_file else None, FAULTS)
        ledger = FaultyLedger(BookLink(store, book, clock), store, book, faults, stop)
        server, port = await _start(config, CityCore(ledger, store))
        if config.port_file:
            _write(Path(config.port_file), f"{port}\n")
        _log.info("city listens", region=config.region, port=port)
        ready(port)
        await stop.wait()
        await server.stop(0)
        return int(store.failed)
    finally:
        await store.close()


def _state(config: CityConfig) -> Path:
    folder = Path(config.state_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


async def _start(config: CityConfig, core: CityCore) -> tuple[grpc.aio.Server, int]:
    def admit(context: Context, method: str, request: Any) -> None:
        if peer_name(context) != config.gateway_name:
            raise YikatongError(Reason.NOT_ALLOWED, "only the gateway may call", method=method)

    # One caller brings everybody's debits: the limit on streams is for many small callers.
    options = {**dict(SERVER_OPTIONS), "grpc.max_concurrent_streams": _STREAMS_MAX}
    server = grpc.aio.server(interceptors=[Edge(admit)], options=list(options.items()))
    citycore_pb2_grpc.add_CityCoreServiceServicer_to_server(core, server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    identity = Identity(Path(config.authority), Path(config.certificate), Path(config.key))
    try:
        port = server.add_secure_port(config.listen, identity.server_credentials())
    except RuntimeError as error:  # grpcio's only word for an address that can't be had
        raise YikatongError(Reason.CONFIGURATION_INVALID, "the address can't be listened on", key="listen") from error
    await server.start()
    name = citycore_pb2.DESCRIPTOR.services_by_name["CityCoreService"].full_name
    await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    return server, port


def _write(path: Path, content: str) -> None:
    """Whole or not at all: a reader that finds the file finds it complete."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(content, encoding="ascii")
    draft.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="yikatong.simulators.city", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    return run(parser.parse_args().config)


def run(config: Path) -> int:
    """Runs the city of that configuration until SIGTERM or SIGINT. Raises YikatongError where it can't start."""
    logs.configure()
    settings = load(config, CityConfig)
    return run_until_told(lambda stop: serve(settings, stop=stop))


if __name__ == "__main__":
    sys.exit(main())
