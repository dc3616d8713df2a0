"""Links to cards without a reader: to a simulated card, or to a written-down exchange."""

from __future__ import annotations

from collections.abc import Iterable

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin
from yikatong.simulators.card.port import PretendCard


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
