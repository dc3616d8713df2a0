"""Gated third-generation cards at a running daemon: through the gateway's security module over mTLS, and by a PSAM."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import msgspec
import pytest

from tests.gateway_world import HERE, OTHER_TERMINAL, World, world
from tests.support.terminal_world import Daemon, command, daemon
from yikatong.api.diagnostics.v1 import diagnostics_pb2 as diagnostics
from yikatong.api.gateway.v1 import gateway_pb2 as gateway
from yikatong.api.gateway.v1 import gateway_pb2_grpc
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.core.reasons import Reason, YikatongError
from yikatong.gateway.config import HsmConfig, InstitutionConfig
from yikatong.runtime import edge
from yikatong.simulators.card import issuer
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import DECK, find
from yikatong.simulators.card.security import KEY_RKSSSE, KEY_TRIES_MAX
from yikatong.simulators.reader import SimulatedReader
from yikatong.terminal.config import CardAuthentication

pytestmark = pytest.mark.timeout(120)

GATED = "third-generation-gated"
CENTRE = CardAuthentication(kind="gateway")
BY_PSAM = CardAuthentication(kind="psam", psam_genuineness_key="4701")
BALANCE_FEN = 10_000


@pytest.fixture
async def province() -> AsyncIterator[World]:
    """Everybody of the deck is insured here, and the gateway has the test issuer's keys."""
    async with world() as made:
        persons = {card.data.social_security_number for card in DECK}
        who = [{"social_security_number": person, "home_region": HERE.code} for person in sorted(persons)]
        seed, keys = made.folder / "accounts.json", made.folder / "hsm.keys"
        seed.write_text(json.dumps({"persons": who, "accounts": [one | {"balance_fen": BALANCE_FEN} for one in who]}))
        keys.touch(mode=0o600)
        keys.write_text(issuer.key_file())
        hsm = HsmConfig(str(keys))
        made.config = msgspec.structs.replace(made.config, seed=str(seed), hsm=hsm, development=True)
        yield made


class Window:
    """A daemon and what its HIS does."""

    def __init__(self, running: Daemon, reader: SimulatedReader, his: Any) -> None:
        self.running, self.reader, self._his = running, reader, his

    async def read(self) -> str:
        """The masked card number."""
        return str((await self._his.ReadCard(api.ReadCardRequest(), timeout=60)).card.card_number)

    async def refused(self) -> YikatongError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.read()
        return _error(caught.value)

    async def debit(self) -> api.Transaction:
        request = api.DebitRequest(
            request_id=str(uuid.uuid4()),
            order_no=str(uuid.uuid4()),
            amount_fen=3650,
            purpose=money.PURPOSE_PHARMACY_PURCHASE,
        )
        return (await self._his.Debit(request, timeout=60)).transaction

    async def debit_refused(self) -> YikatongError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.debit()
        return _error(caught.value)

    async def probe(self, name: str) -> diagnostics.Probe:
        health = await self.running.diagnostics.GetHealth(diagnostics.GetHealthRequest(), timeout=60)
        return next(probe for probe in health.probes if probe.name == name)


def _error(error: grpc.aio.AioRpcError) -> YikatongError:
    told = edge.error_of(error)
    assert told is not None, error
    return told


@asynccontextmanager
async def window(
    province: World, port: int, card: str = GATED, *, cards: CardAuthentication = CENTRE, **changes: Any
) -> AsyncIterator[Window]:
    reader = SimulatedReader()
    reader.insert(find(card).make())
    async with (
        daemon(province, port, reader=reader, card_authentication=cards, **changes) as running,
        grpc.aio.insecure_channel(f"unix:{running.config.sockets.his}") as channel,
    ):
        yield Window(running, reader, TerminalServiceStub(channel))


