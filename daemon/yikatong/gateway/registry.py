"""Who takes part: cities, institutions with their agreements, terminals.

The configuration is the first word; what operators have ordered since (`InForce`) is the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from yikatong.core.orders import City, Credential, Payer
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Institution, Region, TerminalId
from yikatong.gateway.config import CityConfig, GatewayConfig


class Agreement(Enum):
    """State of an institution's agreement."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    TERMINATED = "TERMINATED"


EVER: Final = ("0000-00-00", "9999-99-99")
"""First and last accounting date of a city without limits."""

_AGREEMENT_REASON = {
    Agreement.ACTIVE: None,
    Agreement.SUSPENDED: Reason.INSTITUTION_SUSPENDED,
    Agreement.TERMINATED: Reason.INSTITUTION_TERMINATED,
}


@dataclass(frozen=True, slots=True)
class Member:
    """A designated institution."""

    institution: Institution
    name: str
    region: Region
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class HomeCity:
    """A home city, and when it takes debits from other cities. `address` empty: its ledger is ours."""

    city: City
    state: str
    open_from: str
    open_to: str
    address: str
    server_name: str
    takes_voucher: bool = True
    takes_resident_id: bool = False

    def refuses(self, payer: Payer) -> Reason | None:
        """Why nobody may pay there by what this payer shows, None where one may. Payments by card are always taken."""
        match payer.credential:
            case Credential.VOUCHER if not self.takes_voucher:
                return Reason.VOUCHER_NOT_ACCEPTED
            case Credential.RESIDENT_ID if not self.takes_resident_id:
                return Reason.RESIDENT_ID_NOT_ACCEPTED
            case _:
                return None

    def closed(self, date: str) -> Reason | None:
        """Why the city takes no new debit on that accounting date, None where it does."""
        if self.state == "CLOSED_FOR_MAINTENANCE":
            return Reason.CITY_CLOSED_FOR_MAINTENANCE
        if self.state == "NOT_OPEN" or not self.open_from <= date <= self.open_to:
            return Reason.CITY_NOT_OPEN
        return None


@dataclass(frozen=True, slots=True)
class Closure:
    """A time in which a city takes no new debit and is sent nothing; without `ends_at` until it is opened."""

    begins_at: datetime
    ends_at: datetime | None

    def over(self, now: datetime) -> bool:
        return self.ends_at is not None and self.ends_at <= now

    def holds(self, now: datetime) -> bool:
        return self.begins_at <= now and not self.over(now)


@dataclass(slots=True)
class InForce:
    """What operators have ordered, as it holds now. `Measures` alone writes it, each value whole; any thread reads."""

    agreements: dict[Institution, Agreement] = field(default_factory=dict)
    opened: dict[Region, bool] = field(default_factory=dict)
    """Cities that an operator has opened: whatever the configuration says of them."""
    closures: dict[Region, tuple[Closure, ...]] = field(default_factory=dict)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


class Registry:
    """Look-ups; built from the configuration and from what is in force since."""

    def __init__(
        self,
        cities: list[HomeCity],
        members: list[Member],
        terminals: dict[TerminalId, Institution],
        in_force: InForce | None = None,
    ) -> None:
        self.cities = {home.city.region: home for home in cities}
        self.in_force = in_force or InForce()
        self._members = {member.institution: member for member in members}
        self._terminals = terminals

    def member_of(self, terminal_id: str) -> Member:
        """The institution in which the terminal stands. Raises YikatongError TERMINAL_UNKNOWN, INSTITUTION_UNKNOWN."""
        institution = self._terminals.get(TerminalId(terminal_id))
        if institution is None:
            raise YikatongError(Reason.TERMINAL_UNKNOWN, "no such terminal is registered")
        return self.member(institution)

    def member(self, institution: Institution) -> Member:
        """The institution with its agreement as it stands now. Raises YikatongError INSTITUTION_UNKNOWN."""
        member = self._members.get(institution)
        if member is None:
            raise YikatongError(Reason.INSTITUTION_UNKNOWN, "the institution is not registered")
        return replace(member, agreement=self.in_force.agreements.get(institution, member.agreement))

    def members(self) -> list[Member]:
        """Every institution, as `member`."""
        return [self.member(institution) for institution in self._members]

    def terminals(self) -> list[TerminalId]:
        """Every terminal of the registry."""
        return list(self._terminals)

    def neighbours_of(self, terminal_id: str) -> list[str]:
        """Every terminal of this terminal's institution, itself included. Raises as `member_of`."""
        institution = self.member_of(terminal_id).institution
        return [terminal for terminal, where in self._terminals.items() if where == institution]

    def demand_agreement(self, terminal_id: str) -> None:
        """Raises as `member_of`, and INSTITUTION_SUSPENDED, INSTITUTION_TERMINATED."""
        if (reason := _AGREEMENT_REASON[self.member_of(terminal_id).agreement]) is not None:
            raise YikatongError(reason, "there is no agreement in force with the institution")

    def refusal(self, terminal_id: str, institution: Institution, treatment_region: Region) -> Reason | None:
        """Why this terminal may make no new debit, None where it may."""
        try:
            member = self.member_of(terminal_id)
        except YikatongError as error:
            return error.reason
        if (member.institution, member.region) != (institution, treatment_region):
            return Reason.INSTITUTION_UNKNOWN
        return _AGREEMENT_REASON[member.agreement]

    def stands_in(self, terminal_id: str, institution: Institution) -> bool:
        """Whether the terminal is that institution's. One that is not neither sees nor takes its request ids."""
        return self._terminals.get(TerminalId(terminal_id)) == institution

    def city(self, region: Region) -> HomeCity | None:
        """The city as it stands now; None where the configuration does not name it."""
        home = self.cities.get(region)
        if home is None:
            return None
        if closures := self.in_force.closures.get(region):
            now = self.in_force.now()
            if any(closure.holds(now) for closure in closures):
                return replace(home, state="CLOSED_FOR_MAINTENANCE")
        if self.in_force.opened.get(region):
            return replace(home, state="OPEN", open_from=EVER[0], open_to=EVER[1])
        return home

    def closed(self, region: Region, date: str) -> Reason | None:
        """Why the city takes no new debit now, and is sent nothing; None where it does."""
        home = self.city(region)
        return Reason.CITY_NOT_OPEN if home is None else home.closed(date)

    def with_cities(self, cities: list[HomeCity]) -> Registry:
        """The same members, terminals and orders in force, with other home cities."""
        return Registry(cities, list(self._members.values()), self._terminals, self.in_force)


def _home_city(config: CityConfig) -> HomeCity:
    return HomeCity(
        City(Region(config.region), config.name_zh, config.name_en),
        config.state,
        config.open_from or EVER[0],
        config.open_to or EVER[1],
        config.address,
        config.server_name,
        config.takes_voucher,
        config.takes_resident_id,
    )


def registry_from(config: GatewayConfig) -> Registry:
    """Raises YikatongError CONFIGURATION_INVALID where something is there twice or points nowhere."""
    for found in config.contradictions():
        raise YikatongError(Reason.CONFIGURATION_INVALID, found.en, key=".".join(map(str, found.keys)))
    members = [
        Member(Institution(i.code), i.name, Region(i.region), Agreement(i.agreement)) for i in config.institutions
    ]
    return Registry(
        [_home_city(city) for city in config.cities],
        members,
        {TerminalId(t.terminal_id): Institution(t.institution) for t in config.terminals},
    )
