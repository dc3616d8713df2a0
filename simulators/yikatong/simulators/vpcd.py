"""A pretend card in the virtual reader of a real pcscd (vsmartcard's vpcd), over TCP.

The wire: two bytes of length, big-endian, and a body; a body of one byte is control (0 power off, 1 power on, 2 reset,
4 give the ATR), a longer one an APDU. The reader listens, the card connects: connected means inserted.

Development and tests only: vpcd listens on every address of its network namespace.
"""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Final

from yikatong.core.reasons import Reason, YikatongError
from yikatong.simulators.card.port import CardPulledError, PretendCard

PORT_DEFAULT: Final = 35963
_HOST: Final = "127.0.0.1"
_RECONNECT_S: Final = 0.1
_POWER_OFF, _POWER_ON, _RESET, _GIVE_ATR = 0, 1, 2, 4


class VirtualSlot:
    """One slot of the virtual reader: a card goes in, and out. Comes back by itself when pcscd restarts.

    Its thread lives from `insert` to `remove`; a card that pulls itself out ends it too.
    """

    def __init__(self, port: int = PORT_DEFAULT, *, host: str = _HOST) -> None:
        self._address = (host, port)
        self._lock = threading.Lock()
        self._stay: _Stay | None = None

    @property
    def occupied(self) -> bool:
        """Whether a card is in the slot, whether or not a pcscd is there to see it."""
        stay = self._stay
        return stay is not None and stay.alive

    def insert(self, card: PretendCard, *, wait_s: float = 5.0) -> None:
        """Puts a card in, and the one before out. Raises NO_READER where no virtual reader listens within `wait_s`."""
        with self._lock:
            self._take_out()
            stay = _Stay(self._address, card)
            if not stay.connected.wait(wait_s):
                stay.end()
                raise YikatongError(
                    Reason.NO_READER, "no virtual reader listens there", host=self._address[0], port=self._address[1]
                )
            self._stay = stay

    def remove(self) -> None:
        with self._lock:
            self._take_out()

    def close(self) -> None:
        self.remove()

    def __enter__(self) -> VirtualSlot:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def _take_out(self) -> None:
        if self._stay is not None:
            self._stay.end()
            self._stay = None


class _Stay:
    """A card's stay in the slot: its thread and its connection."""

    def __init__(self, address: tuple[str, int], card: PretendCard) -> None:
        self._address, self._card = address, card
        self.connected = threading.Event()
        self._ended = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._live, name=f"virtual-card-{address[1]}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        self._ended.set()
        line = self._socket
        if line is not None:
            _hang_up(line)
        self._thread.join()

    def _live(self) -> None:
        while not self._ended.is_set():
            try:
                with socket.create_connection(self._address, timeout=2.0) as line:
                    line.settimeout(None)
                    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._socket = line
                    self.connected.set()
                    if not self._ended.is_set():
                        self._serve(line)
                        continue
            except CardPulledError:
                return
            except OSError:  # no reader there, or it went away: a card waits for the next one
                self._ended.wait(_RECONNECT_S)
            finally:
                self._socket = None
                self._card.power_off()

    def _serve(self, line: socket.socket) -> None:
        while (message := _receive(line)) is not None:
            if len(message) > 1:
                answer = self._card.execute(message)
                if not answer:
                    # vpcd would wait for ever, and pcscd with it. Hanging up ends the command as a reader's time-out
                    # does; the line is back before pcscd looks again (every 0.4 s), so the card stays in the slot.
                    return
                _send(line, answer)
            elif message[0] == _POWER_ON:
                self._card.power_on()
            elif message[0] == _POWER_OFF:
                self._card.power_off()
            elif message[0] == _RESET:
                self._card.reset()
            elif message[0] == _GIVE_ATR:
                _send(line, self._card.atr)


def _hang_up(line: socket.socket) -> None:
    try:
        line.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other side was quicker
        return


def _send(line: socket.socket, body: bytes) -> None:
    line.sendall(len(body).to_bytes(2, "big") + body)


def _receive(line: socket.socket) -> bytes | None:
    """One message; None where the reader hung up."""
    header = _receive_exactly(line, 2)
    if header is None:
        return None
    return _receive_exactly(line, int.from_bytes(header, "big"))


def _receive_exactly(line: socket.socket, count: int) -> bytes | None:
    received = b""
    while len(received) < count:
        # vpcd sends length and body in two packets: without this each command waits 40 ms for a delayed ACK.
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        piece = line.recv(count - len(received))
        if not piece:
            return None
        received += piece
    return received
