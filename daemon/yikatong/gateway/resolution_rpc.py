"""ResolutionService: what needs people, and their decisions."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from yikatong.api.operations.v1 import resolution_pb2 as api
from yikatong.api.operations.v1 import resolution_pb2_grpc as api_grpc
from yikatong.gateway.registry_rpc import timestamp
from yikatong.gateway.resolution import Resolutions
from yikatong.gateway.tickets import Decision, Ticket
from yikatong.gateway.unresolved import Kind, Side, Unresolved, Unsettled, Urgency
from yikatong.runtime.edge import Context
from yikatong.runtime.tls import peer_name

_KINDS: Final = {kind: api.UnresolvedKind.Value(f"UNRESOLVED_KIND_{kind.value}") for kind in Kind}
_URGENCIES: Final = {urgency: api.Urgency.Value(f"URGENCY_{urgency.value}") for urgency in Urgency}
_DECISIONS: Final = {api.DECISION_CONFIRM: Decision.CONFIRM, api.DECISION_REVERSE: Decision.REVERSE}
_DECIDED: Final = {"": api.DECISION_UNSPECIFIED, "CONFIRM": api.DECISION_CONFIRM, "REVERSE": api.DECISION_REVERSE}


class ResolutionRpc(api_grpc.ResolutionServiceServicer):
    """Who decides is the certificate that asks."""

    def __init__(self, unsettled: Unsettled, resolutions: Resolutions) -> None:
        self._unsettled, self._resolutions = unsettled, resolutions

    async def ListUnresolved(self, request: api.ListUnresolvedRequest, context: Context) -> api.ListUnresolvedResponse:
        rows, unreachable = await self._unsettled.listed()
        return api.ListUnresolvedResponse(
            unresolved=[_row(row) for row in rows], unreachable_regions=[region.code for region in unreachable]
        )

    async def Resolve(self, request: api.ResolveRequest, context: Context) -> api.ResolveResponse:
        operator, transaction_id = peer_name(context), request.transaction_id
        if request.decision == api.DECISION_WITHDRAW:
            ticket = await self._resolutions.withdraw(transaction_id, operator=operator, why=request.reason)
        else:
            decision = _DECISIONS[request.decision]
            ticket = await self._resolutions.decide(transaction_id, decision, operator=operator, why=request.reason)
        return api.ResolveResponse(resolution=_resolution(ticket))


def _row(row: Unresolved) -> api.Unresolved:
    return api.Unresolved(
        kind=_KINDS[row.kind],
        urgency=_URGENCIES[row.urgency],
        transaction_id=row.transaction_id,
        terminal_id=row.terminal_id,
        institution=row.institution,
        treatment_region=row.treatment_region,
        home_region=row.home_region,
        since=timestamp(datetime.fromisoformat(row.since)) if row.since else None,
        reason=row.reason,
        gateway=_side(row.gateway),
        terminal=_side(row.terminal),
        resolution=_resolution(row.ticket) if row.ticket else None,
        city_closed=row.city_closed,
    )


def _side(side: Side) -> api.SideFacts:
    return api.SideFacts(
        state=side.state,
        amount_fen=side.amount_fen,
        order_no=side.order_no,
        order_part=side.order_part,
        accounting_date=side.accounting_date,
        reference=side.reference,
        fingerprint=side.fingerprint,
        seen_at=timestamp(datetime.fromisoformat(side.seen_at)) if side.seen_at else None,
    )


def _resolution(ticket: Ticket) -> api.Resolution:
    if ticket.outcome:
        progress = api.PROGRESS_CARRIED_OUT
    elif ticket.approved_by:
        progress = api.PROGRESS_APPROVED
    else:
        progress = api.PROGRESS_PROPOSED if ticket.decision else api.PROGRESS_OPEN
    return api.Resolution(
        decision=_DECIDED[ticket.decision],
        progress=progress,
        proposed_by=ticket.proposed_by,
        approved_by=ticket.approved_by,
        credit_id=ticket.credit_id,
        reason=ticket.why,
    )
