"""A daemon whose reader, PSAM and keys stand behind a vendor's library, as its configuration says: debits with PIN."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.gateway_world import HERE, TERMINAL, World, world
from tests.support.terminal_world import configuration, serving
from tests.support.vendor import compiled
from yikatong.api.diagnostics.v1 import diagnostics_pb2 as diagnostics
from yikatong.api.diagnostics.v1.diagnostics_pb2_grpc import DiagnosticsServiceStub
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.reasons import Reason
from yikatong.drivers.vendor.unit import PSAM
from yikatong.runtime import edge
from yikatong.simulators.card import issuer
from yikatong.simulators.card.deck import find
from yikatong.simulators.vendor_unit import Call, Fault, Manner, VendorUnit, types
from yikatong.terminal.config import CardAuthentication, PinKeypad, Reader

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("library"))


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


def _request() -> api.DebitRequest:
    return api.DebitRequest(
        request_id=str(uuid.uuid4()),
        order_no=str(uuid.uuid4()),
        amount_fen=3650,
        purpose=money.PURPOSE_PHARMACY_PURCHASE,
        wait_ms=10_000,
    )


def _seed(folder: Path, card: str = "works") -> Path:
    """Whose card it is lives in the gateway's own city and has an account there."""
    who = {"social_security_number": find(card).data.social_security_number, "home_region": HERE.code}
    path = folder / "accounts.json"
    path.write_text(json.dumps({"persons": [who | {"insured": True}], "accounts": [who | {"balance_fen": 10_000}]}))
    return path


async def test_a_debit_at_a_librarys_reader_with_its_own_keys(province: World, library: Path) -> None:
    with VendorUnit(province.folder / "unit", [types("123456")]) as unit:
        unit.insert(find("works").make())
        async with province.gateway(seed=str(_seed(province.folder))) as port:
            config = configuration(
                province.folder,
                port,
                province.ca.client(TERMINAL),
                reader=Reader(kind="library", library=str(library), device=str(unit.path)),
                pin_keypad=PinKeypad("reader"),
            )
            async with (
                serving(config),
                grpc.aio.insecure_channel(f"unix:{config.sockets.his}") as window,
                grpc.aio.insecure_channel(f"unix:{config.sockets.technician}") as technician,
            ):
                his: Any = TerminalServiceStub(window)
                unit.fail(Fault(Call.APPLICATION, Manner.CRASH))
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await his.Debit(_request(), timeout=30)
                error = edge.error_of(refused.value)
                assert error is not None
                assert error.reason is Reason.READER_FAILED
                paid = (await his.Debit(_request(), timeout=30)).transaction
                assert paid.word == api.WORD_PAID
                doctor: Any = DiagnosticsServiceStub(technician)
                health = await doctor.GetHealth(diagnostics.GetHealthRequest(), timeout=30)
                found = {probe.name: probe.reason for probe in health.probes}
                assert (found["reader"], found["card"], found["pin-keypad"]) == ("", "", "")


async def test_a_gated_card_is_opened_by_the_psam_in_the_units_own_slot_and_debited_with_pin(
    province: World, library: Path
) -> None:
    card = "third-generation-gated"
    with VendorUnit(province.folder / "unit", [types("123456")] * 2) as unit:
        unit.insert(find(card).make())
        async with province.gateway(seed=str(_seed(province.folder, card))) as port:
            config = configuration(
                province.folder,
                port,
                province.ca.client(TERMINAL),
                reader=Reader(kind="library", library=str(library), device=str(unit.path)),
                card_authentication=CardAuthentication(kind="psam", psam_genuineness_key="4701"),
                pin_keypad=PinKeypad("reader"),
            )
            async with (
                serving(config),
                grpc.aio.insecure_channel(f"unix:{config.sockets.his}") as window,
                grpc.aio.insecure_channel(f"unix:{config.sockets.technician}") as technician,
            ):
                his: Any = TerminalServiceStub(window)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await his.Debit(_request(), timeout=30)
                error = edge.error_of(refused.value)
                assert error is not None
                assert (error.reason, error.facts["outcome"]) == (Reason.NO_PSAM, "NOT_MOVED")
                unit.insert(issuer.psam(), PSAM)
                paid = (await his.Debit(_request(), timeout=30)).transaction
                assert paid.word == api.WORD_PAID
                doctor: Any = DiagnosticsServiceStub(technician)
                health = await doctor.GetHealth(diagnostics.GetHealthRequest(), timeout=30)
                found = {probe.name: probe.reason for probe in health.probes}
                assert (found["card"], found["authentication"]) == ("", "")
