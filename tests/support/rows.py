"""Invented persons, orders and journal rows for tests."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from yikatong.core.orders import CardPayer, DebitOrder, Purpose
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.values import (
    CardIdentificationCode,
    CardNumber,
    Fen,
    Institution,
    Region,
    RequestId,
    SocialSecurityNumber,
    TerminalId,
    TransactionId,
)

PAYER = CardPayer(
    SocialSecurityNumber("110101190001010014"),
    CardNumber("T0000001X"),
    CardIdentificationCode(bytes.fromhex("990001D156000005010000014E8CE1CA")),
    Region("990001"),
)


def order(**changes: Any) -> DebitOrder:
    """A debit of 36.50 yuan at a pharmacy of region 990002, with ids of its own."""
    made = DebitOrder(
        TransactionId(str(uuid.uuid4())),
        Institution("P99000200001"),
        TerminalId("P99000200001-01"),
        Region("990002"),
        RequestId(f"request-{uuid.uuid4()}"),
        f"order-{uuid.uuid4()}",
        "",
        Fen(3650),
        Purpose.PHARMACY_PURCHASE,
        PAYER,
        1,
        1,
    )
    return replace(made, **changes)


def request(**changes: Any) -> Transaction:
    """What a HIS asks for: a row before it has an id."""
    made = Transaction(
        transaction_id=TransactionId(""),
        request_id=RequestId(f"request-{uuid.uuid4()}"),
        order_no=f"order-{uuid.uuid4()}",
        order_part="",
        amount_fen=3650,
        purpose=Purpose.PHARMACY_PURCHASE,
        state=State.PREPARED,
    )
    return replace(made, **changes)


def row(state: State = State.SENT, **changes: Any) -> Transaction:
    """A row as the journal gets it."""
    ids = {"transaction_id": TransactionId(str(uuid.uuid4())), "created_at": datetime.now(UTC).isoformat()}
    known: dict[str, Any] = {**ids, **changes}
    return replace(request(), state=state, **known)
