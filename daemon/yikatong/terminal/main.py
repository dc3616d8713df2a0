"""Wires a terminal daemon: the place that names the concrete reader, keypad, journal and link."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from yikatong.api.diagnostics.v1 import diagnostics_pb2
from yikatong.api.terminal.v1 import terminal_pb2
from yikatong.core.card import CardAlgorithm
from yikatong.core.orders import Credential
from yikatong.core.ports import (
    CardCentre,
    CardReader,
    CodeScanner,
    CustomerDisplay,
    ReceiptPrinter,
    ResidentCardReader,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.transaction import Transaction
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.trace import (
    DisplayWords,
    IdCardWords,
    LineTrace,
    ObservedReader,
    PrinterWords,
    ScannerWords,
    Trace,
)
from yikatong.runtime.clock import Clock, SystemClock
from yikatong.runtime.edge import Edge
from yikatong.runtime.notify import Notifier, Watchdog, watchdog_limit_s
from yikatong.runtime.read_only_store import is_read_only
from yikatong.runtime.unix_socket import make_room
from yikatong.terminal import alarms, customer, diagnostics_rpc, rpc
from yikatong.terminal.admission import Admission
from yikatong.terminal.centre_client import CentreLink
from yikatong.terminal.config import DaemonConfig
from yikatong.terminal.credits import Credits
from yikatong.terminal.desk import Desk
from yikatong.terminal.events import Hub
from yikatong.terminal.gateway_client import (
    GatewayChannel,
    ReconciliationLink,
    SessionLink,
    money_link,
    self_test_link,
)
from yikatong.terminal.journal import Journal
from yikatong.terminal.keypads import keypad_of, rules_of
from yikatong.terminal.live import DEFAULT_LIMITS, Limits
from yikatong.terminal.pin_check import PinCheck
from yikatong.terminal.read_only import keep_promises
from yikatong.terminal.reading import ReadingBook
from yikatong.terminal.reading_file import ReadingFile
from yikatong.terminal.reconciliation import Reconciliation
from yikatong.terminal.recovered import Recovered, still_news
from yikatong.terminal.runner import Runner
from yikatong.terminal.selftest import SelfTest
from yikatong.terminal.selftest_path import Bench
from yikatong.terminal.session import Session
from yikatong.terminal.terminal import Terminal
from yikatong.terminal.usual import SEEDED
from yikatong.terminal.voucher_client import VoucherLink
from yikatong.terminal.who_pays import ByIdCard, ByVoucher, Way, WhoPays

if TYPE_CHECKING:
    from yikatong.drivers.card.centre import CentreAuthenticator
    from yikatong.drivers.card.psam import PsamAuthenticator
    from yikatong.drivers.vendor.unit import VendorUnit

_log = structlog.get_logger(__name__)

EXIT_OK: Final = 0
EXIT_AGAIN: Final = 1
"""The journal failed: systemd starts us again, and what is on the disk is read anew."""
EXIT_CONFIGURATION: Final = 78
"""Configuration, clone or downgrade: starting again does not help (RestartPreventExitStatus)."""

_TERMINAL_SERVICE: Final = terminal_pb2.DESCRIPTOR.services_by_name["TerminalService"].full_name
_DIAGNOSTICS_SERVICE: Final = diagnostics_pb2.DESCRIPTOR.services_by_name["DiagnosticsService"].full_name


@dataclass(frozen=True, slots=True)
class Observation:
    """Who watches what passes between terminal and devices, and the record of good and bad reads."""

    trace: Trace
    file: ReadingFile
    book: ReadingBook


async def serve(
    config: DaemonConfig,
    *,
    stop: asyncio.Event,
    ready: Callable[[Terminal], None] = lambda terminal: None,
    clock: Clock | None = None,
    limits: Limits = DEFAULT_LIMITS,
    reader: CardReader | None = None,
) -> int:
    """Runs the daemon until `stop`; returns the exit status. Raises YikatongError where it can't start.

    `reader` replaces the configured one where the caller holds it already (demo, tests).
    """
    exits: list[int] = []

    def leave(reason: Reason) -> None:
        _log.error("leaving the service", reason=reason.value)
        exits.append(EXIT_CONFIGURATION if reason is Reason.TERMINAL_SUPERSEDED else EXIT_AGAIN)
        stop.set()

    clock = clock or SystemClock()
    if is_read_only(Path(config.state)):
        if (reason := await keep_promises(config, stop=stop, clock=clock, limits=limits)) is not None:
            leave(reason)
        return exits[0] if exits else EXIT_OK
    async with contextlib.AsyncExitStack() as stack:
        assembled = _assemble(config, clock, limits, reader, leave)
        terminal, self_test, observation = await stack.enter_async_context(assembled)
        checks = await stack.enter_async_context(_serving(terminal, self_test, observation, config))
        tasks = [
            asyncio.create_task(terminal.keep_signed_in(), name="session"),
            asyncio.create_task(terminal.watch_reader(), name="reader"),
            asyncio.create_task(_file_self_tests(terminal, self_test), name="self-test reports"),
            asyncio.create_task(terminal.reconciliation.run(), name="reconciliation"),
            asyncio.create_task(alarms.watch(terminal), name="alarms"),
            *_for_the_customer(terminal),
            asyncio.create_task(observation.file.keep(observation.book), name="record of reads"),
        ]
        notifier = Notifier.from_environment()
        watchdog = Watchdog(notifier, terminal.journal.probe, limit_s=watchdog_limit_s())
        tasks.append(asyncio.create_task(watchdog.run(), name="watchdog"))
        for task in tasks:
            task.add_done_callback(lambda ended: _background_ended(ended, leave))
        notifier.ready("serving")
        ready(terminal)
        await stop.wait()
        notifier.stopping()
        await checks.enter_graceful_shutdown()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return exits[0] if exits else EXIT_OK


@contextlib.asynccontextmanager
async def _assemble(
    config: DaemonConfig, clock: Clock, limits: Limits, reader: CardReader | None, leave: Callable[[Reason], None]
) -> AsyncIterator[tuple[Terminal, SelfTest, Observation]]:
    async with contextlib.AsyncExitStack() as stack:
        admission = Admission(Path(config.state))
        admission.prepare()
        journal = Journal(config.journal)
        stack.push_async_callback(journal.close)
        await journal.prove()
        gateway = GatewayChannel.connect(
            config.gateway.address, config.gateway.identity, server_name=config.gateway.server_name
        )
        stack.push_async_callback(gateway.close)
        unit = _unit(config)
        if unit is not None:
            stack.push_async_callback(unit.close)
        if reader is None:
            reader = _reader(config, unit)
            stack.push_async_callback(reader.close)
        observation = Observation(Trace(), file := ReadingFile(Path(config.state)), file.book(clock))
        stack.callback(file.save, observation.book)
        session = Session(config.terminal_id, version("yikatong"), gateway, journal, clock)
        hub, link = Hub(), money_link(gateway, lambda: session.may_reverse)
        latest = (await journal.credits.newest(SEEDED, open_only=False))[::-1]
        hub.usual.seed(row for row in latest if isinstance(row, Transaction))
        cards = config.card_authentication
        centre = CentreLink(gateway, session, timeout_ms=cards.timeout_ms)
        authenticator = _authenticator(config, unit, centre, stack, observation.trace)
        document = SocialSecurityCard(authenticator=authenticator, every_card=cards.every_card)
        pin = None
        if config.pin_keypad is not None:
            software = Path(config.sockets.pin)
            keypad = keypad_of(config.pin_keypad, reader, unit, software=software, trace=observation.trace)
            stack.push_async_callback(keypad.close)
            pin = PinCheck(keypad, document, journal, clock, rules_of(config.pin_keypad))
        observed = ObservedReader(reader, observation.trace, observation.book.note)
        desk = Desk(observed, document, clock, pin=pin)
        scanner = _scanner(config, stack, observation.trace)
        id_card_reader = _id_card_reader(config, stack, observation.trace)
        others: dict[Credential, Way] = {}
        if config.scanner is not None and scanner is not None:
            resolver = VoucherLink(gateway, session, timeout_ms=config.scanner.timeout_ms)
            others[Credential.VOUCHER] = ByVoucher(scanner, resolver)
        if id_card_reader is not None:
            others[Credential.RESIDENT_ID] = ByIdCard(id_card_reader, clock)
        who = WhoPays(desk, others)
        runner = Runner(journal, link, session, who, hub, clock, leave=leave, limits=limits, admit=admission.require)
        stack.push_async_callback(runner.close)
        open_debits = await runner.recover()
        credited = Credits(journal, link, session, runner, hub, clock, leave=leave, limits=limits)
        stack.push_async_callback(credited.close)
        open_credits = await credited.recover()
        _log.info("journal read", open_rows=len(open_debits), open_credits=len(open_credits))
        reconciling = ReconciliationLink(gateway, config.terminal_id)
        reconciliation = Reconciliation(journal, session, runner, reconciling, clock)
        terminal = Terminal(
            config,
            version("yikatong"),
            clock,
            hub,
            journal,
            session,
            link,
            desk,
            who,
            runner,
            credited,
            reconciliation,
            Recovered(journal, clock, [*still_news(latest, clock.now()), *open_debits, *open_credits]),
            authenticator=authenticator,
            scanner=scanner,
            id_card_reader=id_card_reader,
            printer=_printer(config, stack, observation.trace),
            display=_display(config, stack, observation.trace),
        )
        self_test = SelfTest(
            terminal, lambda: _bench(gateway), SessionLink(gateway), leave=leave, judge=admission.judge
        )
        admission.judge(next(iter(await self_test.reports(1)), None))
        yield terminal, self_test, observation


@contextlib.asynccontextmanager
async def _serving(
    terminal: Terminal, self_test: SelfTest, observation: Observation, config: DaemonConfig
) -> AsyncIterator[health.aio.HealthServicer]:
    """One server per socket: the folder's group is the gate of each."""
    checks = health.aio.HealthServicer()
    his, technician = grpc.aio.server(interceptors=[Edge()]), grpc.aio.server(interceptors=[Edge()])
    rpc.add_to(his, terminal)
    diagnostics = diagnostics_rpc.add_to(technician, terminal, self_test, observation.trace, observation.book)
    sockets = {Path(config.sockets.his): his, Path(config.sockets.technician): technician}
    for server, service in ((his, _TERMINAL_SERVICE), (technician, _DIAGNOSTICS_SERVICE)):
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        if config.development:
            names = [service, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, server)
    for path, server in sockets.items():
        _bind(server, path)
        await server.start()
    for service in ("", _TERMINAL_SERVICE, _DIAGNOSTICS_SERVICE):
        await checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield checks
    finally:
        observation.trace.close()
        await diagnostics.close()
        for path, server in sockets.items():
            await server.stop(grace=2.0)
            _unbind(path)


