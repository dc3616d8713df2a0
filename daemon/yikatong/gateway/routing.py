"""What the router decides and records, inside one transaction of the gateway's store.

Each method takes what came in, runs the router table, writes the row, and says what is to be done or told. Where the
home city's ledger lies in the same database, its part runs here too: G1, the ledger's own step and G2 are then one
commit. Nothing here waits, sends or knows the time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import apsw
import structlog

from yikatong.core import router_table
from yikatong.core.orders import (
    Accepted,
    AlreadyReversed,
    ConfirmAnswer,
    Confirmed,
    ConfirmedTooLate,
    Conflict,
    DebitAnswer,
    DebitOrder,
    Declined,
    Denied,
    Fenced,
    NotFound,
    Posted,
    ReversalAnswer,
    Reversed,
    Tombstoned,
    Undecided,
    Unfit,
    WasDeclined,
)
from yikatong.core.reasons import Reason
from yikatong.core.router_table import HOLDS_ORDER, NEEDS_PAYER, Effect, Event, Reply, State
from yikatong.core.values import Fen, Region
from yikatong.gateway import clearing_book, confirmations, route_log, sessions, tickets
from yikatong.gateway.credit_routing import CreditRouting
from yikatong.gateway.directory import Directory
from yikatong.gateway.registry import Registry
from yikatong.gateway.route_log import Route
from yikatong.gateway.sealing import PayerSeal
from yikatong.gateway.voucher_proofs import Shown, VoucherProofs
from yikatong.ledger.book import Book

_log = structlog.get_logger(__name__)

_ENDED: Final = {
    State.CONFIRMED: tickets.Outcome.UPHELD,
    State.DECLINED: tickets.Outcome.REVERSED,
    State.REVDONE: tickets.Outcome.REVERSED,
}
"""What has become of a debit that was adopted from a lost terminal."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one partition. `fenced`: epochs are granted by sign-in, and checked."""

    fenced: bool
    debit_max: Fen


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be done (`effect`, with `order` stamped), or told (`reply`, from `route`)."""

    route: Route
    effect: Effect | None
    reply: Reply | None
    order: DebitOrder | None = None
    denied: Reason | None = None


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A debit that is new to the log: the table's event, why, and where it goes."""

    event: Event
    home: Region | None
    reason: Reason | None = None
    other: str = ""


