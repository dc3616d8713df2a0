"""A real pcscd of our own, with virtual readers, that leaves the machine's own pcscd alone.

It runs in a mount namespace where /run is empty, so that it sees no other pcscd, and finds no USB readers, so that it
takes none away. Clients reach its socket through PCSCLITE_CSOCK_NAME, which libpcsclite reads once, when a process
first uses it: set it before, and use one directory for the life of a process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import ReaderName

READER_NAME: Final = ReaderName("Virtual PCD 00 00")
SLOTS_PER_READER: Final = 2
SOCKET_VARIABLE: Final = "PCSCLITE_CSOCK_NAME"
_SYSTEM_SOCKET: Final = Path("/run/pcscd/pcscd.comm")
_DRIVER_NAME: Final = "libifdvpcd.so"
_DRIVER_FOLDERS: Final = (Path("/usr/lib/pcsc/drivers/serial"), Path("/usr/local/lib/pcsc/drivers/serial"))
_READER_CONFIGURATION: Final = """\
FRIENDLYNAME "{name}"
DEVICENAME /dev/null:{port:#06x}
LIBPATH {driver}
CHANNELID {port:#06x}
"""
_START: Final = """
set -e
mount -t tmpfs tmpfs /run
mkdir /run/pcscd
mount --bind "$1/run" /run/pcscd
exec 3<&0
pcscd --foreground --error --config "$1/reader.conf" 3<&- &
daemon=$!
{ cat <&3 >/dev/null; kill "$daemon"; } &
wait "$daemon"
"""
"""Standard input is a leash: when it ends, because we let go or because we died, pcscd ends too."""
_STARTED_WITHIN_S: Final = 10.0


def why_not_private() -> str:
    """Why a private pcscd cannot run here, in English; empty where it can."""
    if os.geteuid() != 0:
        return "a private pcscd needs root (a mount namespace)"
    for program in ("pcscd", "unshare", "mount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if _driver() is None:
        return "the virtual reader's driver (vsmartcard-vpcd) is not installed"
    attempt = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return "" if attempt.returncode == 0 else "this machine allows no mount namespace (unshare -m)"


def system_virtual_reader(port: int) -> bool:
    """Whether the machine's pcscd runs and its virtual reader listens on `port` of loopback."""
    path = os.environ.get(SOCKET_VARIABLE) or str(_SYSTEM_SOCKET)
    return _answers(path) and _listens(port)


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of a virtual reader: its PC/SC name, and the port where a card connects."""

    name: ReaderName
    port: int


class PrivatePcscd:
    """A context manager: pcscd runs inside, with `readers` virtual readers of two slots each.

    `slots` are all of them, `port` and `reader_name` the first one's; `environment` is what clients need. `plugged` is
    how many of the readers are connected at the next start. `others`: what its reader.conf says of other readers.
    """

    def __init__(self, directory: Path | None = None, *, readers: int = 1, others: str = "") -> None:
        self._others = others
        self._own_directory = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="yikatong-pcscd-"))
        self._ports = _free_port_pairs(readers)
        self.plugged = readers
        self.slots = tuple(
            Slot(ReaderName(f"{_friendly(reader)} 00 {slot:02X}"), port + slot)
            for reader, port in enumerate(self._ports)
            for slot in range(SLOTS_PER_READER)
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._ports[0]

    @property
    def socket_path(self) -> Path:
        return self.directory / "run" / "pcscd.comm"

    @property
    def environment(self) -> dict[str, str]:
        return {SOCKET_VARIABLE: str(self.socket_path)}

    @property
    def reader_name(self) -> ReaderName:
        return READER_NAME

    def start(self) -> None:
        """Raises READER_FAILED where pcscd cannot run here, or does not start."""
        if self._process is not None:
            raise RuntimeError("this pcscd runs already")
        if obstacle := why_not_private():
            raise YikatongError(Reason.READER_FAILED, obstacle)
        (self.directory / "run").mkdir(parents=True, exist_ok=True)
        (self.directory / "no-usb").mkdir(exist_ok=True)
        virtual = [
            _READER_CONFIGURATION.format(name=_friendly(reader), port=port, driver=self._driver_of(reader))
            for reader, port in enumerate(self._ports[: self.plugged])
        ]
        (self.directory / "reader.conf").write_text("\n".join([*virtual, self._others]), encoding="ascii")
        with (self.directory / "pcscd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", _START, "pcscd", str(self.directory)],
                env={**os.environ, "PCSCLITE_HP_DROPDIR": str(self.directory / "no-usb")},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle, in our order
            )
        self._wait_until_ready()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.socket_path.unlink(missing_ok=True)

    def close(self) -> None:
        self.stop()
        if self._own_directory:
            shutil.rmtree(self.directory)

    def __enter__(self) -> PrivatePcscd:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def pause(self) -> None:
        """Stops every process of it where it stands: calls hang, until `resume`."""
        os.killpg(self._running().pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self._running().pid, signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this pcscd does not run")
        return self._process

    def _plugged(self) -> tuple[Slot, ...]:
        return self.slots[: self.plugged * SLOTS_PER_READER]

    def _driver_of(self, reader: int) -> Path:
        """A copy for each reader after the first: the driver keeps its slots in one table for the whole library."""
        driver = _driver()
        assert driver is not None
        if reader == 0:
            return driver
        copy = self.directory / f"{reader}-{_DRIVER_NAME}"
        if not copy.exists():
            shutil.copy(driver, copy)
        return copy

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _STARTED_WITHIN_S
        while not (_answers(str(self.socket_path)) and all(_listens(slot.port) for slot in self._plugged())):
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise YikatongError(Reason.READER_FAILED, "the private pcscd did not start")
            time.sleep(0.01)


def _friendly(reader: int) -> str:
    """Each its own: pcscd gives two readers of its configuration with one name the same full name too."""
    return f"Virtual PCD {reader}" if reader else "Virtual PCD"


def _driver() -> Path | None:
    return next((folder / _DRIVER_NAME for folder in _DRIVER_FOLDERS if (folder / _DRIVER_NAME).exists()), None)


def _answers(socket_path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(socket_path) == 0


def _listens(port: int) -> bool:
    """Whether somebody listens at the port; asked without connecting, which would be an inserted card."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what only lingers is not in the way
        try:
            line.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def _free_port_pairs(count: int) -> list[int]:
    """Ports whose followers are free as well: a virtual reader has two slots."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            first, second = held.enter_context(socket.socket()), held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            ports.append(port)
    return ports
