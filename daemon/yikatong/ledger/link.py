"""A city's ledger as the far end of a leg: each call is one durable commit."""

from __future__ import annotations

from typing import Protocol

from yikatong.core.credit_orders import CreditAnswer, CreditOrder
from yikatong.core.orders import (
    Account,
    ConfirmAnswer,
    DebitAnswer,
    DebitOrder,
    Payer,
    ReversalAnswer,
    ReversalCause,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region
from yikatong.ledger.book import Book
from yikatong.ledger.credits import CreditBook
from yikatong.runtime.clock import Clock, accounting_date
from yikatong.runtime.leg import CreditLink, DebitLink
from yikatong.runtime.store import DurableStore


class LedgerLink(DebitLink, CreditLink, Protocol):
    """A link to a ledger, which can also be asked by id alone."""

    async def enquire_id(self, transaction_id: str, region: Region) -> DebitAnswer:
        """How the transaction stands. Raises LinkDown."""


class BookLink:
    """LedgerLink over a book and its store. Raises StoreFailed where a commit failed: its owner leaves the service."""

    def __init__(self, store: DurableStore, book: Book, clock: Clock) -> None:
        self._store = store
        self._book = book
        self._credits = CreditBook(book)
        self._clock = clock

    async def account(self, payer: Payer, home_region: Region | None) -> Account:
        if home_region is None:
            raise YikatongError(Reason.INVALID_FIELD, "a city is asked about its own people", field="home_region")
        return await self._store.commit(lambda connection: self._book.account(connection, payer, home_region))

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        return await self._store.commit(lambda connection: self._book.debit(connection, order))

    async def enquire(self, order: DebitOrder) -> DebitAnswer:
        if order.home_region is None:
            raise YikatongError(Reason.INVALID_FIELD, "the order names no home city", field="home_region")
        return await self.enquire_id(order.transaction_id, order.home_region)

    async def enquire_id(self, transaction_id: str, region: Region) -> DebitAnswer:
        return await self._store.commit(lambda connection: self._book.enquire(connection, transaction_id, region))

    async def reverse(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer:
        today = accounting_date(self._clock.now())
        return await self._store.commit(lambda connection: self._book.reverse(connection, order, today))

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer:
        return await self._store.commit(lambda connection: self._book.confirm(connection, order))

    async def credit(self, order: CreditOrder, *, attempt: int) -> CreditAnswer:
        today = accounting_date(self._clock.now())
        return await self._store.commit(lambda connection: self._credits.credit(connection, order, today))
