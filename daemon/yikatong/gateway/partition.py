"""One partition: a store of its own with route log, claims and the embedded cities' ledgers, and the router over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yikatong.core.orders import City
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region
from yikatong.gateway import (
    acts,
    clearing_book,
    confirmations,
    credit_log,
    fleet,
    reconciliation_book,
    route_log,
    statements,
    tickets,
)
from yikatong.gateway.acts import Acts
from yikatong.gateway.directory import Directory
from yikatong.gateway.registry import Registry
from yikatong.gateway.router import Router, Waits
from yikatong.gateway.routing import Routing, Rules
from yikatong.gateway.sealing import PayerSeal
from yikatong.gateway.tickets import Tickets
from yikatong.gateway.voucher_proofs import LIFE_MS, VoucherProofs
from yikatong.ledger import entries, seed
from yikatong.ledger.book import Book
from yikatong.ledger.link import LedgerLink
from yikatong.runtime import keyfile
from yikatong.runtime.clock import Clock
from yikatong.runtime.store import DurableStore, NotOurFile, OpenStore, Store, StoreFailed

APPLICATION_ID: Final = 0x594B4757  # "YKGW"
VERSION: Final = 8
SCHEMA: Final = (
    entries.SCHEMA
    + route_log.SCHEMA
    + credit_log.SCHEMA
    + clearing_book.SCHEMA
    + reconciliation_book.SCHEMA
    + acts.SCHEMA
    + tickets.SCHEMA
    + statements.SCHEMA
    + confirmations.SCHEMA
    + fleet.SCHEMA
)


@dataclass(frozen=True, slots=True)
class Partition:
    """The parts; `close` in reverse order of their making."""

    store: DurableStore
    router: Router
    acts: Acts
    tickets: Tickets
    proofs: VoucherProofs

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        embedded: Mapping[Region, City],
        links: Mapping[Region, LedgerLink],
        registry: Registry,
        directory: Directory,
        rules: Rules,
        clock: Clock,
        waits: Waits,
        accounts: list[seed.SeedAccount],
        open_store: OpenStore = Store,
        voucher_life_ms: int = LIFE_MS,
    ) -> Partition:
        """Opens the store and the missing accounts; nothing is sent before `router.start`.

        Raises YikatongError STORE_UNAVAILABLE, STORE_NOT_OURS.
        """
        key = _key_beside(path)
        try:
            store = open_store(path, application_id=APPLICATION_ID, version=VERSION, schema=SCHEMA)
        except NotOurFile as error:
            raise YikatongError(Reason.STORE_NOT_OURS, str(error), file=path.name) from error
        except StoreFailed as error:
            raise YikatongError(Reason.STORE_UNAVAILABLE, str(error), file=path.name) from error
        book = Book(embedded, keyfile.PersonKey(key))
        seal = PayerSeal(keyfile.Seal(key))
        proofs = VoucherProofs(key, clock, life_ms=voucher_life_ms)
        routing, filed = Routing(registry, directory, book, seal, rules, proofs), Tickets(seal)
        router = Router(store, routing, book, links, registry, directory, clock, waits, tickets=filed)
        partition = cls(store, router, Acts(key), filed, proofs)
        try:
            await router.commit(lambda c: seed.open_accounts(c, book, accounts, date=router.today))
        except YikatongError:
            await store.close()
            raise
        return partition

    async def close(self) -> None:
        await self.router.close()
        await self.store.close()


def _key_beside(store: Path) -> bytes:
    """The store's key, `<name>.key`, made together with the store and never again: a new one would open nothing."""
    path = store.with_suffix(".key")
    if store.exists() and not path.exists():
        raise YikatongError(Reason.STORE_UNAVAILABLE, "the store's key file is missing", file=path.name)
    return keyfile.load_or_create(path)
