"""The weekly self-test, wired as it ships: green when all is well, red for what is really broken."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.gateway_world import HERE, TERMINAL, World, world
from tests.support.pcscd import private_pcscd
from tests.support.rows import request
from tests.support.terminal_world import ClockOff, Daemon, daemon
from yikatong.api.diagnostics.v1 import diagnostics_pb2 as api
from yikatong.api.money.v1 import money_pb2
from yikatong.api.terminal.v1 import terminal_pb2
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.ports import CardReader
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.selftest import TEST_PERSON, Report
from yikatong.core.terminal_table import State
from yikatong.core.values import PersonName, TransactionId
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.pcsc import PcscReader
from yikatong.simulators.card import deck
from yikatong.simulators.card import self_test as sound
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.reader import SimulatedReader
from yikatong.terminal.config import PinKeypad
from yikatong.terminal.gateway_client import SessionLink, self_test_link
from yikatong.terminal.journal import Journal
from yikatong.terminal.selftest import SelfTest
from yikatong.terminal.selftest_path import Bench, _differing

TESTED = {"self_test_persons": [TEST_PERSON]}
"""The gateway as it is delivered: it has the test card's account."""
STEPS = [
    "journal",
    "reader",
    "authentication",
    "pin-keypad",
    "clock",
    "certificate",
    "gateway",
    "simulated-card",
    "path",
    "reversal",
    "tombstone",
    "hotlines",
]
LINK = {"gateway", "path", "reversal", "tombstone"}


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def run(terminal: Daemon, *, report: bool = False) -> Any:
    """The report; the steps that were streamed before it are the same."""
    call = terminal.diagnostics.RunSelfTest(api.RunSelfTestRequest(report=report), timeout=90)
    messages = [message async for message in call]
    assert [message.step for message in messages[:-1]] == list(messages[-1].report.steps)
    assert [step.name for step in messages[-1].report.steps] == STEPS
    return messages[-1].report


def failures(report: Any) -> dict[str, str]:
    assert report.passed is not any(not step.passed for step in report.steps)
    return {step.name: step.reason for step in report.steps if not step.passed}


def finding(report: Any, name: str) -> str:
    return next(step.finding_en for step in report.steps if step.name == name)


# --- green ------------------------------------------------------------------------------------------------------


async def test_a_sound_terminal_passes_and_the_gateway_knows(province: World) -> None:
    async with province.gateway(**TESTED) as port, daemon(province, port) as terminal:
        report = await run(terminal, report=True)
        assert failures(report) == {}
        assert report.reported
        kept = await terminal.diagnostics.GetSelfTestReport(api.GetSelfTestReportRequest())
        assert kept.report == report
        unresolved = await terminal.diagnostics.ListUnresolved(api.ListUnresolvedRequest())
        assert not unresolved.transactions
    filed = province.gateway_rows("SELECT run_id, terminal_id, passed FROM self_test_report")
    assert filed == [(report.run_id, TERMINAL, 1)]


async def test_its_debits_are_whole_and_never_among_real_ones(province: World) -> None:
    async with province.gateway(**TESTED) as port, daemon(province, port) as terminal:
        assert failures(await run(terminal)) == {}
        journal = terminal.terminal.journal
        rows = [row for row in await _rows(journal) if row.self_test]
        assert {(row.amount_fen, row.state, row.confirmed) for row in rows} == {
            (3, State.APPROVED, True),
            (2, State.REVERSED, False),
        }
        assert all(row.home_region == "990000" for row in rows)
        assert not await journal.newest(10, open_only=False)
    assert province.gateway_rows("SELECT * FROM route") == []


