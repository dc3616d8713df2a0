"""A terminal whose machine or disk is gone: who still has its journal is shut out, and its open debits are adopted.

What the old machine had told its HIS nobody else knows. So each of its debits that is posted, or may be, and was
neither confirmed nor reversed becomes a ticket: two persons look at the HIS's order and decide.
"""

from __future__ import annotations

import apsw
import structlog

from yikatong.core.values import TransactionId
from yikatong.gateway import route_log, sessions
from yikatong.gateway.acts import Act, ActKind, Acts
from yikatong.gateway.registry import Registry
from yikatong.gateway.router import Router
from yikatong.gateway.tickets import Tickets
from yikatong.runtime.clock import Clock

_log = structlog.get_logger(__name__)


class Replacement:
    """Of terminals of the partition that is for real."""

    def __init__(self, router: Router, filed: Tickets, acts: Acts, registry: Registry, clock: Clock) -> None:
        self._router, self._tickets, self._acts, self._registry, self._clock = router, filed, acts, registry, clock

    async def replace(self, terminal_id: str, *, operator: str, why: str) -> tuple[Act, list[TransactionId]]:
        """The act as it stands on record, and the debits that people have to decide now, in one commit.

        Raises YikatongError TERMINAL_UNKNOWN.
        """
        self._registry.member_of(terminal_id)

        def job(connection: apsw.Connection) -> tuple[Act, list[TransactionId]]:
            at = self._clock.now().isoformat()
            act = Act(kind=ActKind.TERMINAL_REPLACED, subject=terminal_id, at=at, operator=operator, reason=why)
            act = self._acts.add(connection, act)
            sessions.replace(connection, terminal_id)
            routes = route_log.unconfirmed_of(connection, terminal_id)
            for route in routes:
                self._tickets.adopt(connection, route, at=at)
            return act, [TransactionId(route.transaction_id) for route in routes]

        act, adopted = await self._router.commit(job)
        _log.warning("terminal replaced", terminal_id=terminal_id, operator=operator, adopted=len(adopted))
        return act, adopted
