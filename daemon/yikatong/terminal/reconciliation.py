"""Reconciliation (对账) at the terminal: the journal with the gateway each day, and the HIS with the journal on demand.

Towards the gateway the terminal is the side that told the caller: what the gateway has posted and the terminal told as
not paid is asked about once more, and the transaction table then reverses it as it reverses every late approval. That
is the only thing that happens by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date as calendar_date
from datetime import timedelta
from enum import Enum
from typing import Final

import structlog

from yikatong.core.credit_table import CreditState
from yikatong.core.credit_transaction import Credit
from yikatong.core.reasons import YikatongError
from yikatong.core.reconciliation import (
    Difference,
    Kind,
    Row,
    Standing,
    Totals,
    add_up,
    differences,
    duplicates,
)
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.values import TransactionId
from yikatong.runtime.clock import Clock, accounting_date
from yikatong.runtime.leg import LinkDown
from yikatong.terminal.gateway_client import ReconciliationLink
from yikatong.terminal.journal import Journal
from yikatong.terminal.runner import Runner
from yikatong.terminal.session import Session

_log = structlog.get_logger(__name__)

_FIRST_AFTER_S: Final = 30.0
"""A terminal that starts has a customer waiting: the past comes later."""
_EVERY_S: Final = 3600.0
_UNMATCHED_MAX: Final = 1000

_STANDINGS: Final = {
    State.APPROVED: Standing.MOVED,
    **dict.fromkeys((State.DECLINED, State.REVERSED, State.ABORTED, State.PREPARED), Standing.NOT_MOVED),
    **dict.fromkeys((State.SENT, State.HELD, State.REVERSING, State.ACCEPTED, State.MANUAL), Standing.OPEN),
}
_CREDITS: Final = {
    CreditState.APPROVED: Standing.MOVED,
    CreditState.DECLINED: Standing.NOT_MOVED,
    CreditState.SENT: Standing.OPEN,
    CreditState.ACCEPTED: Standing.OPEN,
}


class Outcome(Enum):
    """How a date stands with the gateway. NOT_YET: it is not over, or the gateway did not answer."""

    EQUAL = "EQUAL"
    DIFFERENT = "DIFFERENT"
    NOT_YET = "NOT_YET"


class Reconciliation:
    """Both legs. One comparison with the gateway at a time."""

    def __init__(
        self, journal: Journal, session: Session, runner: Runner, link: ReconciliationLink, clock: Clock
    ) -> None:
        self._journal, self._session, self._runner, self._link, self._clock = journal, session, runner, link, clock
        self._one_at_a_time = asyncio.Lock()

    # --- with the gateway -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """After the sign-in, and with each new accounting date: what is closed and not yet equal, until it is."""
        await self._session.signed_in.wait()
        await asyncio.sleep(_FIRST_AFTER_S)
        done = ""
        while not self._session.fenced:
            if done != self.today:
                try:
                    today = self.today
                    done = today if await self.catch_up() else ""
                except LinkDown as error:
                    _log.info("reconciliation waits for the gateway", detail=str(error))
                except YikatongError as error:
                    _log.error("reconciliation was not possible", reason=error.reason.value)
            await asyncio.sleep(_EVERY_S)

    @property
    def today(self) -> str:
        """The accounting date at the gateway, as far as is known here. It only says when to ask."""
        return accounting_date(self._clock.now() - self._session.clock_offset)

    async def catch_up(self) -> bool:
        """Compares yesterday, the journal's dates, and those that the gateway names; whether all of them are equal.

        Raises LinkDown; YikatongError JOURNAL_UNAVAILABLE.
        """
        today = self.today
        yesterday = (calendar_date.fromisoformat(today) - timedelta(days=1)).isoformat()
        own = await self._journal.unreconciled_dates(today)
        waiting, outcomes = {yesterday, *own}, dict[str, Outcome]()
        while waiting:
            date = min(waiting)
            outcomes[date], due = await self._compare(date)
            waiting = (waiting | set(due)) - outcomes.keys()
        unequal = [date for date, outcome in outcomes.items() if outcome is not Outcome.EQUAL]
        agreed = [date for date in own if date < min(unequal, default=today)]
        if agreed:
            await self._journal.note_reconciled(max(agreed))
        return not unequal

    async def with_gateway(self, date: str) -> Outcome:
        """Compares one accounting date now."""
        try:
            outcome, _ = await self._compare(date)
        except LinkDown:
            return Outcome.NOT_YET
        return outcome

    async def _compare(self, date: str) -> tuple[Outcome, Sequence[str]]:
        """Raises LinkDown. Also returns the dates that the gateway waits for."""
        async with self._one_at_a_time:
            totals, told, still_open = await self._own(date)
            answer = await self._link.totals(date, totals, still_open=still_open)
            if answer.equal or not answer.closed:
                return Outcome.EQUAL if answer.closed else Outcome.NOT_YET, answer.due_dates
            unmatched = await self._unmatched(told, await self._link.records(date))
            judged = await self._link.judge(date, unmatched)
            for difference in judged.found:
                await self._attend(difference, date)
            if judged.equal:
                return Outcome.EQUAL, judged.due_dates
            totals, told, still_open = await self._own(date)  # what was reversed just now may have been all
            answer = await self._link.totals(date, totals, still_open=still_open)
            return Outcome.EQUAL if answer.equal else Outcome.DIFFERENT, answer.due_dates

    async def _own(self, date: str) -> tuple[Totals, dict[str, Row], int]:
        """Totals of the date; its rows, and those of whatever date that are open; how many these are."""
        rows = [as_row(row) for row in await self._journal.of_date(date)]
        rows += [_for_gateway(row) for row in await self._journal.credits.of_date(date)]
        unresolved = [as_row(row) for row in await self._journal.unresolved() if not row.self_test]
        unresolved += [_for_gateway(row) for row in await self._journal.credits.open_rows()]
        still_open = [row for row in unresolved if row.standing is Standing.OPEN]
        return add_up(rows), {row.transaction_id: row for row in (*rows, *still_open)}, len(still_open)

    async def _unmatched(self, told: dict[str, Row], booked: Sequence[Row]) -> dict[str, Row | None]:
        """What the terminal has of each transaction that does not fit; what it has under no date is looked up."""
        for row in booked:
            if row.transaction_id not in told and row.standing is not Standing.NOT_MOVED:
                if (debit := await self._journal.by_id(row.transaction_id)) is not None:
                    told[row.transaction_id] = as_row(debit)
                elif (credit := await self._journal.credits.by_id(row.transaction_id)) is not None:
                    told[row.transaction_id] = _for_gateway(credit)
        found = differences(sorted(told.values(), key=_by_id), sorted(booked, key=_by_id))
        unmatched = {difference.transaction_id: difference.told for difference in found}
        if len(unmatched) > _UNMATCHED_MAX:
            _log.error("too much does not fit", count=len(unmatched), told=_UNMATCHED_MAX)
        return dict(list(unmatched.items())[:_UNMATCHED_MAX])

    async def _attend(self, difference: Difference, date: str) -> None:
        """Repairs what may be repaired, and says what can't be."""
        treatment = difference.treatment
        (_log.error if treatment.alarm else _log.warning)(
            "reconciliation alarm" if treatment.alarm else "reconciliation difference",
            accounting_date=date,
            transaction_id=difference.transaction_id,
            difference=difference.found.value,
            severity=treatment.severity,
        )
        if difference.repairable:
            await self._runner.ask_again(TransactionId(difference.transaction_id))

    # --- with the HIS ---------------------------------------------------------------------------------------------

    async def with_his(self, date: str, told: Sequence[Row] | None) -> tuple[Totals, list[Difference]]:
        """The terminal's totals of the date, and where the HIS's rows differ from its journal.

        `told` None: no details were sent. Raises ValueError where `told` has an id twice.
        """
        journal = {str(row.transaction_id): row for row in await self._journal.of_date(date)}
        credited = {str(row.transaction_id): row for row in await self._journal.credits.of_date(date)}
        own = [as_row(row) for row in journal.values()] + [credit_row(row) for row in credited.values()]
        own = [row._replace(fingerprint="") for row in own]
        totals = add_up(own)
        if told is None:
            return totals, []
        booked = {row.transaction_id: row for row in own}
        for row in told:
            known = journal.get(row.transaction_id) or await self._journal.by_id(row.transaction_id)
            if known is not None and not known.self_test:
                seen = as_row(known)._replace(fingerprint="")
                held = known.state is State.HELD and row.standing is Standing.MOVED  # booked, the confirmation is due
                booked[row.transaction_id] = seen._replace(standing=Standing.MOVED) if held else seen
            elif known is None and (credit := await self._journal.credits.by_id(row.transaction_id)) is not None:
                booked[row.transaction_id] = credit_row(credit)._replace(fingerprint="")
        mine = sorted(booked.values(), key=_by_id)
        by_order = sorted(own, key=lambda row: (row.order_no, row.order_part))
        return totals, [*differences(sorted(told, key=_by_id), mine), *duplicates(by_order)]


def as_row(row: Transaction) -> Row:
    """A row of the journal as reconciliation sees it."""
    return Row(
        row.transaction_id,
        Kind.DEBIT,
        _STANDINGS[row.state],
        row.amount_fen,
        row.accounting_date,
        row.order_no,
        row.order_part,
        row.fingerprint,
        row.state.value,
        row.created_at,
    )


def credit_row(row: Credit) -> Row:
    """A credit of the journal; its order is the original's."""
    return Row(
        row.transaction_id,
        Kind(row.kind.value),
        _CREDITS[row.state],
        row.amount_fen,
        row.accounting_date,
        row.order_no,
        row.order_part,
        row.fingerprint,
        row.state.value,
        row.created_at,
    )


def _for_gateway(row: Credit) -> Row:
    """The gateway knows a credit's original, not its order; the fingerprint is over both."""
    return credit_row(row)._replace(order_no="", order_part="")


def _by_id(row: Row) -> str:
    return row.transaction_id
