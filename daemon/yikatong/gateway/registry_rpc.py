"""RegistryService: institutions, cities and terminals, as operators see and change them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from yikatong.api.operations.v1 import registry_pb2 as api
from yikatong.api.operations.v1 import registry_pb2_grpc as api_grpc
from yikatong.core.reasons import Reason
from yikatong.core.values import Institution, Region
from yikatong.gateway import tickets
from yikatong.gateway.acts import Act
from yikatong.gateway.city_client import CityClient
from yikatong.gateway.measures import Closed, Measures
from yikatong.gateway.registry import EVER, Agreement, HomeCity, Member, Registry
from yikatong.gateway.replacement import Replacement
from yikatong.gateway.router import Router
from yikatong.gateway.tickets import Undelivered
from yikatong.runtime.edge import Context
from yikatong.runtime.tls import peer_name

_AGREEMENTS: Final = {agreement: api.Agreement.Value(f"AGREEMENT_{agreement.value}") for agreement in Agreement}
_ORDERED: Final = {value: agreement for agreement, value in _AGREEMENTS.items()}
_STATES: Final = {
    None: api.CITY_STATE_OPEN,
    Reason.CITY_NOT_OPEN: api.CITY_STATE_NOT_OPEN,
    Reason.CITY_CLOSED_FOR_MAINTENANCE: api.CITY_STATE_CLOSED_FOR_MAINTENANCE,
}


class RegistryRpc(api_grpc.RegistryServiceServicer):
    """Each change is done in the name of the certificate that asks for it."""

    def __init__(
        self,
        registry: Registry,
        measures: Measures,
        replacement: Replacement,
        router: Router,
        clients: Mapping[Region, CityClient],
    ) -> None:
        self._registry, self._measures, self._replacement = registry, measures, replacement
        self._router, self._clients = router, clients

    async def ReplaceTerminal(
        self, request: api.ReplaceTerminalRequest, context: Context
    ) -> api.ReplaceTerminalResponse:
        act, adopted = await self._replacement.replace(
            request.terminal_id, operator=peer_name(context), why=request.reason
        )
        return api.ReplaceTerminalResponse(adopted_transaction_ids=adopted, act=_act(act))

    async def ListInstitutions(
        self, request: api.ListInstitutionsRequest, context: Context
    ) -> api.ListInstitutionsResponse:
        return api.ListInstitutionsResponse(
            institutions=[self._institution(member) for member in self._registry.members()]
        )

    async def SetAgreement(self, request: api.SetAgreementRequest, context: Context) -> api.SetAgreementResponse:
        member = await self._measures.set_agreement(
            Institution(request.institution),
            _ORDERED[request.agreement],
            operator=peer_name(context),
            why=request.reason,
        )
        return api.SetAgreementResponse(institution=self._institution(member))

    async def ListCities(self, request: api.ListCitiesRequest, context: Context) -> api.ListCitiesResponse:
        return api.ListCitiesResponse(cities=await self._cities(*self._registry.cities))

    async def CloseCity(self, request: api.CloseCityRequest, context: Context) -> api.CloseCityResponse:
        region = Region(request.region)
        await self._measures.close_city(
            region,
            request.begins_at.ToDatetime(UTC) if request.HasField("begins_at") else None,
            request.ends_at.ToDatetime(UTC) if request.HasField("ends_at") else None,
            operator=peer_name(context),
            why=request.reason,
        )
        return api.CloseCityResponse(city=(await self._cities(region))[0])

    async def OpenCity(self, request: api.OpenCityRequest, context: Context) -> api.OpenCityResponse:
        region = Region(request.region)
        await self._measures.open_city(region, operator=peer_name(context), why=request.reason)
        self._router.nudge()
        return api.OpenCityResponse(city=(await self._cities(region))[0])

    # --- as messages ----------------------------------------------------------------------------------------------

    def _institution(self, member: Member) -> api.Institution:
        return api.Institution(
            code=member.institution.code,
            name=member.name,
            region=member.region.code,
            agreement=_AGREEMENTS[member.agreement],
            act=_act(self._measures.agreed(member.institution)),
        )

    async def _cities(self, *regions: Region) -> list[api.HomeCity]:
        waiting = await self._router.commit(tickets.waiting)
        links = await asyncio.gather(*(self._link(region) for region in regions))
        return [
            self._city(region, link, waiting.get(region.code, Undelivered()))
            for region, link in zip(regions, links, strict=True)
        ]

    async def _link(self, region: Region) -> api.CityLink.ValueType:
        client = self._clients.get(region)
        if client is None:
            return api.CITY_LINK_EMBEDDED
        return api.CITY_LINK_UP if await client.answers() else api.CITY_LINK_DOWN

    def _city(self, region: Region, link: api.CityLink.ValueType, waiting: Undelivered) -> api.HomeCity:
        home = self._registry.city(region)
        assert home is not None, "a city of the registry"
        return api.HomeCity(
            region=region.code,
            name_zh=home.city.name_zh,
            name_en=home.city.name_en,
            state=_STATES[home.closed(self._router.today)],
            open_from=_limit(home, 0),
            open_to=_limit(home, 1),
            closures=[_closure(closed) for closed in self._measures.closures(region)],
            link=link,
            waiting_reversals=waiting.reversals,
            waiting_confirmations=waiting.confirmations,
            waiting_credits=waiting.credits,
            act=_act(self._measures.moved(region)),
        )


def _limit(home: HomeCity, which: int) -> str:
    date = (home.open_from, home.open_to)[which]
    return "" if date == EVER[which] else date


def _closure(closed: Closed) -> api.Closure:
    ends_at = closed.closure.ends_at
    return api.Closure(
        begins_at=timestamp(closed.closure.begins_at),
        ends_at=timestamp(ends_at) if ends_at else None,
        act=_act(closed.act),
    )


def _act(act: Act | None) -> api.Act | None:
    if act is None:
        return None
    at = timestamp(datetime.fromisoformat(act.at))
    return api.Act(number=act.number, at=at, operator=act.operator, reason=act.reason)


def timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
