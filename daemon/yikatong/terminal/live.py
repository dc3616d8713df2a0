"""What the terminal's runners share: a transaction that is being worked on, patience, and ids."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from yikatong.core.bill import Bill
from yikatong.core.credit_transaction import Credit
from yikatong.core.orders import DebitOrder, Payer
from yikatong.core.reasons import YikatongError
from yikatong.core.terminal_table import Told, verdict
from yikatong.core.transaction import Transaction
from yikatong.core.values import Institution, Region, TerminalId
from yikatong.runtime.clock import Clock
from yikatong.runtime.leg import TERMINAL_PATIENCE, Backoff, Patience, terminal_backoff

_GRACE_S: Final = 3.0


def uuid7(clock: Clock) -> str:
    """UUID version 7 (RFC 9562): milliseconds, then randomness; sorts by time, unique without asking anybody."""
    millis = int(clock.now().timestamp() * 1000) & (2**48 - 1)
    random = secrets.randbits(74)
    digits = f"{(millis << 80) | (0x7 << 76) | (random >> 62 << 64) | (0b10 << 62) | (random & (2**62 - 1)):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def age_ms(row: Transaction | Credit, clock: Clock) -> int:
    """By the boot clock where it is the same boot, else by the wall clock; never negative."""
    if row.boot_id == clock.boot_id:
        return clock.boot_ms() - row.created_boot_ms
    age = clock.now() - datetime.fromisoformat(row.created_at)
    return max(int(age.total_seconds() * 1000), 0)


@dataclass(eq=False)
class Live:
    """A transaction that is being worked on. `changed` is set and replaced at every change of `row`.

    `tasks` work on it, by name. Those in `deciding` have brought their event, which happens now: nobody stops them any
    more, so that memory never lags the journal.
    """

    row: Transaction
    bill: Bill
    order: DebitOrder | None = None
    refused: YikatongError | None = None
    waiters: int = 0
    attempts: int = 0
    asked_later: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    nudge: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    deciding: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def told(self) -> bool:
        """Whether a caller can be given its answer now."""
        return self.refused is not None or verdict(self.row.state).told is not Told.PENDING


def ask_later(asked: int) -> float:
    """Seconds before a promised reversal is asked about for the n-th time (n from 1): 30, 60, 120, 240, for ever.

    The gateway itself insists every 20 s: so the row is final within five minutes after its city is back, however long
    that was away.
    """
    return min(30.0 * 2.0 ** min(asked - 1, 8), 240.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """Patience of a debit, and how long a caller that is told PENDING may still hope for REVERSED (`grace_s`).

    `look_again_s`: how late at most it is noticed that the machine was suspended.
    """

    patience: Patience = TERMINAL_PATIENCE
    backoff: Backoff = terminal_backoff
    grace_s: float = _GRACE_S
    ask_later: Backoff = ask_later
    look_again_s: float = 5.0


DEFAULT_LIMITS: Final = Limits()


def debit_order(row: Transaction, payer: Payer, terminal_id: TerminalId) -> DebitOrder:
    """The debit of a row as it travels; with its home city where a posting has named that."""
    return DebitOrder(
        row.transaction_id,
        Institution(row.institution),
        terminal_id,
        Region(row.treatment_region),
        row.request_id,
        row.order_no,
        row.order_part,
        row.amount,
        row.purpose,
        payer,
        row.epoch,
        row.sequence,
        Region(row.home_region) if row.home_region else None,
    )
