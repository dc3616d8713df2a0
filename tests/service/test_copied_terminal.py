"""A terminal that starts on an old copy of a journal: it reverses nothing before the gateway has said who it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gateway_world import OTHER_TERMINAL, PHARMACY, World, order, world
from tests.support.rows import row
from tests.support.terminal_world import configuration, daemon
from yikatong.core.orders import Confirmed, DebitOrder, Posted
from yikatong.core.reasons import Reason
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.gateway.config import TerminalConfig
from yikatong.runtime.leg import TERMINAL_PATIENCE
from yikatong.terminal.journal import Journal
from yikatong.terminal.live import Limits

NEAR_PERSON = 2
HASTY = Limits(TERMINAL_PATIENCE, lambda attempt: 0.05)


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def held(province: World, port: int, debit: DebitOrder) -> Transaction:
    """The terminal's journal as it was while the debit was to be confirmed, under another boot: to be reversed."""
    config = configuration(province.folder, port, province.ca.client(debit.terminal_id))
    Path(config.state).mkdir()
    journal = Journal(config.journal)
    kept = replace(
        row(State.HELD),
        transaction_id=debit.transaction_id,
        request_id=debit.request_id,
        order_no=debit.order_no,
        institution=debit.institution.code,
        treatment_region=debit.treatment_region.code,
        epoch=debit.epoch,
        fingerprint=debit.fingerprint.hex(),
        payer_sealed=journal.vault.seal(debit.payer, transaction_id=debit.transaction_id),
        confirm_within_ms=60_000,
        boot_id="another",
    )
    written = await journal.record(kept)
    await journal.close()
    return written


async def test_an_old_copy_does_not_reverse_what_the_true_terminal_has_told_as_approved(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(NEAR_PERSON)
        for one in (debit, order(NEAR_PERSON)):  # the true terminal goes on, so the copy is behind
            assert isinstance(await link.debit(one, attempt=1, ttl_ms=9_000), Posted)
        copied = await held(province, port, debit)
        async with daemon(province, port, signed_in=False, limits=HASTY) as copy:
            async with asyncio.timeout(20):
                while not copy.terminal.session.fenced:
                    await asyncio.sleep(0.01)
                assert isinstance(await link.enquire(debit), Posted)
                while not copy.terminal.runner.attempts(copied.transaction_id):
                    await asyncio.sleep(0.01)
            assert isinstance(await link.enquire(debit), Posted)
        assert await link.confirm(debit) == Confirmed()


async def test_a_fenced_terminal_neither_debits_nor_reverses(province: World) -> None:
    async with province.gateway() as port, daemon(province, port) as running:
        session, told = running.terminal.session, []
        for change in (lambda: None, session.fence):
            change()
            told.append((session.may_reverse, running.terminal.not_ready()))
        assert told == [(True, None), (False, Reason.TERMINAL_SUPERSEDED)]


async def test_a_terminal_that_is_no_longer_registered_still_reverses(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        debit = order(NEAR_PERSON)
        assert isinstance(await link.debit(debit, attempt=1, ttl_ms=9_000), Posted)
    async with province.gateway(terminals=[TerminalConfig(OTHER_TERMINAL, PHARMACY.code)]) as port:
        left = await held(province, port, debit)
        async with daemon(province, port, signed_in=False, limits=HASTY) as terminal:
            async with asyncio.timeout(20):
                while terminal.terminal.runner.open_rows():
                    await asyncio.sleep(0.01)
            done = await terminal.terminal.journal.by_id(left.transaction_id)
        assert done is not None
        assert done.state is State.REVERSED