async def test_a_customer_pays_meanwhile(province: World) -> None:
    """The customer's debit, its events and its list know nothing of the test."""
    card = deck.find("works")
    assert card.account is not None
    number, home = card.account.social_security_number, HERE.code
    seed = province.folder / "customers.json"
    seed.write_text(
        json.dumps(
            {
                "persons": [{"social_security_number": number, "home_region": home, "insured": True}],
                "accounts": [{"social_security_number": number, "home_region": home, "balance_fen": 10_000}],
            }
        )
    )
    reader = SimulatedReader()
    reader.insert(card.make())
    async with (
        province.gateway(**TESTED, seed=str(seed)) as port,
        daemon(province, port, reader=reader) as terminal,
        grpc.aio.insecure_channel(f"unix:{terminal.config.sockets.his}") as channel,
    ):
        his = TerminalServiceStub(channel)
        debit = terminal_pb2.DebitRequest(
            request_id="request-1",
            order_no="order-1",
            amount_fen=3650,
            purpose=money_pb2.PURPOSE_PHARMACY_PURCHASE,
        )
        tested, paid = await asyncio.gather(run(terminal), his.Debit(debit, timeout=30))
        assert failures(tested) == {}
        assert paid.transaction.state == terminal_pb2.TRANSACTION_STATE_APPROVED
        assert paid.transaction.balance_fen == 10_000 - 3650
        listed = await his.ListTransactions(terminal_pb2.ListTransactionsRequest())
        assert [row.order_no for row in listed.transactions] == ["order-1"]


async def test_one_run_at_a_time(province: World) -> None:
    async with province.gateway(**TESTED) as port, daemon(province, port) as terminal:
        test = _self_test(province, port, terminal, sound.make)
        first, second = await asyncio.gather(test.run(report=False), test.run(report=False), return_exceptions=True)
        assert isinstance(first, Report)
        assert first.passed
        assert isinstance(second, YikatongError)
        assert second.reason is Reason.DEVICE_BUSY


async def test_a_caller_that_leaves_ends_only_its_listening(province: World) -> None:
    async with province.gateway(**TESTED) as port, daemon(province, port) as terminal:
        call = terminal.diagnostics.RunSelfTest(api.RunSelfTestRequest())
        await call.read()
        call.cancel()
        async with asyncio.timeout(30):
            while not (kept := await _reports(terminal)):
                await asyncio.sleep(0.02)
        assert kept[0].passed


# --- red: the world is broken, not the test ------------------------------------------------------------------------


async def test_gateway_down_and_the_report_is_filed_later(province: World) -> None:
    async with AsyncExitStack() as stack:
        async with province.gateway(**TESTED) as port:
            terminal = await stack.enter_async_context(daemon(province, port))
        report = await run(terminal, report=True)
        assert failures(report).keys() == LINK
        assert failures(report)["gateway"] == Reason.GATEWAY_UNREACHABLE.value
        assert not report.reported
        async with province.gateway(**TESTED, listen=f"localhost:{port}"), asyncio.timeout(60):
            while failures(again := await run(terminal, report=True)):
                pass
            assert again.reported
            assert {kept.run_id for kept in await _reports(terminal) if kept.reported} >= {report.run_id, again.run_id}
    filed = dict(province.gateway_rows("SELECT run_id, passed FROM self_test_report"))  # type: ignore[arg-type]  # two columns
    assert filed[report.run_id] == 0
    assert filed[again.run_id] == 1


async def test_the_test_city_refuses(province: World) -> None:
    """This gateway has not got the test card's account."""
    async with province.gateway(self_test_persons=[]) as port, daemon(province, port) as terminal:
        report = await run(terminal)
        assert failures(report).keys() == {"gateway", "path", "reversal"}
        assert failures(report)["path"] == Reason.NO_PERSONAL_ACCOUNT.value


async def test_a_bit_flips_on_the_disk_while_the_daemon_runs(province: World) -> None:
    """The journal is larger than what the daemon keeps in memory, so that the proof reads the disk."""
    path = province.folder / "terminal" / "journal.db"
    path.parent.mkdir()
    await _fill(path, 3000)
    async with province.gateway(**TESTED) as port, daemon(province, port) as terminal:
        _flip(path, b'"order_no":"order-7"')
        assert terminal.terminal.not_ready() is None
        report = await run(terminal)
        assert failures(report) == {"journal": Reason.JOURNAL_UNAVAILABLE.value}
        assert terminal.terminal.not_ready() is Reason.SELF_TEST_FAILED, "no debit onto a journal that is disproved"


@pytest.mark.parametrize(("days", "passes"), [(13, True), (-1, False)])
async def test_certificate(province: World, days: int, passes: bool) -> None:
    identity = province.ca.client(TERMINAL, life=timedelta(days=days))
    async with (
        province.gateway(**TESTED) as port,
        daemon(province, port, identity=identity, signed_in=passes) as terminal,
    ):
        report = await run(terminal)
        if passes:
            assert failures(report) == {}
            assert "expires in 12 days" in finding(report, "certificate")
        else:
            assert failures(report)["certificate"] == Reason.CERTIFICATE_INVALID.value
            assert failures(report).keys() >= LINK
            assert failures(report)["clock"] == Reason.NOT_SIGNED_IN.value