async def _file_self_tests(terminal: Terminal, self_test: SelfTest) -> None:
    """What could not be filed before the restart is filed at the sign-in."""
    await terminal.session.signed_in.wait()
    try:
        await self_test.file_pending()
    except YikatongError as error:  # a journal that fails just then is told of, and the next start files them
        if error.reason is not Reason.JOURNAL_UNAVAILABLE:
            raise
        _log.error("reports of self-tests are not filed", reason=error.reason.value)


def _bind(server: grpc.aio.Server, path: Path) -> None:
    make_room(path)
    server.add_insecure_port(f"unix:{path}")


def _unbind(path: Path) -> None:
    path.unlink(missing_ok=True)


def _unit(config: DaemonConfig) -> VendorUnit | None:
    """The device behind a vendor's library: its slots and its keys share one process."""
    if config.reader.kind != "library":
        return None
    from yikatong.drivers.vendor.process import UnitSettings
    from yikatong.drivers.vendor.unit import VendorUnit

    return VendorUnit(UnitSettings(Path(config.reader.library), config.reader.device))


def _reader(config: DaemonConfig, unit: VendorUnit | None) -> CardReader:
    if unit is not None:
        return unit.reader(config.reader.slot)
    if config.reader.kind == "pcsc":
        from yikatong.drivers.pcsc import PcscReader

        return PcscReader(config.reader.name)
    if not config.development:
        raise YikatongError(Reason.CONFIGURATION_INVALID, "a simulated reader needs development = true")
    from yikatong.simulators.card.deck import find
    from yikatong.simulators.reader import SimulatedReader

    reader = SimulatedReader()
    if config.reader.card:
        reader.insert(find(config.reader.card).make())
    return reader


