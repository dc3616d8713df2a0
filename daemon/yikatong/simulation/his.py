"""HIS clients and their cashiers: they debit, double-click, vanish, repeat, enquire, confirm or forget to.

Each keeps what it was told, as the other side of the promise. Nothing of it ever dies: it is the one that compares.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import grpc

from yikatong.api.money.v1 import money_pb2
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1 import terminal_pb2_grpc
from yikatong.core.orders import CardPayer
from yikatong.core.reasons import Moved, Reason, Retry, YikatongError
from yikatong.core.terminal_table import Told
from yikatong.runtime import edge
from yikatong.simulation.chance import Chance
from yikatong.simulation.loop import VirtualLoop
from yikatong.simulation.machines import TerminalMachine
from yikatong.simulation.network import Channel, Line

_FINAL = frozenset({Told.APPROVED, Told.DECLINED, Told.REVERSED})
_NOTHING_HEARD = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
"""What grpc itself says of a connection."""
_OTHERS = frozenset({Reason.ORDER_IN_PROGRESS, Reason.ORDER_ALREADY_PAID})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call was told. `held`: approved, but to be confirmed. `doomed`: pending, and resolves to REVERSED."""

    told: Told
    held: bool = False
    doomed: bool = False
    transaction_id: str = ""


@dataclass(eq=False)
class Request:
    """One request id. `debits` counts its calls, `refused` those of them that were told REFUSED."""

    request_id: str
    bill: Bill
    till: Till
    debits: int = 0
    refused: int = 0
    booked: bool = False
    """The HIS has booked it, and has begun to say so."""
    gives_back: Request | None = None
    """Of a credit: the debit that it cancels, or refunds `amount_fen` of."""
    amount_fen: int = 0
    told_of: dict[str, Told] = field(default_factory=dict)
    """The last final word about each transaction; one, where no journal was copied."""
    final: Told | None = None
    final_at_s: float = 0.0
    doomed_at_s: float | None = None
    transaction_id: str = ""
    broken: list[str] = field(default_factory=list)

    @property
    def due_fen(self) -> int:
        """What an approval moves on the personal account."""
        return -self.bill.amount_fen if self.gives_back is None else self.amount_fen

    @property
    def within_ms(self) -> int:
        """A credit needs no confirmation."""
        return self.bill.confirm_within_ms if self.gives_back is None else 0

    def hear(self, answer: Answer, *, asked_s: float, now_s: float) -> None:
        """Compares an answer with all before it (I5). One that was asked for earlier may arrive later."""
        if answer.told in _FINAL and not answer.held:
            self.told_of[answer.transaction_id] = answer.told
        if self.till.machine.doubtful:  # a journal that is not the newest says what it knows
            self.transaction_id = self.transaction_id or answer.transaction_id
            return
        if answer.told is Told.REFUSED:
            self.refused += 1
            if self.final is not None and asked_s > self.final_at_s:
                self._break(f"told {self.final.value}, then REFUSED")
            return
        if (
            answer.told is not Told.PENDING or answer.doomed
        ):  # else it may die before it is durable, and nothing was sent
            if self.transaction_id not in ("", answer.transaction_id):
                self._break("told of two transactions")
            self.transaction_id = answer.transaction_id
        if answer.told in _FINAL and not answer.held:
            if self.final not in (None, answer.told):
                self._break(f"told {self.final}, then {answer.told.value}")
            if self.final is None:
                self.final, self.final_at_s = answer.told, now_s
            if self.doomed_at_s is not None and answer.told is not Told.REVERSED:
                self._break(f"told that it resolves to REVERSED, then {answer.told.value}")
        elif answer.doomed:
            if self.final not in (None, Told.REVERSED):
                self._break(f"told {self.final}, then that it resolves to REVERSED")
            if self.final is not None and asked_s > self.final_at_s:
                self._break("told REVERSED, then PENDING")
            self.doomed_at_s = now_s if self.doomed_at_s is None else self.doomed_at_s
        else:  # PENDING, or approved and to be confirmed
            if self.final is not None and asked_s > self.final_at_s:
                self._break(f"told {self.final.value}, then {answer}")
            if self.doomed_at_s is not None and asked_s > self.doomed_at_s:
                self._break(f"told that it resolves to REVERSED, then {answer}")

    def forgotten(self, *, asked_s: float) -> None:
        """The terminal says that it knows no such request."""
        if self.transaction_id and asked_s > self.final_at_s and not self.till.machine.doubtful:
            self._break("told of a transaction that the terminal then does not know")

    def _break(self, what: str) -> None:
        self.broken.append(f"I5 {self.request_id}: {what}")


