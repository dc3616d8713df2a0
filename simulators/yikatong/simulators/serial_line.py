"""A serial cable that can be pulled: a pseudo-terminal under a name that stays, as udev's by-id links do."""

from __future__ import annotations

import errno
import os
import select
import threading
import tty
from pathlib import Path


class SerialLine:
    """The device's end of the line. A driver opens `name` as it opens a real port.

    One thread reads; any thread may write, plug and unplug.
    """

    def __init__(self, name: Path) -> None:
        self._name = name
        self._lock = threading.Condition()
        self._watched: int | None = None  # the end that the reader's select holds open, whatever we close
        self._ends: tuple[int, int] | None = None  # our end, and the host's, held open so that hosts come and go
        self._wake_out, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def name(self) -> Path:
        return self._name

    def plug(self) -> None:
        """The device appears under its name; what an earlier host left unread is gone."""
        with self._lock:
            assert self._ends is None, "it is plugged in"
            ours, hosts = os.openpty()
            tty.setraw(hosts)  # a fresh tty echoes, and the device would hear itself
            os.set_blocking(ours, False)
            self._ends = ours, hosts
            self._name.symlink_to(os.ttyname(hosts))
        self.wake()

    def unplug(self) -> None:
        """The name vanishes and the line hangs up, also for a host that has it open."""
        with self._lock:
            if self._ends is None:
                return
            ends, self._ends = self._ends, None
            self._name.unlink()
            self.wake()
            self._lock.wait_for(lambda: self._watched != ends[0])
            for end in ends:
                os.close(end)

    def write(self, data: bytes) -> bool:
        """Sends to the host, all or nothing; false where no line is plugged in or the host has not read for long."""
        with self._lock:
            if self._ends is None:
                return False
            try:
                return os.write(self._ends[0], data) == len(data)
            except BlockingIOError:
                return False

    def read(self, *, wait_s: float | None = None) -> bytes:
        """What the host sent; empty after `wait_s`, after `wake()`, after an unplug."""
        with self._lock:
            line = self._ends[0] if self._ends else None
            self._watched = line
        readable, _, _ = select.select([self._wake_out] if line is None else [self._wake_out, line], [], [], wait_s)
        if self._wake_out in readable:
            os.read(self._wake_out, 64)
        with self._lock:  # an unplug may have come in between, and the number may belong to another file by now
            self._watched = None
            self._lock.notify_all()
            if line is None or self._ends is None or self._ends[0] != line or line not in readable:
                return b""
            try:
                return os.read(line, 256)
            except OSError as error:
                if error.errno in {errno.EIO, errno.EAGAIN}:
                    return b""  # no host, or its bytes were flushed
                raise

    def wake(self) -> None:
        """Ends a running `read()`."""
        os.write(self._wake_in, b"w")

    def close(self) -> None:
        """Unplugs for good. The reader has left before."""
        self.unplug()
        os.close(self._wake_in)
        os.close(self._wake_out)
