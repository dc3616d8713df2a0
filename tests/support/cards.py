"""Links to cards without a reader: to a simulated card, or to a written-down exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from yikatong.core.card import ReaderState
from yikatong.core.ports import CardLink, CardVisit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin, ReaderName
from yikatong.simulators.card.port import PretendCard

T = TypeVar("T")


def pin(digits: str = "123456") -> Pin:
    return Pin(bytearray(digits.encode("ascii")))


class DirectLink:
    """A powered simulated card; keeps every command it was sent."""

    def __init__(self, card: PretendCard) -> None:
        self._card = card
        self.sent: list[bytes] = []
        self.atr = card.atr
        card.power_on()

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        self.sent.append(bytes(apdu))
        return self._card.execute(bytes(apdu))


class WrittenLink:
    """Answers from a written-down exchange: each command has its answer, any other one is refused with 6A82."""

    def __init__(self, exchange: Iterable[tuple[str, str]], *, atr: str = "3B6D000000815443309999250101000001") -> None:
        self._answers = {bytes.fromhex(command): bytes.fromhex(answer) for command, answer in exchange}
        self.atr = bytes.fromhex(atr)
        self.unknown: list[str] = []

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        answer = self._answers.get(bytes(apdu))
        if answer is None:
            self.unknown.append(bytes(apdu).hex().upper())
            return b"\x6a\x82"
        return answer


class AnswersLink:
    """Gives the next of `answers` to whatever is sent; the last one for ever. CARD_REMOVED where there is none."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.sent: list[bytes] = []
        self.atr = b"\x3b\x00"

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        self.sent.append(bytes(apdu))
        if not self._answers:
            raise YikatongError(Reason.CARD_REMOVED, "nothing more was written down")
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class DirectVisit:
    """A visit to whatever is at the other end of a link, in the caller's own thread."""

    def __init__(self, link: CardLink) -> None:
        self.link = link

    async def run(self, job: Callable[[CardLink], T]) -> T:
        return job(self.link)


class DirectReader:
    """A reader in the caller's own thread: each visit is to what `link` gives then, or raises."""

    def __init__(self, link: Callable[[], CardLink], name: str = "direct") -> None:
        self.name = ReaderName(name)
        self._link = link

    @asynccontextmanager
    async def visit(self, *, wait_ms: int = 0) -> AsyncIterator[CardVisit]:
        yield DirectVisit(self._link())

    async def state(self) -> ReaderState:
        return ReaderState(self.name, present=True, card_present=True)

    async def watch(self) -> AsyncIterator[ReaderState]:
        yield await self.state()

    async def close(self) -> None:
        return


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    raise AssertionError("it waits")
