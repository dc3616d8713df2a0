"""Bad card or bad reader? What doctor says of the reads at a window, over the sockets and over restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.gateway_world import World, world
from tests.support.personal import found_in, secrets_of
from tests.support.terminal_world import Daemon, command, daemon
from yikatong.api.diagnostics.v1 import diagnostics_pb2 as diagnostics
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.manners import Mute, PulledAt
from yikatong.simulators.card.numbers import card_number, social_security_number
from yikatong.simulators.card.personalisation import CardData
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.reader import SimulatedReader
from yikatong.terminal.reading_file import NAME, SET_ASIDE

pytestmark = pytest.mark.timeout(90)

Wrap = Callable[[PretendCard], PretendCard]


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


def person(number: int, *, region: str = "371000", version: str = "2.00") -> CardData:
    return CardData(
        social_security_number(f"99000119700101{number:03d}"),
        "测试人",
        card_number(f"R{number:07d}"),
        region,
        number.to_bytes(4, "big"),
        version=version,
    )


class Window:
    """People who come to the window with their cards, one after the other."""

    def __init__(self, terminal: Daemon, reader: SimulatedReader, his: Any) -> None:
        self._terminal, self._reader, self._his = terminal, reader, his

    async def comes(self, data: CardData, wrap: Wrap = lambda card: card) -> bool:
        """Whether the card was read. It has left, and the terminal has seen that, when this returns."""
        self._reader.insert(wrap(SimulatedCard(data)))
        try:
            await self._his.ReadCard(api.ReadCardRequest())
        except grpc.aio.AioRpcError:
            return False
        finally:
            self._reader.remove()
            for _ in range(5):  # the watcher of the reader's states is a few turns of the loop behind
                await asyncio.sleep(0)
        return True

    async def probe(self) -> Any:
        health = await self._terminal.diagnostics.GetHealth(diagnostics.GetHealthRequest())
        return next(probe for probe in health.probes if probe.name == "card-reading")

    async def device(self) -> Any:
        listed = await self._terminal.diagnostics.ListDevices(diagnostics.ListDevicesRequest())
        return listed.devices[0]


@contextlib.asynccontextmanager
async def window(province: World) -> AsyncIterator[tuple[Window, Daemon]]:
    reader = SimulatedReader("slot 2")
    async with (
        province.gateway() as port,
        daemon(province, port, reader=reader) as terminal,
        grpc.aio.insecure_channel(f"unix:{terminal.config.sockets.his}") as channel,
    ):
        yield Window(terminal, reader, TerminalServiceStub(channel)), terminal


async def test_a_reader_that_fails_is_accused_by_enough_cards_and_not_before(province: World) -> None:
    people = [person(number) for number in range(1, 60)]
    async with window(province) as (at, terminal):
        assert (await at.probe()).finding_en == "No card has been read yet."
        for number, data in enumerate(people[:29]):
            wrap: Wrap = (lambda card: PulledAt(card, command=9)) if number % 5 == 0 else lambda card: card
            assert await at.comes(data, wrap) is (number % 5 != 0)
        few = await at.probe()
        assert few.severity == diagnostics.SEVERITY_OK
        assert "29 cards" in few.finding_en
        assert "too few to judge the reader" in few.finding_en
        assert await at.comes(people[30])
        guilty = await at.probe()
        assert (guilty.severity, guilty.reason) == (diagnostics.SEVERITY_DEGRADED, "READER_FAILS_OFTEN")
        assert guilty.finding_zh.startswith("读卡器 slot 2 读卡失败偏多：自 ")
        assert "30 张卡，6 张失败（20 %：中途拔出 6）" in guilty.finding_zh
        status, out, _ = await command("doctor", "--json", "--lang", "en", "-c", str(terminal.file))
        shown = next(probe for probe in json.loads(out)["probes"] if probe["name"] == "card-reading")
        assert status == 1
        assert "clean the slot and its contacts" in shown["next_step"]

        device = await at.device()
        assert (device.name, device.kind) == ("slot 2", "simulated-reader")
        counted = device.reading
        assert (counted.cards, counted.failed, counted.removed, counted.reads, counted.mute) == (30, 6, 6, 24, 0)
        assert counted.median_ms > 0
        assert [(one.issuing_region, one.spec_version, one.cards, one.failed) for one in device.batches] == [
            ("371000", "2.00", 30, 6)
        ]
        assert len(device.batches[0].chip) == 14


async def test_only_this_card(province: World) -> None:
    async with window(province) as (at, _):
        for number in range(1, 7):
            assert await at.comes(person(number))
        for _ in range(3):
            assert not await at.comes(person(99), lambda card: PulledAt(card, command=10))
        told = await at.probe()
        assert told.severity == diagnostics.SEVERITY_OK
        assert "The last card failed 3 times, while 6 others were read within a day" in told.finding_en
        counted = (await at.device()).reading
        assert (counted.cards, counted.failed, counted.removed, counted.retries) == (7, 1, 3, 2)
        assert await at.comes(person(99))
        assert "it is that card" not in (await at.probe()).finding_en


async def test_only_one_batch(province: World) -> None:
    async with window(province) as (at, _):
        for number in range(1, 41):
            assert await at.comes(person(number))
        for number in range(41, 53):
            bad: Wrap = (lambda card: PulledAt(card, command=9)) if number % 2 else lambda card: card
            await at.comes(person(number, region="370200", version="3.00"), bad)
        told = await at.probe()
        assert (told.severity, told.reason) == (diagnostics.SEVERITY_DEGRADED, "CARD_BATCH_FAILS_OFTEN")
        assert "issued in 370200 specification 3.00" in told.finding_en
        assert ": 6 / 12" in told.finding_en


async def test_a_dead_card_in_the_slot_is_one_card_however_often_doctor_looks(province: World) -> None:
    reader = SimulatedReader("slot 2")
    reader.insert(Mute(SimulatedCard(person(1))))
    async with province.gateway() as port, daemon(province, port, reader=reader) as terminal:
        at = Window(terminal, reader, None)
        for _ in range(5):
            await at.probe()
        counted = (await at.device()).reading
        assert (counted.cards, counted.failed, counted.mute, counted.retries) == (1, 1, 1, 4)


async def test_counts_outlive_a_restart_and_name_nobody(province: World) -> None:
    people = [person(number) for number in range(1, 10)]
    async with window(province) as (at, terminal):
        for data in people:
            assert await at.comes(data)
        file = Path(terminal.config.state) / NAME
    raw = file.read_bytes()
    assert all(found_in([raw], secrets_of(data)) == set() for data in people)
    assert b"371000/2.00/" in raw
    async with window(province) as (at, _):
        assert (await at.device()).reading.cards == 9
        assert await at.comes(people[0])
        assert (await at.device()).reading.cards == 10, "tags are forgotten with the process"
    file.write_bytes(raw[:-5])
    async with window(province) as (at, _):
        told = await at.probe()
        assert told.severity == diagnostics.SEVERITY_OK
        assert str(file.with_name(SET_ASIDE)) in told.finding_zh
        assert "counting began anew" in told.finding_en
        assert (await at.device()).reading.cards == 0
        assert await at.comes(people[0])
        assert (await at.device()).reading.cards == 1
    assert file.with_name(SET_ASIDE).read_bytes() == raw[:-5]