class Routing:
    """The decisions of one partition."""

    def __init__(
        self,
        registry: Registry,
        directory: Directory,
        book: Book,
        seal: PayerSeal,
        rules: Rules,
        proofs: VoucherProofs,
    ) -> None:
        self._registry = registry
        self._directory = directory
        self._book = book
        self._seal = seal
        self._rules = rules
        self._proofs = proofs
        self.credits = CreditRouting(registry, directory, book, seal)

    # --- from the terminal ----------------------------------------------------------------------------------------

    def debit(self, connection: apsw.Connection, order: DebitOrder, *, attempt: int, in_time: bool, today: str) -> Turn:
        """A debit has arrived, for the first time or again. A voucher's proof is looked at the first time alone."""
        proven, order = order, order.unproven
        route = route_log.find(connection, order.transaction_id)
        if route is not None:
            event = Event.DEBIT_AGAIN if route.fingerprint == order.fingerprint else Event.DEBIT_DIFFERS
            return self._run(connection, route, event, order, today)
        shown = self._proofs.shown(proven)
        weighed = self._weigh(connection, order, shown, attempt=attempt, in_time=in_time, today=today)
        home = weighed.home.code if weighed.home else ""
        route = Route.of(order, home_region=home, accounting_date=today)
        if weighed.reason is not None:
            route.reason, route.other_transaction = weighed.reason.value, weighed.other
        if weighed.event is Event.DEBIT_ADMITTED and shown is not None:
            route_log.take_voucher(connection, shown.nonce, order, home)
        if weighed.event in (Event.DEBIT_ADMITTED, Event.DEBIT_REFUSED):
            if self._registry.stands_in(order.terminal_id, order.institution):
                route_log.take_guards(connection, order, home if weighed.event is Event.DEBIT_ADMITTED else "")
            if self._rules.fenced:
                sessions.note_debit(connection, order.terminal_id, order.epoch, order.sequence)
        return self._run(connection, route, weighed.event, order, today)

    def recall(self, connection: apsw.Connection, order: DebitOrder, *, today: str) -> Turn | None:
        """The row of a debit that is known to have been here, made anew where it was lost: its city is asked.

        None where the row is there, or nobody knows where the debit went.
        """
        home = self._home_for_reversal(connection, order)
        if home is None or route_log.find(connection, order.transaction_id) is not None:
            return None
        route = Route.of(order, home_region=home.code, accounting_date=today)
        return self._run(connection, route, Event.DEBIT_SEEN, order, today)

    def reverse(self, connection: apsw.Connection, order: DebitOrder, *, today: str) -> Turn:
        """A reversal has arrived; it is always taken, also for an id that nobody has seen."""
        route = route_log.find(connection, order.transaction_id)
        if route is not None:
            same = route.fingerprint == order.fingerprint
            if same and route.state is State.POSTED and confirmations.held(connection, route.transaction_id):
                _log.error("a confirmed debit is to be reversed", transaction_id=route.transaction_id)
                return Turn(route, None, Reply.DENIED_CONFIRMED)
            return self._run(connection, route, Event.REVERSAL if same else Event.REVERSAL_DIFFERS, order, today)
        home = self._home_for_reversal(connection, order)
        route = Route.of(order, home_region=home.code if home else "", accounting_date=today)
        if home is None:
            route.undone, route.undone_reference = "TOMBSTONED", f"gateway-{order.transaction_id}"
        return self._run(connection, route, Event.REVERSAL if home else Event.REVERSAL_UNROUTABLE, order, today)

    def confirm(self, connection: apsw.Connection, order: DebitOrder, *, today: str) -> Turn:
        """The terminal has made its approval final."""
        route = route_log.find(connection, order.transaction_id)
        if route is None:
            home = self._home_for_reversal(connection, order)
            route = Route.of(order, home_region=home.code if home else "", accounting_date=today)
        same = route.fingerprint == order.fingerprint
        turn = self._run(connection, route, Event.CONFIRM if same else Event.CONFIRM_DIFFERS, order, today)
        if turn.reply in (Reply.CONFIRMED, Reply.TOO_LATE):
            confirmations.release(connection, order.transaction_id)
        return turn

    def enquire(self, connection: apsw.Connection, transaction_id: str, terminal_id: str, *, today: str) -> Turn | None:
        """How a transaction of that terminal stands; None where the log has none."""
        route = route_log.find(connection, transaction_id)
        if route is None or route.terminal_id != terminal_id:
            return None
        return self._run(connection, route, Event.QUERY, None, today)

    # --- from the home city's ledger ------------------------------------------------------------------------------

    def answered(
        self, connection: apsw.Connection, transaction_id: str, answer: DebitAnswer | None, *, today: str
    ) -> Turn:
        """The city's answer to a debit or an enquiry; None: it was silent."""
        route = self._known(connection, transaction_id)
        return self._run(connection, route, _event_of_debit(route, answer), None, today, answer)

    def undone(
        self, connection: apsw.Connection, transaction_id: str, answer: ReversalAnswer | None, *, today: str
    ) -> Turn:
        """The city's answer to a reversal; None: it has been silent for as long as a terminal should wait."""
        route = self._known(connection, transaction_id)
        return self._run(connection, route, _event_of_reversal(answer), None, today, answer)

    def upheld(self, connection: apsw.Connection, transaction_id: str, answer: Posted, *, today: str) -> Turn:
        """Two persons have looked at a reversal that the ledger refused: the row says again what the ledger says."""
        return self._run(connection, self._known(connection, transaction_id), Event.UPHELD, None, today, answer)

    def confirm_answered(
        self, connection: apsw.Connection, order: DebitOrder, answer: ConfirmAnswer, *, today: str
    ) -> Turn:
        """The city's answer to a confirmation; Undecided: it was silent, and the confirmation waits here."""
        route = route_log.find(connection, order.transaction_id) or Route.of(
            order, home_region="", accounting_date=today
        )
        turn = self._run(connection, route, _event_of_confirm(answer), None, today)
        if turn.reply in (Reply.CONFIRMED, Reply.TOO_LATE):
            confirmations.release(connection, order.transaction_id)
        elif route.state is State.POSTED:
            confirmations.hold(connection, order.transaction_id)
        return turn

    def waiting_confirmations(self, connection: apsw.Connection) -> list[DebitOrder]:
        """After a start: what their cities have not answered."""
        return [
            self._seal.open(self._known(connection, transaction_id))
            for transaction_id in confirmations.waiting(connection)
        ]

    def unfinished(self, connection: apsw.Connection, *, today: str) -> list[Turn]:
        """After a start: what each unfinished row needs, its order unsealed where that is a reversal."""
        turns = []
        for route in route_log.unfinished(connection):
            order = self._seal.open(route) if route.state is State.REV else None
            turns.append(self._run(connection, route, Event.RESTART, order, today))
        return [turn for turn in turns if turn.effect is not None]

    # --- inside ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _known(connection: apsw.Connection, transaction_id: str) -> Route:
        route = route_log.find(connection, transaction_id)
        assert route is not None, "an answer to what was never asked"
        return route

    def _weigh(
        self,
        connection: apsw.Connection,
        order: DebitOrder,
        shown: Shown | None,
        *,
        attempt: int,
        in_time: bool,
        today: str,
    ) -> _Weighed:
        """May this debit, which the log does not know, go to its home city?

        Where its own guards are there its row was lost, and it may have been posted long ago: then it is not for us to
        refuse it, nor to undo it, nor to send it elsewhere than it went.
        """
        holders = route_log.guards(connection, order)
        if shown is not None and (holder := route_log.voucher_holder(connection, shown.nonce)) is not None:
            holders["VOUCHER"] = holder
        others = {kind: holder for kind, holder in holders.items() if holder.transaction_id != order.transaction_id}
        weighed = self._weigh_new(connection, order, others, shown, attempt=attempt, in_time=in_time, today=today)
        went = next((h.home_region for kind, h in holders.items() if kind not in others), "")
        if not went or weighed.event in (Event.DEBIT_FENCED, Event.DEBIT_CLONED):
            return weighed
        if weighed.event is Event.DEBIT_ADMITTED and weighed.home == Region(went):
            return weighed
        return _Weighed(Event.DEBIT_SEEN, Region(went))

    def _weigh_new(
        self,
        connection: apsw.Connection,
        order: DebitOrder,
        holders: dict[str, route_log.Holder],
        shown: Shown | None,
        *,
        attempt: int,
        in_time: bool,
        today: str,
    ) -> _Weighed:
        """`holders`: the other transactions that hold what it wants."""
        if self._rules.fenced:
            session = sessions.find(connection, order.terminal_id)
            # Used, not granted: a sign-in that was repeated on its way is granted an epoch that nobody ever learns of.
            if order.epoch < session.epoch_used:
                return _Weighed(Event.DEBIT_FENCED, None)
            if "SEQUENCE" in holders:
                return _Weighed(Event.DEBIT_CLONED, None, Reason.TERMINAL_SUPERSEDED)
            # One that is further behind has been under way for very long: it is tombstoned.
            in_time = in_time and order.sequence >= session.sequence - sessions.SEQUENCES_BEHIND_MAX
        last_home = self._last_home(order)
        if not in_time and last_home is not None:
            return _Weighed(Event.DEBIT_TOO_LATE, last_home, Reason.NO_ANSWER_IN_TIME)
        if not self._registry.stands_in(order.terminal_id, order.institution):
            holders = {}
        # The order first: a request that another window has sent as well is told how that order stands.
        holder = holders.get("ORDER")
        if holder and holder.state in HOLDS_ORDER and not tickets.is_reversed(connection, holder.transaction_id):
            paid = holder.state in (State.POSTED, State.CONFIRMED)
            reason = Reason.ORDER_ALREADY_PAID if paid else Reason.ORDER_IN_PROGRESS
            return _Weighed(Event.DEBIT_HELD_BY_ANOTHER, None, reason, holder.transaction_id)
        if request := holders.get("REQUEST"):
            return _Weighed(Event.DEBIT_HELD_BY_ANOTHER, None, Reason.REQUEST_ID_REUSED, request.transaction_id)
        if "VOUCHER" in holders:  # whose transaction it was is no business of this terminal
            return _Weighed(Event.DEBIT_REFUSED, None, Reason.VOUCHER_USED)
        home, refusal = self._admit(
            order, shown, epoch_known=not self._rules.fenced or order.epoch <= session.epoch, today=today
        )
        if refusal is None:
            return _Weighed(Event.DEBIT_ADMITTED, home)
        if attempt > 1 and last_home is not None:
            return _Weighed(Event.DEBIT_REFUSED_REPEAT, last_home, refusal)
        return _Weighed(Event.DEBIT_REFUSED, home, refusal)

    def _admit(
        self, order: DebitOrder, shown: Shown | None, *, epoch_known: bool, today: str
    ) -> tuple[Region | None, Reason | None]:
        """The home city, and why the debit may not go there (None: it may)."""
        if not epoch_known:
            return None, Reason.NOT_SIGNED_IN
        if reason := self._registry.refusal(order.terminal_id, order.institution, order.treatment_region):
            return None, reason
        if order.amount > self._rules.debit_max:
            return None, Reason.LIMIT_EXCEEDED
        if shown is not None and shown.refusal is not None:
            return None, shown.refusal
        home = self._directory.home_of(order.payer)
        if isinstance(home, Reason):
            return None, home
        city = self._registry.city(home)
        if city is None:
            return None, Reason.CITY_NOT_OPEN
        return home, city.closed(today) or city.refuses(order.payer)

    def _home_for_reversal(self, connection: apsw.Connection, order: DebitOrder) -> Region | None:
        """Where the debit went, as its terminal was told or its guards say; else where it could have gone.

        The directory may name another city by now, and a tombstone there would undo nothing.
        """
        if order.home_region is None and (went := route_log.guarded_home(connection, order)):
            return Region(went)
        return self._last_home(order)

    def _last_home(self, order: DebitOrder) -> Region | None:
        """Closed cities included; None where no city is listed that it could be."""
        home = order.home_region or self._directory.last_home_of(order.payer)
        return home if home is not None and self._registry.city(home) is not None else None

    def _run(
        self,
        connection: apsw.Connection,
        route: Route,
        event: Event,
        order: DebitOrder | None,
        today: str,
        answer: DebitAnswer | ReversalAnswer | None = None,
    ) -> Turn:
        """Runs the table until something is to be told, or to be sent to a city that is not ours; writes the row."""
        was = route.state
        stamped = None
        if order is not None and route.home_region:
            stamped = replace(
                order, home_region=Region(route.home_region), accounting_date=route.accounting_date or today
            )
        move = self._move(connection, route, event, stamped, answer, today)
        while move.effect is not None and self._carries_out(route, move.effect, today):
            event, answer = self._embedded(connection, route, move.effect, stamped, today)
            repay = move.effect is Effect.TOMBSTONE
            move = self._move(connection, route, event, stamped, answer, today)
            if repay:
                move = replace(move, reply=_reply_of_tombstone(move.reply))
        if route.state is not was:
            (route_log.add if was is State.NONE else route_log.save)(connection, route)
        denied = answer.reason if isinstance(answer, Denied) else None
        return Turn(route, move.effect, move.reply, stamped, denied)

    def _move(
        self,
        connection: apsw.Connection,
        route: Route,
        event: Event,
        order: DebitOrder | None,
        answer: DebitAnswer | ReversalAnswer | None,
        today: str,
    ) -> router_table.Step:
        """One step of the table; what the answer brings is taken only where the step changes the row."""
        move = router_table.step(route.state, event)
        if move.alarm:
            _log.error(
                "router alarm",
                transaction_id=route.transaction_id,
                state=route.state.value,
                router_event=event.value,
            )
        if move.next is route.state:
            return move
        route.state = move.next
        match answer:
            case Posted():
                route.reference, route.balance_fen = answer.reference, answer.balance.count
                route.accounting_date = answer.accounting_date
            case Declined():
                route.reason = answer.reason.value
            case Reversed() | Tombstoned():
                route.undone = "REVERSED" if isinstance(answer, Reversed) else "TOMBSTONED"
                route.undone_reference = answer.reference
            case WasDeclined():
                route.undone = "WAS_DECLINED"
            case AlreadyReversed():
                route.undone = "TOMBSTONED"
            case _:
                pass
        if move.next in (State.POSTED, State.CONFIRMED) and not route.claimed:
            clearing_book.book(connection, route, date=route.accounting_date, contra=False)
            route.claimed = 1
        if move.next is State.REVDONE and route.claimed:
            clearing_book.book(connection, route, date=max(today, route.accounting_date), contra=True)
        if move.next not in NEEDS_PAYER:
            route.sealed = None
        elif order is not None and (route.sealed is None or move.next is State.REV):
            route.sealed = self._seal.close(order)
        assert route.sealed is not None or move.next is not State.REV, "a reversal names the whole original"
        if move.next in _ENDED:
            tickets.note_ended(
                connection, route.transaction_id, _ENDED[move.next], route.undone_reference or route.reference
            )
        return move

    def waits(self, region: Region, today: str) -> bool:
        """Whether the city is closed: what is meant for it waits here until it opens."""
        return self._registry.closed(region, today) is not None

    def _carries_out(self, route: Route, effect: Effect, today: str) -> bool:
        """Whether the ledger is ours and may be moved now. An enquiry only reads it, and a debit was admitted."""
        if not route.home_region or Region(route.home_region) not in self._book.cities:
            return False
        reads = effect in (Effect.FORWARD, Effect.ENQUIRE)
        return reads or not self.waits(Region(route.home_region), today)

    def _embedded(
        self, connection: apsw.Connection, route: Route, effect: Effect, order: DebitOrder | None, today: str
    ) -> tuple[Event, DebitAnswer | ReversalAnswer | None]:
        """Carries out the effect in the ledger that shares our database; returns what it means for the row."""
        if effect is Effect.ENQUIRE:
            answer = self._book.enquire(connection, route.transaction_id, Region(route.home_region))
            return _event_of_debit(route, answer), answer
        assert order is not None, "what goes to a ledger names the whole order"
        if effect is Effect.FORWARD:
            answer = self._book.debit(connection, order)
            return _event_of_debit(route, answer), answer
        if effect is Effect.CONFIRM:
            return _event_of_confirm(self._book.confirm(connection, order)), None
        undone = self._book.reverse(connection, order, today)
        return _event_of_reversal(undone), undone


