"""One card's stay as watchers are told of it: from its power-on to the end of the visit. In the reader's thread."""

from __future__ import annotations

from dataclasses import replace

from yikatong.core.reasons import MEANING, Reason
from yikatong.core.trace import CardExchange, CardPowered, RecordedBytes
from yikatong.drivers.card import atr_layout, status_words
from yikatong.drivers.card.dictionary import Named
from yikatong.drivers.trace import wording
from yikatong.drivers.trace.conversation import Act, Conversation, Understood
from yikatong.drivers.trace.invention import Invented, InventedCard
from yikatong.drivers.trace.trace import Trace, Watcher


class CardTrace:
    """Nothing of a card is kept but what it has selected, and with a recording half a character of its name."""

    def __init__(self, trace: Trace, device: str) -> None:
        self._trace, self._device = trace, device
        self._conversation: Conversation | None = None
        self._invented: dict[Watcher, InventedCard] = {}

    def forget(self) -> None:
        """Something was said that nobody heard: what is selected now is not known."""
        if self._conversation is not None:
            self._conversation = None
            self._invented.clear()

    def powered(self, atr: bytes, moment_ns: int) -> None:
        self.forget()
        with self._trace.telling() as watchers:
            own = len(atr) - atr_layout.layout(atr).own
            for watcher in watchers:
                shown = watcher.inventor.atr(atr) if watcher.inventor else atr
                words = wording.of_atr(shown, own)
                recorded = shown if watcher.inventor else b""
                watcher.tell(CardPowered(self._device, watcher.at_us(moment_ns), words.zh, words.en, recorded))

    def not_powered(self, failure: Reason, moment_ns: int) -> None:
        with self._trace.telling() as watchers:
            words = _with_failure(Named("卡上电", "card powered"), failure)
            for watcher in watchers:
                at_us = watcher.at_us(moment_ns)
                watcher.tell(CardPowered(self._device, at_us, words.zh, words.en, failure=failure))

    def exchanged(
        self, apdu: bytes | bytearray, answer: bytes, failure: Reason | None, began_ns: int, ended_ns: int
    ) -> None:
        """`answer` is empty where `failure` says why. Less than a status word is no answer either."""
        if failure is None and len(answer) < 2:
            failure = Reason.CARD_MALFORMED
        with self._trace.telling() as watchers:
            self._conversation = self._conversation or Conversation()
            exchange = self._conversation.hear(apdu, answer)
            # How long a PIN was on its way says how long it is: at 9,600 bit/s two digits take a millisecond.
            took_us = 0 if exchange.act is Act.SECRET else (ended_ns - began_ns) // 1000
            for watcher in watchers:
                watcher.tell(self._told(watcher, exchange, failure, watcher.at_us(began_ns), took_us))

    def _told(
        self, watcher: Watcher, exchange: Understood, failure: Reason | None, at_us: int, took_us: int
    ) -> CardExchange:
        recorded = None
        if watcher.inventor is not None:
            invented = self._invent(watcher, exchange)
            exchange = replace(exchange, data=invented.data)
            status = b"" if exchange.status is None else exchange.status.to_bytes(2)
            recorded = RecordedBytes(exchange.command, invented.data + status, invented.left_out)
        words = wording.of_exchange(exchange)
        if failure is not None:
            words = _with_failure(words, failure)
        elif exchange.status is not None:
            meaning = status_words.meaning(exchange.status)
            words = Named(f"{words.zh} → {meaning.zh}", f"{words.en} → {meaning.en}")
        return CardExchange(
            self._device,
            at_us,
            took_us,
            exchange.header,
            exchange.command_length,
            len(exchange.data),
            exchange.status,
            failure,
            words.zh,
            words.en,
            exchange.act is Act.SECRET,
            recorded,
        )

    def _invent(self, watcher: Watcher, exchange: Understood) -> Invented:
        if watcher not in self._invented:
            assert watcher.inventor is not None, "nobody invents for one who does not record"
            self._invented[watcher] = watcher.inventor.card()
        return self._invented[watcher].answer(exchange)


def _with_failure(words: Named, failure: Reason) -> Named:
    meaning = MEANING[failure]
    return Named(f"{words.zh} → {meaning.zh}", f"{words.en} → {meaning.en}")