@dataclass(eq=False)
class Bill:
    """One order, and every request that was made for it."""

    order_no: str
    amount_fen: int
    payer: CardPayer
    confirm_within_ms: int
    begins_s: float
    requests: list[Request] = field(default_factory=list)


@dataclass(frozen=True)
class Till:
    """A cashier's place: a terminal, and the line to it."""

    machine: TerminalMachine
    stub: Any

    @classmethod
    def at(cls, machine: TerminalMachine, line: Line) -> Till:
        channel = cast("grpc.aio.Channel", Channel(line))
        return cls(machine, terminal_pb2_grpc.TerminalServiceStub(channel))


class His:
    """The institution's system. `patient`: how long it goes on beginning things is the world's to say (`open`)."""

    def __init__(
        self,
        loop: VirtualLoop,
        chance: Chance,
        tills: list[Till],
        moved_fen: Callable[[str], int],
        brought_back: Callable[[CardPayer], None],
    ) -> None:
        """`moved_fen`: what a transaction has moved on the personal account, by the ledgers, now.

        `brought_back` hears who is about to bring something back.
        """
        self._loop, self._chance, self._tills = loop, chance, tills
        self._moved_fen, self._brought_back = moved_fen, brought_back
        self.bills: list[Bill] = []
        self._clicks: set[asyncio.Task[Answer | None]] = set()

    def add_till(self, till: Till) -> None:
        self._tills.append(till)

    def _timeout_s(self) -> float | None:
        """Who stands at a copied terminal must give up some time."""
        patient = 60.0 if self._chance.rates.journal_copied_every_s else None
        return self._chance.dice.choice([patient, 4.0, 10.0, 25.0, 60.0])

    @property
    def requests(self) -> list[Request]:
        return [request for bill in self.bills for request in bill.requests]

    async def pay(self, bill: Bill) -> None:
        """A cashier works on one bill until it is settled, or the patient has gone home."""
        chance, dice = self._chance, self._chance.dice
        self.bills.append(bill)
        await asyncio.sleep(bill.begins_s)
        for _ in range(6):
            if not chance.faults:
                return
            request = self._new_request(bill)
            if chance.hits(chance.rates.double_clicks, "double click"):
                self._clicks.add(asyncio.create_task(self._click(bill)))
            if chance.hits(chance.rates.repeats / 2, "same request twice at once"):
                self._clicks.add(asyncio.create_task(self._debit(request)))
            answer = await self._debit(request)
            for _ in range(3):
                if (answer is not None and answer.told is not Told.PENDING) or not chance.faults:
                    break
                await asyncio.sleep(dice.uniform(0.1, 20.0))
                if chance.hits(chance.rates.repeats, "same request again"):
                    answer = await self._debit(request)
                elif chance.hits(chance.rates.enquires, "enquiry"):
                    answer = await self.enquire(request)
                else:
                    break
            if answer is not None and answer.told is Told.APPROVED:
                if answer.held:
                    await self._book(request)
                if chance.hits(chance.rates.gives_back, "bill taken back"):
                    await self._give_back(request)
                return
            refused = answer is not None and answer.told is Told.REFUSED
            if not refused and dice.random() < 0.3:
                return
            await asyncio.sleep(dice.uniform(0.5, 8.0 if refused else 30.0))

    async def rest(self) -> None:
        """Waits for clicks that nobody waited for."""
        await asyncio.gather(*self._clicks)

    async def enquire(self, request: Request) -> Answer | None:
        asked = api.GetTransactionRequest(request_id=request.request_id)
        return await self._ask(request, request.till.stub.GetTransaction(asked, timeout=20.0))

    def _new_request(self, bill: Bill) -> Request:
        request = Request(
            f"{bill.order_no}-request-{len(bill.requests) + 1}", bill, self._chance.dice.choice(self._tills)
        )
        bill.requests.append(request)
        return request

    async def _give_back(self, debit: Request) -> None:
        """The patient brings it back: all of it, or a part, perhaps another; two cashiers may do so at once."""
        chance, dice = self._chance, self._chance.dice
        await asyncio.sleep(dice.uniform(0.1, 30.0))
        self._brought_back(debit.bill.payer)
        for _ in range(dice.choice([1, 1, 2, 3])):
            whole = chance.hits(0.5, "cancellation")
            part_fen = dice.randint(1, debit.bill.amount_fen)
            credit = Request(
                f"{debit.request_id}-credit-{len(debit.bill.requests) + 1}",
                debit.bill,
                debit.till,
                gives_back=debit,
                amount_fen=debit.bill.amount_fen if whole else part_fen,
            )
            debit.bill.requests.append(credit)
            if chance.hits(chance.rates.double_clicks, "taken back at two tills at once"):
                self._clicks.add(asyncio.create_task(self._credit(credit, whole=whole)))
            if chance.hits(chance.rates.repeats / 2, "same credit twice at once"):
                self._clicks.add(asyncio.create_task(self._credit(credit, whole=whole)))
            else:
                for _ in range(4):
                    answer = await self._credit(credit, whole=whole)
                    if (answer is not None and answer.told in _FINAL) or not chance.faults:
                        break
                    await asyncio.sleep(dice.uniform(0.1, 20.0))

    async def _credit(self, credit: Request, *, whole: bool) -> Answer | None:
        """None where nothing was heard."""
        assert credit.gives_back is not None, "a credit has its debit"
        credit.debits += 1
        stub, debit = credit.till.stub, credit.gives_back.transaction_id
        timeout_s = self._timeout_s()
        if whole:
            cancelled = api.CancelTransactionRequest(transaction_id=debit, request_id=credit.request_id)
            return await self._ask(credit, stub.CancelTransaction(cancelled, timeout=timeout_s))
        refunded = api.RefundTransactionRequest(
            transaction_id=debit, request_id=credit.request_id, amount_fen=credit.amount_fen
        )
        return await self._ask(credit, stub.RefundTransaction(refunded, timeout=timeout_s))

    async def _click(self, bill: Bill) -> Answer | None:
        """The same bill under another request id, while the first is under way; at another till perhaps."""
        await asyncio.sleep(self._chance.dice.uniform(0.0, 8.0))
        answer = await self._debit(request := self._new_request(bill))
        if answer is not None and answer.held:
            await self._book(request)
        return answer

    async def _debit(self, request: Request) -> Answer | None:
        """None where nothing was heard."""
        bill, dice = request.bill, self._chance.dice
        request.debits += 1
        request.till.machine.desk.payer = bill.payer
        asked = api.DebitRequest(
            request_id=request.request_id,
            order_no=bill.order_no,
            amount_fen=bill.amount_fen,
            purpose=money_pb2.PURPOSE_PHARMACY_PURCHASE,
            confirm_within_ms=bill.confirm_within_ms,
            wait_ms=5_000,
        )
        call = self._ask(request, request.till.stub.Debit(asked, timeout=self._timeout_s()))
        if not self._chance.hits(self._chance.rates.vanishes, "caller vanishes"):
            return await call
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(dice.uniform(0.0, 12.0)):
                return await call
        return None

    async def _book(self, request: Request) -> None:
        """Books, and confirms that; or is too late; or crashes before it has booked."""
        chance, within_s = self._chance, request.bill.confirm_within_ms / 1000
        if chance.hits(chance.rates.never_books, "never books"):  # it crashes, and asks when it is back
            await asyncio.sleep(chance.dice.uniform(1.0, 60.0))
            await self.enquire(request)
            return
        late = chance.hits(chance.rates.books_late, "books at the last moment")
        await asyncio.sleep(chance.dice.uniform(0.7, 1.3) * within_s if late else chance.dice.uniform(0.1, 3.0))
        asked = api.ConfirmTransactionRequest(transaction_id=request.transaction_id)
        request.booked = True
        for _ in range(30):
            answer = await self._ask(request, request.till.stub.ConfirmTransaction(asked, timeout=20.0))
            if answer is not None:
                return
            await asyncio.sleep(chance.dice.uniform(0.5, 10.0))

    async def _ask(self, request: Request, call: Any) -> Answer | None:
        asked_s = self._loop.time()
        try:
            told = (await call).transaction
            if request.gives_back is not None and told.kind == api.TRANSACTION_KIND_DEBIT:
                request = request.gives_back  # it was not final, and is simply reversed
            answer = _answer(request, told)
        except grpc.aio.AioRpcError as failure:
            error = edge.error_of(failure)
            if error is None:
                if failure.code() not in _NOTHING_HEARD:
                    request.broken.append(f"I5 {request.request_id}: told {failure.code().name}, which says nothing")
                return None
            if {"outcome", "retry"} - error.facts.keys():
                request.broken.append(f"I5 {request.request_id}: {error.reason.value} without outcome and retry")
            if error.reason in _OTHERS:
                return None
            if error.reason is Reason.TRANSACTION_NOT_FOUND:
                request.forgotten(asked_s=asked_s)
                return None
            refusal = _refusal(request, error)
            if refusal is None:
                return None
            answer = refusal
        self._chance.note(self._loop.time(), f"{request.request_id} is told {answer}")
        self._chance.points[f"told {answer.told.value}{' to be confirmed' if answer.held else ''}"] += 1
        request.hear(answer, asked_s=asked_s, now_s=self._loop.time())
        if answer.told in _FINAL and not answer.held and not request.till.machine.doubtful:
            due_fen = request.due_fen if answer.told is Told.APPROVED else 0
            if (moved_fen := self._moved_fen(request.transaction_id)) != due_fen:
                request.broken.append(f"I3/I4 {request.request_id}: told {answer.told.value}, moved {moved_fen} fen")
        return answer


