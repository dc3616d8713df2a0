"""A person who is insured elsewhere by now, and a gateway that has lost its rows: it is undone where it was posted."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.gateway_world import BALANCE_FEN, FAR, HERE, World, order, seed, world
from yikatong.core.credit_orders import Credited, CreditKind, CreditOrder
from yikatong.core.orders import Confirmed, DebitOrder, Posted, ReversalCause, Reversed
from yikatong.core.values import Fen, RequestId, TransactionId

FAR_PERSON = 1


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def posted(province: World) -> DebitOrder:
    """A debit that its far city has posted; then the gateway loses its rows and the person moves."""
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(FAR_PERSON)
        answer = await link.debit(debit, attempt=1, ttl_ms=9_000)
        assert isinstance(answer, Posted)
    with contextlib.closing(sqlite3.connect(province.folder / "gateway" / "gateway.db")) as connection:
        trigger = "SELECT sql FROM sqlite_schema WHERE name = 'claim_is_never_deleted'"
        (kept,) = connection.execute(trigger).fetchone()
        connection.executescript(f"DROP TRIGGER claim_is_never_deleted; DELETE FROM claim; DELETE FROM route; {kept};")
    content = seed()
    content["persons"][0]["home_region"] = HERE.code  # type: ignore[index]  # the seed is plain JSON
    (province.folder / "seed.json").write_text(json.dumps(content))
    return replace(debit, home_region=answer.city.region)


async def test_its_reversal_goes_where_the_terminal_was_told(province: World) -> None:
    debit = await posted(province)
    async with province.gateway() as port:
        link = province.link(port)
        assert isinstance(await link.reverse(debit, ReversalCause.UNCONFIRMED), Reversed), "not tombstoned elsewhere"
        city = (await province.books(port))[FAR.code]
    assert city.personal_fen + city.opening_fen == 0


async def test_its_confirmation_and_its_refund_go_there_too(province: World) -> None:
    debit = await posted(province)
    async with province.gateway() as port:
        link = province.link(port)
        assert await link.confirm(debit) == Confirmed()
        ids = TransactionId("018f0000-0000-7000-8000-000000000001"), RequestId("refund-1")
        answer = await link.credit(CreditOrder(ids[0], CreditKind.REFUND, debit, Fen(650), ids[1]), attempt=1)
        assert isinstance(answer, Credited)
        assert answer.balance == Fen(BALANCE_FEN - 3_000)
