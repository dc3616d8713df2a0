"""What T=0 and careful limits put between a command and its answer: small links, each wrapped round the next.

`Limited` stands closest to the card and counts; `CorrectedLength` and `FetchedResponse` are T=0's habits. A command
that must never go twice, such as VERIFY, is sent through `Limited` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from yikatong.core.ports import CardLink
from yikatong.core.reasons import Reason, YikatongError

COMMANDS_MAX: Final = 400
CARD_TIME_S_MAX: Final = 15.0
ANSWER_BYTES_MAX: Final = 258
ROUNDS_MAX: Final = 32
RESPONSE_BYTES_MAX: Final = 64 * 1024
ATR_BYTES_MAX: Final = 33

_GET_RESPONSE: Final = bytes.fromhex("00C00000")


class Budget:
    """What one stay of a card may cost in all: commands, and seconds spent waiting for the card."""

    def __init__(self) -> None:
        self.commands = 0
        self.card_time_s = 0.0

    def demand_more(self) -> None:
        """Raises CARD_MALFORMED where it is used up: no honest card needs a tenth of it."""
        if self.commands >= COMMANDS_MAX:
            raise _broken("the card wants too many commands", commands=self.commands)
        if self.card_time_s > CARD_TIME_S_MAX:
            raise _broken("the card takes too long", card_time_ms=int(self.card_time_s * 1000))


class Limited:
    """Holds the card to its budget and to the length that was asked for. `clock` is monotonic, in seconds."""

    def __init__(self, link: CardLink, budget: Budget, clock: Callable[[], float]) -> None:
        self._link, self._budget, self._clock = link, budget, clock

    @property
    def atr(self) -> bytes:
        atr = self._link.atr
        if len(atr) > ATR_BYTES_MAX:
            raise _broken("the ATR is too long", length=len(atr))
        return atr

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        self._budget.demand_more()
        self._budget.commands += 1
        began = self._clock()
        try:
            answer = self._link.transmit(apdu)
        finally:
            self._budget.card_time_s += self._clock() - began
        if not answer:
            raise YikatongError(Reason.CARD_MUTE, "the card gave an empty answer")
        if len(answer) < 2 or len(answer) > _answer_max(apdu):
            raise _broken("an answer of the wrong length", length=len(answer))
        return answer


class CorrectedLength:
    """6Cxx: the card names the right Le; the command goes once more with it, and only once."""

    def __init__(self, link: CardLink) -> None:
        self._link = link

    @property
    def atr(self) -> bytes:
        return self._link.atr

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        answer = self._link.transmit(apdu)
        if len(answer) == 2 and answer[0] == 0x6C and len(apdu) == 5:
            answer = self._link.transmit(bytes(apdu[:4]) + answer[1:])
            if answer[-2] == 0x6C:
                raise _broken("the card corrects the length twice")
        return answer


class FetchedResponse:
    """61xx: the answer waits in the card; GET RESPONSE fetches it, piece by piece (xx = 00 means 256 bytes)."""

    def __init__(self, link: CardLink) -> None:
        self._link = link

    @property
    def atr(self) -> bytes:
        return self._link.atr

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        answer = self._link.transmit(apdu)
        data = bytearray()
        rounds = 0
        while answer[-2] == 0x61:
            data += answer[:-2]
            rounds += 1
            if rounds > ROUNDS_MAX or len(data) > RESPONSE_BYTES_MAX:
                raise _broken("the card's answer has no end", rounds=rounds, length=len(data))
            answer = self._link.transmit(_GET_RESPONSE + answer[-1:])  # Le 00 asks for 256 as xx 00 offers them
        return bytes(data) + answer


def _answer_max(apdu: bytes | bytearray) -> int:
    """Data and status word. A command without Le may be answered by a reader that fetched the response itself."""
    if len(apdu) != 5:
        return ANSWER_BYTES_MAX
    return (apdu[4] or 256) + 2


def _broken(detail: str, **facts: int) -> YikatongError:
    return YikatongError(Reason.CARD_MALFORMED, detail, **facts)
