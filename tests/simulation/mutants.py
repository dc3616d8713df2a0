"""Broken variants of the shipped tables and functions: what the simulation must find. Patched here, never shipped.

Each is one rule less. `rates` are those of directed seeds, for what random seeds would meet too seldom; None leaves
the rates to the seed.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import apsw
import pytest

from yikatong.core import credit_router_table, credit_table, ledger_table, router_table, terminal_table
from yikatong.core.credit_orders import CreditAccepted, Credited
from yikatong.core.credit_router_table import CreditRouteEvent, CreditRouteReply, CreditRouteState, CreditRouteStep
from yikatong.core.credit_table import CreditAnswered, CreditRestarted, CreditState, CreditStep
from yikatong.core.orders import (
    Accepted,
    Confirmed,
    Declined,
    NotFound,
    Posted,
    Tombstoned,
    Undecided,
)
from yikatong.core.reasons import Reason
from yikatong.core.router_table import Reply
from yikatong.core.terminal_table import State, Step
from yikatong.core.transaction import Transaction
from yikatong.gateway import clearing_book, route_log, router, routing
from yikatong.ledger.book import Book
from yikatong.ledger.credits import CreditBook
from yikatong.ledger.link import BookLink
from yikatong.runtime.leg import LinkDown
from yikatong.simulation.chance import Rates
from yikatong.terminal import calls
from yikatong.terminal.credit_journal import CreditJournal
from yikatong.terminal.credits import Credits
from yikatong.terminal.journal import Journal
from yikatong.terminal.runner import Runner

Patch = pytest.MonkeyPatch
T, R, L = terminal_table, router_table, ledger_table

TROUBLE = Rates(
    lost=0.15, answer_lost=0.25, duplicated=0.2, slow=0.2, very_late=0.1, crash_at_commit=0.03, slow_disk=0.2,
    terminal_killed_every_s=30.0, gateway_killed_every_s=30.0, city_killed_every_s=40.0, partition_every_s=40.0,
    reboot=0.3, confirms=0.4, books_late=0.3, never_books=0.2, vanishes=0.2, repeats=0.6, double_clicks=0.4,
    enquires=0.6,
)  # fmt: skip
"""A bad day in which nothing is rare."""


CALM = Rates(double_clicks=1.0, repeats=0.5, enquires=0.5)
"""Cashiers are nervous, and nothing else is wrong."""
PROMISES = Rates(city_closed_every_s=5.0, confirms=1.0, never_books=1.0)
"""Much is to be reversed, in cities that are often closed."""
BUSY_HIS = Rates(confirms=1.0, crash_at_commit=0.1, terminal_killed_every_s=15.0)
"""Every debit is confirmed, and terminals die of it."""
FORGETFUL = replace(TROUBLE, very_late=0.4, duplicated=0.6, gateway_killed_every_s=15.0, forgets=1.0)
"""A gateway that loses its rows, and messages that come when all is over."""

LATE = Rates(very_late=0.4, vanishes=0.9, gateway_killed_every_s=10.0, forgets=1.0, repeats=0.3, enquires=0.5)
"""Callers go, their debits are reversed, and then the debits arrive, at a gateway that knows nothing of all that."""


@dataclass(frozen=True)
class Mutant:
    """`within`: so many seeds must be enough, from `first` on (a directed seed, where random ones take long)."""

    name: str
    apply: Callable[[Patch], None]
    within: int = 60
    rates: Rates | None = TROUBLE
    first: int = 0


MUTANTS: list[Mutant] = []


def mutant(
    within: int = 60, rates: Rates | None = TROUBLE, first: int = 0
) -> Callable[[Callable[[Patch], None]], None]:
    def add(apply: Callable[[Patch], None]) -> None:
        MUTANTS.append(Mutant(apply.__name__, apply, within, rates, first))

    return add


def _terminal(patch: Patch, state: State, event: type[Any], step: Callable[[Any], Step] | Step) -> None:
    patch.setitem(T._TABLE, (state, event), (lambda _: step) if isinstance(step, Step) else step)


def _router(patch: Patch, state: router_table.State, event: router_table.Event, step: router_table.Step) -> None:
    patch.setitem(R.TABLE, (state, event), step)


def _ledger(patch: Patch, state: ledger_table.State, event: ledger_table.Event, step: ledger_table.Step) -> None:
    patch.setitem(L.TABLE, (state, event), step)


def _not_recorded(patch: Patch, state: State, event: type[Any]) -> None:
    """The step is taken in memory, and only there."""
    real = T._TABLE[state, event]
    _terminal(patch, state, event, lambda e: replace(real(e), record=False))


# --- the twelve of the design ---------------------------------------------------------------------------------------


@mutant()
def new_transaction_for_each_retry(patch: Patch) -> None:
    """Neither terminal nor gateway recognises a request or an order again."""
    real = Runner.debit

    async def debit(self: Runner, request: Any, *arguments: Any, **named: Any) -> Any:
        again = replace(request, request_id=f"{request.request_id}-{uuid.uuid4()}", order_no=f"{uuid.uuid4()}")
        row = await real(self, again, *arguments, **named)
        return replace(row, request_id=request.request_id, order_no=request.order_no)

    patch.setattr(Runner, "debit", debit)


@mutant(within=120, rates=replace(TROUBLE, very_late=0.4, duplicated=0.6))
def ledger_remembers_for_thirty_seconds(patch: Patch) -> None:
    born: dict[str, float] = {}
    real = Book.debit

    def debit(self: Book, connection: apsw.Connection, order: Any, **named: Any) -> Any:
        now = asyncio.get_running_loop().time()
        if now - born.setdefault(order.transaction_id, now) > 30.0:
            connection.execute("DELETE FROM txn WHERE transaction_id = ?", (order.transaction_id,))
            born[order.transaction_id] = now
        return real(self, connection, order, **named)

    patch.setattr(Book, "debit", debit)


@mutant()
def gateway_declines_when_the_city_is_silent(patch: Patch) -> None:
    real = router.ask

    async def ask(*arguments: Any, **named: Any) -> Any:
        return await real(*arguments, **named) or Declined(Reason.NO_ANSWER_IN_TIME)

    patch.setattr(router, "ask", ask)


@mutant(within=120, rates=replace(TROUBLE, lost=0.5, silent_loss=0.0))
def terminal_gives_up_after_three_reversals(patch: Patch) -> None:
    real = calls.insist

    async def insist(send: Any, backoff: Any, *, call_s: float, **named: Any) -> Any:
        if "reversal." not in send.__qualname__:  # a confirmation
            return await real(send, backoff, call_s=call_s, **named)
        for attempt in range(1, 4):
            try:
                async with asyncio.timeout(call_s):
                    answer = await send()
                if not isinstance(answer, Undecided):
                    return answer
            except (LinkDown, TimeoutError):
                await asyncio.sleep(backoff(attempt))
        return Tombstoned("given up")

    patch.setattr(calls, "insist", insist)


@mutant()
def restart_declines_what_was_sent(patch: Patch) -> None:
    _terminal(patch, State.SENT, T.Restarted, T._declined(Reason.RECOVERED_AFTER_RESTART))


@mutant()
def reversal_is_decided_in_memory_alone(patch: Patch) -> None:
    for state, event in ((State.SENT, T.TimeUp), (State.SENT, T.CallerLeft), (State.HELD, T.ConfirmTimeUp)):
        _not_recorded(patch, state, event)


@mutant(within=150)
def ledger_row_and_balance_in_two_commits(patch: Patch) -> None:
    post = Book._post

    async def debit(self: BookLink, order: Any, **named: Any) -> Any:
        owed: list[Callable[[apsw.Connection], Any]] = []

        def postpone(connection: Any, *rest: Any) -> str:
            owed.append(lambda c: post(c, *rest))
            return "later"

        def row_alone(connection: apsw.Connection) -> Any:
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(Book, "_post", staticmethod(postpone))
                return self._book.debit(connection, order)

        answer = await self._store.commit(row_alone)
        for job in owed:
            await self._store.commit(job)
        return answer

    patch.setattr(BookLink, "debit", debit)


@mutant(within=400, rates=replace(TROUBLE, slow_disk=5.0, vanishes=0.9))
def late_approval_turns_a_reversal(patch: Patch) -> None:
    real = T._TABLE[State.REVERSING, T.Answered]
    _terminal(patch, State.REVERSING, T.Answered, lambda e: T._approved() if isinstance(e.answer, Posted) else real(e))


@mutant(rates=replace(TROUBLE, crash_at_commit=0.08))
def debit_is_sent_before_it_is_recorded(patch: Patch) -> None:
    real, sequences = Runner._move, itertools.count(1000)

    async def move(self: Runner, live: Any, event: Any) -> None:
        if isinstance(event, T.Go) and live.row.state is State.PREPARED:
            live.order = replace(live.order, sequence=next(sequences))
            live.row = replace(live.row, sequence=live.order.sequence)
            early = asyncio.create_task(self._calls._link.debit(live.order, attempt=1, ttl_ms=30_000))
            early.add_done_callback(lambda done: done.cancelled() or done.exception())
        await real(self, live, event)

    patch.setattr(Runner, "_move", move)


@mutant(within=200, rates=FORGETFUL)
def ledger_sets_no_tombstone(patch: Patch) -> None:
    real = Book.reverse

    def reverse(self: Book, connection: apsw.Connection, order: Any, open_date: str) -> Any:
        if self.find(connection, order.transaction_id, order.home_region) is None:
            return Tombstoned("none")
        return real(self, connection, order, open_date)

    patch.setattr(Book, "reverse", reverse)


@mutant(
    within=400,
    rates=Rates(
        answer_lost=0.5, lost=0.1, silent_loss=0.0, gateway_killed_every_s=6.0, forgets=1.0, city_closed_every_s=5.0,
        double_clicks=0.2, repeats=0.5, enquires=0.5,
    ),
)  # fmt: skip
def gateway_refuses_a_repeat_by_itself(patch: Patch) -> None:
    """Neither the number of the attempt nor its own guards keep it from that."""
    step = router_table.Step(R.State.REJECTED, Reply.STORED)
    _router(patch, R.State.NONE, R.Event.DEBIT_REFUSED_REPEAT, step)
    _router(patch, R.State.NONE, R.Event.DEBIT_SEEN, step)


@mutant(
    within=400,
    rates=Rates(duplicated=0.9, slow=0.5, very_late=0.2, account_frozen_every_s=4.0, double_clicks=0.3, repeats=0.5),
)
def ledger_does_not_remember_what_it_declined(patch: Patch) -> None:
    real = Book._add

    def add(connection: apsw.Connection, order: Any, region: Any, row: Any) -> None:
        if row.state is not L.State.DECLINED:
            real(connection, order, region, row)

    patch.setattr(Book, "_add", staticmethod(add))


# --- the terminal ---------------------------------------------------------------------------------------------------


@mutant()
def approval_is_told_before_it_is_durable(patch: Patch) -> None:
    _not_recorded(patch, State.SENT, T.Answered)


@mutant(within=150, rates=BUSY_HIS)
def confirmation_is_not_recorded(patch: Patch) -> None:
    _not_recorded(patch, State.HELD, T.HisConfirmed)


@mutant()
def proof_of_a_reversal_is_not_recorded(patch: Patch) -> None:
    _not_recorded(patch, State.REVERSING, T.ReversalAnswered)


@mutant()
def time_up_is_told_as_declined(patch: Patch) -> None:
    _terminal(patch, State.SENT, T.TimeUp, T._declined(Reason.NO_ANSWER_IN_TIME))


@mutant()
def leaving_caller_is_told_declined(patch: Patch) -> None:
    _terminal(patch, State.SENT, T.CallerLeft, T._declined(Reason.CANCELLED_BY_CALLER))


@mutant(within=200)
def not_found_is_taken_for_an_outcome(patch: Patch) -> None:
    real = calls.ask

    async def ask(link: Any, order: Any, patience: Any, *, may_send: bool = True, **named: Any) -> Any:
        if not may_send:
            try:
                if isinstance(await link.enquire(order), NotFound):
                    return Declined(Reason.TRANSACTION_NOT_FOUND)
            except LinkDown:
                pass
        return await real(link, order, patience, may_send=may_send, **named)

    patch.setattr(calls, "ask", ask)


@mutant(within=100)
def unconfirmed_debit_is_kept(patch: Patch) -> None:
    _terminal(patch, State.HELD, T.ConfirmTimeUp, T._approved())


@mutant(rates=Rates(confirms=1.0, never_books=1.0, terminal_killed_every_s=10.0))
def held_debit_is_forgotten_at_a_restart(patch: Patch) -> None:
    _terminal(patch, State.HELD, T.Restarted, Step(State.HELD))


@mutant(within=150, rates=replace(TROUBLE, books_late=1.0, never_books=0.0, confirms=1.0))
def late_confirmation_turns_a_reversal(patch: Patch) -> None:
    _terminal(patch, State.REVERSING, T.HisConfirmed, T._approved())


@mutant(within=150, rates=replace(TROUBLE, books_late=1.0, never_books=0.0, confirms=1.0))
def late_confirmation_revives_what_was_reversed(patch: Patch) -> None:
    _terminal(patch, State.REVERSED, T.HisConfirmed, T._approved())


@mutant(rates=PROMISES)
def promise_is_taken_for_the_deed(patch: Patch) -> None:
    real = T._TABLE[State.REVERSING, T.ReversalAnswered]
    done = Step(State.REVERSED, record=True, effects=(T.Effect.TELL,))
    _terminal(patch, State.REVERSING, T.ReversalAnswered, lambda e: done if isinstance(e.answer, Accepted) else real(e))


@mutant()
def reversals_are_not_taken_up_again(patch: Patch) -> None:
    _terminal(patch, State.REVERSING, T.Restarted, Step(State.REVERSING))


@mutant()
def confirmations_are_not_taken_up_again(patch: Patch) -> None:
    _terminal(patch, State.APPROVED, T.Restarted, Step(State.APPROVED))


@mutant()
def approvals_are_never_confirmed(patch: Patch) -> None:
    real = T._answered_while_sent
    unsent = (T.Effect.SEND_CONFIRM,)
    _terminal(
        patch,
        State.SENT,
        T.Answered,
        lambda e: replace(real(e), effects=tuple(effect for effect in real(e).effects if effect not in unsent)),
    )


# --- the gateway ----------------------------------------------------------------------------------------------------


@mutant(rates=CALM)
def gateway_guards_no_order(patch: Patch) -> None:
    real = route_log.guards
    patch.setattr(route_log, "guards", lambda *a: {k: v for k, v in real(*a).items() if k != "ORDER"})


@mutant(within=300, rates=replace(CALM, slow=0.6, confirms=0.5))
def order_is_free_while_its_debit_is_under_way(patch: Patch) -> None:
    patch.setattr(routing, "HOLDS_ORDER", R.HOLDS_ORDER - {R.State.FWD})


@mutant()
def gateway_says_was_declined_without_asking(patch: Patch) -> None:
    step = router_table.Step(R.State.FWD, Reply.WAS_DECLINED)
    _router(patch, R.State.FWD, R.Event.REVERSAL, step)


@mutant()
def gateway_denies_the_reversal_of_a_posting(patch: Patch) -> None:
    step = router_table.Step(R.State.POSTED, Reply.DENIED_CONFIRMED)
    _router(patch, R.State.POSTED, R.Event.REVERSAL, step)


@mutant(rates=PROMISES)
def gateway_gives_its_promise_as_proof(patch: Patch) -> None:
    real = router.reversal_told
    early = lambda turn: Tombstoned("soon") if turn.reply is Reply.ACCEPTED else real(turn)  # noqa: E731 - one rule
    patch.setattr(router, "reversal_told", early)


@mutant()
def gateway_acknowledges_confirmations_by_itself(patch: Patch) -> None:
    async def confirm(self: Any, order: Any) -> Any:
        return Confirmed()

    patch.setattr(router.Router, "confirm", confirm)


@mutant(within=200)
def epoch_fences_before_it_is_used(patch: Patch) -> None:
    """What was shipped until the simulation found it: a repeated sign-in put a terminal out of service."""
    from yikatong.gateway import sessions

    real = sessions.find

    def find(connection: Any, terminal_id: str) -> Any:
        found = real(connection, terminal_id)
        return replace(found, epoch_used=found.epoch)

    patch.setattr(routing.sessions, "find", find)


@mutant()
def claim_is_not_taken_back(patch: Patch) -> None:
    real = clearing_book.book

    def book(connection: Any, route: Any, *, date: str, contra: bool) -> None:
        if not contra:
            real(connection, route, date=date, contra=contra)

    patch.setattr(clearing_book, "book", book)


# --- the ledger -----------------------------------------------------------------------------------------------------


@mutant()
def ledger_reverses_as_often_as_it_is_asked(patch: Patch) -> None:
    step = ledger_table.Step(L.State.POSTED, L.Reply.REVERSED, L.Entries.CONTRA)
    _ledger(patch, L.State.POSTED, L.Event.REVERSAL, step)


@mutant()
def ledger_says_reversed_and_writes_nothing(patch: Patch) -> None:
    _ledger(patch, L.State.POSTED, L.Event.REVERSAL, ledger_table.Step(L.State.REVERSED, L.Reply.REVERSED))


@mutant()
def ledger_posts_a_known_debit_again(patch: Patch) -> None:
    real = Book.debit

    def debit(self: Book, connection: apsw.Connection, order: Any, **named: Any) -> Any:
        answer = real(self, connection, order, **named)
        row = self.find(connection, order.transaction_id, order.home_region)
        assert row is not None
        if isinstance(answer, Posted):
            self._post(connection, order.transaction_id, order.home_region, row, "DEBIT", order.accounting_date)
        return answer

    patch.setattr(Book, "debit", debit)


@mutant()
def ledger_weighs_no_balance(patch: Patch) -> None:
    real = Book._weigh

    def weigh(self: Book, connection: apsw.Connection, order: Any, region: Any) -> Any:
        account, balance_fen, reason = real(self, connection, order, region)
        return account, balance_fen, None if reason is Reason.INSUFFICIENT_BALANCE else reason

    patch.setattr(Book, "_weigh", weigh)


@mutant()
def balance_is_not_moved(patch: Patch) -> None:
    from yikatong.ledger import entries

    patch.setattr(entries, "MOVE_BALANCE", "UPDATE account SET balance_fen = balance_fen + 0 * ? WHERE account = ?")


@mutant(rates=LATE)
def tombstone_lets_its_debit_pass(patch: Patch) -> None:
    _ledger(patch, L.State.TOMBSTONE, L.Event.DEBIT_AGAIN, ledger_table.Step(L.State.TOMBSTONE, L.Reply.POSTED))


# --- the journal ----------------------------------------------------------------------------------------------------


@mutant()
def journal_breaks_its_chain(patch: Patch) -> None:
    from yikatong.terminal import chain

    real = chain.link
    patch.setattr(chain, "link", lambda previous, number, content: real(previous, number + number // 5, content))


@mutant()
def journal_hides_what_is_open(patch: Patch) -> None:
    async def unresolved(self: Journal) -> Any:
        return []

    patch.setattr(Journal, "unresolved", unresolved)


# --- credits, cities, reconciliation --------------------------------------------------------------------------------

GIVEN_BACK = replace(TROUBLE, gives_back=1.0, confirms=0.1, city_closed_every_s=30.0)
"""Whatever is paid is brought back."""
CLOSED_CITIES = Rates(city_closed_every_s=5.0, gives_back=1.0)
"""It is brought back while the city does not listen."""


@mutant(rates=GIVEN_BACK)
def credits_are_not_taken_up_again(patch: Patch) -> None:
    for state in (CreditState.SENT, CreditState.ACCEPTED):
        patch.setitem(credit_table._TABLE, (state, CreditRestarted), lambda _, state=state: CreditStep(state))


@mutant(rates=GIVEN_BACK)
def decided_credit_is_not_recorded(patch: Patch) -> None:
    real = CreditJournal.record

    async def record(self: CreditJournal, row: Any) -> None:
        if row.state is CreditState.SENT:
            await real(self, row)

    patch.setattr(CreditJournal, "record", record)


@mutant(rates=CLOSED_CITIES)
def promised_credit_is_taken_for_credited(patch: Patch) -> None:
    real = credit_table._TABLE[CreditState.SENT, CreditAnswered]
    done = CreditStep(CreditState.APPROVED)
    step = lambda e: done if isinstance(e.answer, CreditAccepted) else real(e)  # noqa: E731 - as the table has it
    patch.setitem(credit_table._TABLE, (CreditState.SENT, CreditAnswered), step)


@mutant(rates=GIVEN_BACK)
def same_credit_asked_twice_is_two(patch: Patch) -> None:
    """The terminal does not recognise a credit's request again, nor does its journal."""
    real = Credits.refund

    async def refund(self: Credits, original: Any, request_id: Any, *arguments: Any, **named: Any) -> Any:
        row = await real(self, original, f"{request_id}-{uuid.uuid4()}"[:64], *arguments, **named)  # type: ignore[arg-type]  # a text
        return replace(row, request_id=request_id)

    patch.setattr(Credits, "refund", refund)


