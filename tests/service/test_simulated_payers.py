"""`yikatong simulate voucher-service`, `voucher-code`, `scanner`, `id-card` as processes, met by the shipped parts."""

from __future__ import annotations

import asyncio
import signal
import sys
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.gateway_world import _free_port
from tests.support.terminal_world import command
from yikatong.core.values import Institution, Region, VoucherCode
from yikatong.drivers.serial.code_scanner import SerialCodeScanner
from yikatong.drivers.serial.id_card_reader import SerialIdCardReader
from yikatong.gateway.config import VoucherServiceConfig
from yikatong.gateway.voucher_client import HttpsVoucherService
from yikatong.simulators.card.deck import find

WORKS = find("works")
_MAIN = "import sys; from yikatong.cli.main import main; sys.exit(main())"


@asynccontextmanager
async def running(*arguments: str, ready: Callable[[], bool]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command, until the end of the block; it has to end well then."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _MAIN, *arguments, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(30):
            while not ready():
                assert process.returncode is None, await process.communicate()
                await asyncio.sleep(0.02)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = await process.communicate()
        assert process.returncode == 0, told.decode()


async def test_a_new_service_its_codes_and_the_gateways_section(tmp_path: Path) -> None:
    folder, port = tmp_path / "ecode", _free_port()
    file = folder / "voucher-service.toml"
    async with running(
        "simulate", "voucher-service", "--new", str(folder), "--port", str(port), ready=file.exists
    ) as it:
        assert it.stdout is not None
        assert it.stderr is not None
        told = ""
        while "\nkey = " not in told:
            told += (await it.stdout.readline()).decode()
        while "listens" not in (await it.stderr.readline()).decode():
            pass
        section = tomllib.loads(told[told.index("[voucher_service]") :])["voucher_service"]
        asked = msgspec.convert(section, VoucherServiceConfig)
        status, code, _ = await command("simulate", "voucher-code", "-c", str(file))
        assert status == 0
        asking = HttpsVoucherService(asked.url, asked.tls.identity(), timeout_s=30)
        holder = await asking.holder_of(VoucherCode(code.strip()), Institution("P37010000001"))
        assert holder.number.reveal() == WORKS.data.social_security_number
        assert WORKS.account is not None
        assert holder.region == Region(WORKS.account.home_region)
        status, out, _ = await command("check-config", str(file))
        assert (status, "voucher-service" in out) == (0, True)


async def test_a_scanner_scans_what_is_typed(tmp_path: Path) -> None:
    device = tmp_path / "scanner0"
    async with running("simulate", "scanner", str(device), ready=device.exists) as process:
        assert process.stdin is not None
        scanner, listening, loop = SerialCodeScanner(device), asyncio.Event(), asyncio.get_running_loop()

        def listens() -> None:
            loop.call_soon_threadsafe(listening.set)

        try:
            scan = asyncio.create_task(scanner.scan(timeout_ms=30_000, listening=listens))
            await listening.wait()
            process.stdin.write(b"9800000001\n")
            await process.stdin.drain()
            assert (await scan).reveal() == "9800000001"
        finally:
            await scanner.close()
    assert not device.exists()


async def test_an_identity_card_of_the_decks_person(tmp_path: Path) -> None:
    device = tmp_path / "id-card0"
    async with running("simulate", "id-card", str(device), "works", ready=device.exists):
        reader = SerialIdCardReader(device)
        try:
            card = await reader.read(timeout_ms=30_000)
        finally:
            await reader.close()
        assert (card.number.reveal(), card.name.reveal()) == (WORKS.data.social_security_number, WORKS.data.name)
        assert card.valid_until == "2099-12-31"
    assert not device.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("voucher-service",),
        ("voucher-service", "--new", "x", "-c", "y"),
        ("voucher-code",),
        ("voucher-code", "nobody", "-c", "y"),
        ("id-card", "/proc/id-card0"),
        ("scanner", "/proc/scanner0"),
    ],
    ids=" ".join,
)
async def test_what_can_not_be_done_is_said(arguments: tuple[str, ...]) -> None:
    status, _, told = await command("simulate", *arguments)
    assert status in {1, 2}
    assert told
    assert "Traceback" not in told
