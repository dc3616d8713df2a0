"""`VoucherService` over HTTPS, against the simulated service: slow, silent, wrong, and not for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.voucher_world import VoucherWorld, voucher_service
from yikatong.core.ports import VoucherService
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Institution, Region, VoucherCode
from yikatong.gateway.development_ca import DevelopmentCa
from yikatong.gateway.voucher_client import HttpsVoucherService
from yikatong.runtime.tls import Identity
from yikatong.simulators.voucher_service import FAULTS, Person

PHARMACY = Institution("P37010000001")
SOMEBODY = Person("110101190001010014", "测试甲", "371000")
LONG_S = 30.0


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[VoucherWorld]:
    async with voucher_service(DevelopmentCa.create(tmp_path / "pki"), tmp_path) as running:
        yield running


def client(service: VoucherWorld, identity: Identity | None = None, *, timeout_s: float = LONG_S) -> VoucherService:
    return HttpsVoucherService(service.url, identity or service.gateway, timeout_s=timeout_s)


async def refused(asking: VoucherService, code: str) -> YikatongError:
    with pytest.raises(YikatongError) as caught:
        await asking.holder_of(VoucherCode(code), PHARMACY)
    assert caught.value.__cause__ is None, "what it quotes may be a person's"
    return caught.value


@pytest.mark.parametrize("person", [SOMEBODY, replace(SOMEBODY, region="")], ids=["with a region", "without"])
async def test_whose_code_it_is(service: VoucherWorld, person: Person) -> None:
    holder = await client(service).holder_of(VoucherCode(service.code(person)), Institution("H37010000001"))
    assert (holder.number.reveal(), holder.name.reveal()) == (person.number, person.name)
    assert holder.region == (Region(person.region) if person.region else None)
    assert person.number not in repr(holder)


async def test_a_name_that_would_move_a_printer(service: VoucherWorld) -> None:
    odd = replace(SOMEBODY, name="\x1b@测\n试" + "长" * 60)
    holder = await client(service).holder_of(VoucherCode(service.code(odd)), PHARMACY)
    assert holder.name.reveal() == "@测试" + "长" * 47


async def test_a_code_is_good_for_one_question(service: VoucherWorld) -> None:
    asking, code = client(service), service.code(SOMEBODY)
    await asking.holder_of(VoucherCode(code), PHARMACY)
    assert (await refused(asking, code)).reason is Reason.VOUCHER_USED
    assert (await asking.holder_of(VoucherCode(service.code(SOMEBODY)), PHARMACY)).region == Region("371000")


async def test_a_used_code_in_another_spelling_is_used_or_none(service: VoucherWorld) -> None:
    """The gateway tells codes apart by what was scanned: here they have to be told apart by what they mean."""
    asking, code = client(service), service.code(SOMEBODY)
    await asking.holder_of(VoucherCode(code), PHARMACY)
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for spelled in (f"{code}....", f"!!!!{code}", *(code[:-1] + digit for digit in digits)):
        assert (await refused(asking, spelled)).reason in {Reason.VOUCHER_USED, Reason.VOUCHER_INVALID}, spelled


async def test_a_code_is_good_for_half_a_minute(service: VoucherWorld) -> None:
    asking, code, other = client(service), service.code(SOMEBODY), service.code(SOMEBODY)
    service.clock.offset = timedelta(seconds=25)
    await asking.holder_of(VoucherCode(code), PHARMACY)
    service.clock.offset = timedelta(seconds=30)
    assert (await refused(asking, other)).reason is Reason.VOUCHER_EXPIRED


@pytest.mark.parametrize("code", ["x", "9800000001", "A" * 512, "%%%%"])
async def test_what_is_no_code(service: VoucherWorld, code: str) -> None:
    assert (await refused(client(service), code)).reason is Reason.VOUCHER_INVALID


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("down", "the exchange failed"),
        ("error", "its status is 500"),
        ("garbled", "its answer makes no sense"),
        ("nobody", "its answer makes no sense"),
        ("endless", "the exchange failed: EOFError"),
    ],
)
async def test_a_service_that_fails_or_is_wrong(service: VoucherWorld, fault: str, detail: str) -> None:
    service.fault(fault)
    error = await refused(client(service), service.code(SOMEBODY))
    assert (error.reason, error.detail.startswith(detail)) == (Reason.VOUCHER_SERVICE_UNREACHABLE, True), error.detail
    service.fault()
    assert (await client(service).holder_of(VoucherCode(service.code(SOMEBODY)), PHARMACY)).name.reveal() == "测试甲"


@pytest.mark.parametrize("fault", ["slow", "silent", "lose-answer-once"])
async def test_a_service_that_does_not_answer_in_time(service: VoucherWorld, fault: str) -> None:
    service.fault(fault)
    error = await refused(client(service, timeout_s=0.3), service.code(SOMEBODY))
    assert (error.reason, error.detail) == (Reason.VOUCHER_SERVICE_UNREACHABLE, "it does not answer in time")


async def test_every_fault_is_known_to_these_tests(service: VoucherWorld) -> None:
    tried = {"down", "error", "garbled", "nobody", "endless", "slow", "silent", "lose-answer-once", "forgetful"}
    assert set(FAULTS) == tried
    service.fault("forgetful")
    code = VoucherCode(service.code(SOMEBODY))
    assert await client(service).holder_of(code, PHARMACY) == await client(service).holder_of(code, PHARMACY)


async def test_a_lost_answer_uses_the_code_up(service: VoucherWorld) -> None:
    service.fault("lose-answer-once")
    code = service.code(SOMEBODY)
    assert (await refused(client(service, timeout_s=0.3), code)).reason is Reason.VOUCHER_SERVICE_UNREACHABLE
    assert (await refused(client(service), code)).reason is Reason.VOUCHER_USED


async def test_many_windows_at_once(service: VoucherWorld) -> None:
    asking = client(service)
    codes = [VoucherCode(service.code(SOMEBODY)) for _ in range(20)]
    assert len(await asyncio.gather(*(asking.holder_of(code, PHARMACY) for code in codes))) == 20


async def test_neither_end_talks_to_a_stranger(service: VoucherWorld, tmp_path: Path) -> None:
    others = DevelopmentCa.create(tmp_path / "others")
    stranger, same_name = others.client("gateway-to-ecode"), service.gateway
    mixed = Identity(same_name.authority, stranger.certificate, stranger.key)
    for identity in (stranger, mixed):  # who does not know the service; whom the service does not know
        assert (await refused(client(service, identity), service.code(SOMEBODY))).reason is (
            Reason.VOUCHER_SERVICE_UNREACHABLE
        )


async def test_another_certificate_of_the_same_authority_may_not_ask(tmp_path: Path) -> None:
    ca = DevelopmentCa.create(tmp_path / "pki")
    async with voucher_service(ca, tmp_path) as service:
        error = await refused(client(service, ca.client("terminal-1")), service.code(SOMEBODY))
        assert error.detail == "its status is 403"


async def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    ca = DevelopmentCa.create(tmp_path / "pki")
    async with voucher_service(ca, tmp_path) as service:
        asking, code = client(service), service.code(SOMEBODY)
    assert (await refused(asking, code)).reason is Reason.VOUCHER_SERVICE_UNREACHABLE
