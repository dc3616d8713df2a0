"""A sample province on this machine: authority, gateway, a home city of its own, one pharmacy's terminal.

Every program is a process of its own, as in the field; only the card, and the person who types the PIN, live here.
The demo, the benchmark and the system tests stand on it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import grpc
import grpc.aio
import msgspec

from yikatong.api.citycore.v1.citycore_pb2_grpc import CityCoreServiceStub
from yikatong.api.operations.v1.operations_pb2_grpc import ClearingServiceStub
from yikatong.api.terminal.v1 import terminal_pb2
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen
from yikatong.gateway.development_ca import DevelopmentCa
from yikatong.runtime.tls import CLIENT_OPTIONS, Identity
from yikatong.simulators.card import issuer
from yikatong.simulators.card.deck import CITIES, DECK, INITIAL_PIN, CityState, find
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.pcscd import SOCKET_VARIABLE, PrivatePcscd, system_virtual_reader, why_not_private
from yikatong.simulators.pinpad import PinPad, types
from yikatong.simulators.vpcd import PORT_DEFAULT, VirtualSlot

TREATMENT: Final = "370200"
"""Where the pharmacy stands; its city's ledger lies in the gateway's database."""
HOME: Final = "371000"
"""The remote home city: a process and a database of its own."""
INSTITUTION: Final = "P37020000001"
INSTITUTION_NAME: Final = "青岛示例大药房"
TERMINAL: Final = f"{INSTITUTION}-01"
POLICY_HOTLINE: Final = "12393"
FAULT_HOTLINE: Final = "0532-0000000"

_PROMPTS_MAX: Final = 1000
_STARTED_WITHIN_S: Final = 30.0
_PORTS: Final = range(20_000, 32_000)
"""Below those that Linux lends to outgoing connections: nobody sits there while a killed process is away."""
_CHANNEL_OPTIONS: Final[list[tuple[str, Any]]] = list(CLIENT_OPTIONS)


class Province:
    """A context manager: inside, everything runs and the terminal takes debits.

    `card` of the deck lies in the reader, and its cardholder types its PIN whenever asked; without `pin_keypad` no PIN
    is asked. Each of `more_cards` lies in a further terminal, in a reader of that terminal's own process, where nobody
    is asked for a PIN. The processes are `city`, `gateway`, `daemon`, `daemon-2`, `daemon-3` …

    `line` says at which port the others find `gateway` or `city`, given the port at which it listens: what stands
    between them is its maker's affair.
    """

    VIRTUAL_READER: Final = "Virtual PCD 00 00"

    def __init__(
        self,
        folder: Path,
        *,
        card: str,
        in_process: bool = False,
        pin_keypad: bool = True,
        more_cards: Sequence[str] = (),
        line: Callable[[str, int], int] = lambda name, port: port,
    ) -> None:
        self.folder = folder
        self._line = line
        self._more = {f"daemon-{number}": find(key) for number, key in enumerate(more_cards, start=2)}
        self._card, self._in_process, self._with_keypad = find(card), in_process, pin_keypad
        self._stack = contextlib.ExitStack()
        self._environment = dict(os.environ)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._channels: list[grpc.aio.Channel] = []
        self._slot: VirtualSlot | None = None
        self._why_in_process = "--in-process" if in_process else ""
        self._reader_zh, self._reader_en = "", ""
        self._ports = dict(zip(("city", "gateway"), _free_ports(), strict=False))
        self._write_again = {"city": self._write_city, "gateway": self._write_gateway}
        self.ca = DevelopmentCa.create(folder / "pki")

    # --- what is where --------------------------------------------------------------------------------------------

    @property
    def daemons(self) -> list[str]:
        """Names of the terminals' processes."""
        return ["daemon", *self._more]

    @property
    def his_socket(self) -> Path:
        return self.his_socket_of("daemon")

    def his_socket_of(self, daemon: str) -> Path:
        return self._socket_of(daemon, "his")

    @property
    def technician_socket(self) -> Path:
        return self._socket_of("daemon", "tech")

    def _socket_of(self, daemon: str, kind: str) -> Path:
        return self.folder / f"{kind}{daemon.removeprefix('daemon')}.sock"

    @property
    def daemon_config(self) -> Path:
        return self.folder / "daemon.toml"

    def described(self, balance: Fen) -> list[tuple[str, str]]:
        """What runs, for a person, as (zh, en); `balance` of the card's account is the caller's to ask for."""
        return [
            (f"读卡器　{self._reader_zh}", f"reader   {self._reader_en}"),
            (f"测试卡　{self._card.zh}，余额 {balance} 元", f"card     {self._card.en}, balance {balance} yuan"),
            (
                "网关　　mTLS，SQLite；城市：青岛、烟台在网关内，威海为独立进程和数据库",
                "gateway  mTLS, SQLite; Qingdao and Yantai in its database, Weihai a process and database of its own",
            ),
            (f"终端　　{TERMINAL}（{INSTITUTION_NAME}）", f"terminal {TERMINAL} ({INSTITUTION_NAME})"),
        ]

    def clearing(self) -> Any:
        """A stub of the gateway's ClearingService, as an operator."""
        return ClearingServiceStub(self._channel(self._ports["gateway"], self.ca.client("operator-demo")))

    def home_core(self) -> Any:
        """A stub of the remote city's CityCoreService, with the gateway's own certificate."""
        return CityCoreServiceStub(self._channel(self._ports["city"], self._gateway_as_client))

    # --- faults -----------------------------------------------------------------------------------------------------

    def lose_answers(self) -> None:
        """The remote city does what it is asked and never answers, until `heal`."""
        (self.folder / "city.faults").write_text("silent", encoding="ascii")

    def heal(self) -> None:
        (self.folder / "city.faults").unlink(missing_ok=True)

    def kill(self, name: str) -> None:
        """kill -9 of a process."""
        self._processes[name].kill()
        self._processes[name].wait()

    def stop(self, name: str) -> int:
        """Ends a process in order (SIGTERM); returns its exit status."""
        self._processes[name].terminate()
        return self._processes[name].wait()

    def pause(self, name: str) -> None:
        """SIGSTOP: the process is there, holds its connections, and does nothing, until `resume`."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGCONT)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def serves(self, name: str) -> bool:
        if name.startswith("daemon"):
            return self._daemon_is_ready(name)
        return (self.folder / f"{name}.port").exists()

    def ended(self, name: str) -> int | None:
        """A process's exit status, None while it lives."""
        return self._processes[name].poll()

    def start(self, name: str, *, until_it_serves: bool = True, under: Sequence[str] = ()) -> None:
        """Starts a process (again), and waits until it serves. A terminal serves once it has signed in.

        `under`: a command that is given the program's command line, and becomes it.
        """
        role = name.partition("-")[0]
        commands = {
            "gateway": ["-m", "yikatong.cli.main", "gateway"],
            "city": ["-m", "yikatong.simulators.city"],
            "daemon": ["-m", "yikatong.cli.main", "daemon"],
        }
        if name in self._write_again:
            self._write_again[name]()
            (self.folder / f"{name}.port").unlink(missing_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*under, sys.executable, *commands[role], "--config", str(self.folder / f"{name}.toml")],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if until_it_serves:
            self._wait_for(name)

    # --- the card -----------------------------------------------------------------------------------------------

    def use_pcsc_here(self) -> None:
        """Lets this process talk to the terminal's PC/SC daemon; before PC/SC is first used here."""
        assert self._slot is not None, "there is no PC/SC daemon"
        if SOCKET_VARIABLE in self._environment:
            os.environ[SOCKET_VARIABLE] = self._environment[SOCKET_VARIABLE]

    def insert(self, card: PretendCard) -> None:
        """Puts a card into the virtual reader. Only with the real PC/SC daemon."""
        assert self._slot is not None, "the card is in the daemon's own process"
        self._slot.remove()
        self._slot.insert(card)

    # --- start and end --------------------------------------------------------------------------------------------

    def __enter__(self) -> Province:
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process; may be called twice."""
        for process in reversed(self._processes.values()):
            process.terminate()
            process.send_signal(signal.SIGCONT)  # one that is paused hears nothing else
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self._stack.close()

    def _begin(self) -> None:
        self._write_seed()
        reader = self._reader()
        keypad = self._keypad() if self._with_keypad else None
        self._gateway_as_client = self.ca.client("gateway")
        self.start("city")
        self.start("gateway")
        self._write_daemon("daemon", TERMINAL, reader, keypad)
        for number, (name, card) in enumerate(self._more.items(), start=2):
            self._write_daemon(name, f"{INSTITUTION}-{number:02d}", {"kind": "simulated", "card": card.key}, None)
        for name in self.daemons:
            self.start(name)

    def _reader(self) -> dict[str, str]:
        """The real PC/SC daemon where there is one: the machine's, else one of our own, else none, and it is said."""
        obstacle = self._why_in_process or why_not_private()
        if not self._in_process and system_virtual_reader(PORT_DEFAULT):
            self._attach(PORT_DEFAULT)
            self._reader_zh = f"{self.VIRTUAL_READER}（本机的 pcscd，真实 PC/SC）"
            self._reader_en = f"{self.VIRTUAL_READER} (this machine's pcscd, real PC/SC)"
        elif not self._in_process and not obstacle:
            pcscd = self._stack.enter_context(PrivatePcscd(self.folder / "pcscd"))
            self._environment |= pcscd.environment
            self._attach(pcscd.port)
            self._reader_zh = f"{self.VIRTUAL_READER}（专用 pcscd 进程，真实 PC/SC）"
            self._reader_en = f"{self.VIRTUAL_READER} (a pcscd of the demo's own, real PC/SC)"
        else:
            self._reader_zh = f"进程内模拟读卡器，没有使用 PC/SC：{obstacle}"
            self._reader_en = f"simulated in process, no PC/SC is used: {obstacle}"
            return {"kind": "simulated", "card": self._card.key}
        return {"kind": "pcsc", "name": self.VIRTUAL_READER}

    def _attach(self, port: int) -> None:
        self._slot = self._stack.enter_context(VirtualSlot(port))
        self._slot.insert(self._card.make())

    def _keypad(self) -> Path:
        device = self.folder / "pinpad0"
        self._stack.enter_context(PinPad(device, [types(self._card.pin)] * _PROMPTS_MAX))
        return device

    # --- configuration --------------------------------------------------------------------------------------------

    def _write_seed(self) -> None:
        accounts = [card.account for card in DECK if card.account is not None]
        seed = {
            "persons": [
                {
                    "social_security_number": account.social_security_number,
                    "home_region": account.home_region,
                    "lost_cards": [account.card_number] if account.card_status == "REPORTED_LOST" else [],
                }
                for account in accounts
            ],
            "accounts": [
                {
                    "social_security_number": account.social_security_number,
                    "home_region": account.home_region,
                    "kind": account.kind,
                    "balance_fen": account.balance_fen,
                    "status": account.status,
                }
                for account in accounts
            ],
        }
        (self.folder / "seed.json").write_bytes(msgspec.json.encode(seed))

    def _write_city(self) -> None:
        identity = self.ca.server("city-weihai")
        home = next(city for city in CITIES if city.region == HOME)
        (self.folder / "city").mkdir(exist_ok=True)
        self._write(
            "city.toml",
            {
                "region": home.region,
                "name_zh": home.zh,
                "name_en": home.en,
                "listen": f"127.0.0.1:{self._ports['city']}",
                "state_dir": str(self.folder / "city"),
                **_paths(identity),
                "gateway_name": "gateway",
                "port_file": str(self.folder / "city.port"),
                "faults_file": str(self.folder / "city.faults"),
                "seed": str(self.folder / "seed.json"),
            },
        )

    def _write_gateway(self) -> None:
        (self.folder / "gateway").mkdir(exist_ok=True)
        cities = [
            {
                "region": city.region,
                "name_zh": city.zh,
                "name_en": city.en,
                "state": city.state.value,
                **({"address": self._address_of("city")} if city.region == HOME else {}),
            }
            for city in CITIES
        ]
        assert {city.state for city in CITIES} == set(CityState)
        self._write(
            "gateway.toml",
            {
                "listen": f"127.0.0.1:{self._ports['gateway']}",
                "state_dir": str(self.folder / "gateway"),
                "port_file": str(self.folder / "gateway.port"),
                "development": True,
                "policy_hotline": POLICY_HOTLINE,
                "fault_hotline": FAULT_HOTLINE,
                "seed": str(self.folder / "seed.json"),
                "tls": _paths(self.ca.server("localhost")),
                "city_tls": _paths(self._gateway_as_client),
                "hsm": {"keys": str(self._test_keys())},
                "cities": cities,
                "institutions": [{"code": INSTITUTION, "name": INSTITUTION_NAME, "region": TREATMENT}],
                "terminals": [
                    {"terminal_id": f"{INSTITUTION}-{number:02d}", "institution": INSTITUTION}
                    for number in range(1, len(self.daemons) + 1)
                ],
            },
        )

    def _test_keys(self) -> Path:
        """The test issuer's keys, for the gateway alone."""
        path = self.folder / "hsm.keys"
        path.touch(mode=0o600)
        path.write_text(issuer.key_file(), encoding="ascii")
        return path

    def _write_daemon(self, name: str, terminal_id: str, reader: dict[str, str], keypad: Path | None) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        self._write(
            f"{name}.toml",
            {
                "terminal_id": terminal_id,
                "state": str(self.folder / name),
                "development": True,
                "gateway": {"address": self._address_of("gateway"), **_paths(self.ca.client(terminal_id))},
                "reader": reader,
                "card_authentication": {"kind": "gateway"},
                "sockets": {
                    "his": str(self._socket_of(name, "his")),
                    "technician": str(self._socket_of(name, "tech")),
                },
                "hotlines": {"policy": POLICY_HOTLINE, "fault": FAULT_HOTLINE},
                **({"pin_keypad": _keypad(keypad)} if keypad else {}),
            },
        )

    def _write(self, name: str, content: dict[str, Any]) -> None:
        (self.folder / name).write_bytes(msgspec.toml.encode(content))

    # --- processes ------------------------------------------------------------------------------------------------

    def _address_of(self, name: str) -> str:
        """Where the others find it."""
        return f"localhost:{self._line(name, self._ports[name])}"

    def _channel(self, port: int, identity: Identity) -> grpc.aio.Channel:
        channel = grpc.aio.secure_channel(f"localhost:{port}", identity.channel_credentials(), options=_CHANNEL_OPTIONS)
        self._channels.append(channel)
        return channel

    def _wait_for(self, name: str) -> None:
        """Until the process serves; raises with the end of its log where it does not."""
        deadline = time.monotonic() + _STARTED_WITHIN_S
        while not self.serves(name):
            if self._processes[name].poll() is not None or time.monotonic() > deadline:
                log = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
                raise YikatongError(Reason.INTERNAL, f"the {name} did not start: {log[-1500:]}")
            time.sleep(0.02)

    def _daemon_is_ready(self, name: str) -> bool:
        """Whether the terminal has signed in and takes debits."""
        path = self.his_socket_of(name)
        if not path.exists():
            return False
        with grpc.insecure_channel(f"unix:{path}") as channel:
            try:
                told = TerminalServiceStub(channel).GetTerminal(terminal_pb2.GetTerminalRequest(), timeout=2)
            except grpc.RpcError:
                return False  # the socket is a dead daemon's, or not served yet
            return bool(told.ready)


def _free_ports() -> Iterator[int]:
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            yield port


def _keypad(device: Path) -> dict[str, Any]:
    """The section of a terminal: the deck's cards tell the tries that are left, or refuse to at no cost."""
    return {"device": str(device), "card_tells_tries": True, "initial_pins": [INITIAL_PIN]}


def _paths(identity: Identity) -> dict[str, str]:
    return {
        "authority": str(identity.authority),
        "certificate": str(identity.certificate),
        "key": str(identity.key),
    }
