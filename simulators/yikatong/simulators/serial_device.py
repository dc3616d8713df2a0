"""What simulated devices on serial lines share: a thread that listens, an outbox, a cable that can be pulled."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Self

from yikatong.simulators.serial_line import SerialLine

if TYPE_CHECKING:
    from pathlib import Path


class SerialDevice:
    """A device in a thread of its own, from `with` to the end of the block. It starts plugged in.

    `byte_pause_s`: between two bytes on the line, for a slow device whose answers arrive in pieces. `silent`: hears
    everything, says nothing. A kind of device says in `_hear` what each byte means to it, notes commands and answers.
    """

    def __init__(self, name: Path, *, byte_pause_s: float = 0.0, silent: bool = False) -> None:
        self._line = SerialLine(name)
        self._byte_pause_s, self._silent = byte_pause_s, silent
        self._outbox: deque[int] = deque()
        self._heard: list[int] = []
        self._news = threading.Condition()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"device-{name.name}", daemon=True)

    def __enter__(self) -> Self:
        self._line.plug()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._line.wake()
        self._thread.join()
        self._line.close()

    @property
    def heard(self) -> list[int]:
        """Every command so far, in order."""
        with self._news:
            return list(self._heard)

    def wait_heard(self, command: int, *, times: int = 1, timeout_s: float = 10.0) -> None:
        """Returns once `command` has come `times` times since the start; raises TimeoutError."""
        with self._news:
            if not self._news.wait_for(lambda: self._heard.count(command) >= times, timeout_s):
                raise TimeoutError(f"the device did not hear {command!r} {times} times")

    def make_noise(self, noise: bytes) -> None:
        """Bytes on the line that belong to nothing."""
        self._line.write(noise)

    def unplug(self) -> None:
        self._line.unplug()
        self._rest()

    def plug(self) -> None:
        """Back again, freshly powered."""
        self._line.plug()

    def _hear(self, byte: int) -> None:
        """In the device's thread: one byte from the host."""
        raise NotImplementedError

    def _rest(self) -> None:
        """Power is gone: what was going on is forgotten."""
        self._outbox.clear()

    def _note(self, command: int) -> None:
        with self._news:
            self._heard.append(command)
            self._news.notify_all()

    def _send(self, data: bytes) -> None:
        if not self._silent:
            self._outbox.extend(data)

    def _work(self) -> None:
        while not self._leaving.is_set():
            for byte in self._line.read(wait_s=self._byte_pause_s if self._outbox else None):
                self._hear(byte)
            if self._byte_pause_s and self._outbox:
                self._line.write(bytes([self._outbox.popleft()]))
            elif self._outbox:
                self._line.write(bytes(self._outbox))
                self._outbox.clear()
