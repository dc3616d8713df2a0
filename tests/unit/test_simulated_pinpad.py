"""The simulated pad, spoken to with plain system calls: it is a colleague whose word the driver's tests take."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from yikatong.simulators.pinpad import CANCELS, Command, PinPad, Temper, types


@pytest.fixture
def name(tmp_path: Path) -> Path:
    return tmp_path / "usb-Pad_0001-if00"


class Host:
    """Another program on the line; it knows nothing of Yikatong's driver."""

    def __init__(self, name: Path) -> None:
        self.line = os.open(name, os.O_RDWR | os.O_NOCTTY)

    def send(self, *commands: int) -> None:
        os.write(self.line, bytes(commands))

    def receive(self, count: int) -> bytes:
        """Exactly `count` bytes; the test's own time limit ends a wait in vain."""
        received = b""
        while len(received) < count:
            received += os.read(self.line, count - len(received))
        return received

    def has_nothing(self) -> bool:
        return not select.select([self.line], [], [], 0)[0]

    def is_hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self.line, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    hosts: list[Host] = []
    yield hosts
    for host in hosts:
        os.close(host.line)


def connect(name: Path, hosts: list[Host]) -> Host:
    hosts.append(Host(name))
    return hosts[-1]


def test_it_answers_the_query(name: Path, hosts: list[Host]) -> None:
    with PinPad(name):
        host = connect(name, hosts)
        host.send(0x89)
        assert host.receive(3) == bytes.fromhex("4F4B0D")


def test_keys_come_one_by_one_and_enter_ends(name: Path, hosts: list[Host]) -> None:
    with PinPad(name, [types("123456"), CANCELS]) as pad:
        host = connect(name, hosts)
        host.send(0x8A, 0x82)
        assert host.receive(7) == b"123456\r"
        host.send(0x81)
        assert host.receive(1) == b"\x1b"
        host.send(0x8B)
        pad.wait_heard(Command.KEYS_OFF)
        assert pad.heard == [0x8A, 0x82, 0x81, 0x8B]


def test_keys_that_are_off_send_nothing(name: Path, hosts: list[Host]) -> None:
    with PinPad(name, [types("123456")]) as pad:
        host = connect(name, hosts)
        host.send(0x82)
        pad.wait_heard(Command.ENTER_PASSWORD)
        pad.press(b"1")
        host.send(0x89)  # its answer comes behind whatever was sent before
        assert host.receive(3) == b"OK\r"


def test_text_for_the_display_is_no_command(name: Path, hosts: list[Host]) -> None:
    with PinPad(name) as pad:
        host = connect(name, hosts)
        host.send(0x1B, ord("S"), 2, 0x8A, 0x82, 0x1B, ord("C"), 0x89)
        assert host.receive(3) == b"OK\r"
        pad.wait_heard(Command.ARE_YOU_THERE)
        assert pad.heard == [0x89]


def test_a_slow_pad_sends_bytes_apart_and_forgets_the_rest_when_told_to_stop(name: Path, hosts: list[Host]) -> None:
    with PinPad(name, [types("123456")], temper=Temper(byte_pause_s=60)) as pad:
        host = connect(name, hosts)
        host.send(0x8A, 0x82)
        pad.wait_heard(Command.ENTER_PASSWORD)
        host.send(0x8B)
        pad.wait_heard(Command.KEYS_OFF)
        assert pad._outbox == type(pad._outbox)()
    with PinPad(name, [types("123456")], temper=Temper(byte_pause_s=0.001)):
        host = connect(name, hosts)
        host.send(0x8A, 0x82)
        assert host.receive(7) == b"123456\r"


def test_noise_stands_where_it_was_asked_for(name: Path, hosts: list[Host]) -> None:
    temper = Temper(noise_before=b"\x00\xff", noise_within=b"\x7f")
    with PinPad(name, [types("1234")], temper=temper):
        host = connect(name, hosts)
        host.send(0x89, 0x8A, 0x82)
        assert host.receive(11) == b"\x00\xffOK\r1\x7f234\r"[:11]


def test_a_silent_pad_hears_and_says_nothing(name: Path, hosts: list[Host]) -> None:
    with PinPad(name, [types("1234")], temper=Temper(silent=True)) as pad:
        host = connect(name, hosts)
        host.send(0x8A, 0x82, 0x89)
        pad.wait_heard(Command.ARE_YOU_THERE)
        assert host.has_nothing()


def test_unplugged_it_hangs_up_and_comes_back_under_its_name(name: Path, hosts: list[Host]) -> None:
    with PinPad(name) as pad:
        host = connect(name, hosts)
        pad.unplug()
        assert not name.is_symlink()
        assert host.is_hung_up()
        with pytest.raises(OSError, match="Input/output error"):
            host.send(0x89)
        pad.plug()
        again = connect(name, hosts)
        again.send(0x89)
        assert again.receive(3) == b"OK\r"
    assert not name.is_symlink()


def test_waiting_for_a_command_that_does_not_come_says_so(name: Path) -> None:
    with PinPad(name) as pad, pytest.raises(TimeoutError, match="KEYS_ON"):
        pad.wait_heard(Command.KEYS_ON, timeout_s=0)