@pytest.mark.parametrize("seconds", [-3, 3])
async def test_clock_off(province: World, seconds: int) -> None:
    clock = ClockOff(timedelta(seconds=seconds))
    async with province.gateway(**TESTED) as port, daemon(province, port, clock=clock) as terminal:
        assert failures(await run(terminal)) == {"clock": Reason.CLOCK_WRONG.value}


async def test_reader_missing(province: World) -> None:
    with private_pcscd():
        reader = PcscReader("a reader that nobody has")
        async with province.gateway(**TESTED) as port, daemon(province, port, reader=reader) as terminal:
            assert failures(await run(terminal)) == {"reader": Reason.NO_READER.value}


async def test_pin_keypad_missing(province: World) -> None:
    keypad = PinKeypad(str(province.folder / "no-such-device"))
    async with province.gateway(**TESTED) as port, daemon(province, port, pin_keypad=keypad) as terminal:
        assert failures(await run(terminal)) == {"pin-keypad": Reason.NO_PIN_KEYPAD.value}


async def test_no_fault_hotline_anywhere(province: World) -> None:
    async with province.gateway(**TESTED, fault_hotline="") as port, daemon(province, port) as terminal:
        assert failures(await run(terminal)) == {"hotlines": Reason.CONFIGURATION_INVALID.value}


def _written_wrongly() -> PretendCard:
    return deck.SimulatedCard(dataclasses.replace(sound.DATA, name="自测"), pin=sound.PIN)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (deck.find("bad-check-digit").make, Reason.CARD_MALFORMED),
        (deck.find("overlong-record").make, Reason.CARD_MALFORMED),
        (deck.find("mute").make, Reason.CARD_MUTE),
        (_written_wrongly, Reason.CARD_MALFORMED),
    ],
)
async def test_the_simulated_card_is_broken(province: World, make: Callable[[], PretendCard], reason: Reason) -> None:
    async with province.gateway(**TESTED) as port, daemon(province, port) as terminal:
        report = await _self_test(province, port, terminal, make).run(report=False)
        assert failures(report)["simulated-card"] == reason.value


def test_a_difference_is_named_and_never_shown() -> None:
    other = dataclasses.replace(sound.IDENTITY, name=PersonName("自测"), expiry_date="2099-12-30")
    assert _differing(other, sound.IDENTITY) == ["name", "expiry_date"]
    assert _differing(sound.IDENTITY, sound.IDENTITY) == []


# --- helpers ----------------------------------------------------------------------------------------------------


def _self_test(province: World, port: int, terminal: Daemon, make: Callable[[], PretendCard]) -> SelfTest:
    """The daemon's self-test with another card."""

    def reader() -> CardReader:
        made = SimulatedReader("self-test")
        made.insert(make())
        return made

    channel = province.channel(port)
    bench = Bench(reader, SocialSecurityCard(), sound.IDENTITY, self_test_link(channel), sound.Cardholder())
    return SelfTest(
        terminal.terminal, lambda: bench, SessionLink(channel), leave=pytest.fail, judge=lambda report: None
    )


async def _reports(terminal: Daemon) -> list[Any]:
    return list((await terminal.diagnostics.ListSelfTestReports(api.ListSelfTestReportsRequest())).reports)


async def _rows(journal: Journal) -> list[Any]:
    return list(await journal._many("1 ORDER BY number"))


async def _fill(path: Path, count: int) -> None:
    """A journal with `count` debits that were declined long ago."""
    journal = Journal(path)
    rows = [
        dataclasses.replace(
            request(order_no=f"order-{n}"),
            transaction_id=TransactionId(f"00000000-0000-7000-8000-{n:012d}"),
            state=State.DECLINED,
            created_at="2026-01-01T00:00:00+00:00",
        )
        for n in range(count)
    ]
    await asyncio.gather(*(journal.record(row) for row in rows))
    await journal.close()


def _flip(path: Path, inside: bytes) -> None:
    """One bit of the first event that holds `inside`."""
    with path.open("r+b") as file:
        at = file.read().index(inside) + len(inside) - 2
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
