"""The PIN at a window: a serial keypad, a daemon as it ships, a real gateway, and a HIS that asks."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.gateway_world import HERE, TERMINAL, World, world
from tests.support.keypad_reader import compiled
from tests.support.pcscd import private_slots
from tests.support.terminal_world import Daemon, command, configuration, daemon, serving
from tests.support.terminals import Terminal
from yikatong.api.diagnostics.v1 import diagnostics_pb2 as diagnostics
from yikatong.api.diagnostics.v1.diagnostics_pb2_grpc import DiagnosticsServiceStub
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime import edge
from yikatong.simulators import keypad_reader as keys
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.security import WithoutPin
from yikatong.simulators.pinpad import Command, PinPad, Presses, types
from yikatong.simulators.reader import SimulatedReader
from yikatong.terminal.config import PinKeypad, Reader, Sockets

pytestmark = pytest.mark.timeout(60)

RIGHT, WRONG = "654321", "111111"


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


def _seed(folder: Path) -> Path:
    """Whose card it is lives in the gateway's own city and has an account there."""
    who = {"social_security_number": find("works").data.social_security_number, "home_region": HERE.code}
    path = folder / "accounts.json"
    path.write_text(json.dumps({"persons": [who | {"insured": True}], "accounts": [who | {"balance_fen": 100_000}]}))
    return path


class Window:
    """A HIS, and the card in front of it."""

    def __init__(self, his: Any, chip: SimulatedCard, running: Daemon) -> None:
        self.his, self.chip, self.running = his, chip, running
        self.prompts: Callable[[], int] = lambda: 0

    @staticmethod
    def request(**changes: Any) -> api.DebitRequest:
        made = api.DebitRequest(
            request_id=str(uuid.uuid4()),
            order_no=str(uuid.uuid4()),
            amount_fen=3650,
            purpose=money.PURPOSE_PHARMACY_PURCHASE,
        )
        made.MergeFrom(api.DebitRequest(**changes))
        return made

    async def paid(self, **changes: Any) -> api.Transaction:
        metadata = (("accept-language", "en"),)
        paid: api.Transaction = (
            await self.his.Debit(self.request(**changes), timeout=30, metadata=metadata)
        ).transaction
        assert paid.word == api.WORD_PAID
        return paid

    async def refused(self, **changes: Any) -> YikatongError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.his.Debit(self.request(**changes), timeout=30)
        error = edge.error_of(caught.value)
        assert error is not None
        return error


@pytest.fixture(scope="module")
def keypad_reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[keys.KeypadReader]:
    """A reader with keys of its own, under a real pcscd."""
    folder = tmp_path_factory.mktemp("keypad")
    with (
        keys.KeypadReader(folder / "reader") as reader,
        private_slots(1, others=reader.configuration(compiled(folder))),
    ):
        yield reader


@asynccontextmanager
async def window(province: World, people: list[Presses], **keypad: Any) -> AsyncIterator[Window]:
    device = province.folder / "pinpad0"
    chip = SimulatedCard(find("works").data, pin=RIGHT)
    reader = SimulatedReader()
    reader.insert(chip)
    with PinPad(device, people) as pad:
        async with (
            province.gateway(seed=str(_seed(province.folder))) as port,
            daemon(province, port, reader=reader, pin_keypad=PinKeypad(str(device), **keypad)) as running,
            grpc.aio.insecure_channel(f"unix:{running.config.sockets.his}") as channel,
        ):
            made = Window(TerminalServiceStub(channel), chip, running)
            made.prompts = lambda: pad.heard.count(Command.ENTER_PASSWORD)
            yield made


async def test_the_last_try_is_not_used_before_somebody_says_so(province: World) -> None:
    async with window(province, [types(WRONG), types(RIGHT)]) as at:
        at.chip.security.tries_left = 2
        wrong = await at.refused()
        assert (wrong.reason, wrong.facts["tries_left"], wrong.facts["outcome"]) == (
            Reason.PIN_WRONG,
            "1",
            "NOT_MOVED",
        )
        last = await at.refused()
        assert (last.reason, last.facts["tries_left"]) == (Reason.PIN_LAST_TRY, "1")
        assert (last.facts["outcome"], last.facts["retry"]) == ("NOT_MOVED", "NEW_REQUEST")
        assert at.prompts() == 1, "nobody was asked to type"
        slip = await at.his.GetReceipt(api.GetReceiptRequest(transaction_id=str(last.facts["transaction_id"])))
        assert "PIN_LAST_TRY" in slip.text
        assert not (await at.paid(acknowledge_last_pin_try=True)).notices
        assert at.chip.security.tries_left == 6


async def test_an_initial_pin_is_told_everywhere_and_stops_nothing(province: World) -> None:
    async with window(province, [types(RIGHT)], initial_pins=[RIGHT]) as at:
        watching = at.his.WatchTerminal(api.WatchTerminalRequest(), metadata=(("accept-language", "en"),))
        await watching.wait_for_connection()
        paid = await at.paid()
        notices = [(notice.reason, notice.message) for notice in paid.notices]
        assert notices == [("PIN_INITIAL", "The social security PIN is still the one that the issuer gave out.")]
        found = await at.his.GetTransaction(api.GetTransactionRequest(transaction_id=paid.transaction_id))
        assert found.transaction.notices[0].message.startswith("社会保障卡密码仍是初始密码")
        slip = await at.his.GetReceipt(api.GetReceiptRequest(transaction_id=paid.transaction_id))
        assert "请尽快修改社会保障卡密码" in slip.text
        assert "初始" not in slip.text, "who finds the slip must not learn it"
        assert "initial" not in slip.text
        prompts = []
        async for event in watching:
            if event.HasField("stage"):
                prompts.append(event.stage.prompt)
            if event.HasField("transaction") and event.transaction.transaction.state == api.TRANSACTION_STATE_APPROVED:
                assert event.transaction.transaction.notices[0].reason == "PIN_INITIAL"
                break
        watching.cancel()
        assert "Enter the social security PIN (not the bank's) on the keypad." in prompts


