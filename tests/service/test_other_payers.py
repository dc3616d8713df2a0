"""Paying by e-voucher and by resident identity card: devices on serial lines, a daemon, a gateway, a service.

Real parts end to end, over mTLS and HTTPS. The deck's person is insured here, person 1 in the far city.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import msgspec
import pytest

from tests.gateway_world import FAR, HERE, OTHER_TERMINAL, World, order, person, world
from tests.support.terminal_world import Daemon, command, daemon
from tests.support.voucher_world import VoucherWorld, voucher_service
from yikatong.api.diagnostics.v1 import diagnostics_pb2 as diagnostics
from yikatong.api.gateway.v1 import gateway_pb2 as gateway
from yikatong.api.gateway.v1 import gateway_pb2_grpc
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.orders import Declined, VoucherPayer
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region, VoucherCode
from yikatong.drivers.serial.code_scanner import SerialCodeScanner
from yikatong.gateway.config import InstitutionConfig
from yikatong.runtime import edge
from yikatong.simulators.card.deck import find
from yikatong.simulators.id_card_module import Command, IdCard, IdCardModule
from yikatong.simulators.reader import SimulatedReader
from yikatong.simulators.scanner import Scanner
from yikatong.simulators.voucher_service import Person
from yikatong.terminal.config import IdCardReader
from yikatong.terminal.config import Scanner as ScannerConfig

DATA = find("works").data
HOLDER = Person(DATA.social_security_number, DATA.name)
FAR_HOLDER = Person(person(1).reveal(), "测试乙", FAR.code)
ID_CARD = IdCard(HOLDER.number, HOLDER.name, HOLDER.number[6:14])
BALANCE_FEN, FAR_BALANCE_FEN = 10_000, 100_000
WAIT_MS = 60_000
VOUCHER, RESIDENT_ID = money.CREDENTIAL_VOUCHER, money.CREDENTIAL_RESIDENT_ID
ENGLISH = (("accept-language", "en"),)


@pytest.fixture
async def province() -> AsyncIterator[World]:
    """The near city takes identity cards, the far one does not."""
    async with world() as made:
        path = made.folder / "seed.json"
        seed = json.loads(path.read_text())
        holder = {"social_security_number": HOLDER.number, "home_region": HERE.code}
        seed["persons"].append(holder)
        seed["accounts"].append({**holder, "balance_fen": BALANCE_FEN})
        path.write_text(json.dumps(seed))
        cities = [msgspec.structs.replace(c, takes_resident_id=c.region == HERE.code) for c in made.config.cities]
        made.config = msgspec.structs.replace(made.config, cities=cities)
        yield made


@pytest.fixture
async def service(province: World) -> AsyncIterator[VoucherWorld]:
    async with voucher_service(province.ca, province.folder) as running:
        province.config = msgspec.structs.replace(province.config, voucher_service=running.section())
        yield running


class Window:
    """A daemon with scanner and reader of identity cards, and what its HIS does."""

    def __init__(self, running: Daemon, scanner: Scanner, id_cards: IdCardModule, his: Any) -> None:
        self.running, self.scanner, self.id_cards, self.his = running, scanner, id_cards, his
        self._listening = asyncio.Event()
        if running.terminal.scanner is not None:
            assert isinstance(running.terminal.scanner, SerialCodeScanner)
            self._told_when_listening(running.terminal.scanner)

    async def debit(self, credential: int, **changes: Any) -> api.Transaction:
        known: dict[str, Any] = {
            "request_id": str(uuid.uuid4()),
            "order_no": str(uuid.uuid4()),
            "amount_fen": 3650,
            "purpose": money.PURPOSE_PHARMACY_PURCHASE,
            "wait_ms": WAIT_MS,
            "credential": credential,
        }
        return (await self.his.Debit(api.DebitRequest(**{**known, **changes}), timeout=60)).transaction

    async def refused(self, asking: Any) -> YikatongError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asking
        told = edge.error_of(caught.value)
        assert told is not None, caught.value
        return told

    @asynccontextmanager
    async def watched(self, stage: int, **wanted: Any) -> AsyncIterator[api.StageEvent]:
        """Inside, that stage has been reached."""
        watching = self.his.WatchTerminal(api.WatchTerminalRequest(), metadata=ENGLISH)
        try:
            async for event in watching:
                if event.HasField("stage") and event.stage.stage == stage:
                    yield event.stage
                    break
        finally:
            watching.cancel()

    async def shows(self, code: str) -> None:
        """The cardholder holds a code before the scanner once what is scanned counts."""
        await self._listening.wait()
        self._listening.clear()
        self.scanner.present(code)

    def _told_when_listening(self, scanner: SerialCodeScanner) -> None:
        loop, honest = asyncio.get_running_loop(), scanner.scan

        async def scan(*, timeout_ms: int, listening: Callable[[], None]) -> VoucherCode:
            def both() -> None:
                listening()
                loop.call_soon_threadsafe(self._listening.set)

            return await honest(timeout_ms=timeout_ms, listening=both)

        scanner.scan = scan  # type: ignore[method-assign, assignment]

    async def by_voucher(self, code: str, **changes: Any) -> api.Transaction:
        paid, _ = await asyncio.gather(self.debit(VOUCHER, **changes), self.shows(code))
        return paid


@asynccontextmanager
async def window(province: World, port: int, **changes: Any) -> AsyncIterator[Window]:
    at, on = province.folder / "scanner0", province.folder / "id-card0"
    devices = {"scanner": ScannerConfig(str(at)), "id_card_reader": IdCardReader(str(on))}
    reader = SimulatedReader()
    reader.insert(find("works").make())
    with Scanner(at) as scanner, IdCardModule(on) as id_cards:
        async with (
            daemon(province, port, reader=reader, **{**devices, **changes}) as running,
            grpc.aio.insecure_channel(f"unix:{running.config.sockets.his}") as channel,
        ):
            yield Window(running, scanner, id_cards, TerminalServiceStub(channel))


async def test_an_e_voucher_pays_in_the_far_city(province: World, service: VoucherWorld) -> None:
    async with province.gateway() as port, window(province, port) as till:
        paid = await till.by_voucher(service.code(FAR_HOLDER))
        assert (paid.word, paid.amount_fen, paid.balance_fen) == (api.WORD_PAID, 3650, FAR_BALANCE_FEN - 3650)
        assert (paid.home_region, paid.credential) == (FAR.code, VOUCHER)
        assert (paid.card_number, paid.cardholder_name) == (str(person(1)), "测**")
        slip = (await till.his.GetReceipt(api.GetReceiptRequest(transaction_id=paid.transaction_id))).text
        assert "医保电子凭证 / E-voucher" in slip
        assert "卡号" not in slip
        cancel = api.CancelTransactionRequest(transaction_id=paid.transaction_id, request_id=str(uuid.uuid4()))
        back = (await till.his.CancelTransaction(cancel, timeout=60)).transaction
        assert (back.word, back.balance_fen) == (api.WORD_GIVEN_BACK, FAR_BALANCE_FEN), "a credit asks for no code"


async def test_a_code_pays_once_and_the_same_request_is_answered_alike(province: World, service: VoucherWorld) -> None:
    async with province.gateway() as port, window(province, port) as till:
        code, request_id, order_no = service.code(HOLDER), str(uuid.uuid4()), str(uuid.uuid4())
        paid = await till.by_voucher(code, request_id=request_id, order_no=order_no)
        assert paid.word == api.WORD_PAID
        again = await till.debit(VOUCHER, request_id=request_id, order_no=order_no)  # nobody shows anything
        assert (again.transaction_id, again.word) == (paid.transaction_id, api.WORD_PAID)
        other = await till.refused(till.debit(RESIDENT_ID, request_id=request_id, order_no=order_no))
        assert (other.reason, other.facts["field"]) == (Reason.REQUEST_ID_REUSED, "credential")
        refused = await till.refused(till.by_voucher(code))
        assert (refused.reason, refused.facts["outcome"]) == (Reason.VOUCHER_USED, "NOT_MOVED")
        service.fault("forgetful")  # a service that lets a code through again: the gateway does not
        forgotten = service.code(HOLDER)
        assert (await till.by_voucher(forgotten)).word == api.WORD_PAID
        declined = await till.by_voucher(forgotten)
        assert (declined.state, declined.reason) == (api.TRANSACTION_STATE_DECLINED, "VOUCHER_USED")
        assert (declined.outcome, declined.word) == (api.OUTCOME_NOT_MOVED, api.WORD_NOT_PAID)


async def test_what_is_asked_of_whom_while_a_voucher_is_awaited(province: World, service: VoucherWorld) -> None:
    service.fault("slow")
    async with province.gateway() as port, window(province, port) as till:
        paying = asyncio.create_task(till.debit(VOUCHER))
        async with till.watched(api.STAGE_WAITING_FOR_CODE) as stage:
            assert (stage.waiting_for, "before the scanner" in stage.prompt) == (api.PARTY_CODE, True)
        await till.shows(service.code(HOLDER))
        async with till.watched(api.STAGE_RESOLVING_CODE) as stage:
            assert stage.waiting_for == api.PARTY_VOUCHER_SERVICE
        service.fault()
        assert (await paying).word == api.WORD_PAID


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("down", Reason.VOUCHER_SERVICE_UNREACHABLE), ("silent", Reason.VOUCHER_SERVICE_UNREACHABLE)],
)
async def test_a_service_that_is_away_moves_nothing(
    province: World, service: VoucherWorld, fault: str, reason: Reason
) -> None:
    service.fault(fault)
    async with (
        province.gateway(voucher_service=service.section(timeout_ms=500)) as port,
        window(province, port) as till,
    ):
        told = await till.refused(till.by_voucher(service.code(HOLDER)))
        assert (told.reason, told.facts["outcome"], told.facts["retry"]) == (reason, "NOT_MOVED", "SAME_REQUEST")
        service.fault()
        assert (await till.by_voucher(service.code(HOLDER))).word == api.WORD_PAID
        assert (await till.debit(money.CREDENTIAL_CARD)).word == api.WORD_PAID


async def test_an_old_code_and_what_is_none(province: World, service: VoucherWorld) -> None:
    async with province.gateway() as port, window(province, port) as till:
        old = service.code(HOLDER)
        service.clock.offset = timedelta(seconds=31)
        assert (await till.refused(till.by_voucher(old))).reason is Reason.VOUCHER_EXPIRED
        assert (await till.refused(till.by_voucher("6901234567892"))).reason is Reason.VOUCHER_INVALID


async def test_a_gateway_without_a_service_says_so_before_anybody_shows_a_code(province: World) -> None:
    async with province.gateway() as port, window(province, port) as till:
        told = await till.refused(till.debit(VOUCHER))
        assert (told.reason, told.facts["outcome"]) == (Reason.VOUCHER_NOT_ACCEPTED, "NOT_MOVED")


async def test_a_terminal_without_the_devices(province: World, service: VoucherWorld) -> None:
    async with province.gateway() as port, window(province, port, scanner=None, id_card_reader=None) as till:
        assert (await till.refused(till.debit(VOUCHER))).reason is Reason.NO_SCANNER
        assert (await till.refused(till.debit(RESIDENT_ID))).reason is Reason.NO_ID_CARD_READER
        assert (await till.debit(money.CREDENTIAL_UNSPECIFIED)).credential == money.CREDENTIAL_CARD


async def test_a_resident_identity_card_pays_where_the_home_city_takes_it(province: World) -> None:
    async with province.gateway() as port, window(province, port) as till:
        paying = asyncio.create_task(till.debit(RESIDENT_ID))
        async with till.watched(api.STAGE_WAITING_FOR_ID_CARD) as stage:
            assert stage.waiting_for == api.PARTY_ID_CARD
        till.id_cards.lay(ID_CARD)
        paid = await paying
        assert (paid.word, paid.balance_fen, paid.home_region) == (api.WORD_PAID, BALANCE_FEN - 3650, HERE.code)
        assert (paid.card_number, paid.credential) == (
            f"{HOLDER.number[:4]}**********{HOLDER.number[-4:]}",
            RESIDENT_ID,
        )
    closed = [msgspec.structs.replace(city, takes_resident_id=False) for city in province.config.cities]
    async with province.gateway(cities=closed) as port, window(province, port) as till:
        till.id_cards.lay(ID_CARD)
        declined = await till.debit(RESIDENT_ID)
        assert (declined.state, declined.reason) == (api.TRANSACTION_STATE_DECLINED, "RESIDENT_ID_NOT_ACCEPTED")
        asked = till.his.GetAccount(api.GetAccountRequest(wait_ms=WAIT_MS, credential=RESIDENT_ID))
        assert (await till.refused(asked)).reason is Reason.RESIDENT_ID_NOT_ACCEPTED


@pytest.mark.parametrize(
    "card",
    [
        IdCard(HOLDER.number, HOLDER.name, HOLDER.number[6:14], "20000101", "20100101"),
        IdCard(HOLDER.number, HOLDER.name, HOLDER.number[6:14], "20990101", "长期"),
    ],
    ids=["over", "not yet"],
)
async def test_an_identity_card_outside_its_validity(province: World, card: IdCard) -> None:
    async with province.gateway() as port, window(province, port) as till:
        till.id_cards.lay(card)
        told = await till.refused(till.debit(RESIDENT_ID))
        assert (told.reason, told.facts["outcome"]) == (Reason.ID_CARD_NOT_VALID, "NOT_MOVED")
        assert Command.READ in till.id_cards.heard


async def test_an_account_is_looked_at_in_each_way(province: World, service: VoucherWorld) -> None:
    async with province.gateway() as port, window(province, port) as till:
        till.id_cards.lay(ID_CARD)
        ask = api.GetAccountRequest(wait_ms=WAIT_MS, credential=RESIDENT_ID)
        by_id = await till.his.GetAccount(ask, timeout=60)
        assert (by_id.balance_fen, by_id.card.card_number, by_id.card.name) == (BALANCE_FEN, "", DATA.name[:1] + "**")
        asking = asyncio.ensure_future(
            till.his.GetAccount(api.GetAccountRequest(wait_ms=WAIT_MS, credential=VOUCHER), timeout=60)
        )
        await till.shows(service.code(FAR_HOLDER))
        by_code = await asking
        assert (by_code.balance_fen, by_code.home_region) == (FAR_BALANCE_FEN, FAR.code)
        assert by_code.card.social_security_number == str(person(1))


async def test_doctor_sees_the_devices(province: World) -> None:
    async with province.gateway() as port, window(province, port) as till:

        async def probes() -> dict[str, str]:
            health = await till.running.diagnostics.GetHealth(diagnostics.GetHealthRequest(), timeout=60)
            return {probe.name: probe.reason for probe in health.probes}

        told = await probes()
        assert (told["scanner"], told["id-card-reader"]) == ("", "")
        till.scanner.unplug()
        till.id_cards.unplug()
        told = await probes()
        assert (told["scanner"], told["id-card-reader"]) == ("NO_SCANNER", "NO_ID_CARD_READER")
        listed = await till.running.diagnostics.ListDevices(diagnostics.ListDevicesRequest(), timeout=60)
        found = {device.kind: (device.present, device.detail) for device in listed.devices}
        assert (found["scanner"], found["id-card-reader"]) == ((False, "NO_SCANNER"), (False, "NO_ID_CARD_READER"))
        till.scanner.plug()
        till.id_cards.plug()


async def test_the_commands(province: World, service: VoucherWorld) -> None:
    async with province.gateway() as port, window(province, port) as till:
        file = str(till.running.file)
        till.id_cards.lay(ID_CARD)
        status, out, _ = await command("card", "--credential", "resident-id", "-c", file, "--lang", "en")
        assert (status, "100.00 yuan" in out, "card number" in out) == (0, True, False), out
        paying = asyncio.ensure_future(command("pay", "36.50", "--credential", "voucher", "-c", file))
        await till.shows(service.code(HOLDER))
        status, out, _ = await paying
        assert (status, "医保电子凭证" in out) == (0, True), out


# --- at the gateway's edge ----------------------------------------------------------------------------------------


async def resolve(province: World, port: int, code: str, terminal: str) -> gateway.ResolveVoucherResponse:
    stub = gateway_pb2_grpc.GatewayServiceStub(province.channel(port, terminal).channel)
    return await stub.ResolveVoucher(gateway.ResolveVoucherRequest(code=code), timeout=20)  # type: ignore[no-any-return]


async def edge_refuses(asking: Any) -> Reason:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asking
    told = edge.error_of(caught.value)
    assert told is not None
    return told.reason


async def test_who_may_have_a_code_resolved_and_how_often(province: World, service: VoucherWorld) -> None:
    own = province.config.institutions
    suspended = [InstitutionConfig(own[0].code, own[0].name, own[0].region, "SUSPENDED"), *own[1:]]
    async with province.gateway(institutions=suspended) as port:
        refused = edge_refuses(resolve(province, port, service.code(HOLDER), OTHER_TERMINAL))
        assert await refused is Reason.INSTITUTION_SUSPENDED
    async with province.gateway(voucher_service=service.section(per_minute=2)) as port:
        for _ in range(2):
            await resolve(province, port, service.code(HOLDER), OTHER_TERMINAL)
        refused = edge_refuses(resolve(province, port, service.code(HOLDER), OTHER_TERMINAL))
        assert await refused is Reason.TOO_MANY_VOUCHERS
        assert await edge_refuses(resolve(province, port, "x", "terminal-99")) is Reason.TERMINAL_UNKNOWN
        for code in ("", "with space", "y" * 513, "汉"):
            assert await edge_refuses(resolve(province, port, code, "terminal-1")) is Reason.INVALID_FIELD


async def test_a_balance_is_told_to_the_terminal_that_has_the_proof(province: World, service: VoucherWorld) -> None:
    async with province.gateway() as port:
        resolved = await resolve(province, port, service.code(FAR_HOLDER), OTHER_TERMINAL)
        payer = VoucherPayer(person(1), Region(resolved.insured_region), resolved.proof)
        assert (await province.link(port, OTHER_TERMINAL).account(payer, None)).balance.count == FAR_BALANCE_FEN
        for terminal, shown in (("terminal-1", payer), (OTHER_TERMINAL, VoucherPayer(person(1), FAR))):
            with pytest.raises(YikatongError) as caught:
                await province.link(port, terminal).account(shown, None)
            assert caught.value.reason is Reason.VOUCHER_INVALID
        stolen = await province.signed_in(port)
        answer = await stolen.debit(order(payer=payer), attempt=1, ttl_ms=9_000)
        assert answer == Declined(Reason.VOUCHER_INVALID)


async def test_nothing_of_code_proof_or_person_is_in_a_log_or_on_a_disk(province: World, service: VoucherWorld) -> None:
    process = province.gateway_process()
    port = await process.start()
    code = service.code(FAR_HOLDER)
    try:
        async with window(province, port) as till:
            paid = await till.by_voucher(code)
            assert paid.word == api.WORD_PAID
            await process.logged(paid.transaction_id)
            journal = till.running.terminal.journal.path
    finally:
        await process.end()
    files = [process.log, *journal.parent.glob("journal.db*"), *Path(province.config.state_dir).glob("gateway.db*")]
    kept = b"".join(path.read_bytes() for path in files)
    assert paid.transaction_id.encode() in kept
    for secret in (code, code[:40], FAR_HOLDER.number, FAR_HOLDER.name):
        assert secret.encode() not in kept
