"""What the gateway decides and records about credits, inside one transaction of its store.

Where the home city's ledger lies in the same database and the city is open, the row, the ledger's own step and the
claim are one commit. Nothing here is asked of the account's, the institution's or the practitioner's state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import apsw
import structlog

from yikatong.core.credit_orders import CreditAccepted, CreditAnswer, CreditDeclined, Credited, CreditOrder
from yikatong.core.credit_router_table import (
    CreditRouteEvent,
    CreditRouteReply,
    CreditRouteState,
    CreditRouteStep,
    credit_route_step,
)
from yikatong.core.orders import Conflict, Undecided, Unfit
from yikatong.core.reasons import Reason
from yikatong.core.values import Fen, Region
from yikatong.gateway import clearing_book, credit_log, route_log
from yikatong.gateway.credit_log import CreditRoute
from yikatong.gateway.directory import Directory
from yikatong.gateway.registry import Registry
from yikatong.gateway.sealing import PayerSeal
from yikatong.ledger.book import Book
from yikatong.ledger.credits import CreditBook

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CreditTurn:
    """What is told (`answer`), or pushed on to the home city (`order`, stamped)."""

    route: CreditRoute
    answer: CreditAnswer | None
    order: CreditOrder | None = None


class CreditRouting:
    """The decisions of one partition."""

    def __init__(self, registry: Registry, directory: Directory, book: Book, seal: PayerSeal) -> None:
        self._registry = registry
        self._directory = directory
        self._embedded = book.cities
        self._book = CreditBook(book)
        self._seal = seal

    def credit(self, connection: apsw.Connection, order: CreditOrder, *, attempt: int, today: str) -> CreditTurn:
        """A credit has arrived, for the first time or again."""
        route = credit_log.find(connection, order.transaction_id)
        if route is not None:
            same = route.fingerprint == order.fingerprint
            return self._run(
                connection, route, CreditRouteEvent.AGAIN if same else CreditRouteEvent.DIFFERS, order, today
            )
        home = self._home_of(connection, order)
        route = CreditRoute.of(order, home_region=home.code if home else "", accounting_date=today)
        if home is None:
            route.reason = Reason.TRANSACTION_NOT_FOUND.value
            return self._run(connection, route, CreditRouteEvent.UNROUTABLE, order, today)
        if self._registry.stands_in(order.original.terminal_id, order.original.institution):
            holder = credit_log.request_holder(connection, order)
            if holder and attempt == 1:
                route.reason, route.other_transaction = Reason.REQUEST_ID_REUSED.value, holder
                return self._run(connection, route, CreditRouteEvent.HELD_BY_ANOTHER, order, today)
            credit_log.take_guard(connection, order)
        return self._run(connection, route, CreditRouteEvent.NEW, order, today)

    def push(self, connection: apsw.Connection, order: CreditOrder, *, today: str) -> CreditTurn:
        """Carries a credit out in an embedded ledger, once its city is open."""
        return self._run(connection, self._known(connection, order), CreditRouteEvent.AGAIN, order, today)

    def answered(
        self, connection: apsw.Connection, order: CreditOrder, answer: CreditAnswer | None, *, today: str
    ) -> CreditTurn:
        """The city's answer; None: it has been silent for as long as a terminal should wait."""
        route = self._known(connection, order)
        return self._told(connection, route, self._move(connection, route, _event(answer), answer))

    def unfinished(self, connection: apsw.Connection) -> list[CreditOrder]:
        """After a start: every credit that its city has not decided, unsealed and stamped."""
        return [
            _stamped(self._seal.open_credit(route.sealed, route.transaction_id), route)
            for route in credit_log.unfinished(connection)
            if route.sealed is not None and credit_route_step(route.state, CreditRouteEvent.RESTART).push
        ]

    def closed(self, region: Region, today: str) -> bool:
        """Whether the city takes nothing at present: what is meant for it waits here."""
        home = self._registry.city(region)
        return home is None or home.closed(today) is not None

    def embedded(self, region: Region) -> bool:
        return region in self._embedded

    # --- inside ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _known(connection: apsw.Connection, order: CreditOrder) -> CreditRoute:
        route = credit_log.find(connection, order.transaction_id)
        assert route is not None, "an answer to what was never asked"
        return route

    def _home_of(self, connection: apsw.Connection, order: CreditOrder) -> Region | None:
        """Where the original went; where its row is lost, where it could have gone."""
        original = route_log.find(connection, order.original.transaction_id)
        if original is not None and original.home_region:
            return Region(original.home_region)
        home = order.original.home_region or self._directory.last_home_of(order.original.payer)
        return home if home is not None and self._registry.city(home) is not None else None

    def _run(
        self, connection: apsw.Connection, route: CreditRoute, event: CreditRouteEvent, order: CreditOrder, today: str
    ) -> CreditTurn:
        """One event, and with it the embedded ledger's step where there is one to be made."""
        was = route.state
        if was is CreditRouteState.NONE:
            route.sealed = self._seal.close_credit(order)
        move = self._move(connection, route, event, None, fresh=was is CreditRouteState.NONE)
        if not move.push:
            return self._told(connection, route, move)
        stamped, region = _stamped(order, route), Region(route.home_region)
        if not self.embedded(region) or self.closed(region, today):
            return CreditTurn(route, None, stamped)
        answer = self._book.credit(connection, stamped, today)
        if isinstance(answer, Undecided):
            return CreditTurn(route, None, stamped)
        return self._told(connection, route, self._move(connection, route, _event(answer), answer))

    def _move(
        self,
        connection: apsw.Connection,
        route: CreditRoute,
        event: CreditRouteEvent,
        answer: CreditAnswer | None,
        *,
        fresh: bool = False,
    ) -> CreditRouteStep:
        """One step of the table; the row, and the claim with it, where the step changes it."""
        move = credit_route_step(route.state, event)
        if move.alarm:
            _log.error(
                "credit alarm",
                transaction_id=route.transaction_id,
                state=route.state.value,
                router_event=event.value,
            )
        if move.next is route.state:
            return move
        route.state = move.next
        match answer:
            case Credited():
                route.reference, route.booked_on = answer.reference, answer.accounting_date
                route.refundable_fen = answer.refundable.count
                route.balance_fen = None if answer.balance is None else answer.balance.count
                clearing_book.book_credit(connection, route)
            case CreditDeclined():
                route.reason, route.other_transaction = answer.reason.value, answer.other_transaction
            case _:
                pass
        if route.state is not CreditRouteState.FWD:
            route.sealed = None
        (credit_log.add if fresh else credit_log.save)(connection, route)
        return move

    @staticmethod
    def _told(connection: apsw.Connection, route: CreditRoute, move: CreditRouteStep) -> CreditTurn:
        match move.reply:
            case CreditRouteReply.CONFLICT:
                return CreditTurn(route, Conflict())
            case CreditRouteReply.STORED:
                return CreditTurn(route, _stored(route))
            case _:
                return CreditTurn(route, CreditAccepted())


def _stamped(order: CreditOrder, route: CreditRoute) -> CreditOrder:
    """As it goes to the city: the stamp is the first one, however late it is delivered."""
    original = replace(order.original, home_region=Region(route.home_region))
    return replace(order, original=original, accounting_date=route.accounting_date)


def _stored(route: CreditRoute) -> CreditAnswer:
    if route.state is CreditRouteState.DECLINED:
        return CreditDeclined(Reason(route.reason), route.other_transaction)
    balance = None if route.balance_fen is None else Fen(route.balance_fen)
    return Credited(
        route.reference, Fen(route.amount_fen), route.fingerprint, route.booked_on, Fen(route.refundable_fen), balance
    )


def _event(answer: CreditAnswer | None) -> CreditRouteEvent:
    match answer:
        case Credited():
            return CreditRouteEvent.LEDGER_CREDITED
        case CreditDeclined():
            return CreditRouteEvent.LEDGER_DECLINED
        case Conflict():
            return CreditRouteEvent.LEDGER_CONFLICT
        case Unfit():
            return CreditRouteEvent.LEDGER_UNFIT
        case CreditAccepted() | Undecided() | None:
            return CreditRouteEvent.LEDGER_SILENT
