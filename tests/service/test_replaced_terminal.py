"""A terminal whose disk is gone: another machine takes its place, and people decide what the old one left open."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.gateway_world import BALANCE_FEN, OTHER_TERMINAL, TERMINAL, World, order, payer, world
from tests.support.operators import asked, ops
from tests.support.terminal_world import Daemon, daemon
from yikatong.core.orders import (
    Confirmed,
    DebitOrder,
    Declined,
    Denied,
    Fenced,
    Posted,
    ReversalCause,
    Reversed,
)
from yikatong.core.reasons import Reason
from yikatong.terminal.gateway_client import MoneyLink

FAR_PERSON, NEAR_PERSON = 1, 2
BOTH = pytest.mark.parametrize("person", [FAR_PERSON, NEAR_PERSON])
DEBIT_FEN, TTL = 3_650, 30_000
ANN, BEN = "operator-ann", "operator-ben"
WHY = "--reason=磁盘损坏"


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def posted(link: MoneyLink, person: int, **changes: object) -> DebitOrder:
    debit = order(person, amount_fen=DEBIT_FEN, **changes)
    assert isinstance(await link.debit(debit, attempt=1, ttl_ms=TTL), Posted)
    return debit


async def decided(province: World, port: int, debit: DebitOrder, decision: str) -> str:
    for name in (ANN, BEN):
        words = ["resolve", debit.transaction_id, "--decision", decision, WHY]
        told = await asked(province, port, *words, name=name)
    progress: str = told["resolution"]["progress"]
    return progress


async def listed(province: World, port: int) -> list[tuple[str, str]]:
    _, out, _ = await ops(province, port, "unresolved", "--json")
    return [(row["transaction_id"], row["kind"]) for row in json.loads(out)["unresolved"]]


async def balance(link: MoneyLink, person: int) -> int:
    return (await link.account(payer(person), None)).balance.count


async def fenced(running: Daemon) -> None:
    async with asyncio.timeout(20):
        while not running.terminal.session.fenced:
            await asyncio.sleep(0.01)


@BOTH
async def test_what_only_the_old_machine_could_end_two_persons_end(province: World, person: int) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        booked, not_booked, final = [await posted(link, person) for _ in range(3)]
        assert await link.confirm(final) == Confirmed()
        done = await asked(province, port, "replace", TERMINAL, WHY, name=ANN)
        adopted = {booked.transaction_id, not_booked.transaction_id}
        assert set(done["adopted_transaction_ids"]) == adopted
        assert done["act"]["operator"] == ANN
        assert set(await listed(province, port)) == {(one, "UNRESOLVED_KIND_ADOPTED") for one in adopted}
        assert await decided(province, port, booked, "confirm") == "PROGRESS_CARRIED_OUT"
        assert await decided(province, port, not_booked, "reverse") == "PROGRESS_CARRIED_OUT"
        assert await listed(province, port) == []
        assert await balance(link, person) == BALANCE_FEN - 2 * DEBIT_FEN
        await province.books(port)
    assert province.gateway_rows("SELECT count(*) FROM route WHERE sealed IS NOT NULL") == [(0,)], "nobody is kept"


async def test_what_a_silent_city_may_have_posted_can_be_reversed_and_not_confirmed(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        province.fault("silent")
        debit = order(FAR_PERSON, amount_fen=DEBIT_FEN)
        await link.debit(debit, attempt=1, ttl_ms=1)
        await asked(province, port, "replace", TERMINAL, WHY)
        words = ["resolve", debit.transaction_id, "--decision", "confirm", WHY]
        status, out, _ = await ops(province, port, *words, "--json", name=ANN)
        assert (status, json.loads(out)["error"]["reason"]) == (1, "NOT_DECIDABLE")
        province.fault()
        assert await decided(province, port, debit, "reverse") == "PROGRESS_CARRIED_OUT"
        assert isinstance(await link.reverse(debit, ReversalCause.RECOVERY), Reversed)
        assert await balance(link, FAR_PERSON) == BALANCE_FEN


async def test_the_old_journal_is_shut_out_and_the_new_one_works(province: World) -> None:
    async with province.gateway() as port:
        async with daemon(province, port) as old:
            epoch = old.terminal.session.require().epoch
            link = old.terminal.link
            await posted(link, NEAR_PERSON, epoch=epoch)
        kept = province.folder / "kept"
        shutil.move(province.folder / "terminal", kept)
        async with daemon(province, port, signed_in=False) as too_early:
            await fenced(too_early)
            assert too_early.terminal.not_ready() is Reason.TERMINAL_SUPERSEDED, "an empty journal alone says nothing"
        shutil.rmtree(province.folder / "terminal")
        await asked(province, port, "replace", TERMINAL, WHY)
        late = province.link(port)
        assert await late.debit(order(NEAR_PERSON, epoch=epoch), attempt=1, ttl_ms=TTL) == Fenced()
        for _ in range(2):  # its second start too
            async with daemon(province, port) as new:
                now = new.terminal.session.require().epoch
                assert now > epoch
        fresh = replace(order(NEAR_PERSON, epoch=now), sequence=1)
        assert isinstance(await late.debit(fresh, attempt=1, ttl_ms=TTL), Posted)
        shutil.rmtree(province.folder / "terminal")
        shutil.move(kept, province.folder / "terminal")
        async with daemon(province, port, signed_in=False) as returned:
            await fenced(returned)


async def test_who_is_no_terminal_is_not_replaced(province: World) -> None:
    async with province.gateway() as port:
        status, out, _ = await ops(province, port, "replace", "nobody", WHY, "--json")
        assert (status, json.loads(out)["error"]["reason"]) == (1, "TERMINAL_UNKNOWN")
        link = await province.signed_in(port)
        unknown = Declined(Reason.NOT_SIGNED_IN)
        assert await link.debit(order(NEAR_PERSON, epoch=9), attempt=1, ttl_ms=TTL) == unknown, "nothing was opened"


async def test_what_the_old_machine_still_ends_is_nobodys_to_decide(province: World) -> None:
    """Its process runs on, and has not heard yet that it was replaced."""
    async with province.gateway() as port:
        link = await province.signed_in(port)
        kept, undone, proposed = [await posted(link, NEAR_PERSON) for _ in range(3)]
        await asked(province, port, "replace", TERMINAL, WHY)
        words = ["resolve", proposed.transaction_id, "--decision", "reverse", WHY]
        await asked(province, port, *words, name=ANN)
        await asked(province, port, "replace", TERMINAL, WHY)  # once more, its answer lost: the proposal stands
        _, out, _ = await ops(province, port, "unresolved", "--json")
        proposals = {
            row["transaction_id"]: row["resolution"].get("proposed_by") for row in json.loads(out)["unresolved"]
        }
        assert proposals[proposed.transaction_id] == ANN
        assert await link.confirm(kept) == Confirmed()
        assert isinstance(await link.reverse(undone, ReversalCause.UNCONFIRMED), Reversed)
        assert await link.confirm(proposed) == Confirmed(), "told as approved, for good"
        assert await listed(province, port) == []
        await ops(province, port, *words, name=BEN)
        assert isinstance(await link.enquire(proposed), Posted), "what was proposed of another state is not carried out"
        assert await balance(link, NEAR_PERSON) == BALANCE_FEN - 2 * DEBIT_FEN
        await province.books(port)
    assert province.gateway_rows("SELECT count(*) FROM ticket WHERE sealed IS NOT NULL") == [(0,)]


async def test_a_reversal_by_somebody_else_does_not_stand_in_the_way(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        other = await province.signed_in(port, OTHER_TERMINAL)
        debit = await posted(link, NEAR_PERSON)
        foreign = replace(debit, terminal_id=OTHER_TERMINAL)
        assert isinstance(await other.reverse(foreign, ReversalCause.RECOVERY), Denied)
        await asked(province, port, "replace", TERMINAL, WHY)
        assert await decided(province, port, debit, "reverse") == "PROGRESS_CARRIED_OUT"
        assert await balance(link, NEAR_PERSON) == BALANCE_FEN
