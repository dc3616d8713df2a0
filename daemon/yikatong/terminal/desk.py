"""The desk: card and PIN, from the moment a card is asked for until we know who pays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from yikatong.core.card import CardIdentity
from yikatong.core.orders import Payer
from yikatong.core.ports import CardDocument, CardReader, CardVisit, PinEntry
from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.clock import Clock
from yikatong.terminal.stages import Stage

# Dates on a card are Chinese dates.
_CHINA = timedelta(hours=8)


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

    async def identify(self, *, wait_ms: int, stage: Callable[[Stage], None]) -> CardIdentity:
        """Reads the card and has the PIN verified, in one visit: a card that is swapped in between is refused."""
        async with self._visit(wait_ms, stage) as (visit, identity):
            if self.pin_entry is not None:
                stage(Stage.WAITING_FOR_PIN)
                with await self.pin_entry.ask(timeout_ms=self._pin_timeout_ms) as pin:
                    await visit.run(lambda link: self._document.verify_pin(link, pin))
            return identity

    @asynccontextmanager
    async def _visit(
        self, wait_ms: int, stage: Callable[[Stage], None]
    ) -> AsyncIterator[tuple[CardVisit, CardIdentity]]:
        stage(Stage.WAITING_FOR_CARD)
        async with self.reader.visit(wait_ms=wait_ms) as visit:
            stage(Stage.READING_CARD)
            identity = await visit.run(self._document.read_identity)
            today = (self._clock.now() + _CHINA).date().isoformat()
            if identity.expiry_date and identity.expiry_date < today:
                raise YikatongError(Reason.CARD_EXPIRED, "the card has expired", expiry=identity.expiry_date)
            yield visit, identity


def payer_of(identity: CardIdentity) -> Payer:
    return Payer(
        identity.social_security_number, identity.card_number, identity.identification_code, identity.issuing_region
    )
