"""The health of a running terminal: observes every part, each within its own time, and has it judged (probes)."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from yikatong.core.card import CardIdentity, ReaderState
from yikatong.core.credit_transaction import Credit
from yikatong.core.reasons import YikatongError
from yikatong.core.selftest import Report
from yikatong.core.transaction import Transaction
from yikatong.runtime.tls import Identity
from yikatong.terminal import probes, reading_probe
from yikatong.terminal.live import age_ms
from yikatong.terminal.probes import AuthenticationSeen, KeypadSeen, LinkSeen, OpenRow, Probe, SocketSeen, Validity
from yikatong.terminal.reading import ReadingBook
from yikatong.terminal.runner import UNRESOLVED_AGE_MAX_MS, UNRESOLVED_MAX
from yikatong.terminal.terminal import Terminal

PCSCD_SOCKET: Final = "/run/pcscd/pcscd.comm"
PCSCD_VARIABLE: Final = "PCSCLITE_CSOCK_NAME"

_DEVICE_S: Final = 3.0
_CARD_S: Final = 6.0
_SOCKET_S: Final = 2.0

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Health:
    """Every probe, in the order of a screen."""

    checked_at: datetime
    probes: tuple[Probe, ...]


async def check(terminal: Terminal, book: ReadingBook) -> Health:
    """Looks at everything once, all at the same time; a part that does not answer in time is told as such."""
    config, clock = terminal.config, terminal.clock
    now = clock.now()
    state, keypad, authentication, pcscd, journal, last = await asyncio.gather(
        reader_state(terminal),
        keypad_seen(terminal),
        authentication_seen(terminal),
        pcscd_seen(terminal),
        journal_error(terminal),
        newest(terminal),
    )
    room = shutil.disk_usage(config.state)
    device = config.pin_keypad.device if config.pin_keypad else ""
    under_way: list[Transaction | Credit] = [*terminal.runner.open_rows(), *terminal.credits.open_rows()]
    rows = [OpenRow(row, age_ms(row, clock)) for row in under_way]
    granted = terminal.session.granted
    return Health(
        now,
        (
            probes.configuration(development=config.development, simulated_reader=config.reader.kind == "simulated"),
            probes.journal(journal),
            probes.disk(room.free, room.total),
            probes.pcscd(pcscd),
            probes.reader(state),
            await _card(terminal, state if isinstance(state, ReaderState) else None),
            reading(terminal, book),
            probes.card_authentication(authentication),
            probes.pin_keypad(device, keypad),
            *(probe for _, _, probe in await other_ways(terminal)),
            *await _for_the_customer(terminal),
            probes.certificate(validity(config.gateway.identity), now),
            probes.gateway(link_seen(terminal)),
            probes.clock(terminal.session.clock_offset if granted else None),
            probes.open_transactions(rows, limit=UNRESOLVED_MAX, limit_ms=UNRESOLVED_AGE_MAX_MS),
            probes.self_test(last, now, config.self_test_days),
            probes.hotlines(*terminal.hotlines),
        ),
    )


async def reader_state(terminal: Terminal) -> ReaderState | YikatongError | None:
    try:
        return await _within(_DEVICE_S, terminal.desk.reader.state())
    except YikatongError as error:
        return error


def reading(terminal: Terminal, book: ReadingBook) -> Probe:
    name = terminal.desk.reader.name
    return reading_probe.probe(name or "PC/SC", book.records.get(name), book.suspect(name), set_aside=book.set_aside)


async def keypad_seen(terminal: Terminal) -> KeypadSeen | None:
    if (keypad := terminal.desk.pin_entry) is None:
        return None
    try:
        async with asyncio.timeout(_DEVICE_S):
            await keypad.check()
    except TimeoutError:
        return KeypadSeen(answered=False)
    except YikatongError as error:
        return KeypadSeen(answered=True, error=error)
    return KeypadSeen(answered=True)


async def other_ways(terminal: Terminal) -> list[tuple[str, str, Probe]]:
    """Kind, device and state of scanner and identity card reader, where the terminal has them."""
    scanner, reader = terminal.config.scanner, terminal.config.id_card_reader
    found = []
    if terminal.scanner is not None and scanner is not None:
        probe = await _beside("scanner", scanner.device, terminal.scanner.check())
        found.append(("scanner", scanner.device, probe))
    if terminal.id_card_reader is not None and reader is not None:
        probe = await _beside("id-card-reader", reader.device, terminal.id_card_reader.check())
        found.append(("id-card-reader", reader.device, probe))
    return found


async def _for_the_customer(terminal: Terminal) -> list[Probe]:
    """Printer and display, where the terminal has them."""
    printer, display = terminal.config.receipt_printer, terminal.config.customer_display
    found = []
    if terminal.printer is not None and printer is not None:
        found.append(await _beside("printer", printer.device, terminal.printer.check()))
    if terminal.display is not None and display is not None:
        found.append(await _beside("customer-display", display.device, terminal.display.check()))
    return found


async def _beside(name: str, device: str, check: Awaitable[None]) -> Probe:
    try:
        async with asyncio.timeout(_DEVICE_S):
            await check
    except TimeoutError:
        return probes.beside_the_card(name, device, None, answered=False)
    except YikatongError as error:
        return probes.beside_the_card(name, device, error, answered=True)
    return probes.beside_the_card(name, device, None, answered=True)


async def authentication_seen(terminal: Terminal) -> AuthenticationSeen | None:
    """A PSAM is powered and asked for its keys; what the gateway has is known from the sign-in."""
    if (authenticator := terminal.authenticator) is None:
        return None
    wanted = terminal.config.card_authentication
    try:
        told = await _within(_DEVICE_S, authenticator.check())
    except YikatongError as error:
        return AuthenticationSeen(wanted.kind, wanted.every_card, error=error)
    return AuthenticationSeen(wanted.kind, wanted.every_card, told or "", answered=told is not None)


async def pcscd_seen(terminal: Terminal) -> SocketSeen | None:
    if not terminal.config.uses_pcsc:
        return None
    return await asyncio.to_thread(knock, os.environ.get(PCSCD_VARIABLE) or PCSCD_SOCKET)


def knock(path: str) -> SocketSeen:
    """Whether something listens at the unix socket `path`. Connecting starts a socket-activated pcscd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_SOCKET_S)
        try:
            line.connect(path)
        except OSError as error:
            return SocketSeen(path, os.strerror(error.errno) if error.errno else "timeout")
    return SocketSeen(path)


