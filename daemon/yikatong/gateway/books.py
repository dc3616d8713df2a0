"""The books of all cities in one look, and the proof that they are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import apsw

from yikatong.core.orders import City
from yikatong.core.reasons import YikatongError
from yikatong.core.values import Fen, Region
from yikatong.gateway import clearing_book, statements, tickets
from yikatong.gateway.acts import Acts, Head
from yikatong.gateway.city_client import CityClient
from yikatong.gateway.registry import Registry
from yikatong.ledger import report
from yikatong.ledger.report import Finding, Totals
from yikatong.runtime.store import DurableStore


@dataclass(frozen=True, slots=True)
class CityBooks:
    """`ledger` is None where the city's core did not answer; `claims` by account (see clearing_book)."""

    city: City
    embedded: bool
    ledger: Totals | None
    claims: dict[str, Fen]


class Books:
    """Reads the gateway's own database, and asks the cities that have their own."""

    def __init__(
        self, store: DurableStore, registry: Registry, remote: Mapping[Region, CityClient], acts: Acts
    ) -> None:
        self._store = store
        self._acts = acts
        self._registry = registry
        self._remote = remote

    async def cities(self) -> list[CityBooks]:
        """Every city of the registry. Raises StoreFailed."""
        result = []
        for region, home in self._registry.cities.items():
            claims, ledger = await self._store.commit(partial(_own, region))
            client = self._remote.get(region)
            if client is not None:
                try:
                    ledger = await client.totals(region)
                except YikatongError:
                    ledger = None  # said so in the result: `unreachable`
            result.append(CityBooks(home.city, client is None, ledger, claims))
        return result

    async def audit(self) -> tuple[list[Finding], Head]:
        """Findings in the gateway's own database: embedded ledgers, claims, how they fit, and what operators did.

        Also where the chain of operators' acts stands.
        """

        def job(connection: apsw.Connection) -> tuple[list[Finding], Head]:
            findings = [
                *report.audit(connection),
                *clearing_book.audit(connection),
                *self._acts.audit(connection),
                *tickets.audit(connection, self._acts),
                *statements.audit(connection),
            ]
            return findings, self._acts.head(connection)

        return await self._store.commit(job)


def _own(region: Region, connection: apsw.Connection) -> tuple[dict[str, Fen], Totals | None]:
    """What the gateway's database holds of a city: its claims, and its ledger where it is embedded."""
    return clearing_book.balances(connection, region.code), report.totals(connection, region)
