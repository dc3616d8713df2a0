"""A recorded card, played: the same answers and status words after the same time, to the same commands.

Each time that it is powered it goes on with what was recorded of its next stay; after the last one it begins anew. A
command is looked for from where the stay has come to, then from its beginning: a newer driver may ask in another order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from yikatong.simulators.card.port import CardPulledError
from yikatong.simulators.card.recording import RecordedCard, Step

_SELECT: Final = 0xA4
_NOT_FOUND: Final = b"\x6a\x82"
_NOT_SUPPORTED: Final = b"\x6d\x00"


class ReplayedCard:
    """A `PretendCard`. `told` is called in the card's thread, with a sentence in each language.

    What was not recorded is answered as an unknown name (6A82) or an unknown instruction (6D00).
    """

    def __init__(self, card: RecordedCard, told: Callable[[str, str], None] = lambda zh, en: None) -> None:
        self._card, self._told = card, told
        self._powered = False
        self._fresh = True
        self._stay: int = -1
        self._next: int = 0
        self._pause = threading.Event()

    @property
    def atr(self) -> bytes:
        return self._card.atr

    def power_on(self) -> None:
        self._powered = True
        self.reset()

    def power_off(self) -> None:
        self._powered = False

    def reset(self) -> None:
        self._fresh = True

    def execute(self, apdu: bytes) -> bytes:
        if not self._powered:
            return b""
        step = self._first(apdu) if self._fresh else self._further(apdu)
        if step is None:
            header = apdu[:4].hex(" ").upper()
            self._told(f"录制中没有的指令：{header}", f"a command that was not recorded: {header}")
            return _NOT_FOUND if apdu[1:2] == bytes((_SELECT,)) else _NOT_SUPPORTED
        self._pause.wait(step.took_s)
        if step.leaves:
            raise CardPulledError
        return step.answer

    def _first(self, apdu: bytes) -> Step | None:
        """Of the next stay that begins so, else that has the command at all."""
        stays = self._card.stays
        order = [(self._stay + 1 + further) % len(stays) for further in range(len(stays))]
        stay = next((number for number in order if stays[number][0].fits(apdu)), None)
        if stay is None:
            stay = next((number for number in order if any(step.fits(apdu) for step in stays[number])), None)
        if stay is None:
            return None
        self._fresh, self._stay, self._next = False, stay, 0
        return self._further(apdu)

    def _further(self, apdu: bytes) -> Step | None:
        steps = self._card.stays[self._stay]
        order: list[int] = [*range(self._next, len(steps)), *range(self._next)]
        found = next((number for number in order if steps[number].fits(apdu)), None)
        if found is None:
            return None
        if found != self._next:
            line = steps[found].line
            self._told(
                f"次序与录制不同：按第 {line} 行应答", f"in another order than recorded: answered by line {line}"
            )
        self._next = found + 1
        return steps[found]