_MEANINGS: Final = {
    Told.APPROVED: (Moved.MOVED, {Retry.NEVER}),
    Told.DECLINED: (Moved.NOT_MOVED, {Retry.NEW_REQUEST, Retry.NEVER}),  # never: another transaction has the order
    Told.REVERSED: (Moved.NOT_MOVED, {Retry.NEW_REQUEST}),
    Told.REFUSED: (Moved.NOT_MOVED, {Retry.NEW_REQUEST, Retry.SAME_REQUEST, Retry.NEVER}),
    Told.PENDING: (Moved.PENDING, {Retry.NEVER, Retry.SAME_REQUEST}),
}
"""What each word says of the money, and whether the caller may try again (design, "What the caller hears")."""


def _answer(request: Request, told: api.Transaction) -> Answer:
    word = Told(api.TransactionState.Name(told.state).removeprefix("TRANSACTION_STATE_"))
    outcome = Moved(api.Outcome.Name(told.outcome).removeprefix("OUTCOME_"))
    retry = Retry(api.Retry.Name(told.retry).removeprefix("RETRY_"))
    moved, retries = _MEANINGS[word]
    if outcome is not moved or retry not in retries:
        request.broken.append(f"I5 {request.request_id}: told {word.value} with {outcome.value} and {retry.value}")
    return Answer(
        word,
        held=word is Told.APPROVED and request.within_ms > 0 and not told.confirmed,
        doomed=word is Told.PENDING and told.resolves_to == api.TRANSACTION_STATE_REVERSED,
        transaction_id=told.transaction_id,
    )


def _refusal(request: Request, error: YikatongError) -> Answer | None:
    """What an error says of the money: nothing was sent; it is being undone (too late to confirm); or nothing."""
    transaction_id = str(error.facts.get("transaction_id", request.transaction_id))
    if error.reason is Reason.CONFIRM_TOO_LATE:
        if error.facts.get("outcome") == "NOT_MOVED":
            return Answer(Told.REVERSED, transaction_id=transaction_id)
        return Answer(Told.PENDING, doomed=True, transaction_id=transaction_id)
    return Answer(Told.REFUSED) if error.facts.get("outcome") == "NOT_MOVED" else None