@pytest.mark.parametrize("cards", [CENTRE, BY_PSAM], ids=["centre", "psam"])
async def test_a_gated_card_is_read_and_debited(province: World, cards: CardAuthentication) -> None:
    async with province.gateway() as port, window(province, port, cards=cards) as till:
        masked = await till.read()
        assert masked.endswith(find(GATED).data.card_number[-3:])
        paid = await till.debit()
        assert (paid.word, paid.amount_fen, paid.balance_fen) == (api.WORD_PAID, 3650, BALANCE_FEN - 3650)
        assert (await till.probe("card")).reason == ""
        assert (await till.probe("authentication")).reason == ""


async def test_what_each_card_of_the_deck_meets_where_cards_are_authenticated(province: World) -> None:
    third = [card for card in DECK if card.data.version == "3.00"]
    assert {card.authenticated for card in third} == {
        None,
        Reason.CARD_NOT_GENUINE,
        Reason.CARD_ALGORITHM_UNSUPPORTED,
    }
    async with province.gateway() as port, window(province, port) as till:
        for card in third:
            till.reader.insert(card.make())
            if card.authenticated is None:
                assert (await till.debit()).word == api.WORD_PAID, card.key
                continue
            for error in (await till.refused(), await till.debit_refused()):
                assert (error.reason, error.facts["outcome"]) == (card.authenticated, "NOT_MOVED"), card.key
    async with province.gateway() as port, window(province, port, cards=CardAuthentication()) as till:
        for card in third:
            till.reader.insert(card.make())
            expected = Reason.CARD_NEEDS_AUTHENTICATION if card.data.gated else None
            assert (None if expected is None else (await till.refused()).reason) is expected
        assert "未配置" in (await till.probe("authentication")).finding_zh


@pytest.mark.parametrize("cards", [CENTRE, BY_PSAM], ids=["centre", "psam"])
async def test_every_card_has_to_prove_itself_where_that_is_demanded(
    province: World, cards: CardAuthentication
) -> None:
    demanding = msgspec.structs.replace(cards, every_card=True)
    async with province.gateway() as port, window(province, port, "works", cards=demanding) as till:
        assert (await till.debit()).word == api.WORD_PAID
        till.reader.insert(SimulatedCard(find("works").data))  # a copy of what can be read, without the keys
        assert (await till.debit_refused()).reason is Reason.CARD_NOT_GENUINE


async def test_a_gateway_that_is_down(province: World) -> None:
    async with province.gateway() as port:
        context = window(province, port)
        till = await context.__aenter__()
    try:
        error = await till.debit_refused()
        assert (error.reason, error.facts["outcome"]) == (Reason.GATEWAY_UNREACHABLE, "NOT_MOVED")
        assert (await till.refused()).reason is Reason.GATEWAY_UNREACHABLE
        till.reader.insert(find("works").make())
        assert (await till.read()).endswith(find("works").data.card_number[-3:]), "cards that read freely still do"
    finally:
        await context.__aexit__(None, None, None)


async def test_a_gateway_that_does_not_answer_in_time(province: World) -> None:
    gateway_process = province.gateway_process()
    port = await gateway_process.start()
    assert gateway_process.running is not None
    hasty = msgspec.structs.replace(CENTRE, timeout_ms=300)
    try:
        async with window(province, port, cards=hasty) as till:
            gateway_process.running.send_signal(signal.SIGSTOP)
            error = await till.refused()
            assert (error.reason, error.facts["status"]) == (Reason.GATEWAY_UNREACHABLE, "DEADLINE_EXCEEDED")
            assert (await till.debit_refused()).reason is Reason.GATEWAY_UNREACHABLE
            gateway_process.running.send_signal(signal.SIGCONT)
            while True:  # until it has caught up
                try:
                    assert (await till.read()).endswith(find(GATED).data.card_number[-3:])
                    break
                except grpc.aio.AioRpcError as late:
                    assert _error(late).reason is Reason.GATEWAY_UNREACHABLE
            assert (await till.debit()).word == api.WORD_PAID
    finally:
        gateway_process.running.send_signal(signal.SIGCONT)
        await gateway_process.end()


