"""The desk: card and PIN, from the moment a card is asked for until its holder is verified."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from yikatong.core.card import CardIdentity
from yikatong.core.orders import CardPayer
from yikatong.core.ports import CardDocument, CardReader, CardVisit, PinEntry
from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.clock import Clock
from yikatong.terminal.pin_check import PinCheck
from yikatong.terminal.stages import Stage

# Dates on a card are Chinese dates.
_CHINA = timedelta(hours=8)


@dataclass(frozen=True, slots=True)
class Presented:
    """A card whose holder has been verified, still in the reader.

    `demand_same_card` asks the card itself: CARD_REMOVED where it was out, even for a moment, CARD_CHANGED for another
    card. It comes last: between it and what is done with the identity there is nothing to wait for. `initial_pin`: the
    PIN is still one that issuers give out.
    """

    identity: CardIdentity
    demand_same_card: Callable[[], Awaitable[None]]
    initial_pin: bool = False


class Desk:
    """One reader, the card as a document, and how a PIN is verified (None: no PIN is asked here)."""

    def __init__(self, reader: CardReader, document: CardDocument, clock: Clock, *, pin: PinCheck | None) -> None:
        self.reader, self._document, self._clock, self._pin = reader, document, clock, pin

    @property
    def pin_entry(self) -> PinEntry | None:
        """The keypad."""
        return None if self._pin is None else self._pin.entry

    async def read(self, *, wait_ms: int, stage: Callable[[Stage], None] = lambda stage: None) -> CardIdentity:
        """Reads the card. Raises YikatongError: what the reader or the card says, or CARD_EXPIRED."""
        async with self._visit(wait_ms, stage) as (_, identity):
            return identity

    @asynccontextmanager
    async def identify(
        self, *, wait_ms: int, stage: Callable[[Stage], None], last_try_acknowledged: bool = False
    ) -> AsyncIterator[Presented]:
        """Reads the card and has the PIN verified. The visit lasts as long as the context: until money is asked for.

        `last_try_acknowledged`: a person says that the card's last try at its PIN may be used.
        """
        async with self._visit(wait_ms, stage) as (visit, identity):
            initial_pin = False
            if self._pin is not None:
                initial_pin = await self._pin.verify(
                    visit,
                    identity,
                    last_try_acknowledged=last_try_acknowledged,
                    prompt=lambda: stage(Stage.WAITING_FOR_PIN),
                )
            yield Presented(
                identity, lambda: visit.run(lambda link: self._document.recognise(link, identity)), initial_pin
            )

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


def payer_of(identity: CardIdentity) -> CardPayer:
    return CardPayer(
        identity.social_security_number, identity.card_number, identity.identification_code, identity.issuing_region
    )
