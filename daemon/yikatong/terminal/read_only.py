"""The journal's disk can't be written any more: nothing new begins, and what was promised is kept.

Nothing can be recorded, so nothing is debited, decided or told as done. But a reversal that is decided stands in the
journal: the gateway is asked for it. Its answer is kept nowhere; the ordinary start after the repair asks once more,
and is answered alike.

Where a sync has failed the kernel may show a record that was never acknowledged and is not on the disk. So the gateway
is only asked whether this machine is the terminal, and keeps nothing of what the journal seems to be. Confirmations
wait: one that was never acknowledged would meet the reversal that the next start decides. A reversal that was never
acknowledged does no harm, for the next start, after a repair that forgets it, decides the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog

from yikatong.core.bill import Bill
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.terminal_table import State
from yikatong.core.values import TerminalId
from yikatong.runtime.clock import Clock
from yikatong.runtime.leg import LinkDown
from yikatong.runtime.notify import Notifier, Watchdog, watchdog_limit_s
from yikatong.runtime.read_only_store import ReadOnlyStore, is_read_only
from yikatong.terminal.calls import Calls
from yikatong.terminal.config import DaemonConfig
from yikatong.terminal.gateway_client import GatewayChannel, SessionLink, money_link
from yikatong.terminal.journal import Journal
from yikatong.terminal.live import Limits, Live, debit_order

_log = structlog.get_logger(__name__)

_PROMISED: Final = frozenset({State.REVERSING, State.ACCEPTED})
_LOOK_S: Final = 5.0
_STATUS: Final = "磁盘只读：只完成冲正 / read-only disk: reversals only"


async def keep_promises(config: DaemonConfig, *, stop: asyncio.Event, clock: Clock, limits: Limits) -> Reason | None:
    """Until `stop` (None), until the disk can be written again (JOURNAL_UNAVAILABLE: start anew), or until another
    machine turns out to be this terminal (TERMINAL_SUPERSEDED: then no reversal leaves).

    Raises YikatongError JOURNAL_UNAVAILABLE where the journal can't be read or does not prove, CERTIFICATE_INVALID.
    """
    _log.error("the journal's disk is read-only; nothing new is taken", reason=Reason.JOURNAL_UNAVAILABLE.value)
    async with contextlib.AsyncExitStack() as stack:
        journal = Journal(config.journal, ReadOnlyStore)
        stack.push_async_callback(journal.close)
        await journal.prove()
        place = config.gateway
        gateway = GatewayChannel.connect(place.address, place.identity, server_name=place.server_name)
        stack.push_async_callback(gateway.close)
        notifier = Notifier.from_environment()
        notifier.ready(_STATUS)
        watchdog = Watchdog(notifier, _alive, limit_s=watchdog_limit_s())
        ends = [
            asyncio.create_task(_stopped(stop), name="stop"),
            asyncio.create_task(_repaired(Path(config.state)), name="repair"),
            asyncio.create_task(_keep(config, journal, gateway, clock, limits), name="promises"),
        ]
        tasks = [*ends, asyncio.create_task(watchdog.run(), name="watchdog")]
        try:
            ended, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(ended)).result()
        finally:
            notifier.stopping()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _stopped(stop: asyncio.Event) -> None:
    await stop.wait()


async def _repaired(folder: Path) -> Reason:
    while is_read_only(folder):  # noqa: ASYNC110 - a mount sets no asyncio.Event
        await asyncio.sleep(_LOOK_S)
    _log.warning("the journal's disk can be written again")
    return Reason.JOURNAL_UNAVAILABLE


async def _alive() -> None:
    """The loop turns: there is nothing else here that could be stuck."""


async def _keep(
    config: DaemonConfig, journal: Journal, gateway: GatewayChannel, clock: Clock, limits: Limits
) -> Reason:
    """Asks for every promise until it is answered, then only waits. Returns where this machine may not ask."""
    terminal_id = TerminalId(config.terminal_id)
    while (refusal := await _introduce(journal, SessionLink(gateway), terminal_id)) is not None:
        if refusal is Reason.TERMINAL_SUPERSEDED:
            return refusal
        await asyncio.sleep(_LOOK_S)
    calls = Calls(money_link(gateway, lambda: True), clock, limits)
    rows = [row for row in await journal.unresolved() if row.state in _PROMISED and not row.self_test]
    _log.info("promises to keep", count=len(rows))
    payers = [journal.vault.unseal(row.payer_sealed, transaction_id=row.transaction_id) for row in rows]
    orders = [debit_order(row, payer, terminal_id) for row, payer in zip(rows, payers, strict=True)]
    await asyncio.gather(
        *(_ask(calls, Live(row, Bill(), order=order)) for row, order in zip(rows, orders, strict=True))
    )
    await asyncio.Event().wait()
    raise AssertionError("nothing sets it")


async def _introduce(journal: Journal, link: SessionLink, terminal_id: TerminalId) -> Reason | None:
    """Whether the gateway takes this machine for the terminal. No epoch is granted, for none could be kept."""
    try:
        await link.sign_in(terminal_id, await journal.head(), version("yikatong"), only_asking=True)
    except LinkDown:
        return Reason.GATEWAY_UNREACHABLE
    except YikatongError as error:
        _log.warning("sign-in refused", reason=error.reason.value)
        # Not to be registered any more is no hindrance: what is open passes all the same.
        return None if error.reason in {Reason.TERMINAL_UNKNOWN, Reason.INSTITUTION_UNKNOWN} else error.reason
    return None


async def _ask(calls: Calls, live: Live) -> None:
    answer = (await calls.reversal(live)).answer
    _log.info(
        "answered, and kept nowhere",
        transaction_id=live.row.transaction_id,
        state=live.row.state.value,
        answer=type(answer).__name__,
    )