def _authenticator(
    config: DaemonConfig, unit: VendorUnit | None, centre: CardCentre, stack: contextlib.AsyncExitStack, trace: Trace
) -> PsamAuthenticator | CentreAuthenticator | None:
    """By which cards that refuse a free read are opened; a reader of its own is closed with the stack."""
    wanted = config.card_authentication
    if wanted.kind == "gateway":
        from yikatong.drivers.card.centre import CentreAuthenticator

        return CentreAuthenticator(centre, last=wanted.session_challenge == "last")
    if wanted.kind == "none":
        return None
    from yikatong.drivers.card.psam import PsamAuthenticator, PsamKey

    reader = _psam_reader(config, unit)
    stack.push_async_callback(reader.close)
    proves = wanted.psam_genuineness_key
    return PsamAuthenticator(
        ObservedReader(reader, trace),
        reading=PsamKey.parse(wanted.psam_key),
        genuineness=PsamKey.parse(proves) if proves else None,
        algorithms=frozenset(map(CardAlgorithm, wanted.psam_algorithms)),
    )


def _psam_reader(config: DaemonConfig, unit: VendorUnit | None) -> CardReader:
    if name := config.card_authentication.psam_reader:
        from yikatong.drivers.pcsc import PcscReader

        return PcscReader(name)
    if unit is not None:
        return unit.reader(config.card_authentication.psam_slot)
    if config.reader.kind != "simulated":
        raise YikatongError(Reason.CONFIGURATION_INVALID, "where the PSAM is was not said")
    from yikatong.simulators.card import issuer
    from yikatong.simulators.reader import SimulatedReader

    reader = SimulatedReader("simulated PSAM")
    reader.insert(issuer.psam())
    return reader


