"""Who gets in: certificates, roles, the terminal named in the body, sessions and copies of terminals."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.gateway_world import OTHER_TERMINAL, TERMINAL, World, order, payer, world
from yikatong.api.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from yikatong.api.operations.v1 import operations_pb2
from yikatong.core.credit_orders import CreditDeclined, CreditKind, CreditOrder
from yikatong.core.orders import (
    AlreadyReversed,
    Declined,
    Fenced,
    NotFound,
    Posted,
    ReversalCause,
    Reversed,
    Tombstoned,
    WasDeclined,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, Institution, TerminalId, TransactionId
from yikatong.gateway.development_ca import DevelopmentCa
from yikatong.gateway.rpc import admit
from yikatong.runtime import wire
from yikatong.runtime.edge import error_of
from yikatong.runtime.tls import Identity
from yikatong.terminal.gateway_client import GatewayChannel


@pytest.fixture
async def province() -> AsyncIterator[World]:
    async with world() as made:
        yield made


def stub_of(channel: GatewayChannel) -> gateway_pb2_grpc.GatewayServiceAsyncStub:
    return gateway_pb2_grpc.GatewayServiceStub(channel.channel)


def _expired(province: World) -> Identity:
    return province.ca.client("expired-1", life=timedelta(minutes=-1))


def _other_authority(province: World) -> Identity:
    other = DevelopmentCa.create(province.folder / "other-pki").client(TERMINAL)
    return replace(other, authority=province.ca.folder / "ca.pem")


def _server_certificate(province: World) -> Identity:
    return province.ca.server("not-a-client")


@pytest.mark.parametrize("identity", [_expired, _other_authority, _server_certificate])
async def test_the_handshake_refuses(province: World, identity: Callable[[World], Identity]) -> None:
    async with province.gateway() as port:
        stub = stub_of(province.channel(port, identity=identity(province)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SignIn(gateway_pb2.SignInRequest(terminal_id=TERMINAL), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_nobody_without_a_certificate(province: World) -> None:
    async with province.gateway() as port:
        authority = (province.ca.folder / "ca.pem").read_bytes()
        async with grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(authority)) as channel:
            stub: gateway_pb2_grpc.GatewayServiceAsyncStub = gateway_pb2_grpc.GatewayServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.SignIn(gateway_pb2.SignInRequest(terminal_id=TERMINAL), timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_nobody_in_the_clear(province: World) -> None:
    async with province.gateway() as port, grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        stub: gateway_pb2_grpc.GatewayServiceAsyncStub = gateway_pb2_grpc.GatewayServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SignIn(gateway_pb2.SignInRequest(terminal_id=TERMINAL), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def _refusal(call: grpc.aio.UnaryUnaryCall) -> tuple[grpc.StatusCode, Reason | None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    told = error_of(caught.value)
    return caught.value.code(), told.reason if told else None


async def test_a_terminal_speaks_for_itself_alone(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        stub = stub_of(province.channel(port, OTHER_TERMINAL))
        debit = order(1)
        wired = wire.order_to_wire(debit)
        unknown = (grpc.StatusCode.PERMISSION_DENIED, Reason.TERMINAL_UNKNOWN)
        reversal = wire.reversal_to_wire(debit, ReversalCause.TIMEOUT)
        run = debit.transaction_id
        for call in (
            stub.SignIn(gateway_pb2.SignInRequest(terminal_id=TERMINAL)),
            stub.SignOut(gateway_pb2.SignOutRequest(terminal_id=TERMINAL)),
            stub.Debit(gateway_pb2.DebitRequest(order=wired, attempt=1, ttl_ms=9_000)),
            stub.Confirm(gateway_pb2.ConfirmRequest(original=wired)),
            stub.Reverse(gateway_pb2.ReverseRequest(reversal=reversal)),
            stub.ReportSelfTest(gateway_pb2.ReportSelfTestRequest(terminal_id=TERMINAL, run_id=run)),
        ):
            assert await _refusal(call) == unknown
        assert await link.enquire(debit) == NotFound(), "nothing was recorded"


GATEWAY = ("yikatong.api.gateway.v1.GatewayService", "yikatong.api.gateway.v1.SelfTestService")
OPERATIONS = (
    "yikatong.api.operations.v1.ClearingService",
    "yikatong.api.operations.v1.FleetService",
    "yikatong.api.operations.v1.ReconciliationService",
    "yikatong.api.operations.v1.RegistryService",
    "yikatong.api.operations.v1.ResolutionService",
)


def _methods() -> list[tuple[str, str]]:
    """Every method of the two packages, by its service: what is served, and what the matrix has to know."""
    protos = Path(__file__).resolve().parents[2] / "protos/gen/yikatong/api"
    found = []
    for folder in ("gateway", "operations"):
        for path in sorted((protos / folder / "v1").glob("*_pb2.py")):
            module = importlib.import_module(f"yikatong.api.{folder}.v1.{path.stem}")
            for service in module.DESCRIPTOR.services_by_name.values():
                found += [(service.full_name, method.name) for method in service.methods]
    return found


def test_the_matrix_knows_every_service() -> None:
    assert {service for service, _ in _methods()} == {*GATEWAY, *OPERATIONS}


@pytest.mark.parametrize(
    ("name", "services"),
    [(TERMINAL, GATEWAY), ("terminal-99", GATEWAY), ("operator-1", OPERATIONS), ("gateway", GATEWAY)],
)
async def test_every_method_is_for_its_role_alone(province: World, name: str, services: tuple[str, ...]) -> None:
    """Requests are empty: who may call hears that, who may not hears nothing else than that."""
    async with province.gateway() as port:
        channel = province.channel(port, name).channel
        refused = set()
        for service, method in _methods():
            call = channel.unary_unary(f"/{service}/{method}")
            try:
                await call(b"")
            except grpc.aio.AioRpcError as error:
                assert error.code() is not grpc.StatusCode.UNIMPLEMENTED, method
                told = error_of(error)
                if told is not None and told.reason is Reason.NOT_ALLOWED:
                    refused.add((service, method))
        assert refused == {(service, method) for service, method in _methods() if service not in services}


async def test_a_certificate_that_is_no_terminals_learns_and_files_nothing(province: World) -> None:
    name = "terminal-99"
    async with province.gateway() as port:
        stranger = stub_of(province.channel(port, name))
        unknown = (grpc.StatusCode.PERMISSION_DENIED, Reason.TERMINAL_UNKNOWN)
        account = gateway_pb2.GetAccountRequest(payer=wire.payer_to_wire(payer(1)))
        run = str(uuid4())
        for call in (
            stranger.SignIn(gateway_pb2.SignInRequest(terminal_id=name)),
            stranger.GetAccount(account),
            stranger.ReportSelfTest(gateway_pb2.ReportSelfTestRequest(terminal_id=name, run_id=run)),
        ):
            assert await _refusal(call) == unknown


class _Caller:
    """Just enough of a call's context: who it is."""

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_common_name": [TERMINAL.encode()]}


