"""What a watcher gets: what is the case now, then what happens, and again and again the stages that last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.core.card import ReaderState
from yikatong.core.credit_transaction import Credit
from yikatong.core.orders import Credential
from yikatong.core.terminal_table import Told, verdict
from yikatong.core.transaction import Transaction
from yikatong.terminal import transaction_rpc as messages
from yikatong.terminal.events import Happening, Readiness
from yikatong.terminal.stages import Party, Stage, StageReached, Waiting, waits_for
from yikatong.terminal.terminal import Terminal

_AGAIN_S: Final = 5.0
"""How often a stage that lasts is told again; after a minute every sixth time."""
_SLOW_AFTER_MS: Final = 60_000
_SLOW_ROUNDS: Final = 6

_STAGES: Final = {stage: api.Stage.Value(f"STAGE_{stage.name}") for stage in Stage}
_PARTIES: Final = {party: api.Party.Value(f"PARTY_{party.name}") for party in Party}


async def events(
    terminal: Terminal, queue: asyncio.Queue[Happening], *, english: bool
) -> AsyncIterator[api.WatchTerminalResponse]:
    """Never ends by itself."""
    yield event(terminal, terminal.readiness(), english=english)
    yield event(terminal, await terminal.desk.reader.state(), english=english)
    for row in await terminal.recovered.rows():
        told = event(terminal, row, english=english)
        yield api.WatchTerminalResponse(
            at=told.at, recovered=api.RecoveredEvent(transaction=told.transaction.transaction)
        )
    for reached in terminal.hub.present():
        yield event(terminal, reached, english=english)
    loop, rounds = asyncio.get_running_loop(), 0
    next_round = loop.time() + _AGAIN_S
    while True:
        try:
            async with asyncio.timeout_at(next_round):
                happening = await queue.get()
        except TimeoutError:
            rounds, next_round = rounds + 1, loop.time() + _AGAIN_S
            for reached in terminal.hub.present():
                if _elapsed_ms(terminal, reached) < _SLOW_AFTER_MS or rounds % _SLOW_ROUNDS == 0:
                    yield event(terminal, reached, english=english)
        else:
            yield event(terminal, happening, english=english)


def event(terminal: Terminal, happening: Happening, *, english: bool) -> api.WatchTerminalResponse:
    told = api.WatchTerminalResponse()
    told.at.FromDatetime(terminal.clock.now())
    match happening:
        case ReaderState():
            told.card.CopyFrom(api.CardEvent(reader=happening.name, present=happening.card_present))
        case StageReached():
            told.stage.CopyFrom(_stage(terminal, happening, english=english))
        case Transaction() | Credit():
            told.transaction.transaction.CopyFrom(messages.told(happening, english=english))
        case Readiness():
            told.health.CopyFrom(api.HealthEvent(ready=not happening.reason, reason=happening.reason))
    return told


def _stage(terminal: Terminal, reached: StageReached, *, english: bool) -> api.StageEvent:
    row, stage = reached.row, reached.stage
    credential = row.credential if isinstance(row, Transaction) else Credential.CARD
    told = api.StageEvent(
        request_id=row.request_id,
        stage=_STAGES[stage],
        prompt=stage.prompt(credential)[1 if english else 0],
        transaction_id=row.transaction_id,
        order_no=row.order_no,
        order_part=row.order_part,
        elapsed_ms=_elapsed_ms(terminal, reached),
        attempts=_attempts(terminal, row),
    )
    told.since.FromDatetime(reached.since)
    waiting = _waiting(terminal, reached, told)
    if waiting is None:
        return told
    if waiting.ends_unpaid:
        told.resolves_to = api.TRANSACTION_STATE_REVERSED
    if waiting.usual is not None:
        told.usual_ms, told.usual_at_most_ms = waiting.usual.median_ms, waiting.usual.most_ms
        told.usual_of = waiting.usual.count
    told.waiting_for = _PARTIES[waiting.party]
    told.party_name = waiting.party_en if english else waiting.party_zh
    told.sentence = waiting.sentence_en() if english else waiting.sentence_zh()
    return told


def _waiting(terminal: Terminal, reached: StageReached, told: api.StageEvent) -> Waiting | None:
    """For whom, and what is usual there; None where nobody is waited for."""
    row, usual = reached.row, terminal.hub.usual
    party = waits_for(reached.stage, reachable=terminal.session.reachable)
    if party is None:
        return None
    region, zh, en = row.home_region, row.home_city_zh, row.home_city_en
    if isinstance(row, Transaction) and not region and (home := usual.home_of(row)) is not None:
        region, zh, en = home.region.code, home.name_zh, home.name_en
    doomed = isinstance(row, Transaction) and verdict(row.state).resolves_to is Told.REVERSED
    return Waiting(party, zh, en, told.elapsed_ms, usual.of(reached.stage, region), told.attempts, doomed)


def _attempts(terminal: Terminal, row: Transaction | Credit) -> int:
    """How often it has been asked: once more than it has gone unanswered; a credit counts what it sends."""
    if isinstance(row, Credit):
        return terminal.credits.attempts(row.transaction_id)
    return terminal.runner.attempts(row.transaction_id) + 1


def _elapsed_ms(terminal: Terminal, reached: StageReached) -> int:
    return max(terminal.clock.boot_ms() - reached.since_boot_ms, 0)
