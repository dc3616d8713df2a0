"""PINs typed at a computer's keyboard as the port `PinEntry`: a prompt connects to a unix socket and waits to be asked.

The PIN passes through this machine. Only where the configuration allows it (`allow_software`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Final

import structlog

from yikatong.core.ports import PinAttempt
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin
from yikatong.drivers.keyboard import frames
from yikatong.runtime.handover import PinHandover
from yikatong.runtime.unix_socket import make_room

_log = structlog.get_logger(__name__)

_MODE: Final = 0o660


class KeyboardEntry:
    """Implements `core.ports.PinEntry`. One prompt is connected at a time; a second one is told so and hung up on."""

    def __init__(self, path: Path) -> None:
        """Listens at `path`; to be made and used within one event loop. Raises CONFIGURATION_INVALID."""
        make_room(path)
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        path.chmod(_MODE)
        self._listener.listen()
        self._listener.setblocking(False)
        self._connected: _Connected | None = None
        self._number = 0
        self._tasks = {asyncio.create_task(self._accept(), name="pin-socket")}

    async def enter(self, attempt: PinAttempt, *, timeout_ms: int) -> None:
        """See the port."""
        await attempt.present(await self.ask(timeout_ms=timeout_ms))

    async def ask(self, *, timeout_ms: int) -> Pin:
        """What was typed, the caller's to wipe. Raises as `enter` does; NO_PIN_KEYPAD where no prompt is connected."""
        connected = self._require()
        if connected.asked is not None:
            raise YikatongError(Reason.DEVICE_BUSY, "a PIN is being typed")
        self._number = (self._number + 1) & 0xFFFFFFFF
        asked = connected.asked = _Asked(self._number)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await connected.say(frames.ask(asked.number, -(-timeout_ms // 1000)))
                await asked.over.wait()
            if asked.failed is not None:
                raise asked.failed
            return asked.entered.take()
        except TimeoutError:
            raise YikatongError(Reason.PIN_TIMEOUT, "no complete PIN in time") from None
        finally:
            asked.entered.abandon()
            connected.asked = None
            with contextlib.suppress(YikatongError):  # a prompt that is gone needs no goodbye
                await connected.say(frames.over(asked.number))

    async def check(self) -> None:
        """See the port: whether a prompt is connected."""
        self._require()

    async def close(self) -> None:
        """Hangs up on whoever is connected; a running prompt fails."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connected is not None:  # its task was ended before it had begun, and hung up on nobody
            self._connected.close()
            self._connected = None
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _require(self) -> _Connected:
        if self._connected is None:
            raise YikatongError(Reason.NO_PIN_KEYPAD, "no prompt is connected: run yikatong pin")
        return self._connected

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            line, _ = await loop.sock_accept(self._listener)
            if self._connected is not None:
                with line, contextlib.suppress(OSError):
                    line.send(frames.taken())
                continue
            self._connected = _Connected(line)
            task = asyncio.create_task(self._serve(self._connected), name="pin-prompt")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connected: _Connected) -> None:
        try:
            await connected.listen()
        finally:
            self._connected = None
            connected.close()


class _Asked:
    """One question, and what became of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.entered = PinHandover()
        self.failed: YikatongError | None = None
        self.over = asyncio.Event()

    def fail(self, reason: Reason, detail: str) -> None:
        self.failed = YikatongError(reason, detail)
        self.over.set()


class _Connected:
    """A prompt at the other end of `line`."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._line.setblocking(False)
        self.asked: _Asked | None = None

    async def say(self, packet: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._line, packet)
        except OSError as error:
            raise YikatongError(Reason.PIN_KEYPAD_FAILED, "the prompt has gone") from error

    async def listen(self) -> None:
        """Until it hangs up. What it types goes into one buffer, which is wiped before the next packet."""
        packet = bytearray(frames.ANSWER_MAX + 1)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # reset by a prompt that was killed
            while count := await loop.sock_recv_into(self._line, packet):
                try:
                    self._hear(packet, count)
                finally:
                    for i in range(len(packet)):
                        packet[i] = 0

    def _hear(self, packet: bytearray, count: int) -> None:
        asked = self.asked
        try:
            number = frames.answered(packet, count)
            if asked is None or asked.over.is_set() or number != asked.number:
                return  # it comes too late
            digits = frames.answer(packet, count)
            if digits is None:
                asked.fail(Reason.PIN_CANCELLED, "the cardholder cancelled it")
                return
            asked.entered.leave(Pin(digits))
            asked.over.set()
        except ValueError as error:
            _log.warning("a prompt sent what is no answer", detail=str(error))
            if asked is not None:
                asked.fail(Reason.PIN_KEYPAD_FAILED, "the prompt sent what is no answer")

    def close(self) -> None:
        self._line.close()
        if self.asked is not None and not self.asked.over.is_set():
            self.asked.fail(Reason.PIN_KEYPAD_FAILED, "the prompt has gone")
