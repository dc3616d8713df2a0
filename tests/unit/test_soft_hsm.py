"""The security module of software: its file, its cryptograms against code without a library, and its wiped keys."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ciphers
from tests.support.authentication import soft_hsm
from tests.support.memory import memory_of
from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import CardKey, KeyHolder
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Region
from yikatong.gateway import soft_hsm as soft_hsm_module
from yikatong.gateway import soft_keys
from yikatong.gateway.soft_hsm import SoftHsm
from yikatong.simulators.card import issuer
from yikatong.simulators.card.personalisation import TRIPLE_DES

HISTORICAL = bytes.fromhex("00815443309999250101000001")
FACTOR, DATA = bytes.fromhex("A1A2A3A4A5A6A7A8"), bytes.fromhex("B1B2B3B4B5B6B7B8")
MASTER = "404142434445464748494a4b4c4d4e4f"
LINE = f"RKSSSE 3DES 99 2 {MASTER}\n"


def holder(algorithm: CardAlgorithm = CardAlgorithm.TRIPLE_DES, region: str = "990001") -> KeyHolder:
    return KeyHolder(algorithm, HISTORICAL, Region(region))


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "hsm.keys"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def loaded(folder: Path, text: str) -> SoftHsm:
    return SoftHsm.load(written(folder, text))


def refused(path: Path) -> YikatongError:
    with pytest.raises(YikatongError) as caught:
        SoftHsm.load(path)
    assert caught.value.reason is Reason.CONFIGURATION_INVALID
    assert caught.value.facts["file"] == path.name
    return caught.value


async def test_the_vectors_of_the_facts(tmp_path: Path) -> None:
    """§10.3, under keys that are not diversified."""
    text = "IRK 3DES * 0 000102030405060708090A0B0C0D0E0F\nRKSSSE 3DES * 0 101112131415161718191a1b1c1d1e1f"
    hsm = loaded(tmp_path, text)
    said, data = bytes.fromhex("1122334455667788"), bytes.fromhex("8877665544332211")
    assert (await hsm.cryptogram(CardKey.IRK, holder(), said, data)).hex().upper() == "2BE2C2D96716C603"
    assert (await hsm.cryptogram(CardKey.RKSSSE, holder(), FACTOR, DATA)).hex().upper() == "9650817D715E2C40"


@pytest.mark.parametrize("algorithm", [CardAlgorithm.TRIPLE_DES, CardAlgorithm.SM4])
@pytest.mark.parametrize("levels", [0, 1, 2, 3])
async def test_against_ciphers_without_a_library(tmp_path: Path, algorithm: CardAlgorithm, levels: int) -> None:
    hsm = loaded(tmp_path, f"RKSSSE {algorithm.value} * {levels} {MASTER}")
    own = ciphers.card_key(algorithm.value, bytes.fromhex(MASTER), HISTORICAL, "990001", levels)
    for _ in range(2):  # the first use wipes nothing that the second one needs
        answer = await hsm.cryptogram(CardKey.RKSSSE, holder(algorithm), FACTOR, DATA)
        assert answer == ciphers.cryptogram(algorithm.value, own, FACTOR, DATA)


async def test_the_key_that_names_most_of_the_region_counts(tmp_path: Path) -> None:
    lines = {"*": "11" * 16, "37": "22" * 16, "3702": "33" * 16}
    hsm = loaded(tmp_path, "".join(f"IRK 3DES {regions} 0 {value}\n" for regions, value in lines.items()))
    for region, value in (("370201", "33" * 16), ("371000", "22" * 16), ("110101", "11" * 16)):
        expected = ciphers.cryptogram("3DES", bytes.fromhex(value), FACTOR, DATA)
        assert await hsm.cryptogram(CardKey.IRK, holder(region=region), FACTOR, DATA) == expected


async def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    hsm = loaded(tmp_path, LINE)
    for key, whose in (
        (CardKey.IRK, holder()),
        (CardKey.RKSSSE, holder(CardAlgorithm.SM4)),
        (CardKey.RKSSSE, holder(region="370200")),
    ):
        with pytest.raises(YikatongError) as caught:
            await hsm.cryptogram(key, whose, FACTOR, DATA)
        assert caught.value.reason is Reason.NO_CARD_KEY
        assert caught.value.facts["region"] == whose.region.code


async def test_ssf33_is_refused_by_name() -> None:
    with pytest.raises(YikatongError) as caught:
        await soft_hsm().cryptogram(CardKey.IRK, holder(CardAlgorithm.SSF33), FACTOR, DATA)
    assert (caught.value.reason, caught.value.facts) == (Reason.CARD_ALGORITHM_UNSUPPORTED, {"algorithm": "SSF33"})


def test_comments_blanks_and_line_ends_of_other_systems(tmp_path: Path) -> None:
    assert repr(loaded(tmp_path, f"# a comment\r\n\n   \n\t{LINE.strip()}\r\n#{LINE}")) == "SoftHsm(1 keys)"
    assert repr(loaded(tmp_path, "")) == "SoftHsm(0 keys)"


def test_the_test_issuers_file(tmp_path: Path) -> None:
    assert repr(loaded(tmp_path, issuer.key_file())) == "SoftHsm(4 keys)"


@pytest.mark.parametrize(
    "line",
    [
        "RKSSSE 3DES 99 2",
        f"RKSSSE 3DES 99 2 {MASTER} more",
        f"PUK 3DES 99 2 {MASTER}",
        f"RKSSSE AES 99 2 {MASTER}",
        f"RKSSSE SSF33 99 2 {MASTER}",
        f"RKSSSE 3DES 9900011 2 {MASTER}",
        f"RKSSSE 3DES 99* 2 {MASTER}",
        f"RKSSSE 3DES {MASTER} 2 99",
        f"RKSSSE 3DES 99 4 {MASTER}",
        f"RKSSSE 3DES 99 2 {MASTER[:-2]}",
        f"RKSSSE 3DES 99 2 {MASTER[:-1]}g",
        f"RKSSSE 3DES 99 2 {MASTER[:-1]}é",
        f"rkssse 3DES 99 2 {MASTER}",
    ],
)
def test_a_wrong_line_is_told_by_its_number_and_by_nothing_of_it(tmp_path: Path, line: str) -> None:
    error = refused(written(tmp_path, f"# first\n{LINE.replace('99', '37')}{line}\n"))
    assert error.facts["line"] == 3
    told = f"{error} {error.facts} {error.__cause__} {error.__context__}".lower()
    assert MASTER[:8] not in told
    assert "4041" not in told


def test_a_key_that_is_there_twice(tmp_path: Path) -> None:
    assert refused(written(tmp_path, LINE + LINE)).facts["line"] == 2


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_file_that_others_may_read(tmp_path: Path, mode: int) -> None:
    assert "chmod 600" in refused(written(tmp_path, LINE, mode)).detail


def test_a_file_that_is_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, LINE)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert "the service's own" in refused(path).detail


def test_a_file_that_is_none(tmp_path: Path) -> None:
    assert "can't be read" in refused(tmp_path / "none.keys").detail
    (tmp_path / "folder.keys").mkdir()
    refused(tmp_path / "folder.keys")
    assert "too long" in refused(written(tmp_path, "#" * 70_000)).detail


async def test_no_key_is_in_a_representation_and_all_are_wiped_at_the_end(tmp_path: Path) -> None:
    keys = soft_keys.load(written(tmp_path, LINE))
    assert repr(keys) == "[MasterKey(RKSSSE, 3DES, 99)]"
    hsm = SoftHsm(keys)
    await hsm.cryptogram(CardKey.RKSSSE, holder(), FACTOR, DATA)
    assert keys[0].value == bytes.fromhex(MASTER)
    values = [key.value for key in keys]
    hsm.close()
    assert values == [bytearray(16)]
    with pytest.raises(YikatongError, match="NO_CARD_KEY"):
        await hsm.cryptogram(CardKey.RKSSSE, holder(), FACTOR, DATA)
    hsm.close()


async def test_what_a_use_made_of_the_key_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card's own key and its session were there, and are zeros afterwards."""
    wipe, before, after = soft_hsm_module._Scheme.wipe, list[bytes](), list[bytearray]()

    def watched(scheme: soft_hsm_module._Scheme) -> None:
        before.extend(map(bytes, scheme._used))
        after.extend(scheme._used)
        wipe(scheme)

    monkeypatch.setattr(soft_hsm_module._Scheme, "wipe", watched)
    await soft_hsm().cryptogram(CardKey.RKSSSE, holder(), FACTOR, DATA)
    own = ciphers.card_key("3DES", issuer.MASTERS[TRIPLE_DES].rkssse, HISTORICAL, "990001", 2)
    assert own in before
    assert ciphers.triple_des(own, FACTOR) in before, "the session key"
    assert all(not any(buffer) for buffer in after)


