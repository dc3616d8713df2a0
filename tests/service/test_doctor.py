"""`yikatong doctor` and `selftest` as a technician runs them: each planted cause is named, with a next step."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from asyncio import create_subprocess_exec, subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import grpc.aio
import pytest

from tests.gateway_world import TERMINAL, World, world
from tests.support.pcscd import private_pcscd
from tests.support.terminal_world import ClockOff, command, configuration, daemon, written
from yikatong.api.diagnostics.v1 import diagnostics_pb2 as api
from yikatong.core.card import ReaderState
from yikatong.core.reasons import MEANING, Reason
from yikatong.core.selftest import TEST_PERSON
from yikatong.drivers.pcsc import PcscReader
from yikatong.gateway.development_ca import DevelopmentCa
from yikatong.runtime.store import StoreFailed
from yikatong.simulators.card import deck
from yikatong.simulators.reader import SimulatedReader
from yikatong.terminal.config import PinKeypad, Reader

TESTED = {"self_test_persons": [TEST_PERSON]}


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def doctor(file: Path, **environment: str) -> tuple[int, dict[str, Any]]:
    """Exit status, and the probes that are not well, by name; each of them says what to do."""
    status, out, error = await command("doctor", "--json", "-c", str(file), **environment)
    assert error == ""
    screen = json.loads(out)
    assert screen["exit_status"] == status
    ill = {probe["name"]: probe for probe in screen["probes"] if probe["severity"] != "OK"}
    for probe in ill.values():
        assert Reason(probe["reason"]) in MEANING
        assert probe["finding"]
        assert probe["next_step"]
    return status, ill


def reasons(ill: dict[str, Any]) -> dict[str, str]:
    return {name: probe["reason"] for name, probe in ill.items()}


# --- the daemon runs ----------------------------------------------------------------------------------------------


async def test_all_is_well_after_a_self_test(province: World) -> None:
    async with province.gateway(**TESTED) as port, daemon(province, port) as terminal:
        assert reasons((await doctor(terminal.file))[1]) == {"self-test": "SELF_TEST_OVERDUE"}
        status, out, _ = await command("selftest", "--report", "--lang", "zh", "-c", str(terminal.file))
        assert status == 0, out
        assert out.count("✓") == 12
        assert "结果已报送网关" in out
        assert await doctor(terminal.file) == (0, {})
        status, out, _ = await command("doctor", "-c", str(terminal.file), LANG="zh_CN.UTF-8")
        assert status == 0
        assert "政策热线 0631-0000000    故障热线 0531-0000000" in out
        assert "✓ gateway            已签到：测试药店" in out


async def test_gateway_down(province: World) -> None:
    async with AsyncExitStack() as stack:
        async with province.gateway(**TESTED) as port:
            terminal = await stack.enter_async_context(daemon(province, port))
        status, ill = await doctor(terminal.file)
        assert status == 2
        assert reasons(ill)["gateway"] == "GATEWAY_UNREACHABLE"
        assert f"127.0.0.1:{port}" in ill["gateway"]["finding"]
        status, out, _ = await command("selftest", "--json", "-c", str(terminal.file))
        assert status == 1
        assert not json.loads(out)["passed"]


async def test_the_gateway_does_not_know_the_terminal(province: World) -> None:
    identity = province.ca.client("terminal-9")
    async with (
        province.gateway(**TESTED) as port,
        daemon(province, port, identity=identity, signed_in=False, terminal_id="terminal-9") as terminal,
    ):
        while terminal.terminal.session.refusal is None:
            await terminal.diagnostics.GetHealth(api.GetHealthRequest())
        status, ill = await doctor(terminal.file)
        assert (status, reasons(ill)["gateway"]) == (2, "TERMINAL_UNKNOWN")


async def test_reader_and_keypad_missing(province: World) -> None:
    keypad = PinKeypad(str(province.folder / "no-such-device"))
    with private_pcscd():
        reader = PcscReader("a reader that nobody has")
        async with (
            province.gateway(**TESTED) as port,
            daemon(province, port, reader=reader, pin_keypad=keypad) as terminal,
        ):
            status, ill = await doctor(terminal.file)
    assert status == 2
    assert reasons(ill).items() >= {"reader": "NO_READER", "pin-keypad": "NO_PIN_KEYPAD"}.items()
    assert "a reader that nobody has" in ill["reader"]["finding"]
    assert "Virtual PCD 00 00; Virtual PCD 00 01" in ill["reader"]["finding"]
    assert "no-such-device" in str(ill["pin-keypad"])


@pytest.mark.parametrize(
    ("card", "reason"), [("works", None), ("mute", "CARD_MUTE"), ("bad-check-digit", "CARD_MALFORMED")]
)
async def test_the_card_in_the_reader(province: World, card: str, reason: str | None) -> None:
    """A bad card is the card's fault: the terminal takes money with the next."""
    reader = SimulatedReader()
    reader.insert(deck.find(card).make())
    async with province.gateway(**TESTED) as port, daemon(province, port, reader=reader) as terminal:
        status, ill = await doctor(terminal.file)
        assert status == 1
        assert reasons(ill).get("card") == reason


