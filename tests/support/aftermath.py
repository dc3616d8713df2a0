"""After the faults: until everything is final, and what the operator then sees. Processes run; nobody debits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc.aio

from tests.support.cashiers import Window
from tests.support.judgement import Row
from yikatong.api.citycore.v1 import citycore_pb2
from yikatong.api.operations.v1 import operations_pb2
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.cli.province import HOME, TREATMENT, Province

FINAL_WITHIN_S: Final = 300.0
"""I6 of the design."""


async def settle(province: Province, open_windows: Sequence[Window]) -> list[Row]:
    """Waits until everything is final and confirmed, but no longer than it may take; returns all journals."""
    try:
        async with asyncio.timeout(FINAL_WITHIN_S):
            for window in open_windows:
                while await _open(window):
                    await asyncio.sleep(0.2)
            await _all_confirmed(province, await journals(open_windows))
    except TimeoutError:
        pass  # what is still open is a finding of the judgement
    return await journals(open_windows)


async def journals(open_windows: Sequence[Window]) -> list[Row]:
    return [
        Row(
            row.transaction_id,
            window.terminal,
            row.request_id,
            row.order_no,
            row.amount_fen,
            api.TransactionState.Name(row.state).removeprefix("TRANSACTION_STATE_"),
            row.confirmed,
        )
        for window in open_windows
        for row in await window.all_rows()
    ]


async def _open(window: Window) -> bool:
    """A terminal that is not there yet has something open."""
    try:
        told = await window.stub.GetTerminal(api.GetTerminalRequest(), wait_for_ready=True, timeout=30)
    except grpc.aio.AioRpcError:
        return True
    return bool(told.open_transactions) or not told.signed_in


async def _all_confirmed(province: Province, rows: Sequence[Row]) -> None:
    """Waits until the gateway has said of each approved transaction that it is confirmed."""
    wanted = {row.transaction_id for row in rows if row.state == "APPROVED"}
    with (province.folder / "gateway.log").open(encoding="utf-8") as log:
        while wanted:
            here = log.tell()
            if not (line := log.readline()).endswith("\n"):  # the line is still being written, or to come
                log.seek(here)
                await asyncio.sleep(0.2)
            elif '"confirmed"' in line:
                wanted -= {word for word in line.split('"') if word in wanted}


async def operators_view(province: Province) -> list[str]:
    """What the operator sees: the audit, each city's books, and what gateway and cities owe each other."""
    audit = await province.clearing().Audit(operations_pb2.AuditRequest(), wait_for_ready=True)
    findings = [f"audit: {finding}" for finding in audit.findings]
    home = operations_pb2.CityBooks(unreachable=True)
    async with asyncio.timeout(FINAL_WITHIN_S):
        while home.unreachable:
            books = await province.clearing().GetBooks(operations_pb2.GetBooksRequest())
            home = next(city for city in books.cities if city.region == HOME)
    claims = {
        balance.account.removeprefix("receivable:"): balance.amount_fen
        for city in books.cities
        if city.region == TREATMENT
        for balance in city.claims
        if balance.account.startswith("receivable:")
    }
    for city in books.cities:
        owed = sum(balance.amount_fen for balance in city.payables)
        if owed != claims.get(city.region, 0):
            findings.append(f"{city.region} owes {owed}, {claims.get(city.region, 0)} is claimed of it")
        if city.personal_fen + city.opening_fen + owed:
            findings.append(f"{city.region}: its entries do not add up to zero")
    entries, after, more = 0, 0, True
    while more:
        request = citycore_pb2.ListEntriesRequest(home_region=HOME, after_entry=after)
        page = await province.home_core().ListEntries(request)
        entries, more = entries + len(page.entries), page.more
        after = page.entries[-1].entry if page.entries else after
    if entries != home.entries:
        findings.append(f"{HOME} lists {entries} entries, and its books have {home.entries}")
    return findings
