"""`ResidentCardReader` over a serial line, against the simulated module: slow, noisy, broken, unplugged."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from yikatong.core.ports import ResidentCardReader
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.serial.id_card_reader import SerialIdCardReader
from yikatong.simulators.id_card_module import Command, IdCard, IdCardModule, Temper

LONG_MS = 30_000
OTHER = IdCard(number="110101190001020036", birth="19000102", name="测试乙", valid_until="20401231")


@pytest.fixture
def name(tmp_path: Path) -> Path:
    return tmp_path / "usb-Module_0001-if00"


@asynccontextmanager
async def opened(name: Path) -> AsyncIterator[SerialIdCardReader]:
    reader = SerialIdCardReader(name)
    subject: ResidentCardReader = reader  # it is one
    try:
        yield reader
    finally:
        await subject.close()
        assert not [thread for thread in threading.enumerate() if thread.name == f"lane-id-card-{name.name}"]


async def refused(reader: SerialIdCardReader, timeout_ms: int = LONG_MS) -> Reason:
    with pytest.raises(YikatongError) as caught:
        await reader.read(timeout_ms=timeout_ms)
    return caught.value.reason


@pytest.mark.parametrize(
    "temper",
    [Temper(), Temper(byte_pause_s=0.0001), Temper(noise_before=b"\x00\xaa\xaa\xff" * 50)],
    ids=["quick", "byte by byte", "noisy"],
)
async def test_find_select_read(name: Path, temper: Temper) -> None:
    with IdCardModule(name, IdCard(), temper=temper) as module:
        async with opened(name) as reader:
            card = await reader.read(timeout_ms=LONG_MS)
            assert (card.number.reveal(), card.name.reveal()) == ("110101190001010014", "测试甲")
            assert (card.valid_from, card.valid_until) == ("2020-01-01", "")
        assert module.heard == [Command.FIND, Command.SELECT, Command.READ]


async def test_a_card_without_a_photo(name: Path) -> None:
    with IdCardModule(name, IdCard(photo=b"")):
        async with opened(name) as reader:
            assert (await reader.read(timeout_ms=LONG_MS)).number.check_ok


async def test_a_card_that_comes_later(name: Path) -> None:
    with IdCardModule(name) as module:
        async with opened(name) as reader:
            assert await refused(reader, timeout_ms=0) is Reason.NO_ID_CARD
            reading = asyncio.create_task(reader.read(timeout_ms=LONG_MS))
            await asyncio.to_thread(module.wait_heard, Command.FIND, times=2)
            module.lay(OTHER)
            assert (await reading).number.reveal() == OTHER.number


@pytest.mark.parametrize("step", [Command.SELECT, Command.READ])
async def test_lifted_too_early_and_laid_again(name: Path, step: Command) -> None:
    with IdCardModule(name, IdCard()) as module:
        async with opened(name) as reader:
            module.lift(before=step)
            assert await refused(reader) is Reason.NO_ID_CARD
            module.lay(OTHER)
            assert (await reader.read(timeout_ms=LONG_MS)).number.reveal() == OTHER.number


@pytest.mark.parametrize(
    "temper",
    [Temper(flipped=1), Temper(cut_at=400), Temper(noise_before=b"\xaa" * 5000), Temper(silent=True)],
    ids=["wrong check", "cut short", "endless noise", "silent"],
)
async def test_a_broken_answer_is_refused(name: Path, temper: Temper) -> None:
    with IdCardModule(name, IdCard(), temper=temper):
        async with opened(name) as reader:
            assert await refused(reader) is Reason.ID_CARD_READER_FAILED


async def test_a_card_that_contradicts_itself(name: Path) -> None:
    with IdCardModule(name, IdCard(birth="19000103")) as module:
        async with opened(name) as reader:
            assert await refused(reader) is Reason.ID_CARD_MALFORMED
            module.lay(IdCard())
            assert (await reader.read(timeout_ms=LONG_MS)).number.check_ok


async def test_it_answers_or_is_missed(name: Path) -> None:
    async with opened(name) as reader:
        with pytest.raises(YikatongError, match="NO_ID_CARD_READER"):
            await reader.check()
        with IdCardModule(name):
            await reader.check()
        with (
            IdCardModule(name, temper=Temper(silent=True)),
            pytest.raises(YikatongError, match="ID_CARD_READER_FAILED"),
        ):
            await reader.check()


async def test_cancelling_and_closing_end_the_wait(name: Path) -> None:
    with IdCardModule(name) as module:
        async with opened(name) as reader, asyncio.timeout(20):  # long before LONG_MS
            reading = asyncio.create_task(reader.read(timeout_ms=LONG_MS))
            await asyncio.to_thread(module.wait_heard, Command.FIND)
            assert await refused(reader) is Reason.DEVICE_BUSY
            with pytest.raises(YikatongError, match="DEVICE_BUSY"):
                await reader.check()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            module.lay(IdCard())
            assert (await reader.read(timeout_ms=LONG_MS)).number.check_ok
            module.lift()
            waiting = asyncio.create_task(refused(reader))
            await asyncio.to_thread(module.wait_heard, Command.FIND, times=3)
            await reader.close()
            assert await waiting is Reason.DEVICE_BUSY


async def test_unplugged_while_it_waits_and_back_as_another_device(name: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "ttyUSB0", tmp_path / "ttyUSB1"
    with IdCardModule(first) as old, IdCardModule(second, OTHER):
        name.symlink_to(first)
        async with opened(name) as reader:
            reading = asyncio.create_task(refused(reader))
            await asyncio.to_thread(old.wait_heard, Command.FIND)
            old.unplug()
            assert await reading is Reason.ID_CARD_READER_FAILED
            assert await refused(reader) is Reason.NO_ID_CARD_READER
            name.unlink()
            name.symlink_to(second)
            assert (await reader.read(timeout_ms=LONG_MS)).number.reveal() == OTHER.number
