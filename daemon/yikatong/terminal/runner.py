"""Runs transactions: decide (core.terminal_table), record (journal), do (leg), record.

The way of a debit: `debit` finds out whether the request is known, `_prepare` finds out who pays, `_happen` makes each
move of the table durable before its effects leave. A caller only waits; what is decided stays decided without it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from yikatong.core.bill import Bill
from yikatong.core.orders import DebitOrder, Declined, Posted, ReversalCause, Reversed, Tombstoned, WasDeclined
from yikatong.core.reasons import Moved, Reason, YikatongError
from yikatong.core.session import Granted
from yikatong.core.terminal_table import (
    FINAL,
    UNRESOLVED,
    Answered,
    CallerLeft,
    CommitFailed,
    ConfirmAnswered,
    Effect,
    Event,
    GaveUp,
    Go,
    HisCancelled,
    HisConfirmed,
    OperatorDecided,
    Restarted,
    ReversalAnswered,
    State,
    Step,
    step,
    verdict,
)
from yikatong.core.transaction import Transaction
from yikatong.core.values import Region, TerminalId, TransactionId
from yikatong.runtime.clock import Clock
from yikatong.runtime.leg import DebitLink
from yikatong.runtime.store import StoreFailed
from yikatong.terminal.calls import Calls
from yikatong.terminal.events import Hub
from yikatong.terminal.journal import Journal
from yikatong.terminal.live import DEFAULT_LIMITS, Limits, Live, age_ms, debit_order, uuid7
from yikatong.terminal.requests import order_taken, require_same
from yikatong.terminal.session import Session
from yikatong.terminal.stages import Stage, StageReached, stage_of
from yikatong.terminal.who_pays import WhoPays, addressed

_log = structlog.get_logger(__name__)

UNRESOLVED_MAX: Final = 20
UNRESOLVED_AGE_MAX_MS: Final = 24 * 3_600_000
_REFUSED_KEPT: Final = 100
_WITHOUT_MONEY: Final = frozenset({State.DECLINED, State.REVERSED, State.ABORTED})


class Runner:
    """The terminal's transactions. `leave` is called with a reason when this process must not go on."""

    def __init__(
        self,
        journal: Journal,
        link: DebitLink,
        session: Session,
        who: WhoPays,
        hub: Hub,
        clock: Clock,
        *,
        leave: Callable[[Reason], None],
        limits: Limits = DEFAULT_LIMITS,
        self_test: bool = False,
        admit: Callable[[], None] = lambda: None,
        new_id: Callable[[Clock], str] = uuid7,
    ) -> None:
        self._journal, self._session, self._who, self._calls = journal, session, who, Calls(link, clock, limits)
        self._hub, self._clock, self._leave, self._limits, self._self_test = hub, clock, leave, limits, self_test
        self._new_id, self._admit = new_id, admit
        self._live: dict[TransactionId, Live] = {}
        self._refused: deque[Transaction] = deque(maxlen=_REFUSED_KEPT)
        self._failed = self._closed = False
        self._moves: set[asyncio.Task[None]] = set()

    # --- what a caller asks ---------------------------------------------------------------------------------------

    async def debit(
        self,
        request: Transaction,
        bill: Bill,
        *,
        wait_ms: int,
        patience_s: float | None,
        last_try_acknowledged: bool = False,
    ) -> Transaction:
        """Debits, or gives the answer of the debit that already has this request id.

        Returns the row that the caller may be told: durable, and final unless it is told PENDING. `patience_s` is how
        long the caller listens; for `last_try_acknowledged` see `Desk.identify`. Raises YikatongError where nothing was
        sent, or where the id or the order is taken.
        """
        live = self._known_live(request)
        if live is None:
            known, other = await self._journal.known(request.request_id, request.order_no, request.order_part)
            if known is not None:
                require_same(known, request)
                live = self._live.get(known.transaction_id)
                if live is None:
                    return known
            # Another caller may have come with the same request while we looked.
            elif (live := self._known_live(request)) is None:
                if other is not None and other.state not in _WITHOUT_MONEY:
                    raise order_taken(self.snapshot(other))
                live = self._begin(request, bill)
                prepare = partial(self._prepare, wait_ms=wait_ms, last_try_acknowledged=last_try_acknowledged)
                self._spawn(live, "prepare", prepare)
        return await self._wait(live, patience_s)

    async def confirm(self, transaction_id: TransactionId) -> Transaction:
        """The HIS has booked it. Raises CONFIRM_TOO_LATE only where that is sure, and TRANSACTION_NOT_FOUND.

        OUTCOME_PENDING: there is no approval yet; NEEDS_OPERATOR: nobody knows yet; JOURNAL_UNAVAILABLE: whether the
        confirmation is on the disk is open.
        """
        live = await self._find(transaction_id)
        if live.row.state is State.HELD and self._session.fenced:
            raise YikatongError(
                Reason.TERMINAL_SUPERSEDED,
                "another machine is this terminal; whether the debit stands is decided there",
                outcome=Moved.PENDING.value,
                transaction_id=transaction_id,
            )
        if live.row.state in {State.SENT, State.PREPARED}:
            raise YikatongError(Reason.OUTCOME_PENDING, "there is no approval yet", transaction_id=transaction_id)
        await self._happen(live, HisConfirmed())
        if live.refused is not None:
            raise live.refused
        if live.row.state is State.MANUAL:
            raise YikatongError(Reason.NEEDS_OPERATOR, "an operator must decide", transaction_id=transaction_id)
        if live.row.state is not State.APPROVED:
            told = verdict(live.row.state)
            raise YikatongError(
                Reason.CONFIRM_TOO_LATE,
                "the debit is not approved any more",
                transaction_id=transaction_id,
                outcome=told.moved.value,
                resolves_to=(told.resolves_to or told.told).value,
            )
        return live.row

    async def take_back(self, transaction_id: TransactionId, *, patience_s: float | None) -> Transaction | None:
        """The HIS cancels a debit that is not final: it is dropped or reversed, and its row is what may be told.

        None where it is not this table's to take back: approved for good, or ended in another way. Raises
        TRANSACTION_NOT_FOUND, and JOURNAL_UNAVAILABLE: whether it will be reversed is then open.
        """
        if (refused := self.refused(transaction_id)) is not None:
            return refused
        live = await self._find(transaction_id)
        await self._happen(live, HisCancelled())
        if live.row.state is State.ABORTED:
            return live.row
        if live.refused is not None:
            raise live.refused
        if live.row.state in UNRESOLVED and self._session.fenced:
            raise YikatongError(
                Reason.TERMINAL_SUPERSEDED,
                "another machine is this terminal; nothing is undone from here",
                outcome=Moved.PENDING.value,
                transaction_id=transaction_id,
            )
        cancelled = live.row.cause == ReversalCause.CANCELLED.name and live.row.state is not State.APPROVED
        return await self._wait(live, patience_s) if cancelled else None

    async def ask_again(self, transaction_id: TransactionId) -> None:
        """Reconciliation says that it is posted and was told as not paid: the table undoes a late approval.

        Returns once the reversal is acknowledged, or after a moment. Raises LinkDown, TRANSACTION_NOT_FOUND.
        """
        found = await self._find(transaction_id)
        answered = await self._calls.enquiry(found)
        live = self._live.setdefault(transaction_id, found)
        await self._happen(live, answered)
        if (reversal := live.tasks.get("reverse")) is not None:
            await asyncio.wait({reversal}, timeout=self._limits.grace_s)

    def snapshot(self, row: Transaction) -> Transaction:
        """The newest state of `row` that is durable."""
        live = self._live.get(row.transaction_id)
        return row if live is None else live.row

    async def recover(self) -> list[TransactionId]:
        """Takes up every open row of the journal. Returns their ids."""
        rows = [row for row in await self._journal.unresolved() if row.self_test is self._self_test]
        for row in rows:
            live = Live(replace(row, recovered=True), Bill(), order=self.order_of(row))
            self._live[row.transaction_id] = live
            same_boot = row.boot_id == self._clock.boot_id
            young = same_boot and age_ms(row, self._clock) < self._limits.patience.total_s * 1000
            await self._happen(live, Restarted(young=young))
        return [row.transaction_id for row in rows]

    def at_work(self, wanted: Callable[[Transaction], bool]) -> Transaction | None:
        """The newest such transaction that is being worked on, on the disk or not yet; none that was refused."""
        rows = [live.row for live in self._live.values() if live.refused is None and wanted(live.row)]
        return rows[-1] if rows else None

    def refused(self, transaction_id: str) -> Transaction | None:
        """One of the last requests for which nothing was sent. No journal has them; a slip may be asked for."""
        return next((row for row in self._refused if row.transaction_id == transaction_id), None)

    def nudge(self) -> None:
        """The link has come back: what waits to repeat something does it now."""
        for live in self._live.values():
            live.nudge.set()

    def open_rows(self) -> list[Transaction]:
        """Rows whose outcome is open, oldest first."""
        return [
            live.row for live in self._live.values() if live.row.state not in FINAL and live.row.state != State.PREPARED
        ]

    def attempts(self, transaction_id: TransactionId) -> int:
        """How often what an open row asks now, a debit or its reversal, has gone unanswered."""
        live = self._live.get(transaction_id)
        return 0 if live is None else live.attempts

    def order_of(self, row: Transaction) -> DebitOrder:
        """The debit of a row as it travels, its payer unsealed."""
        payer = self._journal.vault.unseal(row.payer_sealed, transaction_id=row.transaction_id)
        return debit_order(row, payer, TerminalId(self._session.terminal_id))

    @property
    def at_the_desk(self) -> bool:
        """Whether a debit is at the card, the code or the PIN now: nobody else should touch the reader."""
        return any(live.row.state is State.PREPARED for live in self._live.values())

    async def close(self) -> None:
        """Stops working; what is open is taken up by the next start."""
        self._closed = True
        tasks = [task for live in self._live.values() for task in live.tasks.values()]
        deciding = [task for live in self._live.values() for task in live.deciding]
        for live in self._live.values():
            self._drop(live, *live.tasks)
        await asyncio.gather(*tasks, *deciding, *self._moves, return_exceptions=True)

    # --- before the debit ----------------------------------------------------------------------------------------

    def _begin(self, request: Transaction, bill: Bill) -> Live:
        row = replace(
            request,
            transaction_id=TransactionId(self._new_id(self._clock)),
            self_test=self._self_test,
            created_at=self._clock.now().isoformat(),
            created_boot_ms=self._clock.boot_ms(),
            boot_id=self._clock.boot_id,
        )
        live = Live(row, bill)
        self._live[row.transaction_id] = live
        return live

    async def _prepare(self, live: Live, *, wait_ms: int, last_try_acknowledged: bool) -> Go | GaveUp:
        """Everything that can be refused before money is asked for, then who pays, then go."""
        try:
            self._require_no_twin(live)
            granted = self.require_able()
            async with self._who.by(live.row.credential).identify(
                wait_ms=wait_ms,
                stage=lambda stage: self._stage(live, stage),
                last_try_acknowledged=last_try_acknowledged,
            ) as identified:
                row = addressed(live.row, granted, identified, self._journal.vault)
                await self._require_settled_card(row)
                await identified.demand_same()
                self._session.require()
                live.order = debit_order(row, identified.payer, TerminalId(self._session.terminal_id))
                live.row = replace(row, fingerprint=live.order.fingerprint.hex())
        except YikatongError as error:
            live.refused = error
            return GaveUp(error.reason)
        except Exception as error:  # noqa: BLE001 - the caller must hear something; nothing was sent
            _log.error("preparing a debit failed", exc_info=error)
            live.refused = YikatongError(Reason.INTERNAL, "nothing was sent", outcome=Moved.NOT_MOVED.value)
            return GaveUp(Reason.INTERNAL)
        return Go()

    def _require_no_twin(self, live: Live) -> None:
        """The nervous double click: the same order under another request id, while the first is being prepared.

        Only one that began earlier stands in the way; where both came at once, they would else refuse each other.
        """
        for other in self._live.values():
            if other is live:
                return
            same = (other.row.order_no, other.row.order_part) == (live.row.order_no, live.row.order_part)
            if same and other.row.state not in _WITHOUT_MONEY:
                raise order_taken(other.row)

    def require_able(self) -> Granted:
        """What is granted, where a new debit may begin now. Raises YikatongError: nothing has been sent.

        Not the session's matter: the journal, `admit`, and what is open: more than 20 rows, or one of yesterday, say
        that something is wrong with the line or the gateway. A reversal that the gateway has promised does not count.
        """
        if self._failed or self._journal.failed:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "the journal failed; the service is leaving")
        self._admit()
        counted = [row for row in self.open_rows() if row.state in {State.SENT, State.REVERSING}]
        oldest_ms = max((age_ms(row, self._clock) for row in counted), default=0)
        if len(counted) > UNRESOLVED_MAX or oldest_ms > UNRESOLVED_AGE_MAX_MS:
            raise YikatongError(Reason.TOO_MANY_UNRESOLVED, "debits are open, too many or too long", count=len(counted))
        return self._session.require()

    async def _require_settled_card(self, row: Transaction) -> None:
        """One open debit per card, or person: a new one waits for one attempt to reverse the old one."""
        for other in list(self._live.values()):
            if other.row.card_tag == row.card_tag and other.row.state in {State.SENT, State.REVERSING}:
                other.nudge.set()
                try:
                    async with asyncio.timeout(self._limits.grace_s):
                        while other.row.state in {State.SENT, State.REVERSING}:
                            await other.changed.wait()
                except TimeoutError:
                    raise YikatongError(
                        Reason.TOO_MANY_UNRESOLVED,
                        "this card has an open debit",
                        other_transaction=other.row.transaction_id,
                    ) from None

    # --- decide, record, do --------------------------------------------------------------------------------------

    async def _happen(self, live: Live, event: Event) -> None:
        """One event, carried through even where the one who brings it is cancelled: memory never lags the journal."""
        move = asyncio.create_task(self._move(live, event))
        self._moves.add(move)
        move.add_done_callback(self._moves.discard)
        move.add_done_callback(lambda done: self._ended(live, done))
        await asyncio.shield(move)

    async def _move(self, live: Live, event: Event) -> None:
        """The table decides, the journal records, then the effects leave, in this order."""
        async with live.lock:
            before = live.row
            decided = step(before.state, event)
            if decided.cause is not None and before.state is not State.REVERSING and self._session.fenced:
                # P3 promises REVERSED, and from here no reversal may leave any more: people decide what is open.
                _log.error("not reversed: another machine is this terminal", transaction_id=before.transaction_id)
                self._wake(live)
                return
            if decided.record or decided.next is not before.state:
                row = self._after(before, decided, event)
                if decided.record:
                    try:
                        row = await self._journal.record(row, live.bill if before.state is State.PREPARED else None)
                    except StoreFailed as error:
                        self._journal_failed(live, error)
                        return
                live.row = row
                if live.order is not None:
                    home = Region(row.home_region) if row.home_region else None
                    live.order = replace(live.order, sequence=row.sequence, home_region=home)
            self._carry_out(live, decided, before)

    def _after(self, before: Transaction, decided: Step, event: Event) -> Transaction:
        """The row that `decided` makes of `before`, with what the event says."""
        row = before.moved(decided, at=self._clock.now().isoformat(), at_boot_ms=self._clock.boot_ms())
        match event:
            case Answered(answer=Posted() as posted):
                row = row.learned(posted)
                return self._hold(row) if decided.next is State.HELD else row
            case Answered(answer=Declined(reason=reason) as declined):
                if reason is Reason.NOT_SIGNED_IN:  # the gateway has lost its record of us; the next debit shall pass
                    self._session.stale()
                return row.refused(declined)
            case ReversalAnswered(answer=Reversed(reference=proof) | Tombstoned(reference=proof)):
                return replace(row, reference=proof)
            case OperatorDecided(posted=Posted() as posted):
                return row.learned(posted)
            case OperatorDecided(reference=proof):
                return replace(row, reference=proof)
            case ReversalAnswered(answer=WasDeclined()):
                return replace(row, reference="")  # whose reference that was, it proves no reversal
            case ConfirmAnswered():
                return replace(row, confirm_acknowledged=True)
        return row

    def _carry_out(self, live: Live, decided: Step, before: Transaction) -> None:
        row = live.row
        self._wake(live)  # first: who waits is answered before anything else is begun
        for effect in decided.effects:
            match effect:
                case Effect.SEND_DEBIT:
                    self._spawn(live, "ask", self._calls.outcome)
                case Effect.ENQUIRE:
                    self._spawn(live, "ask", self._calls.outcome_without_sending)
                case Effect.SEND_REVERSAL:
                    self._drop(live, "ask", "hold", "later")
                    self._spawn(live, "reverse", self._calls.reversal)
                case Effect.SEND_CONFIRM:
                    self._drop(live, "hold")
                    self._spawn(live, "confirm", self._calls.confirmation)
                case Effect.WAIT_FOR_CONFIRMATION:
                    self._spawn(live, "hold", self._calls.hold)
                case Effect.ASK_LATER:
                    self._spawn(live, "later", self._calls.promised_reversal)
                case Effect.NOTE_LATE_ANSWER:
                    _log.warning("late answer", transaction_id=row.transaction_id, state=row.state.value)
                case Effect.ALARM:
                    _log.error("alarm", transaction_id=row.transaction_id, state=row.state.value, reason=row.reason)
                case Effect.LEAVE_SERVICE:
                    self._leave_service(live)
                case Effect.TELL:
                    pass  # the change itself wakes who waits
        if row.state is State.ABORTED:
            live.refused = live.refused or YikatongError(row.why or Reason.CANCELLED_BY_CALLER, "nothing was sent")
            live.refused.facts.setdefault("transaction_id", row.transaction_id)
            if before.state is State.PREPARED:
                self._refused.append(row)
        if row is not before:
            self._hub.tell(row)
            if row.state in FINAL and before.state not in FINAL:
                asyncio.get_running_loop().call_soon(_canonical_line, row, self._clock)
        if row.state is not before.state or row.state not in FINAL:  # a restart finds a state that nobody was told of
            self._stage(live, stage_of(row))
        if row.state is State.ABORTED:
            self._drop(live, "prepare")
        confirming = row.state is State.APPROVED and not row.confirm_acknowledged
        if row.state in FINAL and not confirming and Effect.SEND_REVERSAL not in decided.effects:
            self._forget(live)

    @staticmethod
    def _wake(live: Live) -> None:
        """Wakes who waits for a change; an event that stayed set would let a waiting loop spin for ever."""
        live.changed.set()
        live.changed = asyncio.Event()

    def _hold(self, row: Transaction) -> Transaction:
        within = timedelta(milliseconds=row.confirm_within_ms)
        return replace(
            row,
            confirm_by=(self._clock.now() + within).isoformat(),
            confirm_by_boot_ms=self._clock.boot_ms() + row.confirm_within_ms,
        )

    def _journal_failed(self, live: Live, error: StoreFailed) -> None:
        """P1 failed: nothing was sent. Any other record: the outcome is the journal's to say, after a restart."""
        _log.error("the journal failed", transaction_id=live.row.transaction_id, exc_info=error)
        self._failed = True
        sent = live.row.state is not State.PREPARED
        outcome = Moved.PENDING if sent else Moved.NOT_MOVED
        live.refused = YikatongError(
            Reason.JOURNAL_UNAVAILABLE,
            "the journal failed; the service restarts",
            outcome=outcome.value,
            transaction_id=live.row.transaction_id,
        )
        if not sent:
            decided = step(State.PREPARED, CommitFailed())
            live.row = live.row.moved(decided, at=self._clock.now().isoformat(), at_boot_ms=self._clock.boot_ms())
        self._wake(live)
        self._leave(Reason.JOURNAL_UNAVAILABLE)

    def _leave_service(self, live: Live) -> None:
        if live.row.state is State.SENT:
            self._session.fence()
            live.refused = YikatongError(
                Reason.TERMINAL_SUPERSEDED, outcome=Moved.PENDING.value, transaction_id=live.row.transaction_id
            )
            self._leave(Reason.TERMINAL_SUPERSEDED)

    # --- waiting, and the book-keeping of live rows --------------------------------------------------------------

    async def _wait(self, live: Live, patience_s: float | None) -> Transaction:
        loop = asyncio.get_running_loop()
        deadline = None if patience_s is None else loop.time() + patience_s
        live.waiters += 1
        try:
            while not live.told and live.row.state is not State.MANUAL:
                left = None if deadline is None else deadline - loop.time()
                if verdict(live.row.state).resolves_to is not None:  # being reversed: hope for the proof, briefly
                    left = self._limits.grace_s if left is None else min(left, self._limits.grace_s)
                changed = live.changed
                try:
                    async with asyncio.timeout(left):
                        await changed.wait()
                except TimeoutError:
                    if verdict(live.row.state).resolves_to is None and live.waiters == 1:
                        await self._happen(live, CallerLeft())
                    break
            if live.refused is not None:
                raise live.refused
            return live.row
        except asyncio.CancelledError:
            # Nobody listens any more: before the debit it is dropped, after it the outcome is not left open.
            if live.waiters == 1 and not live.told:
                self._spawn(live, "left", _caller_left)
            raise
        finally:
            live.waiters -= 1

    def _known_live(self, request: Transaction) -> Live | None:
        for live in self._live.values():
            if live.row.request_id == request.request_id and live.refused is None:
                require_same(live.row, request)
                return live
        return None

    async def _find(self, transaction_id: TransactionId) -> Live:
        if (live := self._live.get(transaction_id)) is not None:
            return live
        row = await self._journal.by_id(transaction_id)
        if row is None or row.self_test is not self._self_test:
            raise YikatongError(Reason.TRANSACTION_NOT_FOUND, transaction_id=transaction_id)
        return self._live.get(transaction_id) or Live(row, Bill(), order=self.order_of(row))

    def _stage(self, live: Live, stage: Stage) -> None:
        self._hub.tell(StageReached(live.row, stage, self._clock.now(), self._clock.boot_ms()))

    def _spawn(self, live: Live, name: str, work: Callable[[Live], Awaitable[Event]]) -> None:
        """Starts a task of the row, whose event then happens. One that is already there is replaced.

        Not once the runner is closed: what is recorded by then is taken up by the next start.
        """
        self._drop(live, name)
        if self._closed:
            return

        async def bring() -> None:
            event = await work(live)
            live.deciding.add(task)
            await self._move(live, event)

        task = asyncio.create_task(bring(), name=f"{name} {live.row.transaction_id}")
        live.tasks[name] = task
        task.add_done_callback(live.deciding.discard)
        task.add_done_callback(lambda done: self._ended(live, done))

    def _drop(self, live: Live, *names: str) -> None:
        for name in names:
            task = live.tasks.pop(name, None)
            if task is not None and task not in live.deciding:
                task.cancel()

    def _ended(self, live: Live, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task of a transaction failed", transaction_id=live.row.transaction_id, exc_info=error)
            self._failed = True
            if not live.told:  # who can be given the true answer is given that
                live.refused = YikatongError(
                    Reason.INTERNAL, outcome=Moved.PENDING.value, transaction_id=live.row.transaction_id
                )
            self._wake(live)
            self._leave(Reason.INTERNAL)

    def _forget(self, live: Live) -> None:
        self._drop(live, "ask", "reverse", "confirm", "hold", "later")
        self._live.pop(live.row.transaction_id, None)


async def _caller_left(live: Live) -> CallerLeft:
    return CallerLeft()


def _canonical_line(row: Transaction, clock: Clock) -> None:
    """One line per transaction that tells its whole story, without the person."""
    _log.info(
        "transaction",
        transaction_id=row.transaction_id,
        order_no=row.order_no,
        amount_fen=row.amount_fen,
        state=row.state.value,
        reason=row.reason,
        home_region=row.home_region,
        accounting_date=row.accounting_date,
        self_test=row.self_test,
        duration_ms=clock.boot_ms() - row.created_boot_ms if row.boot_id == clock.boot_id else -1,
    )
