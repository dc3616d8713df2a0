"""HIS clients as they really are: they repeat, hang up, click twice, forget to confirm; and they keep what they heard.

What the books must agree with is not what a client asked for but what it was ever told.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc.aio

from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.runtime.edge import error_of

NOTHING: Final = "NOTHING"
"""Heard where a call failed without a word of the terminal's: connection lost, deadline over, hung up."""
_NOT_YET: Final = frozenset({"NOT_SIGNED_IN", "GATEWAY_UNREACHABLE", "TRANSACTION_NOT_FOUND"})
"""Nothing was sent: a cashier waits a little and sends the same request again."""
_OPTIONS: Final = [
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
_serials = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Heard:
    """What one call was told. `began` and `ended` number the calls' beginnings and ends, in one order for all.

    `told` is a TransactionState without its prefix, a reason (then an error carried `outcome`), or NOTHING.
    """

    method: str
    terminal: str
    request_id: str
    order_no: str
    began: int
    ended: int
    told: str
    outcome: str = ""
    resolves_to: str = ""
    transaction_id: str = ""
    confirmed: bool = False
    status: str = ""
    """Of a failed call: its gRPC status."""


@dataclass
class Window:
    """A cashier's window: the HIS's connection to one terminal. Everything heard goes to `record`."""

    terminal: str
    stub: Any
    record: list[Heard]

    async def debit(
        self,
        request: api.DebitRequest,
        *,
        timeout_s: float | None,
        hang_up_after_s: float | None = None,
    ) -> Heard:
        call = self.stub.Debit(request, timeout=timeout_s)
        if hang_up_after_s is not None:
            asyncio.get_running_loop().call_later(hang_up_after_s, call.cancel)
        return await self._hear("Debit", request.request_id, request.order_no, call)

    async def ask(self, request_id: str, order_no: str) -> Heard:
        """What became of a request."""
        call = self.stub.GetTransaction(api.GetTransactionRequest(request_id=request_id), timeout=10)
        return await self._hear("GetTransaction", request_id, order_no, call)

    async def confirm(self, heard: Heard) -> Heard:
        request = api.ConfirmTransactionRequest(transaction_id=heard.transaction_id)
        call = self.stub.ConfirmTransaction(request, timeout=10)
        return await self._hear("ConfirmTransaction", heard.request_id, heard.order_no, call)

    async def all_rows(self) -> list[api.Transaction]:
        """The terminal's whole journal, newest first."""
        rows: list[api.Transaction] = []
        page = ""
        while True:
            request = api.ListTransactionsRequest(page_size=200, page_token=page)
            answer = await self.stub.ListTransactions(request, wait_for_ready=True, timeout=60)
            rows += answer.transactions
            if not (page := answer.next_page_token):
                return rows

    async def _hear(self, method: str, request_id: str, order_no: str, call: Awaitable[Any]) -> Heard:
        began = next(_serials)

        def heard(told: str, **more: Any) -> Heard:
            made = Heard(method, self.terminal, request_id, order_no, began, next(_serials), told, **more)
            self.record.append(made)
            return made

        try:
            row: api.Transaction = (await call).transaction
        except grpc.aio.AioRpcError as error:
            refused, status = error_of(error), error.code().name
            if refused is None:
                return heard(NOTHING, status=status)
            facts = {key: str(value) for key, value in refused.facts.items()}
            return heard(
                refused.reason.value,
                outcome=facts.get("outcome", ""),
                resolves_to=facts.get("resolves_to", ""),
                transaction_id=facts.get("transaction_id", ""),
                status=status,
            )
        except asyncio.CancelledError:
            if not _hung_up(call):
                raise
            return heard(NOTHING, status="CANCELLED")
        return heard(
            api.TransactionState.Name(row.state).removeprefix("TRANSACTION_STATE_"),
            outcome=api.Outcome.Name(row.outcome).removeprefix("OUTCOME_"),
            resolves_to=api.TransactionState.Name(row.resolves_to).removeprefix("TRANSACTION_STATE_")
            if row.resolves_to
            else "",
            transaction_id=row.transaction_id,
            confirmed=row.confirmed,
        )


def _hung_up(call: Any) -> bool:
    """Whether the call was cancelled by `hang_up_after_s`, and not the one who waits for it."""
    task = asyncio.current_task()
    return bool(call.cancelled()) and task is not None and task.cancelling() == 0


@asynccontextmanager
async def windows(sockets: Sequence[tuple[str, Path]], record: list[Heard]) -> AsyncIterator[list[Window]]:
    """One for each (terminal, HIS socket)."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for terminal, path in sockets:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"unix:{path}", options=_OPTIONS))
            made.append(Window(terminal, TerminalServiceStub(channel), record))
        yield made


@dataclass(frozen=True, slots=True)
class Manners:
    """How cashiers behave: probabilities, and seconds."""

    patience_s: tuple[float, float] = (3.0, 35.0)
    hangs_up: float = 0.1
    clicks_again: float = 0.1
    """The same request, while the first call is on its way."""
    clicks_anew: float = 0.1
    """The same bill under another request id; once in three times at another window."""
    wants_to_confirm: float = 0.2
    forgets_to_confirm: float = 0.2
    confirm_within_ms: tuple[int, ...] = (3_000, 15_000)
    repeats: float = 0.2
    """An approved request, later."""
    asks_until_final: float = 0.6
    tries_again: float = 0.5
    """With a new request id, where no money moved; else the patient pays cash."""
    pause_s: float = 0.5


@dataclass
class Cashier:
    """Takes bills at its own window until there are none left."""

    own: Window
    others: Sequence[Window]
    dice: random.Random
    manners: Manners
    bills: Iterator[str]
    _clicks: list[asyncio.Task[Heard]] = field(default_factory=list)

    async def work(self) -> None:
        for order_no in self.bills:
            amount_fen = self.dice.randint(1, 9)
            for _ in range(3):
                heard = await self._try(order_no, amount_fen)
                if heard.outcome != "NOT_MOVED" or not self._does(self.manners.tries_again):
                    break
            await asyncio.gather(*self._clicks)
            self._clicks.clear()

    async def _try(self, order_no: str, amount_fen: int) -> Heard:
        """One request, from the first click to the last word about it."""
        manners = self.manners
        holds = self._does(manners.wants_to_confirm)
        request = self._request(order_no, amount_fen)
        request.confirm_within_ms = self.dice.choice(manners.confirm_within_ms) if holds else 0
        heard = await self._click(request)
        tries = 0
        while (heard.told == NOTHING and tries < 6) or (heard.told in _NOT_YET and tries < 30):
            tries += 1
            await self._pause()
            ask = self._does(0.3)
            heard = await (self.own.ask(request.request_id, order_no) if ask else self._debit(self.own, request))
        follows = self._does(manners.asks_until_final)
        while heard.outcome == "PENDING" and follows and tries < 20:
            tries += 1
            await self._pause()
            heard = await self.own.ask(request.request_id, order_no)
        if heard.told == "APPROVED" and holds and not self._does(manners.forgets_to_confirm):
            heard = await self._confirm(heard)
        if heard.told == "APPROVED" and self._does(manners.repeats):
            await self._debit(self.own, request)
        return heard

    async def _click(self, request: api.DebitRequest) -> Heard:
        """The first call, and what nervous fingers add to it."""
        if self._does(self.manners.clicks_again):
            self._later(self.own, request)
        if self._does(self.manners.clicks_anew):
            elsewhere = bool(self.others) and self._does(0.33)
            window = self.dice.choice(self.others) if elsewhere else self.own
            self._later(window, self._request(request.order_no, request.amount_fen))
        hang_up = self.dice.uniform(0.0, 1.0) if self._does(self.manners.hangs_up) else None
        return await self._debit(self.own, request, hang_up_after_s=hang_up)

    def _later(self, window: Window, request: api.DebitRequest) -> None:
        async def click(after_s: float) -> Heard:
            await asyncio.sleep(after_s)
            return await self._debit(window, request)

        self._clicks.append(asyncio.create_task(click(self.dice.uniform(0.0, 0.3))))

    async def _confirm(self, heard: Heard) -> Heard:
        for _ in range(6):
            await self._pause()
            answer = await self.own.confirm(heard)
            if answer.told != NOTHING:
                return answer
        return heard

    async def _debit(self, window: Window, request: api.DebitRequest, *, hang_up_after_s: float | None = None) -> Heard:
        patience_s = self.dice.uniform(*self.manners.patience_s)
        return await window.debit(request, timeout_s=patience_s, hang_up_after_s=hang_up_after_s)

    def _request(self, order_no: str, amount_fen: int) -> api.DebitRequest:
        return api.DebitRequest(
            request_id=f"{order_no}.{next(_serials)}",
            order_no=order_no,
            amount_fen=amount_fen,
            purpose=money.PURPOSE_PHARMACY_PURCHASE,
        )

    def _does(self, rate: float) -> bool:
        return self.dice.random() < rate

    async def _pause(self) -> None:
        await asyncio.sleep(self.dice.uniform(0.0, self.manners.pause_s))