async def test_a_suspended_institution_opens_no_card(province: World) -> None:
    suspended = [InstitutionConfig(one.code, one.name, one.region, "SUSPENDED") for one in province.config.institutions]
    async with province.gateway(institutions=suspended) as port, window(province, port) as till:
        for error in (await till.refused(), await till.debit_refused()):
            assert (error.reason, error.facts["outcome"]) == (Reason.INSTITUTION_SUSPENDED, "NOT_MOVED")


async def test_a_terminal_that_asks_too_often(province: World) -> None:
    hsm = msgspec.structs.replace(province.config.hsm, per_minute=1)
    async with province.gateway(hsm=hsm) as port, window(province, port) as till:
        await till.read()
        error = await till.refused()
        assert (error.reason, error.facts["per_minute"]) == (Reason.TOO_MANY_AUTHENTICATIONS, "1")


async def test_a_gateway_without_a_security_module(province: World) -> None:
    async with province.gateway(hsm=HsmConfig()) as port, window(province, port) as till:
        assert (await till.refused()).reason is Reason.HSM_UNAVAILABLE
        probe = await till.probe("authentication")
        assert (probe.reason, probe.severity) == ("HSM_UNAVAILABLE", diagnostics.SEVERITY_DEGRADED)
        assert probe.next_step_zh


async def test_keys_that_are_not_the_cards_cost_one_try_and_no_more(province: World) -> None:
    """Also where doctor reads the card again and again."""
    card = find(GATED).make()
    assert isinstance(card, SimulatedCard)
    card.security.keys[KEY_RKSSSE] = bytes(16)
    async with province.gateway() as port, window(province, port) as till:
        till.reader.insert(card)
        error = await till.debit_refused()
        assert (error.reason, error.facts["retry"]) == (Reason.CARD_AUTHENTICATION_REFUSED, "NEVER")
        assert error.facts["tries_left"] == str(KEY_TRIES_MAX - 1)
        for _ in range(3):
            assert (await till.probe("card")).reason == "CARD_AUTHENTICATION_REFUSED"
        assert (await till.refused()).reason is Reason.CARD_AUTHENTICATION_REFUSED
        assert card.security.key_tries == {KEY_RKSSSE: KEY_TRIES_MAX - 1}


