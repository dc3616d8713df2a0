"""Who pays, in the three ways in which that is shown: card and PIN, a scanned e-voucher, a resident identity card."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol

from yikatong.core.card import CardIdentity
from yikatong.core.orders import CardPayer, Credential, IdCardPayer, Payer
from yikatong.core.ports import CodeScanner, ResidentCardReader, VoucherResolver
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.session import Granted
from yikatong.core.transaction import Transaction
from yikatong.core.values import PersonName
from yikatong.runtime.clock import Clock
from yikatong.terminal.desk import Desk, payer_of
from yikatong.terminal.stages import Stage
from yikatong.terminal.vault import Vault

_CHINA: Final = timedelta(hours=8)
"""Dates on a card are Chinese dates."""

_MISSING: Final = {Credential.VOUCHER: Reason.NO_SCANNER, Credential.RESIDENT_ID: Reason.NO_ID_CARD_READER}


async def _nothing_changes() -> None:
    """For what is not held in a device: a code or an identity card was read just now, and cannot become another."""


@dataclass(frozen=True, slots=True)
class Identified:
    """Who pays, as long as the context in which it was found out lasts.

    `demand_same` comes last before the debit: where a card is held, it asks the card whether it is still the one
    (CARD_REMOVED, CARD_CHANGED). `initial_pin`: the card's PIN is still one that issuers give out. `card`: all that the
    card says, where there is one.
    """

    payer: Payer
    name: PersonName
    demand_same: Callable[[], Awaitable[None]] = _nothing_changes
    initial_pin: bool = False
    card: CardIdentity | None = None

    @property
    def number_masked(self) -> str:
        """Of the card, or where none was used of the person."""
        payer = self.payer
        return str(payer.card_number if isinstance(payer, CardPayer) else payer.social_security_number)


class Way(Protocol):
    """One way to show who pays."""

    def identify(
        self, *, wait_ms: int, stage: Callable[[Stage], None], last_try_acknowledged: bool = False
    ) -> AbstractAsyncContextManager[Identified]:
        """Waits up to `wait_ms`, tells each stage, and yields who pays. For a debit: a card's PIN is verified.

        Raises YikatongError: nothing has been sent.
        """

    async def look(self, *, wait_ms: int) -> Identified:
        """As `identify`, for an enquiry: no PIN is asked."""


class ByCard:
    """The card at the desk, its PIN where the desk asks for one. See `Desk.identify` for `last_try_acknowledged`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @asynccontextmanager
    async def identify(
        self, *, wait_ms: int, stage: Callable[[Stage], None], last_try_acknowledged: bool = False
    ) -> AsyncIterator[Identified]:
        async with self._desk.identify(
            wait_ms=wait_ms, stage=stage, last_try_acknowledged=last_try_acknowledged
        ) as presented:
            identity = presented.identity
            yield Identified(
                payer_of(identity), identity.name, presented.demand_same_card, presented.initial_pin, identity
            )

    async def look(self, *, wait_ms: int) -> Identified:
        identity = await self._desk.read(wait_ms=wait_ms)
        return Identified(payer_of(identity), identity.name, card=identity)


class ByVoucher:
    """A code of an e-voucher, scanned now and resolved by the gateway at once: it is good for seconds, and pays once.

    The code itself is kept nowhere and told to nobody but the gateway.
    """

    def __init__(self, scanner: CodeScanner, resolver: VoucherResolver) -> None:
        self._scanner, self._resolver = scanner, resolver

    @asynccontextmanager
    async def identify(
        self, *, wait_ms: int, stage: Callable[[Stage], None], last_try_acknowledged: bool = False
    ) -> AsyncIterator[Identified]:
        yield await self._resolved(wait_ms, stage)

    async def look(self, *, wait_ms: int) -> Identified:
        return await self._resolved(wait_ms, lambda stage: None)

    async def _resolved(self, wait_ms: int, stage: Callable[[Stage], None]) -> Identified:
        await self._resolver.check()  # rather than after the cardholder has shown a code
        loop, given_up = asyncio.get_running_loop(), False

        def ask() -> None:
            if not given_up:  # the scanner's thread, which nobody can cancel, may be ready after all is over
                stage(Stage.WAITING_FOR_CODE)

        def listening() -> None:  # only now what is shown counts
            loop.call_soon_threadsafe(ask)

        try:
            code = await self._scanner.scan(timeout_ms=wait_ms, listening=listening)
        finally:
            given_up = True
        stage(Stage.RESOLVING_CODE)
        resolved = await self._resolver.resolve(code)
        return Identified(resolved.payer, resolved.holder.name)


class ByIdCard:
    """A resident identity card on its reader. There is no PIN: whoever has it pays with it, where the city lets it."""

    def __init__(self, reader: ResidentCardReader, clock: Clock) -> None:
        self._reader, self._clock = reader, clock

    @asynccontextmanager
    async def identify(
        self, *, wait_ms: int, stage: Callable[[Stage], None], last_try_acknowledged: bool = False
    ) -> AsyncIterator[Identified]:
        yield await self._read(wait_ms, stage)

    async def look(self, *, wait_ms: int) -> Identified:
        return await self._read(wait_ms, lambda stage: None)

    async def _read(self, wait_ms: int, stage: Callable[[Stage], None]) -> Identified:
        stage(Stage.WAITING_FOR_ID_CARD)
        card = await self._reader.read(timeout_ms=wait_ms)
        today = (self._clock.now() + _CHINA).date().isoformat()
        if not card.valid_from <= today <= (card.valid_until or today):
            raise YikatongError(Reason.ID_CARD_NOT_VALID, "the resident identity card is not valid today")
        return Identified(IdCardPayer(card.number), card.name)


class WhoPays:
    """The ways that this terminal has: the card always, the others where their device is configured."""

    def __init__(self, desk: Desk, others: Mapping[Credential, Way] | None = None) -> None:
        self._ways: dict[Credential, Way] = {Credential.CARD: ByCard(desk), **(others or {})}

    def by(self, credential: Credential) -> Way:
        """Raises NO_SCANNER, NO_ID_CARD_READER."""
        way = self._ways.get(credential)
        if way is None:
            raise YikatongError(_MISSING[credential], "this terminal has none", credential=credential.value)
        return way


def addressed(row: Transaction, granted: Granted, who: Identified, vault: Vault) -> Transaction:
    """The row with who pays and what is granted. Of a voucher its proof is not kept, and its code never was here."""
    payer = who.payer
    if isinstance(payer, CardPayer):
        tag = vault.card_tag(payer.identification_code)
    else:
        tag = vault.person_tag(payer.social_security_number)
    return replace(
        row,
        institution=granted.institution,
        treatment_region=granted.treatment_region,
        epoch=granted.epoch,
        payer_sealed=vault.seal(payer, transaction_id=row.transaction_id),
        card_tag=tag,
        card_number_masked=who.number_masked,
        cardholder_masked=str(who.name),
        initial_pin=who.initial_pin,
    )