async def journal_error(terminal: Terminal) -> str | None:
    """Writes and reads back durably; why that failed, None where it did not."""
    try:
        await terminal.journal.probe()
    except YikatongError as error:
        return error.detail
    return None


async def newest(terminal: Terminal) -> Report | None:
    """The newest stored report of a self-test; none where the journal can't be read, which is told elsewhere."""
    try:
        found = await terminal.journal.self_tests(1)
    except YikatongError:
        return None
    return msgspec.json.decode(found[0], type=Report) if found else None


def validity(identity: Identity) -> Validity | YikatongError:
    try:
        return Validity(identity.valid_from(), identity.valid_until())
    except YikatongError as error:
        return error


def link_seen(terminal: Terminal) -> LinkSeen:
    session = terminal.session
    return LinkSeen(
        terminal.config.gateway.address,
        session.granted,
        session.refusal.reason if session.refusal else None,
        session.fenced,
        session.reachable,
    )


async def _card(terminal: Terminal, state: ReaderState | None) -> Probe:
    """Reads the card, unless somebody is just paying with it."""
    if state is None or not state.card_present:
        return probes.card(state, None)
    if terminal.runner.at_the_desk:
        return probes.card_in_use()
    read: CardIdentity | YikatongError | None
    try:
        read = await _within(_CARD_S, terminal.desk.read(wait_ms=0))
    except YikatongError as error:
        read = error
    return probes.card(state, read)


async def _within(limit_s: float, work: Awaitable[Seen]) -> Seen | None:
    """None where there is no answer in time: whoever is stuck stays stuck, we do not wait."""
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except TimeoutError:
        return None