async def test_clock_off_and_certificate_near_its_end(province: World) -> None:
    identity = province.ca.client(TERMINAL, life=timedelta(days=5))
    clock = ClockOff(timedelta(minutes=-2))
    async with (
        province.gateway(**TESTED) as port,
        daemon(province, port, clock=clock, identity=identity) as terminal,
    ):
        status, ill = await doctor(terminal.file)
        assert status == 1
        assert reasons(ill).items() >= {"clock": "CLOCK_WRONG", "certificate": "CERTIFICATE_INVALID"}.items()
        assert "120.0 s behind" in ill["clock"]["finding"]


class _Stuck(SimulatedReader):
    """A driver that never comes back."""

    async def state(self) -> ReaderState:
        await asyncio.Event().wait()
        raise AssertionError("never")


async def test_a_stuck_reader_does_not_hold_up_the_rest(province: World) -> None:
    async with province.gateway(**TESTED) as port, daemon(province, port, reader=_Stuck()) as terminal:
        status, ill = await doctor(terminal.file)
        assert (status, reasons(ill)["reader"]) == (2, "READER_FAILED")
        devices = (await terminal.diagnostics.ListDevices(api.ListDevicesRequest())).devices
        assert [(device.kind, device.present) for device in devices] == [("simulated-reader", False)]


async def test_the_disk_fails_under_the_journal(province: World) -> None:
    """The rest is still told."""

    def disk_full(connection: apsw.Connection) -> None:
        raise apsw.FullError("disk full")

    async with province.gateway(**TESTED) as port, daemon(province, port) as terminal:
        with pytest.raises(StoreFailed):
            await terminal.terminal.journal._store.commit(disk_full)
        status, ill = await doctor(terminal.file)
        assert (status, reasons(ill)["journal"]) == (2, "JOURNAL_UNAVAILABLE")
        assert "gateway" not in ill


async def test_requests_are_checked_at_the_edge(province: World) -> None:
    async with province.gateway(**TESTED) as port, daemon(province, port) as terminal:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await terminal.diagnostics.ListSelfTestReports(api.ListSelfTestReportsRequest(page_size=201))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# --- the daemon is down -------------------------------------------------------------------------------------------


async def test_daemon_down_and_everything_else_sound(province: World) -> None:
    async with province.gateway(**TESTED) as port:
        async with daemon(province, port) as terminal:
            file = terminal.file
        status, ill = await doctor(file)
        assert status == 2
        assert reasons(ill) == {"daemon": "DAEMON_UNREACHABLE"}
        assert "systemctl start yikatong-daemon" in ill["daemon"]["next_step"]
        status, _, error = await command("selftest", "-c", str(file))
        assert status == 2
        assert "[DAEMON_UNREACHABLE]" in error
        assert "0531-7654321" in error


