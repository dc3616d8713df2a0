"""How two persons decide a debit whose reversal was refused or whose terminal is gone, and how that is carried out.

One proposes, another approves the same decision. Both are on the chain of acts before anything moves. A debit that
stands needs no move; one that goes back is refunded in full, by an ordinary credit with an id that follows from the
decision, pushed until its city has answered. Where nobody had confirmed it, it is confirmed or reversed instead, as its
terminal would have done. So a crash at any point, or a second call, changes nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID, uuid5

import apsw
import structlog

from yikatong.core.credit_orders import Credited, CreditKind, CreditOrder
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.router_table import State
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.gateway import route_log, tickets
from yikatong.gateway.acts import Act, ActKind, Acts
from yikatong.gateway.route_log import Route
from yikatong.gateway.router import Router
from yikatong.gateway.tickets import Decision, Outcome, Ticket, Tickets
from yikatong.runtime.clock import Clock

_log = structlog.get_logger(__name__)

_ADOPTED: Final = Reason.TERMINAL_REPLACED.value
_UNCONFIRMED: Final = frozenset({State.FWD, State.POSTED})
_UNMOVED: Final = frozenset({State.DECLINED, State.REJECTED, State.REVDONE})
_REFUNDS: Final = UUID("5d2f6d1e-8a1b-4b53-9a43-0d6f6ff1d4a7")
"""Name space of the refunds' ids: the same decision makes the same refund."""


class Resolutions:
    """Proposals, approvals, and the carrying out, tried again every `again_s` seconds until it is done."""

    def __init__(self, router: Router, filed: Tickets, acts: Acts, clock: Clock, *, again_s: float) -> None:
        self._router, self._tickets, self._acts, self._clock, self._again_s = router, filed, acts, clock, again_s
        self._one_at_a_time = asyncio.Lock()

    async def decide(self, transaction_id: str, decision: Decision, *, operator: str, why: str) -> Ticket:
        """The first call proposes, another operator's approves and carries out. Returns the ticket as it stands then.

        Raises YikatongError TRANSACTION_NOT_FOUND, NOT_DECIDABLE; SECOND_PERSON_NEEDED where the proposer comes again,
        DECISION_DIFFERS (with `decision` and `proposed_by`) where something else is proposed or decided.
        """

        await self._recall(await self._router.commit(lambda c: _known(c, transaction_id)))

        def job(connection: apsw.Connection) -> Ticket:
            ticket = _known(connection, transaction_id)
            if ticket.decision not in ("", decision.value):
                raise YikatongError(
                    Reason.DECISION_DIFFERS,
                    "approved already" if ticket.approved_by else "",
                    decision=ticket.decision,
                    proposed_by=ticket.proposed_by,
                )
            if ticket.approved_by:
                return ticket
            _require_decidable(connection, ticket, decision)
            if not ticket.decision:
                self._act(connection, ActKind.PROPOSED, ticket, decision.value, operator, why)
                tickets.propose(connection, transaction_id, decision, operator=operator, why=why)
            elif ticket.proposed_by == operator:
                raise YikatongError(Reason.SECOND_PERSON_NEEDED, proposed_by=operator, decision=ticket.decision)
            else:
                self._act(connection, ActKind.APPROVED, ticket, decision.value, operator, why)
                tickets.approve(connection, transaction_id, operator=operator)
            return _known(connection, transaction_id)

        ticket = await self._router.commit(job)
        _log.warning("decided", transaction_id=transaction_id, decision=decision.value, operator=operator)
        return await self._carry_out(ticket) if ticket.approved_by else ticket

    async def withdraw(self, transaction_id: str, *, operator: str, why: str) -> Ticket:
        """Takes back a proposal that nobody has approved; any operator may. Raises YikatongError as `decide`."""

        def job(connection: apsw.Connection) -> Ticket:
            ticket = _known(connection, transaction_id)
            if not ticket.decision or ticket.approved_by:
                raise YikatongError(Reason.NOT_DECIDABLE, "there is no proposal to take back", why="NO_PROPOSAL")
            self._act(connection, ActKind.WITHDRAWN, ticket, ticket.decision, operator, why)
            tickets.withdraw(connection, transaction_id)
            return _known(connection, transaction_id)

        return await self._router.commit(job)

    async def run(self) -> None:
        """Carries out what is approved and not done, for example because its city was closed; for ever."""
        while True:
            try:
                standing = await self._router.commit(tickets.standing)
            except YikatongError as error:  # too much to do; a store that has failed ends the gateway
                _log.error("not looked for", reason=error.reason.value)
                standing = []
            for ticket in standing:
                if ticket.approved_by:
                    try:
                        await self._carry_out(ticket)
                    except YikatongError as error:  # of this one; the others go on
                        _log.error("not carried out", transaction_id=ticket.transaction_id, reason=error.reason.value)
            await asyncio.sleep(self._again_s)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _act(
        self, connection: apsw.Connection, kind: ActKind, ticket: Ticket, value: str, operator: str, why: str
    ) -> None:
        at = self._clock.now().isoformat()
        act = Act(kind=kind, subject=ticket.transaction_id, at=at, operator=operator, reason=why, value=value)
        self._acts.add(connection, act)

    async def _carry_out(self, ticket: Ticket) -> Ticket:
        """One try; what is done already stays as it is. Returns the ticket as it stands then."""
        transaction_id = ticket.transaction_id
        async with self._one_at_a_time:
            await self._recall(ticket)
            ticket = await self._router.commit(lambda c: _known(c, transaction_id))
            if ticket.outcome:
                return ticket
            if ticket.reason == _ADOPTED:
                await self._move_adopted(ticket)
            route = await self._router.settle_refused(transaction_id)
            if route is None or route.state is State.POSTED:  # its city has not said what it has made of the decision
                return ticket
            if route.state in _UNMOVED:
                done, reference = Outcome.REVERSED, route.undone_reference
            elif ticket.decision == Decision.CONFIRM.value:
                done, reference = Outcome.UPHELD, route.reference
            elif (refunded := await self._refund(ticket, route)) is not None:
                done, reference = Outcome.REVERSED, refunded
            else:
                return ticket
            await self._router.commit(lambda c: tickets.close(c, transaction_id, done, reference))
            _log.warning("carried out", transaction_id=transaction_id, outcome=done.value, reference=reference)
            return await self._router.commit(lambda c: _known(c, transaction_id))

    async def _recall(self, ticket: Ticket) -> None:
        """A lost terminal never asks again: nobody else would make the row of its debit anew where that was lost."""
        if ticket.reason == _ADOPTED and not ticket.outcome and ticket.sealed is not None:
            await self._router.recall(self._tickets.order(ticket))

    async def _move_adopted(self, ticket: Ticket) -> None:
        """What its terminal would have done. Done already, or denied for it was confirmed: that stands in the row."""
        route = await self._router.commit(lambda c: route_log.find(c, ticket.transaction_id))
        if route is None or route.state not in _UNCONFIRMED:
            return
        order = self._tickets.order(ticket)
        if ticket.decision == Decision.CONFIRM.value:
            await self._router.confirm(order)
        else:
            await self._router.undo(order)

    async def _refund(self, ticket: Ticket, route: Route) -> str | None:
        """Gives back what is left of the debit. Returns the ledger's reference, None where it is not decided yet."""
        left, reference = await self._router.commit(lambda c: _left(c, route))
        if not left.count:
            return reference
        credit_id = str(uuid5(_REFUNDS, f"{ticket.transaction_id}:{left.count}"))
        await self._router.commit(lambda c: tickets.note_credit(c, ticket.transaction_id, credit_id))
        order = CreditOrder(
            TransactionId(credit_id),
            CreditKind.REFUND,
            self._tickets.order(ticket),
            left,
            RequestId(f"operators-{credit_id}"),
        )
        answer = await self._router.credits.credit(order, attempt=1)
        if isinstance(answer, Credited):
            return answer.reference
        _log.warning("not carried out yet", transaction_id=ticket.transaction_id, answer=type(answer).__name__)
        return None


