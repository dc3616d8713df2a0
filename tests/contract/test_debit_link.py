"""One suite for every DebitLink to a ledger: in this process, and a city that is a process of its own over mTLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gateway_world import BALANCE_FEN, FAR, order, payer, person, world
from yikatong.core.orders import (
    AlreadyReversed,
    City,
    Confirmed,
    ConfirmedTooLate,
    Conflict,
    DebitOrder,
    Declined,
    Denied,
    NotFound,
    Posted,
    ReversalCause,
    Reversed,
    Tombstoned,
    WasDeclined,
)
from yikatong.core.reasons import Reason
from yikatong.core.values import Fen
from yikatong.gateway.city_client import CityClient
from yikatong.ledger import entries, seed
from yikatong.ledger.book import Book
from yikatong.ledger.link import BookLink, LedgerLink
from yikatong.runtime import keyfile
from yikatong.runtime.clock import SystemClock, accounting_date
from yikatong.runtime.store import Store

CITY = City(FAR, "威海", "Weihai")
TODAY = accounting_date(SystemClock().now())


@pytest.fixture(params=["embedded", "remote"])
async def far(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LedgerLink]:
    if request.param == "embedded":
        store = Store(tmp_path / "ledger.db", application_id=1, version=1, schema=entries.SCHEMA)
        book = Book({FAR: CITY}, keyfile.PersonKey(keyfile.load_or_create(tmp_path / "ledger.key")))
        account = seed.SeedAccount(person(1).reveal(), FAR.code, balance_fen=BALANCE_FEN)
        await store.commit(lambda c: seed.open_accounts(c, book, [account], date=TODAY))
        yield BookLink(store, book, SystemClock())
        await store.close()
        return
    async with world() as province:
        identity = province.ca.client("gateway")
        client = CityClient.connect(f"localhost:{province.city_port}", identity, server_name="", call_s=5.0)
        yield client
        await client.close()


def stamped(number: int = 1, **changes: object) -> DebitOrder:
    return replace(order(number, **changes), home_region=FAR, accounting_date=TODAY)


async def test_account(far: LedgerLink) -> None:
    account = await far.account(payer(1), FAR)
    assert (account.balance, account.city, account.reason) == (Fen(BALANCE_FEN), CITY, None)
    assert (await far.account(payer(99), FAR)).reason is Reason.NO_PERSONAL_ACCOUNT


async def test_a_debit_and_its_repetitions(far: LedgerLink) -> None:
    debit = stamped()
    assert await far.enquire(debit) == NotFound()
    first = await far.debit(debit, attempt=1, ttl_ms=9_000)
    assert isinstance(first, Posted)
    assert first == Posted(first.reference, Fen(3_650), debit.fingerprint, Fen(96_350), CITY, TODAY)
    assert await far.debit(debit, attempt=2, ttl_ms=9_000) == first
    assert await far.enquire(debit) == first
    assert await far.enquire_id(debit.transaction_id, FAR) == first
    assert (await far.account(payer(1), FAR)).balance == Fen(96_350)


async def test_other_content_under_the_same_id(far: LedgerLink) -> None:
    debit = stamped()
    await far.debit(debit, attempt=1, ttl_ms=9_000)
    other = replace(debit, amount=Fen(1))
    assert await far.debit(other, attempt=1, ttl_ms=9_000) == Conflict()
    assert await far.reverse(other, ReversalCause.TIMEOUT) == Denied(Reason.TRANSACTION_ID_REUSED)


async def test_a_refusal_is_stored(far: LedgerLink) -> None:
    debit = stamped(amount_fen=BALANCE_FEN + 1)
    declined = Declined(Reason.INSUFFICIENT_BALANCE)
    assert await far.debit(debit, attempt=1, ttl_ms=9_000) == declined
    assert await far.debit(debit, attempt=2, ttl_ms=9_000) == declined
    assert await far.reverse(debit, ReversalCause.TIMEOUT) == WasDeclined()


async def test_a_reversal_and_its_repetitions(far: LedgerLink) -> None:
    debit = stamped()
    await far.debit(debit, attempt=1, ttl_ms=9_000)
    undone = await far.reverse(debit, ReversalCause.CANCELLED)
    assert isinstance(undone, Reversed)
    assert undone.reference
    assert await far.reverse(debit, ReversalCause.RECOVERY) == undone
    assert await far.debit(debit, attempt=2, ttl_ms=9_000) == AlreadyReversed()
    assert await far.confirm(debit) == ConfirmedTooLate()
    assert (await far.account(payer(1), FAR)).balance == Fen(BALANCE_FEN)


async def test_a_tombstone_before_the_debit(far: LedgerLink) -> None:
    debit = stamped()
    tombstone = await far.reverse(debit, ReversalCause.TIMEOUT)
    assert isinstance(tombstone, Tombstoned)
    assert await far.debit(debit, attempt=1, ttl_ms=9_000) == AlreadyReversed()
    assert await far.enquire(debit) == AlreadyReversed()
    assert await far.reverse(debit, ReversalCause.TIMEOUT) == tombstone


async def test_confirmation_is_the_end(far: LedgerLink) -> None:
    debit = stamped()
    first = await far.debit(debit, attempt=1, ttl_ms=9_000)
    assert isinstance(first, Posted)
    assert await far.confirm(debit) == Confirmed()
    assert await far.confirm(debit) == Confirmed()
    assert await far.enquire(debit) == replace(first, confirmed=True)
    assert isinstance(await far.reverse(debit, ReversalCause.TIMEOUT), Denied)