@mutant(rates=CLOSED_CITIES)
def gateway_takes_its_promise_of_a_credit_for_the_deed(patch: Patch) -> None:
    step = CreditRouteStep(CreditRouteState.DECLINED, CreditRouteReply.ACCEPTED)
    patch.setitem(credit_router_table.TABLE, (CreditRouteState.FWD, CreditRouteEvent.LEDGER_SILENT), step)


@mutant(rates=GIVEN_BACK)
def ledger_refunds_more_than_was_paid(patch: Patch) -> None:
    patch.setattr(CreditBook, "_credited_fen", staticmethod(lambda connection, order: 0))


@mutant(rates=GIVEN_BACK)
def ledger_credits_a_known_credit_again(patch: Patch) -> None:
    real = CreditBook.credit

    def credit(self: CreditBook, connection: apsw.Connection, order: Any, open_date: str) -> Any:
        again = self._known(connection, order, self._book.region_of(order.original))
        if isinstance(again, Credited):
            account = int(again.reference.rsplit("-", 1)[1])
            connection.execute(
                "INSERT INTO posting (transaction_id, region, kind, account, amount_fen, accounting_date)"
                " SELECT transaction_id, region, kind, account, amount_fen, accounting_date FROM posting"
                " WHERE entry IN (?1, ?1 - 1)",
                (account,),
            )
        return real(self, connection, order, open_date)

    patch.setattr(CreditBook, "credit", credit)


