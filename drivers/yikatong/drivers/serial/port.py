"""A serial port as drivers use it: opened by its stable name, held alone, read into the caller's own buffer."""

from __future__ import annotations

import errno
import os
import select
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import serial

from yikatong.core.reasons import Reason, YikatongError

WRITE_LIMIT_S: Final = 1.0
"""A handful of command bytes takes milliseconds; a line that does not take them in a second is stuck."""

R = TypeVar("R")

_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO})


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """What the line is. `path` is a name that survives replugging (/dev/serial/by-id/…, /dev/yikatong/…), 8N1."""

    path: Path
    baud: int


@dataclass(frozen=True, slots=True)
class PortReasons:
    """What a missing and a failed port are called for the device that hangs on it."""

    missing: Reason
    failed: Reason


class LineObserver(Protocol):
    """Sees what passes, in the lane's thread. What it is given is the caller's: it keeps nothing of it."""

    def sent(self, command: bytes) -> None: ...

    def received(self, piece: memoryview) -> None:
        """`piece` is the reader's own buffer, which may hold keys of a PIN and will be wiped."""


class SerialPort:
    """One open line. Used by one thread; a lane opens and closes it.

    `ready()` comes first in every job: a port that was unplugged and came back under its name is opened again there, so
    that nobody pays for the replug with a failed attempt.

    Raises YikatongError with `reasons.missing` (there is no such device), `reasons.failed` (it is there and does not
    work), DEVICE_BUSY (another program holds it).
    """

    def __init__(self, settings: SerialSettings, reasons: PortReasons, observer: LineObserver | None = None) -> None:
        self._settings, self._reasons, self._observer = settings, reasons, observer
        self._line = self._open()

    def ready(self) -> None:
        """Makes sure that the line is the one that bears the name now, and drops what arrived unasked."""
        if not self._is_current():
            self._line.close()
            self._line = self._open()
        self.discard()

    def write(self, command: bytes) -> None:
        """Sends commands; they are no secrets (pyserial copies them)."""
        self._guard(lambda: self._line.write(command))
        if self._observer is not None:
            self._observer.sent(command)

    def read_into(self, buffer: memoryview, *, wait_ms: int) -> int:
        """Fills `buffer` with what arrives within `wait_ms`; the number of bytes, 0 for none.

        The kernel writes into the caller's buffer: pyserial's own read leaves copies in memory that nobody can wipe.
        """
        line = self._line.fileno()

        def read() -> int:
            readable, _, _ = select.select([line], [], [], wait_ms / 1000)
            if not readable:
                return 0
            try:
                count = os.readv(line, [buffer])
            except BlockingIOError:
                return 0  # announced and gone: the tty's input was flushed in between
            if count == 0:
                raise OSError(errno.EIO, "the line was hung up")
            return count

        count = self._guard(read)
        if count and self._observer is not None:
            with buffer[:count] as piece:
                self._observer.received(piece)
        return count

    def discard(self) -> None:
        """Drops what has arrived and was not read."""
        self._guard(self._line.reset_input_buffer)

    def close(self) -> None:
        self._line.close()

    def _open(self) -> serial.Serial:
        try:
            return serial.Serial(
                str(self._settings.path),
                baudrate=self._settings.baud,
                timeout=0,
                write_timeout=WRITE_LIMIT_S,
                exclusive=True,
            )
        except (OSError, ValueError) as error:  # SerialException is an OSError; ValueError: a speed it does not know
            number = error.errno if isinstance(error, OSError) else None
            if number in _GONE:
                raise YikatongError(self._reasons.missing, "no device bears this name", path=self._path) from error
            if number == errno.EWOULDBLOCK:
                raise YikatongError(Reason.DEVICE_BUSY, "another program holds the port", path=self._path) from error
            if number in {errno.EACCES, errno.EPERM}:
                raise YikatongError(self._reasons.failed, "no right to open the port", path=self._path) from error
            raise YikatongError(self._reasons.failed, "the port cannot be opened", path=self._path) from error

    def _is_current(self) -> bool:
        """False where the device was unplugged since, or the name points to another one.

        While a line is held open the kernel gives its number to no other device, not even to the same one replugged.
        """
        try:
            return self._settings.path.stat().st_rdev == os.fstat(self._line.fileno()).st_rdev
        except OSError:
            return False  # opening it says why

    def _guard(self, use: Callable[[], R]) -> R:
        """The one border where the line's own exceptions end."""
        try:
            return use()
        except (OSError, termios.error) as error:  # pyserial lets termios' own error, which is no OSError, through
            raise YikatongError(self._reasons.failed, "the line failed", path=self._path) from error

    @property
    def _path(self) -> str:
        return str(self._settings.path)
