"""Registry, directory, keys, seed and configuration of the gateway."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path

import apsw
import msgspec
import pytest

from tests.gateway_world import FAR, HERE, PHARMACY, TERMINAL, order, payer, person
from yikatong.core.orders import City, ReversalCause
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, Institution, Region
from yikatong.gateway.config import CityConfig, GatewayConfig, InstitutionConfig, TerminalConfig, Tls
from yikatong.gateway.development_ca import DevelopmentCa
from yikatong.gateway.directory import OneCity, SampleDirectory
from yikatong.gateway.main import serve
from yikatong.gateway.partition import Partition
from yikatong.gateway.registry import HomeCity, registry_from
from yikatong.gateway.router import WAITS
from yikatong.gateway.routing import Rules
from yikatong.ledger import seed
from yikatong.ledger.seed import SeedPerson
from yikatong.runtime import keyfile
from yikatong.runtime.clock import SystemClock
from yikatong.runtime.config import ConfigurationInvalid, load

THIRD = Region("370600")


def config(**changes: object) -> GatewayConfig:
    made = GatewayConfig(
        listen="localhost:0",
        state_dir="/nowhere",
        tls=Tls("a", "b", "c"),
        cities=[CityConfig(FAR.code, "威海", "Weihai", open_from="2026-01-01", open_to="2026-12-31")],
        institutions=[InstitutionConfig(PHARMACY.code, "测试药店", HERE.code)],
        terminals=[TerminalConfig(TERMINAL, PHARMACY.code)],
    )
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize(
    ("agreement", "reason"),
    [
        ("ACTIVE", None),
        ("SUSPENDED", Reason.INSTITUTION_SUSPENDED),
        ("TERMINATED", Reason.INSTITUTION_TERMINATED),
    ],
)
def test_the_agreement_decides_about_new_debits(agreement: str, reason: Reason | None) -> None:
    member = InstitutionConfig(PHARMACY.code, "测试药店", HERE.code, agreement=agreement)  # type: ignore[arg-type]  # a table of its values
    registry = registry_from(config(institutions=[member]))
    assert registry.refusal(TERMINAL, PHARMACY, HERE) is reason


def test_a_terminal_stands_where_the_registry_says() -> None:
    registry = registry_from(config())
    assert registry.refusal("unknown", PHARMACY, HERE) is Reason.TERMINAL_UNKNOWN
    assert registry.refusal(TERMINAL, Institution("P37010000002"), HERE) is Reason.INSTITUTION_UNKNOWN
    assert registry.refusal(TERMINAL, PHARMACY, FAR) is Reason.INSTITUTION_UNKNOWN
    assert registry.stands_in(TERMINAL, PHARMACY)
    assert not registry.stands_in("unknown", PHARMACY)
    assert not registry.stands_in(TERMINAL, Institution("P37010000002"))


@pytest.mark.parametrize(
    ("date", "reason"),
    [
        ("2025-12-31", Reason.CITY_NOT_OPEN),
        ("2026-01-01", None),
        ("2026-12-31", None),
        ("2027-01-01", Reason.CITY_NOT_OPEN),
    ],
)
def test_a_city_is_open_from_and_to(date: str, reason: Reason | None) -> None:
    city = registry_from(config()).city(FAR)
    assert city is not None
    assert city.closed(date) is reason


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("cities.1.region", {"cities": [CityConfig(FAR.code, "威海", "Weihai")] * 2}),
        ("institutions.1.code", {"institutions": [InstitutionConfig(PHARMACY.code, "测试药店", HERE.code)] * 2}),
        ("terminals.1.terminal_id", {"terminals": [TerminalConfig(TERMINAL, PHARMACY.code)] * 2}),
        ("terminals.0.institution", {"institutions": []}),
    ],
)
def test_a_registry_that_contradicts_itself_is_refused(key: str, changes: dict[str, object]) -> None:
    with pytest.raises(YikatongError) as caught:
        registry_from(config(**changes))
    assert (caught.value.reason, caught.value.facts["key"]) == (Reason.CONFIGURATION_INVALID, key)


def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('listen = "localhost:0"\nstate_dir = "x"\n[tls]\nauthority = "a"\ncertificate = "b"\nkey = "c"\n'
                    '[[cities]]\nregion = "3710"\nname_zh = "威海"\nname_en = "Weihai"\n')  # fmt: skip
    with pytest.raises(ConfigurationInvalid) as caught:
        load(path, GatewayConfig)
    assert [(mistake.line, mistake.key) for mistake in caught.value.mistakes] == [(8, "cities.0.region")]


# --- directory --------------------------------------------------------------------------------------------------


def test_the_insured_row_decides_and_the_card_only_hints() -> None:
    number = person(1).reveal()
    rows = [SeedPerson(number, HERE.code, insured=False), SeedPerson(number, FAR.code)]
    directory = SampleDirectory(rows)
    assert directory.home_of(payer(1, card_region=HERE)) == FAR
    assert directory.last_home_of(payer(1, card_region=HERE)) == FAR
    twice = SampleDirectory([*rows, SeedPerson(number, THIRD.code)])
    assert twice.home_of(payer(1, card_region=THIRD)) == THIRD
    assert twice.home_of(payer(1, card_region=HERE)) == FAR


def test_who_is_not_insured_or_lost_the_card_has_no_home_but_for_reversals() -> None:
    rows = [
        SeedPerson(person(1).reveal(), HERE.code, insured=False),
        SeedPerson(person(2).reveal(), FAR.code, lost_cards=[payer(2).card_number.reveal()]),
    ]
    directory = SampleDirectory(rows)
    assert directory.home_of(payer(1)) is Reason.PERSON_NOT_INSURED
    assert directory.last_home_of(payer(1)) == HERE
    assert directory.home_of(payer(2)) is Reason.CARD_REPORTED_LOST
    assert directory.last_home_of(payer(2)) == FAR
    assert directory.home_of(payer(3)) is Reason.PERSON_NOT_INSURED
    assert directory.last_home_of(payer(3)) is None
    assert person(1).reveal() not in repr(directory)


def test_the_self_tests_directory_knows_one_city() -> None:
    assert OneCity(THIRD).home_of(payer(3)) == OneCity(THIRD).last_home_of(payer(3)) == THIRD


# --- a store that fails -----------------------------------------------------------------------------------------


async def test_a_store_whose_commit_is_unknown_never_says_that_nothing_moved(tmp_path: Path) -> None:
    city = City(THIRD, "第三市", "Third")
    partition = await Partition.open(
        tmp_path / "gateway.db",
        embedded={THIRD: city},
        links={},
        registry=registry_from(config()).with_cities([HomeCity(city, "OPEN", "", "9", "", "")]),
        directory=OneCity(THIRD),
        rules=Rules(fenced=False, debit_max=Fen(10_000)),
        clock=SystemClock(),
        waits=WAITS,
        accounts=[],
    )

    def full(connection: apsw.Connection) -> None:
        raise apsw.FullError("disk full")

    try:
        for job in (full, lambda connection: None):
            with pytest.raises(YikatongError) as caught:
                await partition.router.commit(job)
            assert (caught.value.reason, caught.value.facts["outcome"]) == (Reason.STORE_UNAVAILABLE, "PENDING")
        assert partition.router.store_failed.is_set()
    finally:
        await partition.close()


def _open(path: Path, home: City) -> Coroutine[object, object, Partition]:
    return Partition.open(
        path,
        embedded={home.region: home},
        links={},
        registry=registry_from(config()).with_cities([HomeCity(home, "OPEN", "", "9", "", "")]),
        directory=OneCity(home.region),
        rules=Rules(fenced=False, debit_max=Fen(10_000)),
        clock=SystemClock(),
        waits=WAITS,
        accounts=[],
    )


async def test_a_commit_that_fails_after_its_caller_has_left_is_known_to_the_gateway(tmp_path: Path) -> None:
    """Else it stays in a service in which every next call fails, until one does."""
    partition = await _open(tmp_path / "gateway.db", City(THIRD, "第三市", "Third"))
    begun, go = threading.Event(), threading.Event()

    def full(connection: apsw.Connection) -> None:
        begun.set()
        assert go.wait(10)
        raise apsw.FullError("disk full")

    try:
        asking = asyncio.ensure_future(partition.router.commit(full))
        assert await asyncio.to_thread(begun.wait, 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        go.set()
        await asyncio.wait_for(partition.router.store_failed.wait(), 10)
    finally:
        go.set()
        await partition.close()


async def test_a_store_without_its_key_is_refused_and_gets_no_new_one(tmp_path: Path) -> None:
    city, path = City(THIRD, "第三市", "Third"), tmp_path / "gateway.db"
    await (await _open(path, city)).close()
    path.with_suffix(".key").unlink()
    with pytest.raises(YikatongError) as caught:
        await _open(path, city)
    assert (caught.value.reason, caught.value.facts["file"]) == (Reason.STORE_UNAVAILABLE, "gateway.key")
    assert not path.with_suffix(".key").exists()


async def test_a_city_that_has_transactions_must_stay_in_the_configuration(tmp_path: Path) -> None:
    city, path = City(THIRD, "第三市", "Third"), tmp_path / "gateway.db"
    partition = await _open(path, city)
    await partition.router.start()
    await partition.router.reverse(order(1), ReversalCause.TIMEOUT)
    await partition.close()
    partition = await _open(path, City(HERE, "济南", "Jinan"))
    try:
        with pytest.raises(YikatongError) as caught:
            await partition.router.start()
    finally:
        await partition.close()
    assert (caught.value.reason, caught.value.facts["key"]) == (Reason.CONFIGURATION_INVALID, "cities")
    assert THIRD.code in caught.value.detail


@pytest.mark.parametrize("wrong", ["authority", "certificate", "key", "missing", "another's key"])
async def test_certificates_are_looked_at_before_any_store_is_made(tmp_path: Path, wrong: str) -> None:
    ca = DevelopmentCa.create(tmp_path / "pki")
    identity, other = ca.server("gateway"), ca.server("other")
    match wrong:
        case "missing":
            identity.key.unlink()
        case "another's key":
            identity.key.write_bytes(other.key.read_bytes())
        case file:
            getattr(identity, file).write_text("nothing of the kind")
    tls = Tls(str(identity.authority), str(identity.certificate), str(identity.key))
    with pytest.raises(YikatongError) as caught:
        await serve(config(tls=tls, state_dir=str(tmp_path / "state"), cities=[]), stop=asyncio.Event())
    assert caught.value.reason is Reason.CERTIFICATE_INVALID
    assert not (tmp_path / "state").exists()


# --- keys and seeds ---------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    key = keyfile.load_or_create(path)
    assert keyfile.load_or_create(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(key[:-1])
    with pytest.raises(YikatongError) as caught:
        keyfile.load_or_create(path)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    with pytest.raises(YikatongError):
        keyfile.load_or_create(tmp_path / "missing" / "store.key")


def test_what_is_sealed_opens_with_its_key_for_its_subject() -> None:
    seal, other = keyfile.Seal(b"a" * 32), keyfile.Seal(b"b" * 32)
    sealed = seal.close(b"content", subject="one")
    assert b"content" not in sealed
    assert seal.open(sealed, subject="one") == b"content"
    for opener, subject in ((seal, "two"), (other, "one")):
        with pytest.raises(YikatongError) as caught:
            opener.open(sealed, subject=subject)
        assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert "hidden" in repr(seal)


def test_the_same_person_is_another_under_another_key() -> None:
    number = person(1).reveal()
    assert keyfile.PersonKey(b"a" * 32)(number) == keyfile.PersonKey(b"a" * 32)(number)
    assert keyfile.PersonKey(b"a" * 32)(number) != keyfile.PersonKey(b"b" * 32)(number)
    assert "hidden" in repr(keyfile.PersonKey(b"a" * 32))


def test_a_seed_that_is_wrong_names_its_field_and_no_value(tmp_path: Path) -> None:
    path = tmp_path / "seed.json"
    path.write_text(f'{{"accounts": [{{"social_security_number": "{person(1).reveal()}", "balance_fen": 1.5}}]}}')
    with pytest.raises(YikatongError) as caught:
        seed.load(path)
    assert caught.value.reason is Reason.CONFIGURATION_INVALID
    assert person(1).reveal() not in str(caught.value)
    with pytest.raises(YikatongError):
        seed.load(tmp_path / "missing.json")