def _known(connection: apsw.Connection, transaction_id: str) -> Ticket:
    ticket = tickets.find(connection, transaction_id)
    if ticket is None:
        raise YikatongError(Reason.TRANSACTION_NOT_FOUND, "nobody has to decide it", transaction_id=transaction_id)
    return ticket


def _require_decidable(connection: apsw.Connection, ticket: Ticket, decision: Decision) -> None:
    """Raises YikatongError NOT_DECIDABLE: a ledger can't be moved by words that are not its own."""
    if ticket.outcome:
        raise YikatongError(Reason.NOT_DECIDABLE, "its old machine has ended it", why="ENDED")
    route = route_log.find(connection, ticket.transaction_id)
    adopted = ticket.reason == _ADOPTED
    if route is None or (route.state is State.FWD and not (adopted and decision is Decision.REVERSE)):
        raise YikatongError(Reason.NOT_DECIDABLE, "its home city has not said yet how it stands", why="NOT_SETTLED")
    unmoved = route.state in _UNMOVED
    same = ticket.reason in (Reason.NEEDS_OPERATOR.value, _ADOPTED) and route.fingerprint == ticket.fingerprint
    if not unmoved and not same:
        raise YikatongError(Reason.NOT_DECIDABLE, "terminal and ledger hold different content", why="CONTENT_DIFFERS")
    if unmoved and decision is Decision.CONFIRM:
        raise YikatongError(Reason.NOT_DECIDABLE, "no money has moved that could stand", why="NOTHING_MOVED")


def _left(connection: apsw.Connection, route: Route) -> tuple[Fen, str]:
    """What credits have left of a debit, and the reference of the last one."""
    sql = "SELECT amount_fen, reference FROM credit_route WHERE original = ? AND state = 'CREDITED' ORDER BY booked_on"
    left, reference = route.amount_fen, route.reference
    for amount_fen, credit_reference in connection.execute(sql, (route.transaction_id,)):
        left, reference = left - int(amount_fen or 0), str(credit_reference)
    return Fen(left), reference
