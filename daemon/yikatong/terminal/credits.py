"""Runs credits: record, push forward, record what the ledger says, tell.

A credit is begun by one durable record. From then on it is pushed with the same id until the home city's ledger has
decided, by this process or the next: a caller only waits, and no time-out, restart or answer turns it back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import structlog

from yikatong.core.credit_orders import CreditAnswer, CreditDeclined, Credited, CreditKind, CreditOrder
from yikatong.core.credit_table import (
    DECIDED,
    CreditAnswered,
    CreditEffect,
    CreditEvent,
    CreditRestarted,
    CreditState,
    CreditStep,
    credit_step,
    credit_verdict,
)
from yikatong.core.credit_transaction import Credit
from yikatong.core.orders import ConfirmAnswer, DebitOrder, Undecided
from yikatong.core.reasons import Moved, Reason, Retry, YikatongError
from yikatong.core.terminal_table import State, Told, verdict
from yikatong.core.transaction import Transaction
from yikatong.core.values import Fen, RequestId, TransactionId
from yikatong.runtime.clock import Clock
from yikatong.runtime.leg import CreditLink, insist
from yikatong.runtime.store import StoreFailed
from yikatong.terminal.events import Hub
from yikatong.terminal.journal import Journal
from yikatong.terminal.live import DEFAULT_LIMITS, Limits, uuid7
from yikatong.terminal.runner import Runner
from yikatong.terminal.session import Session
from yikatong.terminal.stages import StageReached, stage_of

_log = structlog.get_logger(__name__)

_CALL_S: Final = 20.0


class MoneyWay(CreditLink, Protocol):
    """Where credits go, and the confirmation that has to be there before them."""

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer: ...


@dataclass(eq=False)
class LiveCredit:
    """A credit that is being pushed. `changed` is set and replaced at every change of `row`."""

    row: Credit
    original: Transaction
    attempts: int = 0
    asked_later: int = 0
    failed: YikatongError | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    nudge: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Credits:
    """The terminal's credits. `leave` is called with a reason when this process must not go on."""

    def __init__(
        self,
        journal: Journal,
        link: MoneyWay,
        session: Session,
        runner: Runner,
        hub: Hub,
        clock: Clock,
        *,
        leave: Callable[[Reason], None],
        limits: Limits = DEFAULT_LIMITS,
        new_id: Callable[[Clock], str] = uuid7,
    ) -> None:
        self._journal, self._link, self._session, self._runner = journal, link, session, runner
        self._hub, self._clock, self._leave, self._limits, self._new_id = hub, clock, leave, limits, new_id
        self._live: dict[TransactionId, LiveCredit] = {}
        self._beginning = asyncio.Lock()
        self._failed = False

    # --- what a caller asks ---------------------------------------------------------------------------------------

    async def cancel(
        self, original: TransactionId, request_id: RequestId, *, operator_id: str = "", patience_s: float | None
    ) -> Credit | Transaction:
        """Cancels a debit, or gives the answer of the cancellation that already has this request id.

        Returns the row that the caller may be told: the cancellation, or where the debit is not final, and so is
        simply reversed, the debit. Raises YikatongError where nothing was begun.
        """
        if (taken_back := await self._runner.take_back(original, patience_s=patience_s)) is not None:
            return taken_back
        return await self._credit(CreditKind.CANCELLATION, original, request_id, None, operator_id, patience_s)

    async def refund(
        self,
        original: TransactionId,
        request_id: RequestId,
        amount: Fen,
        *,
        operator_id: str = "",
        patience_s: float | None,
    ) -> Credit:
        """Refunds a part of a debit; as `cancel`."""
        return await self._credit(CreditKind.REFUND, original, request_id, amount, operator_id, patience_s)

    async def recover(self) -> list[TransactionId]:
        """Takes up every credit of the journal that is not decided. Returns their ids."""
        rows = await self._journal.credits.open_rows()
        for row in rows:
            original = await self._journal.by_id(row.original)
            assert original is not None, "the journal keeps the original of each of its credits"
            # What the last run has sent is not known: this is a repetition.
            live = self._live[row.transaction_id] = LiveCredit(replace(row, recovered=True), original, attempts=1)
            await self._happen(live, CreditRestarted())
        return [row.transaction_id for row in rows]

    def nudge(self) -> None:
        """The link has come back: what waits to be repeated is repeated now."""
        for live in self._live.values():
            live.nudge.set()

    def open_rows(self) -> list[Credit]:
        """Credits that are not decided, oldest first."""
        return [live.row for live in self._live.values()]

    def attempts(self, transaction_id: TransactionId) -> int:
        """How often an open credit has been sent, as far as this process knows."""
        live = self._live.get(transaction_id)
        return 0 if live is None else live.attempts

    async def close(self) -> None:
        """Stops working; what is open is taken up by the next start."""
        tasks = [live.task for live in self._live.values() if live.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the beginning --------------------------------------------------------------------------------------------

    async def _credit(
        self,
        kind: CreditKind,
        original: TransactionId,
        request_id: RequestId,
        amount: Fen | None,
        operator_id: str,
        patience_s: float | None,
    ) -> Credit:
        begun = asyncio.create_task(self._known_or_begun(kind, original, request_id, amount, operator_id))
        begun.add_done_callback(lambda done: done.cancelled() or done.exception())  # told, if anybody still listens
        found = await asyncio.shield(begun)  # a caller that leaves does not stop half of a beginning
        return found if isinstance(found, Credit) else await self._wait(found, patience_s)

    async def _known_or_begun(
        self, kind: CreditKind, original: TransactionId, request_id: RequestId, amount: Fen | None, operator_id: str
    ) -> Credit | LiveCredit:
        """One at a time, so that two calls with one request id are one credit."""
        async with self._beginning:
            debit = await self._journal.by_id(original)
            known = await self._journal.credits.by_request(request_id)
            if known is not None:
                asked_fen = amount.count if amount is not None else debit.amount_fen if debit else 0
                _require_same(known, kind, original, asked_fen)
                live = self._live.get(known.transaction_id)
                if live is None:
                    return known
                live.nudge.set()  # somebody waits: ask again now
                return live
            if debit is None or debit.self_test:
                raise YikatongError(Reason.TRANSACTION_NOT_FOUND, "no debit has this id", transaction_id=original)
            debit = self._runner.snapshot(debit)
            asked = debit.amount if amount is None else amount
            _require_creditable(debit, asked)
            if self._failed or self._journal.failed:
                raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "the journal failed; the service is leaving")
            self._session.require()
            return await self._begin(kind, request_id, debit, asked, operator_id)

    async def _begin(
        self, kind: CreditKind, request_id: RequestId, debit: Transaction, amount: Fen, operator_id: str
    ) -> LiveCredit:
        row = Credit(
            kind=kind,
            transaction_id=TransactionId(self._new_id(self._clock)),
            request_id=request_id,
            original=debit.transaction_id,
            amount_fen=amount.count,
            state=CreditState.SENT,
            operator_id=operator_id,
            institution=debit.institution,
            treatment_region=debit.treatment_region,
            order_no=debit.order_no,
            order_part=debit.order_part,
            purpose=debit.purpose.value,
            original_amount_fen=debit.amount_fen,
            card_number_masked=debit.card_number_masked,
            cardholder_masked=debit.cardholder_masked,
            home_region=debit.home_region,
            home_city_zh=debit.home_city_zh,
            home_city_en=debit.home_city_en,
            created_at=self._clock.now().isoformat(),
            created_boot_ms=self._clock.boot_ms(),
            boot_id=self._clock.boot_id,
        )
        row = replace(row, fingerprint=self._order_of(row, debit).fingerprint.hex())
        live = LiveCredit(row, debit)
        try:
            await self._journal.credits.record(row)
        except StoreFailed as error:
            # It may be on the disk; then the next start pushes it. So the outcome is open, unlike that of a debit,
            # which the next start would reverse.
            raise self._journal_failed(live, error) from error
        self._live[row.transaction_id] = live
        self._hub.tell(row)
        self._stage(row)
        self._work(live, self._push(live))
        return live

    def _order_of(self, row: Credit, original: Transaction) -> CreditOrder:
        return CreditOrder(row.transaction_id, row.kind, self._runner.order_of(original), row.amount, row.request_id)

    # --- decide, record, do ---------------------------------------------------------------------------------------

    async def _happen(self, live: LiveCredit, event: CreditEvent) -> None:
        """One event, carried through even where the one who brings it is cancelled: memory never lags the journal."""
        await asyncio.shield(asyncio.create_task(self._move(live, event)))

    async def _move(self, live: LiveCredit, event: CreditEvent) -> None:
        async with live.lock:
            decided = credit_step(live.row.state, event)
            if decided.next is not live.row.state:
                row = self._after(live.row, decided, event)
                try:
                    await self._journal.credits.record(row)
                except StoreFailed as error:
                    self._journal_failed(live, error)
                    return
                live.row = row
                self._hub.tell(row)
            self._carry_out(live, decided)
            self._stage(live.row)
            live.changed.set()
            live.changed = asyncio.Event()

    def _after(self, before: Credit, decided: CreditStep, event: CreditEvent) -> Credit:
        row = replace(before, state=decided.next)
        if decided.next in DECIDED:
            row = replace(row, decided_at=self._clock.now().isoformat())
        match event:
            case CreditAnswered(answer=Credited() as credited):
                return row.learned(credited)
            case CreditAnswered(answer=CreditDeclined(reason=reason, other_transaction=other)):
                return replace(row, reason=reason.value, other_transaction=other)
        return row

    def _carry_out(self, live: LiveCredit, decided: CreditStep) -> None:
        for effect in decided.effects:
            match effect:
                case CreditEffect.PUSH:
                    self._work(live, self._push(live))
                case CreditEffect.PUSH_LATER:
                    self._work(live, self._push_later(live))
                case CreditEffect.ALARM:
                    _log.error("credit alarm", transaction_id=live.row.transaction_id, state=live.row.state.value)
        if live.row.state in DECIDED:
            self._live.pop(live.row.transaction_id, None)
            _canonical_line(live.row)

    def _stage(self, row: Credit) -> None:
        self._hub.tell(StageReached(row, stage_of(row), self._clock.now(), self._clock.boot_ms()))

    def _journal_failed(self, live: LiveCredit, error: StoreFailed) -> YikatongError:
        _log.error("the journal failed", transaction_id=live.row.transaction_id, exc_info=error)
        self._failed = True
        live.failed = YikatongError(
            Reason.JOURNAL_UNAVAILABLE,
            "the journal failed; the service restarts",
            outcome=Moved.PENDING.value,
            retry=Retry.SAME_REQUEST.value,
            transaction_id=live.row.transaction_id,
        )
        live.changed.set()
        self._leave(Reason.JOURNAL_UNAVAILABLE)
        return live.failed

    # --- the leg to the gateway -----------------------------------------------------------------------------------

    async def _push(self, live: LiveCredit) -> None:
        order = self._order_of(live.row, live.original)
        confirmed = live.original.confirm_acknowledged

        async def send() -> CreditAnswer:
            nonlocal confirmed
            if not confirmed:  # the ledger waits with a credit for that, and the runner may still be telling it so
                confirmed = not isinstance(await self._link.confirm(order.original), Undecided)
            live.attempts += 1
            return await self._link.credit(order, attempt=live.attempts)

        answer = await insist(send, self._limits.backoff, call_s=_CALL_S, nudge=live.nudge)
        await self._happen(live, CreditAnswered(answer))

    async def _push_later(self, live: LiveCredit) -> None:
        """The gateway has promised it: ask now and then, when the link comes back, and when somebody asks."""
        live.asked_later += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.ask_later(live.asked_later)):
                await live.nudge.wait()
        live.nudge.clear()
        await self._push(live)

    def _work(self, live: LiveCredit, work: Coroutine[Any, Any, None]) -> None:
        """The credit's one task; each ends by starting its successor, or with the decision."""
        live.task = asyncio.create_task(work, name=f"credit {live.row.transaction_id}")
        live.task.add_done_callback(lambda done: self._ended(live, done))

    def _ended(self, live: LiveCredit, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a credit's task failed", transaction_id=live.row.transaction_id, exc_info=error)
            self._failed = True
            self._leave(Reason.INTERNAL)

    # --- waiting --------------------------------------------------------------------------------------------------

    async def _wait(self, live: LiveCredit, patience_s: float | None) -> Credit:
        """Until it is decided, or promised and not decided within a moment, or the caller's time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._limits.patience.total_s if patience_s is None else patience_s)
        while live.row.state not in DECIDED and live.failed is None:
            left = deadline - loop.time()
            if live.row.state is CreditState.ACCEPTED:
                left = min(left, self._limits.grace_s)
            changed = live.changed
            try:
                async with asyncio.timeout(left):
                    await changed.wait()
            except TimeoutError:
                break
        if live.failed is not None:
            raise live.failed
        return live.row


def _require_same(known: Credit, kind: CreditKind, original: str, amount_fen: int) -> None:
    """Raises REQUEST_ID_REUSED where the two requests differ."""
    if field_name := known.differing_field(kind, original, amount_fen):
        raise YikatongError(
            Reason.REQUEST_ID_REUSED,
            "the request id was used with other content",
            field=field_name,
            transaction_id=known.transaction_id,
            outcome=credit_verdict(known.state).moved.value,  # of the transaction that is named
        )


def _require_creditable(debit: Transaction, amount: Fen) -> None:
    """What needs no ledger to be known. Raises ALREADY_REVERSED, NOT_CANCELLABLE, REFUND_EXCEEDS_DEBIT."""
    told = verdict(debit.state)
    if Told.REVERSED in (told.told, told.resolves_to):
        raise YikatongError(Reason.ALREADY_REVERSED, "nothing is taken", transaction_id=debit.transaction_id)
    if debit.state is not State.APPROVED:
        raise YikatongError(
            Reason.NOT_CANCELLABLE,
            "only a debit that is approved, and confirmed, can be credited",
            transaction_id=debit.transaction_id,
            journal_state=debit.state.value,
        )
    if amount > debit.amount:
        raise YikatongError(
            Reason.REFUND_EXCEEDS_DEBIT, "more than the whole debit", transaction_id=debit.transaction_id
        )


def _canonical_line(row: Credit) -> None:
    """One line per credit that tells its whole story, without the person."""
    _log.info(
        "credit",
        transaction_id=row.transaction_id,
        original=row.original,
        kind=row.kind.value,
        order_no=row.order_no,
        amount_fen=row.amount_fen,
        state=row.state.value,
        reason=row.reason,
        home_region=row.home_region,
        accounting_date=row.accounting_date,
    )