def test_a_request_of_which_nobody_said_whom_it_names_is_refused() -> None:
    with pytest.raises(YikatongError) as caught:
        admit(_Caller(), "/yikatong.api.gateway.v1.GatewayService/New", operations_pb2.AuditRequest())  # type: ignore[arg-type]  # just enough
    assert caught.value.reason is Reason.NOT_ALLOWED


async def test_a_terminal_that_was_taken_out_is_refused_for_good_and_may_still_reverse(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        paid = order(1)
        assert isinstance(await link.debit(paid, attempt=1, ttl_ms=9_000), Posted)
    async with province.gateway(terminals=[]) as port:
        stub, link = stub_of(province.channel(port)), province.link(port)
        fresh, repeated = order(1), order(1)
        request = gateway_pb2.DebitRequest(order=wire.order_to_wire(fresh), attempt=1, ttl_ms=9_000)
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Debit(request)
            told = error_of(caught.value)
            assert told is not None
            assert (caught.value.code(), told.reason) == (grpc.StatusCode.PERMISSION_DENIED, Reason.TERMINAL_UNKNOWN)
            assert (told.facts["outcome"], told.facts["retry"]) == ("NOT_MOVED", "NEVER")
        assert await link.reverse(fresh, ReversalCause.TIMEOUT) == WasDeclined(), "what was said holds"
        assert await link.debit(repeated, attempt=2, ttl_ms=9_000) == AlreadyReversed(), "it may have been forwarded"
        assert isinstance(await link.reverse(paid, ReversalCause.RECOVERY), Reversed)


async def test_only_the_gateway_may_call_a_city(province: World) -> None:
    from yikatong.api.citycore.v1 import citycore_pb2, citycore_pb2_grpc

    stub: citycore_pb2_grpc.CityCoreServiceAsyncStub = citycore_pb2_grpc.CityCoreServiceStub(
        province.channel(province.city_port).channel
    )
    debit = replace(order(1), home_region=payer(1).card_region)
    request = citycore_pb2.DebitRequest(order=wire.order_to_wire(debit), attempt=1)
    assert await _refusal(stub.Debit(request)) == (grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_ALLOWED)


async def test_what_a_sign_in_tells(province: World) -> None:
    async with province.gateway() as port:
        stub = stub_of(province.channel(port))
        answer = await stub.SignIn(gateway_pb2.SignInRequest(terminal_id=TERMINAL))
        assert (answer.epoch, answer.institution, answer.treatment_region) == (1, "P37010000001", "370100")
        assert (answer.policy_hotline, answer.fault_hotline) == ("0631-0000000", "0531-0000000")
        await stub.SignOut(gateway_pb2.SignOutRequest(terminal_id=TERMINAL, epoch=1))
        again = await stub.SignIn(gateway_pb2.SignInRequest(terminal_id=TERMINAL, epoch=1))
        assert again.epoch == 2


async def test_an_older_epoch_is_fenced_but_may_still_reverse(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        old = order(1)
        assert isinstance(await link.debit(old, attempt=1, ttl_ms=9_000), Posted)
        stub = stub_of(province.channel(port))
        await stub.SignIn(gateway_pb2.SignInRequest(terminal_id=TERMINAL, epoch=1, sequence=old.sequence))
        late_twin = order(1)
        assert isinstance(await link.debit(late_twin, attempt=1, ttl_ms=9_000), Posted), "granted, but not yet used"
        assert isinstance(await link.debit(order(1, epoch=2), attempt=1, ttl_ms=9_000), Posted)
        assert await link.debit(order(1), attempt=1, ttl_ms=9_000) == Fenced()
        unseen = order(1)
        assert isinstance(await link.reverse(unseen, ReversalCause.RECOVERY), Tombstoned)
        assert isinstance(await link.debit(old, attempt=2, ttl_ms=9_000), Posted), "a known one is answered"


async def test_a_clone_is_fenced(province: World) -> None:
    async with province.gateway() as port:
        link = await province.signed_in(port)
        original = order(1)
        assert isinstance(await link.debit(original, attempt=1, ttl_ms=9_000), Posted)
        clone = order(1, sequence=original.sequence)
        assert await link.debit(clone, attempt=1, ttl_ms=9_000) == Fenced()
        assert await link.debit(clone, attempt=2, ttl_ms=9_000) == Fenced()


async def test_an_epoch_that_was_never_granted_debits_nothing(province: World) -> None:
    async with province.gateway() as port:
        link = province.link(port)
        for _ in range(2):  # and the first one grants nothing to the second
            assert await link.debit(order(1), attempt=1, ttl_ms=9_000) == Declined(Reason.NOT_SIGNED_IN)


async def test_a_terminal_neither_sees_nor_takes_another_institutions_requests(province: World) -> None:
    victim, name = Institution("P37010000002"), "terminal-suspended"
    async with province.gateway() as port:
        hostile, own = await province.signed_in(port), await province.signed_in(port, name)
        theirs = order(1, institution=victim, terminal_id=TerminalId(name))
        same: dict[str, Any] = {"institution": victim, "request_id": theirs.request_id, "order_no": theirs.order_no}
        stranger = Declined(Reason.INSTITUTION_UNKNOWN)
        assert await hostile.debit(order(1, **same), attempt=1, ttl_ms=9_000) == stranger
        refused = Declined(Reason.INSTITUTION_SUSPENDED)
        assert await own.debit(theirs, attempt=1, ttl_ms=9_000) == refused, "its request id is still its own"
        assert await hostile.debit(order(1, **same), attempt=1, ttl_ms=9_000) == stranger, "nor is it named to others"
        next_one = order(1, institution=victim, terminal_id=TerminalId(name))
        never_paid = order(1, institution=victim)
        request = CreditOrder(TransactionId(str(uuid4())), CreditKind.REFUND, never_paid, Fen(1), next_one.request_id)
        assert isinstance(await hostile.credit(request, attempt=1), CreditDeclined)
        assert await own.debit(next_one, attempt=1, ttl_ms=9_000) == refused, "nor is it taken by a credit"


@pytest.mark.parametrize("development", [True, False])
async def test_reflection_is_for_development_alone(province: World, development: bool) -> None:
    async with province.gateway(development=development) as port:
        channel = province.channel(port).channel
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        if development:
            answer = await call.read()
            names = {service.name for service in answer.list_services_response.service}
            assert "yikatong.api.gateway.v1.GatewayService" in names
            call.cancel()
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health(province: World) -> None:
    async with province.gateway() as port:
        stub = health_pb2_grpc.HealthStub(province.channel(port).channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
