"""The terminal's session: signed in until it is granted an epoch, renewed without losing it, left where it must be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.support.far_end import FarEnd
from tests.support.rows import PAYER, row
from yikatong.core.orders import Declined
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.session import Granted
from yikatong.core.terminal_table import State
from yikatong.runtime.clock import SystemClock
from yikatong.runtime.leg import LinkDown
from yikatong.runtime.store import StoreFailed
from yikatong.terminal.events import Hub
from yikatong.terminal.gateway_client import GatewayChannel, SessionLink
from yikatong.terminal.journal import Head, Journal
from yikatong.terminal.runner import Runner
from yikatong.terminal.session import Session
from yikatong.terminal.who_pays import WhoPays

Said = Granted | Exception


def granted(epoch: int, hotline: str = "12393") -> Granted:
    return Granted(epoch, datetime.now(UTC), "P99000200001", "测试药店", "990002", hotline, "2", "2026-01-02")


class _Link:
    """A gateway that says these things one after the other, and the last one for ever."""

    def __init__(self, *says: Said) -> None:
        self.says, self.asked = list(says), list[tuple[int, bool]]()

    async def sign_in(self, terminal_id: str, head: Head, version: str, *, renewal: bool = False) -> Granted:
        self.asked.append((head.epoch, renewal))
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, Exception):
            raise said
        return said


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    made = Journal(tmp_path / "journal.db")
    yield made
    await made.close()


def session_of(journal: Journal, link: _Link) -> Session:
    channel = cast("GatewayChannel", SimpleNamespace(channel=None, stub=None, reachable=True))
    return Session("terminal-1", "1", channel, journal, SystemClock(), link=cast("SessionLink", link))


async def asked(link: _Link, session: Session, times: int) -> None:
    """Lets the session ask until it has done so `times` times; what it thinks stale it asks about at once."""
    async with asyncio.timeout(5):
        while len(link.asked) < times:
            session.stale()
            await asyncio.sleep(0.001)


async def test_a_renewal_keeps_the_epoch_and_brings_what_has_changed(journal: Journal) -> None:
    link, changes = _Link(granted(3), granted(3, "new")), list[int]()
    session = session_of(journal, link)
    running = asyncio.create_task(session.run(lambda: changes.append(1)))
    await session.signed_in.wait()
    assert (await journal.head()).epoch == 3
    await asked(link, session, 2)
    running.cancel()
    assert link.asked[:2] == [(0, False), (3, True)]
    assert session.require().policy_hotline == "new"
    assert changes == [1], "a renewal that changes nothing for the window is not told"


async def test_the_link_is_tried_again_until_it_answers(journal: Journal) -> None:
    link = _Link(LinkDown("away"), LinkDown("away"), granted(1))
    session = session_of(journal, link)
    running = asyncio.create_task(session.run(lambda: None))
    with pytest.raises(YikatongError, match="not signed in"):
        session.require()
    await session.signed_in.wait()
    running.cancel()
    assert session.require().epoch == 1


async def test_a_renewal_that_finds_another_machine_ends_the_session(journal: Journal) -> None:
    link = _Link(granted(1), YikatongError(Reason.TERMINAL_SUPERSEDED))
    session = session_of(journal, link)
    running = asyncio.create_task(session.run(lambda: None))
    await session.signed_in.wait()
    session.stale()
    await running
    assert (session.fenced, session.may_reverse) == (True, False)


async def test_who_is_dismissed_debits_no_more_and_still_reverses(journal: Journal) -> None:
    link = _Link(granted(1), YikatongError(Reason.TERMINAL_UNKNOWN))
    session = session_of(journal, link)
    running = asyncio.create_task(session.run(lambda: None))
    await session.signed_in.wait()
    await asked(link, session, 2)
    with pytest.raises(YikatongError) as error:
        session.require()
    running.cancel()
    assert (error.value.reason, session.may_reverse) == (Reason.TERMINAL_UNKNOWN, True)


async def test_an_epoch_that_can_not_be_kept_is_not_used(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    async def grant(epoch: int) -> None:
        raise StoreFailed("disk full")

    monkeypatch.setattr(journal, "grant", grant)
    session = session_of(journal, _Link(granted(1)))
    with pytest.raises(StoreFailed):
        await session.run(lambda: None)
    assert (session.granted, session.signed_in.is_set()) == (None, False)


async def test_a_decline_that_says_not_signed_in_makes_the_session_stale(journal: Journal) -> None:
    far_end, clock, said = FarEnd(), SystemClock(), asyncio.Event()
    session = cast("Session", SimpleNamespace(terminal_id="terminal-1", fenced=False, stale=said.set))
    runner = Runner(journal, far_end, session, cast("WhoPays", None), Hub(), clock, leave=lambda reason: None)
    sent = row(State.SENT)
    sealed = journal.vault.seal(PAYER, transaction_id=sent.transaction_id)
    boot = {"boot_id": clock.boot_id, "created_boot_ms": clock.boot_ms()}
    where = {"institution": "P99000200001", "treatment_region": "990002"}
    await journal.record(replace(sent, payer_sealed=sealed, **boot, **where))  # type: ignore[arg-type]  # by name
    far_end.answers[sent.transaction_id] = Declined(Reason.NOT_SIGNED_IN)
    await runner.recover()
    async with asyncio.timeout(5):
        await said.wait()
    await runner.close()