async def test_daemon_down_because_the_certificate_has_expired(province: World) -> None:
    identity = province.ca.client(TERMINAL, life=timedelta(days=-1))
    async with province.gateway(**TESTED) as port:
        status, ill = await doctor(_file(province, port, identity))
        assert status == 2
        assert reasons(ill) == {
            "daemon": "DAEMON_UNREACHABLE",
            "certificate": "CERTIFICATE_INVALID",
            "gateway": "CERTIFICATE_INVALID",
        }
        assert "expired on" in ill["certificate"]["finding"]
        assert "TLS" in ill["gateway"]["finding"]


async def test_the_gateway_is_somebody_else(province: World) -> None:
    other = DevelopmentCa.create(province.folder / "other").client(TERMINAL)
    async with province.gateway(**TESTED) as port:
        _, ill = await doctor(_file(province, port, other))
        assert "issuer certificate" in ill["gateway"]["finding"]


async def test_nothing_listens_for_the_gateway_and_a_stale_socket_is_left(province: World) -> None:
    file = _file(province, _unused_port(), province.ca.client(TERMINAL))
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(province.folder / "tech.sock"))
    status, ill = await doctor(file)
    assert status == 2
    assert reasons(ill) == {"daemon": "DAEMON_UNREACHABLE", "gateway": "GATEWAY_UNREACHABLE"}
    assert "left its socket" in ill["daemon"]["finding"]


async def test_another_process_holds_the_journal(province: World) -> None:
    """As a second daemon with other sockets would."""
    async with province.gateway(**TESTED) as port:
        async with daemon(province, port) as terminal:
            file, journal = terminal.file, terminal.config.journal
        holder = await create_subprocess_exec(sys.executable, "-c", _HOLD, str(journal), stdout=subprocess.PIPE)
        try:
            assert holder.stdout is not None
            assert await holder.stdout.readline() == b"held\n"
            status, ill = await doctor(file)
        finally:
            holder.send_signal(signal.SIGKILL)
            await holder.wait()
        assert status == 2
        assert reasons(ill) == {"daemon": "DAEMON_UNREACHABLE", "journal": "JOURNAL_UNAVAILABLE"}
        assert str(holder.pid) in ill["journal"]["finding"]


async def test_pcscd_down(province: World) -> None:
    async with province.gateway(**TESTED) as port:
        file = _file(province, port, province.ca.client(TERMINAL), reader=Reader(), development=False)
        nowhere = str(province.folder / "pcscd.comm")
        _, ill = await doctor(file, PCSCLITE_CSOCK_NAME=nowhere)
        assert reasons(ill) == {"daemon": "DAEMON_UNREACHABLE", "pcscd": "PCSCD_NOT_RUNNING"}
        assert nowhere in ill["pcscd"]["finding"]


async def test_a_configuration_that_is_not_valid(tmp_path: Path) -> None:
    file = tmp_path / "daemon.toml"
    file.write_text('terminal_id = "terminal-1"\nsurprise = 1\n')
    status, ill = await doctor(file)
    assert (status, reasons(ill)) == (2, {"configuration": "CONFIGURATION_INVALID"})
    assert "surprise" in ill["configuration"]["finding"]
    assert "check-config" in ill["configuration"]["next_step"]
    assert (await command("selftest", "-c", str(file)))[0] == 2


_HOLD = """
import sys, time
from pathlib import Path
from yikatong.terminal.journal import Journal
journal = Journal(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def _file(province: World, port: int, identity: Any, **changes: Any) -> Path:
    config = configuration(province.folder, port, identity, **changes)
    Path(config.state).mkdir(exist_ok=True)
    return written(config, province.folder / "daemon.toml")


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