def question(**changes: Any) -> gateway.AuthenticateCardRequest:
    known: dict[str, Any] = {
        "algorithm": gateway.CARD_ALGORITHM_TRIPLE_DES,
        "historical_bytes": bytes(13),
        "identification_code": bytes.fromhex("990001D1560000050000000133445566"),
        "proof": gateway.CardProof(factor=bytes(8), data=bytes(8), answer=bytes(8)),
        "challenge": gateway.CardChallenge(factor=b"1" * 8, data=b"2" * 8),
    }
    return gateway.AuthenticateCardRequest(**{**known, **changes})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"algorithm": 0}, "algorithm"),
        ({"algorithm": 7}, "algorithm"),
        ({"historical_bytes": bytes(7)}, "historical_bytes"),
        ({"historical_bytes": bytes(16)}, "historical_bytes"),
        ({"identification_code": bytes(15)}, "identification_code"),
        ({"identification_code": b"\xab" * 16}, "identification_code"),
        ({"proof": None}, "proof"),
        ({"proof": gateway.CardProof(factor=bytes(8), data=bytes(9), answer=bytes(8))}, "proof.data"),
        ({"proof": gateway.CardProof(factor=bytes(8), data=bytes(8))}, "proof.answer"),
        ({"challenge": gateway.CardChallenge(factor=bytes(7), data=b"1" * 8)}, "challenge.factor"),
        ({"challenge": gateway.CardChallenge(data=b"1" * 8)}, "challenge.factor"),
        ({"challenge": gateway.CardChallenge(factor=b"1" * 8, data=b"1" * 8)}, "challenge"),
    ],
    ids=str,
)
async def test_a_malformed_question_is_refused_before_the_security_module_is_asked(
    province: World, changes: dict[str, Any], field: str
) -> None:
    async with province.gateway() as port:
        stub = gateway_pb2_grpc.GatewayServiceStub(province.channel(port).channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.AuthenticateCard(question(**changes))
        error = _error(caught.value)
        assert (error.reason, error.facts["field"]) == (Reason.INVALID_FIELD, field)


async def test_nobody_is_given_a_cryptogram_for_a_guess(province: World) -> None:
    async with province.gateway() as port:
        stub = gateway_pb2_grpc.GatewayServiceStub(province.channel(port, OTHER_TERMINAL).channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.AuthenticateCard(question())
        assert _error(caught.value).reason is Reason.CARD_NOT_GENUINE
        suspended = gateway_pb2_grpc.GatewayServiceStub(province.channel(port, "terminal-suspended").channel)
        stranger = gateway_pb2_grpc.GatewayServiceStub(province.channel(port, "terminal-99").channel)
        for asking, reason in ((suspended, Reason.INSTITUTION_SUSPENDED), (stranger, Reason.TERMINAL_UNKNOWN)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asking.AuthenticateCard(question())
            assert _error(caught.value).reason is reason


async def test_nothing_of_keys_or_cards_is_in_the_gateways_log(province: World) -> None:
    process = province.gateway_process()
    port = await process.start()
    try:
        async with window(province, port) as till:
            await till.read()
            till.reader.insert(find("forged").make())
            await till.refused()
            await process.logged("CARD_NOT_GENUINE")
    finally:
        await process.end()
    log = process.log.read_text().lower()
    assert "soft keys" in log
    masters = [value.hex() for one in issuer.MASTERS.values() for value in (one.irk, one.rkssse)]
    data = [find(key).data for key in (GATED, "forged")]
    hidden = [*masters, *(one.identification_code.hex() for one in data), *(one.atr[4:].hex() for one in data)]
    hidden += [one.social_security_number for one in data]
    assert [value for value in hidden if value in log] == []


async def test_doctor_and_self_test_see_the_psam(province: World) -> None:
    async with province.gateway() as port, window(province, port, "works", cards=BY_PSAM) as till:
        probe = await till.probe("authentication")
        assert (probe.reason, "370000000001" in probe.finding_zh) == ("", True)
        told = await till.running.diagnostics.ListDevices(diagnostics.ListDevicesRequest(), timeout=60)
        (psam,) = [device for device in told.devices if device.kind == "psam"]
        assert (psam.present, psam.detail) == (True, "")
        steps = await _self_test(till)
        assert steps["authentication"] == (True, "")
        status, out, _ = await command("doctor", "--config", str(till.running.file), "--lang", "en")
        assert "370000000001" in out, out
        assert status in {0, 1}
    lacking = msgspec.structs.replace(BY_PSAM, psam_key="4855")
    async with province.gateway() as port, window(province, port, cards=lacking) as till:
        probe = await till.probe("authentication")
        assert (probe.reason, probe.severity) == ("PSAM_UNSUITABLE", diagnostics.SEVERITY_DEGRADED)
        assert (await _self_test(till))["authentication"] == (False, "PSAM_UNSUITABLE")
        assert (await till.refused()).reason is Reason.PSAM_UNSUITABLE
        told = await till.running.diagnostics.ListDevices(diagnostics.ListDevicesRequest(), timeout=60)
        (psam,) = [device for device in told.devices if device.kind == "psam"]
        assert (psam.present, psam.detail) == (False, "PSAM_UNSUITABLE")


async def _self_test(till: Window) -> dict[str, tuple[bool, str]]:
    steps = {}
    async for told in till.running.diagnostics.RunSelfTest(diagnostics.RunSelfTestRequest(), timeout=100):
        if told.HasField("step"):
            steps[told.step.name] = (told.step.passed, told.step.reason)
    return steps
