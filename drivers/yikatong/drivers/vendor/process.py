"""The daemon's end: starts the process that holds the library, asks it, and ends it where it does not answer."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.vendor.wire import REPLY, REQUEST, Call, Code, reply_header

_LOOK_S: Final = 0.05
"""How often one who waits looks whether it is still wanted."""
_START_S_MAX: Final = 15.0
"""The interpreter takes a tenth of a second, the library's search for a device perhaps some seconds."""
_END_S_MAX: Final = 2.0
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH")
"""What the process is given of ours: the daemon's sockets to systemd are not its business."""


@dataclass(frozen=True, slots=True)
class UnitSettings:
    """Which library, and what it calls the device: AUTO, USB1, COM1, …

    A call may take `call_ms_max`: a card may take 15 s in all, but for one answer that is an age.
    """

    library: Path
    device: str = "AUTO"
    call_ms_max: int = 15_000


class Process:
    """A running library with an open device. Used by one thread, a lane's; ended by whatever goes wrong.

    Raises YikatongError with NO_READER (no such device), READER_FAILED (crashed, hangs, says garbage, can't be loaded).
    After either it has ended, and the lane starts another one.
    """

    def __init__(self, settings: UnitSettings, closing: threading.Event) -> None:
        """`closing` ends every wait, and with it the process."""
        self._settings, self._closing = settings, closing
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(_LOOK_S)
        try:
            self._child = _start(settings, theirs)
        except OSError as error:
            self._channel.close()
            raise _failed("no process can be started for the vendor's library") from error
        finally:
            theirs.close()
        status, _ = self._reply(time.monotonic() + _START_S_MAX, None)
        if status < 0:
            raise self._end(_refused(status))

    def call(
        self,
        call: Call,
        slot: int,
        data: bytes | bytearray = b"",
        *,
        extra_ms: int = 0,
        given_up: threading.Event | None = None,
    ) -> tuple[int, bytearray]:
        """What the function returned, and its data, the caller's to wipe. Keeps no copy of `data`.

        `extra_ms`: what a person may take besides. `given_up` ends the wait and, since a library can't be interrupted,
        the process; then DEVICE_BUSY.
        """
        try:
            self._channel.sendall(REQUEST.pack(call, slot, len(data)))
            self._channel.sendall(data)
        except OSError as error:
            raise self._end(_failed("the vendor's library has crashed")) from error
        by = time.monotonic() + (self._settings.call_ms_max + extra_ms) / 1000
        return self._reply(by, given_up)

    def close(self) -> None:
        self._child.kill()
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a kernel driver can keep even a killed process
            self._child.wait(_END_S_MAX)

    def _reply(self, by: float, given_up: threading.Event | None) -> tuple[int, bytearray]:
        try:
            status, length = reply_header(bytes(self._receive(REPLY.size, by, given_up)))
        except ValueError as error:
            raise self._end(_failed("the vendor's library has corrupted its process")) from error
        return status, self._receive(length, by, given_up)

    def _receive(self, length: int, by: float, given_up: threading.Event | None) -> bytearray:
        data, filled = bytearray(length), 0
        while filled < length:
            if self._closing.is_set() or (given_up is not None and given_up.is_set()):
                raise self._end(YikatongError(Reason.DEVICE_BUSY, "those who waited for the reader have left"))
            try:
                with memoryview(data)[filled:] as rest:
                    count = self._channel.recv_into(rest)
            except TimeoutError:
                if time.monotonic() > by:
                    raise self._end(_failed("the vendor's library does not come back")) from None
                continue
            except OSError as error:
                raise self._end(_failed("the vendor's library has crashed")) from error
            if not count:
                raise self._end(_failed("the vendor's library has crashed"))
            filled += count
        return data

    def _end(self, error: YikatongError) -> YikatongError:
        self.close()
        return error


def _start(settings: UnitSettings, channel: socket.socket) -> subprocess.Popen[bytes]:
    arguments = [str(channel.fileno()), str(settings.library), settings.device]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "yikatong.drivers.vendor.host", *arguments],
        pass_fds=[channel.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        cwd="/",
    )


def _refused(status: int) -> YikatongError:
    match status:
        case Code.NO_LIBRARY:
            return _failed("the vendor's library can't be loaded")
        case Code.NO_ENTRY_POINT:
            return _failed("the library lacks an entry point of the SSSE32 family")
        case _:
            return YikatongError(Reason.NO_READER, "the vendor's library finds no reader", code=status)


def _failed(detail: str) -> YikatongError:
    return YikatongError(Reason.READER_FAILED, detail)