USING = """
import asyncio, sys
from pathlib import Path
from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import CardKey, KeyHolder
from yikatong.core.values import Region
from yikatong.gateway.soft_hsm import SoftHsm

async def use(hsm: SoftHsm) -> None:
    for algorithm in (CardAlgorithm.TRIPLE_DES, CardAlgorithm.SM4):
        holder = KeyHolder(algorithm, bytes.fromhex(sys.argv[2]), Region("990001"))
        for i in range(20):
            await hsm.cryptogram(CardKey.IRK, holder, bytes((i,)) * 8, bytes((i + 1,)) * 8)

hsm = SoftHsm.load(Path(sys.argv[1]))
asyncio.run(use(hsm))
if sys.argv[3] == "close":
    hsm.close()
print("used", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("habit", ["close", "keep"])
def test_no_key_stays_in_the_process(tmp_path: Path, habit: str) -> None:
    """Master keys, as bytes and as digits, and cards' own; "keep" shows that the search finds.

    They are many, because memory that was given back is soon used again.
    """
    regions = ["*", *map(str, range(100_000, 100_300))]
    masters = {(name, region): secrets.token_bytes(16) for name in ("3DES", "SM4") for region in regions}
    lines = [f"IRK {name} {region} 2 {master.hex()}" for (name, region), master in masters.items()]
    path = written(tmp_path, "\n".join(lines))
    arguments = [sys.executable, "-c", USING, str(path), HISTORICAL.hex(), habit]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "used\n"
        memory = memory_of(process.pid)
        process.communicate("go on\n")
    assert process.returncode == 0
    digits = [key for key, master in masters.items() if master.hex().encode() in memory]
    own = [ciphers.card_key(name, masters[name, "*"], HISTORICAL, "990001", 2) for name in ("3DES", "SM4")]
    found = [key for key, master in masters.items() if master in memory]
    assert digits == []
    assert [key for key in own if key in memory or key[:8] in memory] == []
    assert found == ([] if habit == "close" else list(masters))