@mutant(rates=GIVEN_BACK)
def claim_stays_whole_after_a_credit(patch: Patch) -> None:
    patch.setattr(clearing_book, "book_credit", lambda connection, route: None)


@mutant(rates=replace(TROUBLE, city_killed_every_s=0.0))
def everything_is_undone_in_the_first_city(patch: Patch) -> None:
    real = router.Router._undo

    async def undo(self: Any, order: Any, *rest: Any) -> Any:
        return await real(self, replace(order, home_region=min(self._links, key=str)), *rest)

    patch.setattr(router.Router, "_undo", undo)


@mutant()
def journal_keeps_no_accounting_date(patch: Patch) -> None:
    """Nothing is told wrongly, and nothing moves wrongly: reconciliation alone can see it."""
    real = Transaction.learned
    patch.setattr(
        Transaction, "learned", lambda self, posted: replace(real(self, posted), accounting_date="2026-01-01")
    )


# --- copies ---------------------------------------------------------------------------------------------------------


@mutant(within=100, rates=Rates(journal_copied_every_s=10.0))
def confirmation_protects_nothing(patch: Patch) -> None:
    """A copy of a journal whose row says SENT undoes what is paid."""
    _router(patch, R.State.CONFIRMED, R.Event.REVERSAL, router_table.Step(R.State.REV, effect=R.Effect.REVERSE))
    step = ledger_table.Step(L.State.REVERSED, L.Reply.REVERSED, L.Entries.CONTRA)
    _ledger(patch, L.State.CONFIRMED, L.Event.REVERSAL, step)
