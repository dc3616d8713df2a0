"""The module that reads resident identity cards as the port `ResidentCardReader`."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from yikatong.core.card import ResidentCard
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.serial import id_card_protocol as module
from yikatong.drivers.serial.id_card_record import parse
from yikatong.drivers.serial.patience import Patience, pieces
from yikatong.drivers.serial.port import LineObserver, PortReasons, SerialPort, SerialSettings
from yikatong.runtime.lane import Lane

REASONS: Final = PortReasons(missing=Reason.NO_ID_CARD_READER, failed=Reason.ID_CARD_READER_FAILED)

LOOK_PAUSE_S: Final = 0.2
"""Between two looks for a card."""
_AT_ONCE: Final = Patience(first_ms=1_000)
_READING: Final = Patience(first_ms=3_000, whole_ms=3_000)
"""Reading by radio takes a second or two (assumption); 1,295 bytes take 1.4 s at the slowest speed, 9,600 bit/s."""


class SerialIdCardReader:
    """A `ResidentCardReader` on a serial line. One read at a time; a second one meanwhile is refused: DEVICE_BUSY."""

    def __init__(self, path: Path, *, baud: int = module.BAUD, observer: LineObserver | None = None) -> None:
        """`path` is a name that survives replugging, as udev makes it. Nothing is opened before it is needed."""
        settings = SerialSettings(path, baud)
        self._waiting: threading.Event | None = None
        self._lane = Lane(
            f"id-card-{path.name}",
            lambda: SerialPort(settings, REASONS, observer),
            reopen_after=frozenset({REASONS.missing, REASONS.failed}),
        )

    async def read(self, *, timeout_ms: int) -> ResidentCard:
        """See `ResidentCardReader.read`. Cancelling ends the wait for a card at the next look."""
        if self._waiting is not None:
            raise YikatongError(Reason.DEVICE_BUSY, "the reader is being used")
        given_up = self._waiting = threading.Event()
        try:
            return await self._lane.run(lambda port: _read(port, timeout_ms, given_up))
        finally:
            given_up.set()
            self._waiting = None

    async def check(self) -> None:
        """See `ResidentCardReader.check`. Raises DEVICE_BUSY during a read: the question would disturb it."""
        if self._waiting is not None:
            raise YikatongError(Reason.DEVICE_BUSY, "the reader is being used")
        await self._lane.run(_check)

    async def close(self) -> None:
        """Ends a running read and gives the port back."""
        if self._waiting is not None:
            self._waiting.set()
        await self._lane.close()


def _read(port: SerialPort, timeout_ms: int, given_up: threading.Event) -> ResidentCard:
    """In the lane's thread: find, select, read."""
    port.ready()
    by = time.monotonic() + timeout_ms / 1000
    while not _found(port):
        if time.monotonic() > by:
            raise YikatongError(Reason.NO_ID_CARD, "no card was laid on the reader in time")
        if given_up.wait(LOOK_PAUSE_S):
            raise YikatongError(Reason.DEVICE_BUSY, "those who waited for the card have left")
    _done(_ask(port, module.SELECT, _AT_ONCE))
    return parse(module.text_of(_done(_ask(port, module.READ, _READING)).data))


def _found(port: SerialPort) -> bool:
    answer = _ask(port, module.FIND, _AT_ONCE)
    if answer.status not in {module.FOUND, module.NOT_FOUND}:
        raise YikatongError(REASONS.failed, "the module looks for no card", status=f"{answer.status:06X}")
    return answer.status == module.FOUND


def _done(answer: module.Answer) -> module.Answer:
    """A card that was found and then neither selects nor reads has been moved: no other status is documented."""
    if answer.status != module.DONE:
        raise YikatongError(Reason.NO_ID_CARD, "the card was lifted too early", status=f"{answer.status:06X}")
    return answer


def _check(port: SerialPort) -> None:
    port.ready()
    answer = _ask(port, module.STATUS, _AT_ONCE)
    if answer.status != module.DONE:
        raise YikatongError(REASONS.failed, "the module is not well", status=f"{answer.status:06X}")


def _ask(port: SerialPort, request: bytes, patience: Patience) -> module.Answer:
    port.discard()  # an answer that came too late belongs to an earlier request
    port.write(request)
    frame = module.AnswerFrame()
    for piece in pieces(port, patience):
        if (answer := frame.feed(piece)) is not None:
            return answer
    raise YikatongError(REASONS.failed, "the module does not answer")