def _bench(gateway: GatewayChannel) -> Bench:
    """The self-test's card, reader, cardholder and accounts. Imported late: an idle terminal needs no simulator."""
    from yikatong.simulators.card import self_test as card
    from yikatong.simulators.reader import SimulatedReader

    def reader() -> CardReader:
        made = SimulatedReader("self-test")
        made.insert(card.make())
        return made

    return Bench(reader, SocialSecurityCard(), card.IDENTITY, self_test_link(gateway), card.Cardholder())


def _scanner(config: DaemonConfig, stack: contextlib.AsyncExitStack, trace: Trace) -> CodeScanner | None:
    if config.scanner is None:
        return None
    from yikatong.drivers.serial.code_scanner import SerialCodeScanner

    device = config.scanner.device
    observer = LineTrace(trace, device, ScannerWords())
    scanner = SerialCodeScanner(Path(device), baud=config.scanner.baud, observer=observer)
    stack.push_async_callback(scanner.close)
    return scanner


def _id_card_reader(config: DaemonConfig, stack: contextlib.AsyncExitStack, trace: Trace) -> ResidentCardReader | None:
    if config.id_card_reader is None:
        return None
    from yikatong.drivers.serial.id_card_reader import SerialIdCardReader

    device = config.id_card_reader.device
    observer = LineTrace(trace, device, IdCardWords())
    reader = SerialIdCardReader(Path(device), baud=config.id_card_reader.baud, observer=observer)
    stack.push_async_callback(reader.close)
    return reader


def _printer(config: DaemonConfig, stack: contextlib.AsyncExitStack, trace: Trace) -> ReceiptPrinter | None:
    if config.receipt_printer is None:
        return None
    from yikatong.drivers.serial.receipt_printer import SerialReceiptPrinter

    device = config.receipt_printer.device
    observer = LineTrace(trace, device, PrinterWords())
    printer = SerialReceiptPrinter(Path(device), profile=config.receipt_printer.profile, observer=observer)
    stack.push_async_callback(printer.close)
    return printer


def _display(config: DaemonConfig, stack: contextlib.AsyncExitStack, trace: Trace) -> CustomerDisplay | None:
    if config.customer_display is None:
        return None
    from yikatong.drivers.serial.customer_display import SerialCustomerDisplay

    device = config.customer_display.device
    display = SerialCustomerDisplay(Path(device), observer=LineTrace(trace, device, DisplayWords()))
    stack.push_async_callback(display.close)
    return display


def _for_the_customer(terminal: Terminal) -> list[asyncio.Task[None]]:
    """Display and printer follow what happens, where the terminal has them."""
    tasks = []
    if terminal.display is not None:
        tasks.append(asyncio.create_task(customer.show(terminal.hub, terminal.display), name="customer display"))
    if terminal.printer is not None and terminal.config.receipt_printer and terminal.config.receipt_printer.each:
        tasks.append(asyncio.create_task(customer.print_each(terminal), name="printer"))
    return tasks


def _background_ended(task: asyncio.Task[None], leave: Callable[[Reason], None]) -> None:
    """A terminal without its session, its reader's events or its watchdog is none: the next start is better."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a background task failed", task=task.get_name(), exc_info=error)
        leave(Reason.INTERNAL)