def _reply_of_tombstone(reply: Reply | None) -> Reply:
    """The tombstone was set on behalf of a debit: that is what is answered."""
    return Reply.ALREADY_REVERSED if reply is Reply.STORED_REVERSAL else Reply.UNDECIDED


def _event_of_debit(route: Route, answer: DebitAnswer | None) -> Event:
    match answer:
        case Posted():
            if (answer.amount.count, answer.fingerprint) != (route.amount_fen, route.fingerprint):
                return Event.LEDGER_UNFIT
            return Event.LEDGER_CONFIRMED if answer.confirmed else Event.LEDGER_POSTED
        case Declined():
            return Event.LEDGER_DECLINED
        case AlreadyReversed():
            return Event.LEDGER_REVERSED
        case Conflict():
            return Event.LEDGER_CONFLICT
        case Unfit() | Fenced():
            return Event.LEDGER_UNFIT
        case Undecided() | NotFound() | None:
            return Event.LEDGER_SILENT


def _event_of_reversal(answer: ReversalAnswer | None) -> Event:
    match answer:
        case Reversed() | Tombstoned() | WasDeclined():
            return Event.LEDGER_UNDID
        case Denied():
            return Event.LEDGER_DENIED
        case Accepted() | Undecided() | None:
            return Event.LEDGER_KEEPS_SILENT


def _event_of_confirm(answer: ConfirmAnswer) -> Event:
    match answer:
        case Confirmed():
            return Event.LEDGER_CONFIRM_OK
        case ConfirmedTooLate():
            return Event.LEDGER_CONFIRM_TOO_LATE
        case Undecided():
            return Event.LEDGER_CONFIRM_SILENT
