"""The desk: card and PIN, from the moment a card is asked for until we know who pays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from yikatong.core.card import CardIdentity
from yikatong.core.orders import Payer
from yikatong.core.ports import CardDocument, CardLink, CardReader, CardVisit, PinEntry
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin
from yikatong.runtime.clock import Clock
from yikatong.terminal.stages import Stage

# Dates on a card are Chinese dates.
_CHINA = timedelta(hours=8)


@dataclass(frozen=True, slots=True)
class Presented:
    """A card whose holder has been verified, still in the reader.

    `demand_same_card` asks the card itself: CARD_REMOVED where it was out, even for a moment, CARD_CHANGED for another
    card. It comes last: between it and what is done with the identity there is nothing to wait for.
    """

    identity: CardIdentity
    demand_same_card: Callable[[], Awaitable[None]]


class Desk:
    """One reader, the card as a document, and the keypad where a PIN is asked (None: no PIN is asked here)."""

    def __init__(
        self,
        reader: CardReader,
        document: CardDocument,
        clock: Clock,
        *,
        pin_entry: PinEntry | None,
        pin_timeout_ms: int,
    ) -> None:
        self.reader, self._document, self._clock = reader, document, clock
        self.pin_entry, self._pin_timeout_ms = pin_entry, pin_timeout_ms

    async def read(self, *, wait_ms: int, stage: Callable[[Stage], None] = lambda stage: None) -> CardIdentity:
        """Reads the card. Raises YikatongError: what the reader or the card says, or CARD_EXPIRED."""
        async with self._visit(wait_ms, stage) as (_, identity):
            return identity

    @asynccontextmanager
    async def identify(self, *, wait_ms: int, stage: Callable[[Stage], None]) -> AsyncIterator[Presented]:
        """Reads the card and has the PIN verified. The visit lasts as long as the context: until money is asked for."""
        async with self._visit(wait_ms, stage) as (visit, identity):
            if self.pin_entry is not None:
                stage(Stage.WAITING_FOR_PIN)
                with await self.pin_entry.ask(timeout_ms=self._pin_timeout_ms) as pin:
                    await visit.run(lambda link: self._present(link, identity, pin))
            yield Presented(identity, lambda: visit.run(lambda link: self._document.recognise(link, identity)))

    def _present(self, link: CardLink, identity: CardIdentity, pin: Pin) -> None:
        """The PIN goes to the card that was read: another one would learn it, or lose one of its tries."""
        self._document.recognise(link, identity)
        self._document.verify_pin(link, pin)

    @asynccontextmanager
    async def _visit(
        self, wait_ms: int, stage: Callable[[Stage], None]
    ) -> AsyncIterator[tuple[CardVisit, CardIdentity]]:
        stage(Stage.WAITING_FOR_CARD)
        async with self.reader.visit(wait_ms=wait_ms) as visit:
            stage(Stage.READING_CARD)
            identity = await self._document.read(visit)
            today = (self._clock.now() + _CHINA).date().isoformat()
            if identity.expiry_date and identity.expiry_date < today:
                raise YikatongError(Reason.CARD_EXPIRED, "the card has expired", expiry=identity.expiry_date)
            yield visit, identity


def payer_of(identity: CardIdentity) -> Payer:
    return Payer(
        identity.social_security_number, identity.card_number, identity.identification_code, identity.issuing_region
    )
