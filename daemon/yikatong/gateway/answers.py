"""What a terminal is told of a row: the table's reply with what the row supplies; and the row's line in the log."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import structlog

from yikatong.core.orders import (
    Accepted,
    AlreadyReversed,
    Conflict,
    DebitAnswer,
    Declined,
    Denied,
    Fenced,
    NotFound,
    Posted,
    ReversalAnswer,
    Reversed,
    Tombstoned,
    Undecided,
    WasDeclined,
)
from yikatong.core.reasons import Reason
from yikatong.core.router_table import Reply, State
from yikatong.core.values import Fen, Region
from yikatong.gateway.registry import Registry
from yikatong.gateway.routing import Turn

_log = structlog.get_logger(__name__)

REFUSALS: Final = frozenset({Reply.DENIED_CONFIRMED, Reply.DENIED_CONFLICT, Reply.DENIED_BY_LEDGER})
"""A reversal that is not done: people must look."""

_DEBIT_REPLIES: Final[dict[Reply | None, DebitAnswer]] = {
    Reply.ALREADY_REVERSED: AlreadyReversed(),
    Reply.UNDECIDED: Undecided(),
    Reply.NOT_FOUND: NotFound(),
    Reply.FENCED: Fenced(),
    Reply.CONFLICT: Conflict(),
}


def _log_soon(event: str, **facts: str | int) -> None:
    """Whoever waits is answered first."""
    asyncio.get_running_loop().call_soon(partial(_log.info, event, **facts))


def debit_told(turn: Turn, registry: Registry) -> DebitAnswer:
    """The answer to a debit or an enquiry, and the transaction's line in the log."""
    answer = _debit_answer(turn, registry)
    route = turn.route
    _log_soon(
        "debit",
        transaction_id=route.transaction_id,
        terminal_id=route.terminal_id,
        state=route.state.value,
        answer=type(answer).__name__,
        reason=route.reason,
        amount_fen=route.amount_fen,
        treatment_region=route.treatment_region,
        home_region=route.home_region,
    )
    return answer


def _debit_answer(turn: Turn, registry: Registry) -> DebitAnswer:
    if turn.reply is not Reply.STORED:
        return _DEBIT_REPLIES[turn.reply]
    route = turn.route
    home = registry.city(Region(route.home_region)) if route.home_region else None
    if route.state in (State.POSTED, State.CONFIRMED):
        assert home is not None, "a city that has posted is in the registry"
        return Posted(
            route.reference,
            Fen(route.amount_fen),
            route.fingerprint,
            Fen(route.balance_fen),
            home.city,
            route.accounting_date,
            route.state is State.CONFIRMED,
        )
    reason = Reason(route.reason)
    if reason is Reason.TERMINAL_SUPERSEDED:
        return Fenced()
    return Declined(reason, route.other_transaction, home.city if home else None)


def reversal_told(turn: Turn) -> ReversalAnswer:
    """The answer to a reversal, and the transaction's line in the log."""
    answer = reversal_answer(turn)
    _log_soon(
        "reversal",
        transaction_id=turn.route.transaction_id,
        terminal_id=turn.route.terminal_id,
        state=turn.route.state.value,
        answer=type(answer).__name__,
        reference=turn.route.undone_reference,
    )
    return answer


def reversal_answer(turn: Turn) -> ReversalAnswer:
    match turn.reply:
        case Reply.STORED_REVERSAL if turn.route.undone == "REVERSED":
            return Reversed(turn.route.undone_reference)
        case Reply.STORED_REVERSAL if turn.route.undone == "TOMBSTONED":
            return Tombstoned(turn.route.undone_reference)
        case Reply.STORED_REVERSAL | Reply.WAS_DECLINED:
            return WasDeclined()
        case Reply.ACCEPTED:
            return Accepted()
        case Reply.DENIED_CONFIRMED:
            return Denied(Reason.NEEDS_OPERATOR)
        case Reply.DENIED_CONFLICT:
            return Denied(Reason.TRANSACTION_ID_REUSED)
        case Reply.DENIED_BY_LEDGER:
            return Denied(turn.denied or Reason.NEEDS_OPERATOR)
        case _:
            raise AssertionError(f"{turn.reply} is no answer to a reversal")
