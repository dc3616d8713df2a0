"""Looks for PINs in the memory of a live daemon:  python -m tests.system.pin_memory --count 200

A real `yikatong daemon` with a real pcscd, a simulated serial keypad and a card whose PIN is another one each time. At
the card's first command after each VERIFY, which the card answers only afterwards, all that the daemon's process can
write to is searched for the VERIFY of every PIN so far, and for the digits of a long one: what is freed and not wiped
still lies there. At the end a VERIFY is planted, to see that the search finds.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from tests.support.memory import memory_of
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.cli.province import Province
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import Manner
from yikatong.simulators.card.security import pin_block
from yikatong.simulators.pinpad import PinPad, types
from yikatong.simulators.vpcd import VirtualSlot

LENGTHS = (6, 16)
"""The usual one, and one whose digits do not stand anywhere by chance."""
_HEADER = bytes.fromhex("00200000")
_BLOCK_LENGTHS = {bytes((length,)) for length in range(2, 9)}


@dataclass
class Findings:
    """`commands` and `digits`: after how many debits a PIN was found; `searched`: bytes in all."""

    debits: int = 0
    searched: int = 0
    commands: list[int] = field(default_factory=list)
    digits: list[int] = field(default_factory=list)
    control: bool = False


class _Watched(Manner):
    """Looks at the daemon's memory, `look`, as soon as it is asked anything after a VERIFY."""

    def __init__(self, card: SimulatedCard, look: Callable[[], None]) -> None:
        super().__init__(card)
        self._look, self._verified = look, False

    def execute(self, apdu: bytes) -> bytes:
        if self._verified:
            self._look()
        self._verified = apdu[1] == 0x20 and len(apdu) > 5  # a question without a PIN is shorter
        return super().execute(apdu)


class _Keyed(Province):
    """A province whose cardholder types these PINs, with a card whose PIN can be changed where it lies."""

    def __init__(self, folder: Path, pins: list[str], look: Callable[[], None]) -> None:
        super().__init__(folder, card="works")
        self._pins, self.chip, self._look = pins, SimulatedCard(find("works").data), look

    def _attach(self, port: int) -> None:
        self._slot = self._stack.enter_context(VirtualSlot(port))
        self._slot.insert(_Watched(self.chip, self._look))

    def _keypad(self) -> Path:
        device = self.folder / "pinpad0"
        self._stack.enter_context(PinPad(device, map(types, self._pins)))
        return device


def look(folder: Path, count: int) -> Findings:
    """Raises AssertionError where a debit is not paid."""
    pins = ["".join(secrets.choice("0123456789") for _ in range(LENGTHS[i % 2])) for i in range(count)]
    commands = [_command(pin) for pin in pins]
    found = Findings()

    def search() -> None:
        memory, i = memory_of(pid), found.debits
        found.debits, found.searched = i + 1, found.searched + len(memory)
        if _verifies(memory) & set(commands[: i + 1]):
            found.commands.append(i)
        if len(pins[i]) == max(LENGTHS) and any(pins[i][at : at + 8].encode() in memory for at in (0, 4, 8)):
            found.digits.append(i)

    with _Keyed(folder, pins, search) as province:
        pid, chip = province.pid("daemon"), province.chip
        with grpc.insecure_channel(f"unix:{province.his_socket}") as channel:
            his = TerminalServiceStub(channel)
            for i, pin in enumerate(pins):
                chip.security.pin = pin_block(pin)
                assert _paid(his), (i, chip.security.tries_left)
                assert found.debits == i + 1
        planted = _command("".join(secrets.choice("0123456789") for _ in range(6)))
        _plant(pid, planted)
        found.control = planted in _verifies(memory_of(pid))
    return found


def _command(pin: str) -> bytes:
    """The whole VERIFY: three BCD bytes alone would be found by chance."""
    block = bytes.fromhex(pin)
    return _HEADER + bytes((len(block),)) + block


def _verifies(memory: bytes) -> set[bytes]:
    """Whatever has the shape of one."""
    found, at = set(), memory.find(_HEADER)
    while at >= 0:
        if (length := memory[at + 4 : at + 5]) in _BLOCK_LENGTHS:
            found.add(memory[at : at + 5 + length[0]])
        at = memory.find(_HEADER, at + 1)
    return found


def _paid(his: TerminalServiceStub) -> bool:
    request = api.DebitRequest(
        request_id=str(uuid.uuid4()),
        order_no=str(uuid.uuid4()),
        amount_fen=1,
        purpose=money.PURPOSE_PHARMACY_PURCHASE,
        wait_ms=20_000,
    )
    return bool(his.Debit(request, timeout=60).transaction.word == api.WORD_PAID)


def _plant(pid: int, command: bytes) -> None:
    """At the end of the heap, where nothing is used yet."""
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="ascii", errors="replace")
    [heap] = [line for line in maps.splitlines() if line.endswith("[heap]")]
    end = int(heap.split()[0].split("-")[1], 16)
    with Path(f"/proc/{pid}/mem").open("rb+", buffering=0) as memory:
        memory.seek(end - 64)
        memory.write(command)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    with tempfile.TemporaryDirectory() as folder:
        found = look(Path(folder), parser.parse_args().count)
    print(f"debits {found.debits}, searched {found.searched >> 20} MiB")
    print(f"VERIFY found after {found.commands}, digits after {found.digits}, control {found.control}")
    return 0 if found.control and not found.commands and not found.digits else 1


if __name__ == "__main__":
    sys.exit(main())
