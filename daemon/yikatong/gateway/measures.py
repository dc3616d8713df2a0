"""What operators order about institutions and cities: first on record, then in force, at once and over restarts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

import apsw
import structlog

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Institution, Region
from yikatong.gateway.acts import Act, ActKind, Acts
from yikatong.gateway.registry import Agreement, Closure, Member, Registry
from yikatong.runtime.clock import Clock

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class Commit(Protocol):
    """The gateway's store. Raises YikatongError STORE_UNAVAILABLE: whether it is on the disk is then unknown."""

    def __call__(self, job: Callable[[apsw.Connection], T], /) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class Closed:
    """A closure, and the act that ordered it."""

    closure: Closure
    act: Act


class Measures:
    """Orders about agreements and cities, and what was ordered last about each."""

    def __init__(self, commit: Commit, acts: Acts, registry: Registry, clock: Clock) -> None:
        self._commit, self._acts, self._registry, self._clock = commit, acts, registry, clock
        self._agreed: dict[Institution, Act] = {}
        self._moved: dict[Region, Act] = {}
        self._closures: dict[Region, tuple[Closed, ...]] = {}
        registry.in_force.now = clock.now

    async def load(self) -> None:
        """Puts in force what stands on record; before anything is routed."""
        kinds = (ActKind.AGREEMENT, ActKind.CITY_CLOSED, ActKind.CITY_OPENED)
        for act in await self._commit(lambda connection: self._acts.of(connection, *kinds)):
            self._enforce(act)

    # --- agreements -----------------------------------------------------------------------------------------------

    def agreed(self, institution: Institution) -> Act | None:
        """The act by which the agreement stands as it does; None where the configuration alone has spoken."""
        return self._agreed.get(institution)

    async def set_agreement(self, institution: Institution, agreement: Agreement, *, operator: str, why: str) -> Member:
        """Returns the institution as it stands now. Raises YikatongError INSTITUTION_UNKNOWN."""
        self._registry.member(institution)
        await self._order(ActKind.AGREEMENT, institution.code, operator=operator, why=why, value=agreement.value)
        return self._registry.member(institution)

    # --- cities ---------------------------------------------------------------------------------------------------

    def moved(self, region: Region) -> Act | None:
        """How the city was closed or opened last."""
        return self._moved.get(region)

    def closures(self, region: Region) -> list[Closed]:
        """Present and coming ones."""
        now = self._clock.now()
        return [closed for closed in self._closures.get(region, ()) if not closed.closure.over(now)]

    async def close_city(
        self, region: Region, begins_at: datetime | None, ends_at: datetime | None, *, operator: str, why: str
    ) -> None:
        """Without `begins_at` now, without `ends_at` until it is opened.

        Raises YikatongError INVALID_FIELD: an unknown city, or a time that is over or ends before it begins.
        """
        self._require_city(region)
        now = self._clock.now()
        begins_at = begins_at or now
        if ends_at is not None and ends_at <= max(begins_at, now):
            raise YikatongError(
                Reason.INVALID_FIELD,
                "a closure ends after it begins, and not before now",
                field="to",
                why="CLOSURE_TIME",
            )
        closure = Closure(begins_at, ends_at)
        await self._order(ActKind.CITY_CLOSED, region.code, operator=operator, why=why, closure=closure)

    async def open_city(self, region: Region, *, operator: str, why: str) -> None:
        """From now on, whatever the configuration says; closures that are still to come are taken back with it.

        Raises YikatongError INVALID_FIELD for an unknown city.
        """
        self._require_city(region)
        await self._order(ActKind.CITY_OPENED, region.code, operator=operator, why=why)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _require_city(self, region: Region) -> None:
        if region not in self._registry.cities:
            raise YikatongError(
                Reason.INVALID_FIELD, "the configuration names no such city", field="city", why="NO_SUCH_CITY"
            )

    async def _order(
        self,
        kind: ActKind,
        subject: str,
        *,
        operator: str,
        why: str,
        value: str = "",
        closure: Closure | None = None,
    ) -> None:
        act = Act(
            kind=kind,
            subject=subject,
            at=self._clock.now().isoformat(),
            operator=operator,
            reason=why,
            value=value,
            begins_at=closure.begins_at.isoformat() if closure else "",
            ends_at=closure.ends_at.isoformat() if closure and closure.ends_at else "",
        )
        act = await self._commit(lambda connection: self._acts.add(connection, act))
        self._enforce(act)
        _log.warning("ordered", act=act.number, kind=kind.value, subject=subject, value=value, operator=operator)

    def _enforce(self, act: Act) -> None:
        """In the order of the acts: a later one outdoes an earlier one."""
        in_force = self._registry.in_force
        if act.kind is ActKind.AGREEMENT:
            institution = Institution(act.subject)
            self._agreed[institution] = act
            in_force.agreements[institution] = Agreement(act.value)
            return
        region = Region(act.subject)
        self._moved[region] = act
        if act.kind is ActKind.CITY_OPENED:
            self._closures[region] = ()
            in_force.opened[region] = True
        else:
            ends_at = datetime.fromisoformat(act.ends_at) if act.ends_at else None
            closed = Closed(Closure(datetime.fromisoformat(act.begins_at), ends_at), act)
            self._closures[region] = (*self.closures(region), closed)
        in_force.closures[region] = tuple(closed.closure for closed in self._closures[region])
