"""FleetService: the terminals, as operators see them."""

from __future__ import annotations

from typing import Final

from yikatong.api.operations.v1 import fleet_pb2 as api
from yikatong.api.operations.v1 import fleet_pb2_grpc as api_grpc
from yikatong.gateway.fleet import Fitness, FleetTerminal, fleet
from yikatong.gateway.registry import Registry
from yikatong.gateway.registry_rpc import timestamp
from yikatong.gateway.router import Router
from yikatong.runtime.clock import Clock
from yikatong.runtime.edge import Context

_FITNESS: Final = {fitness: api.Fitness.Value(f"FITNESS_{fitness.value}") for fitness in Fitness}


class FleetRpc(api_grpc.FleetServiceServicer):
    def __init__(self, router: Router, registry: Registry, clock: Clock) -> None:
        self._router, self._registry, self._clock = router, registry, clock

    async def ListTerminals(self, request: api.ListTerminalsRequest, context: Context) -> api.ListTerminalsResponse:
        now = self._clock.now()
        found = await self._router.commit(lambda connection: fleet(connection, self._registry, now))
        unfit = [terminal for terminal in found if terminal.fitness is not Fitness.PASSED]
        return api.ListTerminalsResponse(
            terminals=[_terminal(terminal) for terminal in (unfit if request.unfit else found)],
            total=len(found),
            passed=len(found) - len(unfit),
        )


def _terminal(terminal: FleetTerminal) -> api.FleetTerminal:
    return api.FleetTerminal(
        terminal_id=terminal.terminal_id,
        institution=terminal.member.institution.code,
        institution_name=terminal.member.name,
        fitness=_FITNESS[terminal.fitness],
        tested_at=timestamp(terminal.tested_at) if terminal.tested_at else None,
        failed_steps=[api.FailedStep(name=step.name, reason=step.reason) for step in terminal.failed],
        epoch=terminal.session.epoch,
        sequence=terminal.session.sequence,
    )
