"""Programs of others see the simulated card in a real pcscd: pcsc_scan, opensc-tool, scriptor; so does our command."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.pcscd import private_pcscd
from yikatong.simulators.card.deck import find
from yikatong.simulators.pcscd import PrivatePcscd, system_virtual_reader

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]

ATR = "3B6D0000008154433086992501" + "00000001"


@pytest.fixture(scope="module")
def pcscd() -> Iterator[PrivatePcscd]:
    """With the card `works` in the first slot."""
    with private_pcscd() as (pcscd, slot):
        slot.insert(find("works").make())
        yield pcscd


def _run(*command: str, text: str = "") -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_machines_virtual_reader_is_found(pcscd: PrivatePcscd) -> None:
    assert system_virtual_reader(pcscd.port)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        free = nobody.getsockname()[1]
    assert not system_virtual_reader(free)


def test_pcsc_scan_lists_reader_and_card(pcscd: PrivatePcscd) -> None:
    assert pcscd.reader_name in _run("pcsc_scan", "-r")
    _wait_for_card()
    assert ATR in _run("pcsc_scan", "-c", "-n").replace(" ", "")


def test_opensc_tool_reads_the_atr_and_enters_the_environment(pcscd: PrivatePcscd) -> None:
    _wait_for_card()
    atr = _run("opensc-tool", "--reader", pcscd.reader_name, "--atr")
    assert atr.strip().replace(":", "").upper() == ATR
    answer = _run(
        *("opensc-tool", "--reader", pcscd.reader_name, "--card-driver", "default"),
        *("--send-apdu", "00A404000F7378312E73682EC9E7BBE1B1A3D5CF"),
        *("--send-apdu", "00A4000002EF05", "--send-apdu", "00B2030406"),
    )
    assert "32 2E 30 30" in answer  # "2.00"
    assert "SW1=0x90, SW2=0x00" in answer


def test_scriptor_reads_the_card_number(pcscd: PrivatePcscd) -> None:
    _wait_for_card()
    script = "00 A4 04 00 0F 73 78 31 2E 73 68 2E C9 E7 BB E1 B1 A3 D5 CF\n00 A4 00 00 02 EF 05\n00 B2 07 04 0B\n"
    answer = _run("scriptor", "-r", pcscd.reader_name, text="reset\n" + script)
    number = find("works").data.card_number.encode("ascii").hex(" ").upper()
    assert number in answer.replace("\n", " ")


def test_our_command_holds_a_card_until_it_is_told_to_stop(pcscd: PrivatePcscd) -> None:
    command = [sys.executable, "-m", "yikatong.cli.main", "simulate", "card", "frozen", "--lang", "en"]
    with subprocess.Popen([*command, "--port", str(pcscd.port + 1)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert "frozen is in" in holder.stdout.readline()
        holder.send_signal(signal.SIGINT)
        assert holder.wait(10) == 0
    done = subprocess.run([*command, "--port", "1"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "No virtual reader on port 1" in done.stderr


def test_the_private_pcscd_ends_with_its_owner() -> None:
    code = (
        "import os, signal, sys; from yikatong.simulators.pcscd import PrivatePcscd; pcscd = PrivatePcscd();"
        "pcscd.start(); print(pcscd.port, pcscd.directory, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    port, directory = done.stdout.split()
    deadline = time.monotonic() + 10
    while _listening(int(port)):
        assert time.monotonic() < deadline, "pcscd outlives its owner"
    shutil.rmtree(directory)


def _listening(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


def test_without_root_it_says_so() -> None:
    code = (
        "import os; from yikatong.simulators.pcscd import why_not_private; os.setuid(65534); print(why_not_private())"
    )
    assert "needs root" in _run(sys.executable, "-c", code)


def _wait_for_card() -> None:
    """pcscd looks every 0.4 s; opensc-tool and its like do not wait."""
    deadline = time.monotonic() + 10
    while "Yes" not in _run("opensc-tool", "--list-readers"):
        assert time.monotonic() < deadline
