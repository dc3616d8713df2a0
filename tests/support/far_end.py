"""A far end of a leg in the same process: it keeps books honestly, and its line misbehaves on demand.

Used where the runner's own behaviour is the subject. Money tests that matter run against the real gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from yikatong.core.credit_orders import CreditAnswer, CreditDeclined, Credited, CreditOrder
from yikatong.core.orders import (
    Account,
    AlreadyReversed,
    City,
    ConfirmAnswer,
    Confirmed,
    ConfirmedTooLate,
    DebitAnswer,
    DebitOrder,
    Declined,
    Denied,
    NotFound,
    Payer,
    Posted,
    ReversalAnswer,
    ReversalCause,
    Reversed,
    Tombstoned,
    WasDeclined,
)
from yikatong.core.reasons import Reason
from yikatong.core.values import Fen, Region
from yikatong.runtime.leg import LinkDown

CITY = City(Region("990001"), "甲市", "City A")


@dataclass
class FarEnd:
    """`balance_fen` is the one account. `line(method)` runs before each delivery, `back(method)` before each answer.

    Either may raise LinkDown or wait; what is set in between has happened all the same.
    """

    balance_fen: int = 100_000
    answers: dict[str, DebitAnswer] = field(default_factory=dict)
    undone: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    line: Callable[[str], None] = lambda method: None
    back: Callable[[str], None] = lambda method: None
    gate: asyncio.Event | None = None
    decide: Callable[[DebitOrder], DebitAnswer | None] = lambda order: None
    reversal: ReversalAnswer | None = None
    credits: dict[str, CreditAnswer] = field(default_factory=dict)
    attempts: list[int] = field(default_factory=list)
    credit_says: CreditAnswer | None = None
    given_fen: dict[str, int] = field(default_factory=dict)

    async def _travel(self, method: str) -> None:
        self.calls.append(method)
        self.line(method)
        if self.gate is not None and method == "debit":
            await self.gate.wait()

    async def account(self, payer: Payer, home_region: Region | None) -> Account:
        return Account(Fen(self.balance_fen), CITY)

    async def debit(self, order: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        await self._travel("debit")
        if order.transaction_id in self.undone:
            return AlreadyReversed()
        if order.transaction_id not in self.answers:
            self.answers[order.transaction_id] = self.decide(order) or self._post(order)
        self.back("debit")
        return self.answers[order.transaction_id]

    def _post(self, order: DebitOrder) -> DebitAnswer:
        if order.amount.count > self.balance_fen:
            return Declined(Reason.INSUFFICIENT_BALANCE)
        self.balance_fen -= order.amount.count
        return Posted(
            f"R-{order.transaction_id[:8]}",
            order.amount,
            order.fingerprint,
            Fen(self.balance_fen),
            CITY,
            "2026-01-02",
        )

    async def enquire(self, order: DebitOrder) -> DebitAnswer:
        await self._travel("enquire")
        if order.transaction_id in self.undone:
            return AlreadyReversed()
        self.back("enquire")
        return self.answers.get(order.transaction_id, NotFound())

    async def reverse(self, order: DebitOrder, cause: ReversalCause) -> ReversalAnswer:
        await self._travel("reverse")
        if self.reversal is not None:
            return self.reversal
        if order.transaction_id in self.confirmed:
            return Denied(Reason.NEEDS_OPERATOR)
        known = self.answers.get(order.transaction_id)
        fresh = order.transaction_id not in self.undone
        if not isinstance(known, Declined):
            self.undone.add(order.transaction_id)
        if isinstance(known, Posted) and fresh:
            self.balance_fen += known.amount.count
        self.back("reverse")
        match known:
            case Posted():
                return Reversed("V-" + order.transaction_id[:8])
            case Declined():
                return WasDeclined()
            case _:
                return Tombstoned("T-" + order.transaction_id[:8])

    async def confirm(self, order: DebitOrder) -> ConfirmAnswer:
        await self._travel("confirm")
        if order.transaction_id in self.undone:
            return ConfirmedTooLate()
        self.confirmed.add(order.transaction_id)
        self.back("confirm")
        return Confirmed()

    async def credit(self, order: CreditOrder, *, attempt: int) -> CreditAnswer:
        """`credit_says` is answered instead of deciding anything, while it is set."""
        self.attempts.append(attempt)
        await self._travel("credit")
        if self.credit_says is not None:
            return self.credit_says
        known = self.credits.get(order.transaction_id)
        if known is None:
            known = self.credits[order.transaction_id] = self._credit(order)
        self.back("credit")
        return known

    def _credit(self, order: CreditOrder) -> CreditAnswer:
        debit = order.original.transaction_id
        assert debit in self.confirmed, "a credit comes after its debit's confirmation"
        left = order.original.amount.count - self.given_fen.get(debit, 0) - order.amount.count
        if left < 0:
            return CreditDeclined(Reason.REFUND_EXCEEDS_DEBIT)
        self.given_fen[debit] = self.given_fen.get(debit, 0) + order.amount.count
        self.balance_fen += order.amount.count
        reference = "C-" + order.transaction_id[:8]
        return Credited(reference, order.amount, order.fingerprint, "2026-01-02", Fen(left), Fen(self.balance_fen))


class Lost:
    """Loses the first `times` deliveries of the named methods."""

    def __init__(self, *methods: str, times: int = 1) -> None:
        self._methods, self.left = methods, times

    def __call__(self, method: str) -> None:
        if method in self._methods and self.left > 0:
            self.left -= 1
            raise LinkDown("lost")
