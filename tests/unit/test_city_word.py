"""What a city's core says is data, and must neither end nor hang the gateway of a province."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from tests.gateway_world import FAR
from yikatong.api.citycore.v1 import citycore_pb2 as city
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.core.orders import Posted, Unfit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen
from yikatong.gateway.city_client import CityClient
from yikatong.gateway.unresolved import _suspense
from yikatong.ledger.report import Entry
from yikatong.runtime import wire
from yikatong.runtime.leg import LinkDown

CALLS_MAX = 200


class Pages:
    """Lists entries as told; a client that has not had enough after so many pages never will."""

    def __init__(self, *pages: city.ListEntriesResponse) -> None:
        self._pages, self.calls = pages, 0

    async def ListEntries(self, request: Any, timeout: float) -> city.ListEntriesResponse:
        self.calls += 1
        assert self.calls < CALLS_MAX, "it asks for ever"
        return self._pages[min(self.calls, len(self._pages)) - 1]


def client(stub: object) -> CityClient:
    made = CityClient(cast("grpc.aio.Channel", SimpleNamespace(unary_unary=lambda *a, **k: None)), call_s=1.0)
    made._stub = stub  # type: ignore[assignment]
    return made


def entry(number: int) -> city.Entry:
    return city.Entry(
        entry=number, transaction_id="t", account="payable:370100", amount_fen=1, accounting_date="2026-01-02"
    )


@pytest.mark.parametrize(
    "page",
    [
        city.ListEntriesResponse(more=True),
        city.ListEntriesResponse(entries=[entry(1)], more=True),
        city.ListEntriesResponse(entries=[entry(2), entry(1)], more=True),
    ],
    ids=["no entries, and more", "the same entry for ever", "out of order"],
)
async def test_a_list_that_does_not_advance_ends(page: city.ListEntriesResponse) -> None:
    """`totals` is asked for books, audits and the list of what needs people: it never returns, page after page."""
    with pytest.raises((YikatongError, LinkDown)):
        await client(Pages(page)).totals(FAR)


@pytest.mark.parametrize("date", ["", "2026-02-30", "soon"])
def test_an_entry_in_suspense_without_a_date_does_not_hide_the_list(date: str) -> None:
    """ListUnresolved raises for all cities where one city's suspense account names no date."""

    class Connection:
        def execute(self, sql: str, values: object) -> Any:
            return SimpleNamespace(fetchone=lambda: None)

    found = _suspense(cast("Any", Connection()), region=FAR, entries=[Entry(1, "t", "suspense", Fen(100), date)])
    assert len(found) == 1


@pytest.mark.parametrize("date", ["", "20260102", "2026-1-2", "2026-02-30", "2026-01-02T00:00:00", "x" * 10_000])
def test_a_posting_without_an_accounting_date_does_not_fit(date: str) -> None:
    """The one border where it can be caught; behind it the date is a key of books, days and statements."""
    said = money.DebitAnswer(
        transaction_id="t", outcome=money.DEBIT_OUTCOME_POSTED, amount_fen=1, home_region=FAR.code, accounting_date=date
    )
    assert not isinstance(wire.debit_answer_from_wire("t", said), Posted)


OURS = [
    Reason.TERMINAL_SUPERSEDED, Reason.ORDER_ALREADY_PAID, Reason.ORDER_IN_PROGRESS, Reason.REQUEST_ID_REUSED,
    Reason.NOT_SIGNED_IN, Reason.TERMINAL_UNKNOWN, Reason.JOURNAL_UNAVAILABLE, Reason.OUTCOME_PENDING,
]  # fmt: skip


@pytest.mark.parametrize("reason", OURS)
def test_a_city_does_not_say_what_is_the_gateways_to_say(reason: Reason) -> None:
    """DECLINED(ORDER_ALREADY_PAID) from a city: the cashier hands out the goods; (TERMINAL_SUPERSEDED): window shut."""
    said = money.DebitAnswer(transaction_id="t", outcome=money.DEBIT_OUTCOME_DECLINED, reason=reason.value)

    class Stub:
        async def GetTransaction(self, request: Any, timeout: float) -> city.GetTransactionResponse:
            return city.GetTransactionResponse(answer=said)

    async def asked() -> Any:
        return await client(Stub()).enquire_id("t", FAR)

    assert asyncio.run(asked()) == Unfit()