async def test_an_initial_pin_may_be_refused_by_configuration(province: World) -> None:
    async with window(province, [types(RIGHT)], initial_pins=[RIGHT], on_initial_pin="refuse") as at:
        error = await at.refused()
        assert (error.reason, error.facts["outcome"]) == (Reason.PIN_INITIAL, "NOT_MOVED")


async def test_a_debit_at_a_readers_own_keys_as_the_configuration_says(
    province: World, keypad_reader: keys.KeypadReader
) -> None:
    keypad_reader.insert(SimulatedCard(find("works").data, pin=RIGHT))
    keypad_reader.people.extend([keys.CANCELS, keys.types(RIGHT)])
    async with province.gateway(seed=str(_seed(province.folder))) as port:
        config = configuration(
            province.folder,
            port,
            province.ca.client(TERMINAL),
            reader=Reader(kind="pcsc", name=keys.NAME),
            pin_keypad=PinKeypad("reader"),
        )
        async with (
            serving(config),
            grpc.aio.insecure_channel(f"unix:{config.sockets.his}") as channel,
            grpc.aio.insecure_channel(f"unix:{config.sockets.technician}") as technician,
        ):
            his: Any = TerminalServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await his.Debit(Window.request(wait_ms=10_000), timeout=30)
            error = edge.error_of(refused.value)
            assert error is not None
            assert error.reason is Reason.PIN_CANCELLED
            paid = (await his.Debit(Window.request(wait_ms=10_000), timeout=30)).transaction
            assert paid.word == api.WORD_PAID
            assert not paid.notices, "the PIN was seen by nobody"
            doctor: Any = DiagnosticsServiceStub(technician)
            health = await doctor.GetHealth(diagnostics.GetHealthRequest(), timeout=30)
            assert {probe.name: probe.reason for probe in health.probes}["pin-keypad"] == ""
    assert not [command for command in keypad_reader.commands if command[1] == 0x20]


@pytest.mark.parametrize("answer", ["y", "n"])
async def test_pay_asks_before_the_last_try(province: World, answer: str) -> None:
    async with window(province, [types(RIGHT)], card_tells_tries=True) as at:
        at.chip.security.without_pin = WithoutPin.TELLS
        at.chip.security.tries_left = 1
        hand, terminal = os.openpty()
        os.write(hand, answer.encode() + b"\n")
        try:
            status, out, error = await _pay(at, stdin=terminal)
        finally:
            os.close(hand)
            os.close(terminal)
        assert "Is the cardholder sure of the PIN" in error
        assert (status, "已扣款" in out) == ((0, True) if answer == "y" else (1, False))
        assert at.chip.security.tries_left == (6 if answer == "y" else 1)


async def test_a_pin_typed_at_the_terminal_of_pay(province: World) -> None:
    """Only where the configuration allows it: over a socket of its own, into the card and nowhere else."""
    changes = {"sockets": Sockets(*(str(province.folder / name) for name in ("his.sock", "tech.sock", "pin.sock")))}
    reader = SimulatedReader()
    chip = SimulatedCard(find("works").data, pin=RIGHT)
    reader.insert(chip)
    keypad = PinKeypad("software", allow_software=True)
    async with (
        province.gateway(seed=str(_seed(province.folder))) as port,
        daemon(province, port, reader=reader, pin_keypad=keypad, **changes) as running,
        grpc.aio.insecure_channel(f"unix:{running.config.sockets.his}") as channel,
    ):
        his = Window(TerminalServiceStub(channel), chip, running)
        assert (await his.refused()).reason is Reason.NO_PIN_KEYPAD, "nobody is there to type"
        async with Terminal("pay", "36.50", "-c", running.file, "--lang", "en") as terminal:
            await terminal.shows("Social security PIN (not the bank's)")
            terminal.type(RIGHT + "\r")
            await terminal.shows("已扣款")
            assert await terminal.ended() == 0
            assert RIGHT not in terminal.screen
        async with Terminal("pay", "36.50", "-c", running.file, "--lang", "en") as terminal:
            await terminal.shows("Social security PIN (not the bank's)")
            terminal.type("\x1b")
            assert await terminal.ended() == 1
            await terminal.shows("PIN_CANCELLED")
        assert (await his.refused()).reason is Reason.NO_PIN_KEYPAD


async def test_pay_that_nobody_answers_leaves_the_last_try_alone(province: World) -> None:
    async with window(province, [types(RIGHT)], card_tells_tries=True) as at:
        at.chip.security.without_pin = WithoutPin.TELLS
        at.chip.security.tries_left = 1
        status, _, error = await _pay(at)
        assert status == 1
        assert "PIN_LAST_TRY" in error
        assert "No money moved." in error
        assert at.chip.security.tries_left == 1
        status, out, error = await _pay(at, "--acknowledge-last-pin-try")
        assert status == 0, error
        assert "已扣款" in out


async def _pay(at: Window, *options: str, stdin: int = asyncio.subprocess.DEVNULL) -> tuple[int, str, str]:
    arguments = ["pay", "36.50", "-c", str(at.running.file), "--lang", "en", *options]
    return await command(*arguments, stdin=stdin)
