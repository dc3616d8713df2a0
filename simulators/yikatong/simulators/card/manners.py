"""Cards that behave badly on purpose: each wraps a card, or stands for one, and does one thing wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import reduce
from operator import xor

from yikatong.simulators.card.port import CardPulledError, PretendCard


class Manner:
    """Passes everything on to the card inside; the manners below change one thing."""

    def __init__(self, card: PretendCard) -> None:
        self._card = card

    @property
    def atr(self) -> bytes:
        return self._card.atr

    def power_on(self) -> None:
        self._card.power_on()

    def power_off(self) -> None:
        self._card.power_off()

    def reset(self) -> None:
        self._card.reset()

    def execute(self, apdu: bytes) -> bytes:
        return self._card.execute(apdu)


class Slow(Manner):
    """As slow as a contact line: `bit_rate` bits a second, 12 bit times a byte, both ways (card-facts §1.1)."""

    def __init__(self, card: PretendCard, *, bit_rate: int = 9600) -> None:
        super().__init__(card)
        self._byte_s = 12 / bit_rate
        self._pause = threading.Event()

    def execute(self, apdu: bytes) -> bytes:
        answer = super().execute(apdu)
        self._pause.wait((len(apdu) + len(answer)) * self._byte_s)
        return answer


class Contactless(Manner):
    """The same card through its antenna, as PC/SC shows it: an ATR that the reader makes of the card's ATS.

    PC/SC part 3, §3.1.3.2.3.1 (ISO 14443 type A with ATS): 3B 8n 80 01, the historical bytes, TCK. ASSUMPTION: which
    historical bytes social security cards have there is not known (card-facts §11); here they are the contacts' own.
    """

    @property
    def atr(self) -> bytes:
        historical = self._card.atr[4:]
        made = bytes((0x3B, 0x80 | len(historical), 0x80, 0x01)) + historical
        return made + bytes((reduce(xor, made[1:]),))


class PulledAt(Manner):
    """Leaves the reader at the `command`-th command after power-on (1 is the first), before it is answered.

    It leaves once: pushed in again, it stays.
    """

    def __init__(self, card: PretendCard, *, command: int) -> None:
        super().__init__(card)
        self._left = command

    def execute(self, apdu: bytes) -> bytes:
        if self._left > 0:
            self._left -= 1
            if self._left == 0:
                raise CardPulledError
        return super().execute(apdu)


class Mute(Manner):
    """Resets well and then never answers."""

    def execute(self, apdu: bytes) -> bytes:
        del apdu
        return b""


class Stuck(Manner):
    """Does not come back from a command, and holds its reader's driver with it, until `released` is set."""

    def __init__(self, card: PretendCard) -> None:
        super().__init__(card)
        self.released = threading.Event()

    def execute(self, apdu: bytes) -> bytes:
        self.released.wait()
        return super().execute(apdu)


class Answering(Manner):
    """Gives `answer(apdu, proper)` instead of the proper answer: the frame of every hostile card."""

    def __init__(self, card: PretendCard, answer: Callable[[bytes, bytes], bytes]) -> None:
        super().__init__(card)
        self._answer = answer

    def execute(self, apdu: bytes) -> bytes:
        return self._answer(apdu, super().execute(apdu))


def always(answer: bytes) -> Callable[[bytes, bytes], bytes]:
    """For Answering: the same answer to everything."""
    return lambda _apdu, _proper: answer


def to_reads(answer: bytes) -> Callable[[bytes, bytes], bytes]:
    """For Answering: this answer to every READ RECORD, proper ones to the rest."""
    return lambda apdu, proper: answer if apdu[1:2] == b"\xb2" else proper
