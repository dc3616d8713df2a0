"""`yikatong check-config`: which kind of file it is, what is wrong with it, and the exit status."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from yikatong.cli.main import main

SAMPLES = Path(__file__).resolve().parents[2] / "deploy/config"


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["check-config", *map(str, arguments)])


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.toml")), ids=lambda sample: sample.stem)
def test_every_sample_is_valid_and_known_by_its_content(sample: Path, tmp_path: Path) -> None:
    nameless = Path(shutil.copy(sample, tmp_path / "a.toml"))
    told = check(nameless, "--lang", "en")
    assert told.exit_code == 0, told.stderr
    assert f"({sample.stem})" in told.stdout


def test_the_name_of_a_file_decides_nothing(tmp_path: Path) -> None:
    misleading = Path(shutil.copy(SAMPLES / "daemon.toml", tmp_path / "gateway.toml"))
    assert check(misleading).exit_code == 0
    assert check(misleading, "--kind", "gateway").exit_code == 1


def test_every_missing_key_is_told_at_once_in_the_persons_language(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('terminal_id = "T"\n[gateway]\n')
    english, chinese = check(file, "--lang", "en"), check(file, "--lang", "zh")
    for key in ("address", "authority", "certificate", "key"):
        assert f"line 2: gateway.{key}: missing; expected text that is not empty" in english.stderr
        assert f"第 2 行：gateway.{key}：缺少；应为非空的文本" in chinese.stderr
    assert english.exit_code == chinese.exit_code == 1
    assert len(english.stderr.splitlines()) == len(chinese.stderr.splitlines()) == 4


def test_mistakes_as_json(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('gateway = "localhost:1"\nauthority = "a"\ncertificate = "b"\n')
    told = json.loads(check(file, "--json").stdout)
    assert (told["kind"], told["valid"]) == ("operator", False)
    (mistake,) = told["mistakes"]
    assert mistake.keys() == {"line", "key", "zh", "en"}
    assert mistake["key"] == "key"


GATEWAY = """\
listen = "localhost:0"
state_dir = "/nowhere"
[tls]
authority = "a"
certificate = "b"
key = "c"
[[cities]]
region = "370100"
name_zh = "济南"
name_en = "Jinan"
[[cities]]
region = "370100"
name_zh = "济南"
name_en = "Jinan"
address = "core:1"
[[institutions]]
code = "P37010000001"
name = "示例药店"
region = "370100"
[[terminals]]
terminal_id = "A"
institution = "P37010000001"
[[terminals]]
terminal_id = "A"
institution = "P37010000002"
"""


def test_what_contradicts_itself_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(GATEWAY, encoding="utf-8")
    told = check(file, "--lang", "en")
    assert told.exit_code == 1
    assert [line.removeprefix(f"✗ {file}: ") for line in told.stderr.splitlines()] == [
        "city_tls: missing; a city has an address",
        "line 12: cities.1.region: listed twice",
        "line 24: terminals.1.terminal_id: listed twice",
        "line 25: terminals.1.institution: this institution is not listed",
    ]
    assert "第 12 行：cities.1.region：重复登记" in check(file, "--lang", "zh").stderr


def test_a_window_takes_no_simulated_reader_and_no_socket_that_linux_refuses(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    text = (SAMPLES / "daemon.toml").read_text(encoding="utf-8")
    file.write_text(text.replace('#kind = "pcsc"', 'kind = "simulated"').replace("#his =", f'his = "/{"x" * 100}" #'))
    told = json.loads(check(file, "--json").stdout)
    assert [mistake["key"] for mistake in told["mistakes"]] == ["reader.kind", "sockets.his"]
    assert all(mistake["line"] for mistake in told["mistakes"])
    file.write_text(file.read_text().replace("#development = false", "development = true"))
    assert [mistake["key"] for mistake in json.loads(check(file, "--json").stdout)["mistakes"]] == ["sockets.his"]


@pytest.mark.parametrize(
    ("reader", "cards", "keys"),
    [
        ("", "every_card = true", ["card_authentication.every_card"]),
        ("", 'kind = "gateway"\nevery_card = true', []),
        ("", 'kind = "psam"', ["card_authentication.psam_reader"]),
        ("", 'kind = "psam"\npsam_reader = "B"', ["reader.name"]),
        ('name = "A"', 'kind = "psam"\npsam_reader = "A"', ["card_authentication.psam_reader"]),
        ('name = "A"', 'kind = "psam"\npsam_reader = "B"', []),
        ('name = "A"', 'kind = "psam"\npsam_reader = "B"\nevery_card = true', ["card_authentication.every_card"]),
        ('name = "A"', 'kind = "psam"\npsam_reader = "B"\nevery_card = true\npsam_genuineness_key = "4701"', []),
        ('kind = "library"\nlibrary = "/l"', 'kind = "psam"', []),
        ('kind = "library"\nlibrary = "/l"', 'kind = "psam"\npsam_slot = 1', ["card_authentication.psam_slot"]),
        ("", 'kind = "none"\npsam_key = "870A"', ["card_authentication.psam_key"]),
        ("", 'psam_genuineness_key = "47"', ["card_authentication.psam_genuineness_key"]),
        ("", 'psam_algorithms = ["SSF33"]', ["card_authentication.psam_algorithms.0"]),
        ("", 'session_challenge = "both"', ["card_authentication.session_challenge"]),
    ],
)
def test_what_card_authentication_needs(tmp_path: Path, reader: str, cards: str, keys: list[str]) -> None:
    file = tmp_path / "a.toml"
    text = (SAMPLES / "daemon.toml").read_text(encoding="utf-8")
    text = text.replace("[card_authentication]\n", f"[card_authentication]\n{cards}\n")
    file.write_text(text.replace("[reader]\n", f"[reader]\n{reader}\n"))
    told = json.loads(check(file, "--json").stdout)
    assert [mistake["key"] for mistake in told["mistakes"]] == keys
    assert all(mistake["line"] for mistake in told["mistakes"])


def test_soft_keys_are_for_development_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    text = (SAMPLES / "gateway.toml").read_text(encoding="utf-8").replace("#keys =", 'keys = "/hsm.keys" #')
    file.write_text(text)
    assert [mistake["key"] for mistake in json.loads(check(file, "--json").stdout)["mistakes"]] == ["hsm.keys"]
    file.write_text(text.replace("#development = false", "development = true"))
    assert json.loads(check(file, "--json").stdout)["valid"]


@pytest.mark.parametrize(
    ("keypad", "reader", "wrong"),
    [
        ({"device": "/dev/pad"}, {}, []),
        ({"device": "reader"}, {}, []),
        ({"device": "reader"}, {"kind": "library", "library": "/lib.so"}, []),
        ({"device": "reader"}, {"kind": "simulated"}, ["device"]),
        ({"device": "reader", "on_initial_pin": "refuse"}, {}, ["on_initial_pin"]),
        ({"device": "reader", "on_initial_pin": "refuse"}, {"kind": "library", "library": "/lib.so"}, []),
        ({"device": "software"}, {}, ["device"]),
        ({"device": "software", "allow_software": True}, {}, []),
        ({"device": "/dev/pad", "digits": 3}, {}, ["digits"]),
        ({"device": "/dev/pad", "digits": 17}, {}, ["digits"]),
        ({"device": "/dev/pad", "initial_pins": ["123"]}, {}, ["initial_pins.0"]),
        ({"device": "/dev/pad", "initial_pins": ["id", "123456"]}, {}, []),
    ],
)
def test_where_a_pin_is_entered(
    tmp_path: Path, keypad: dict[str, Any], reader: dict[str, Any], wrong: list[str]
) -> None:
    file = tmp_path / "a.toml"
    text = (SAMPLES / "daemon.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text) | {"development": True, "pin_keypad": keypad, "reader": reader}
    file.write_bytes(msgspec.toml.encode(document))
    told = json.loads(check(file, "--json").stdout)
    assert [mistake["key"] for mistake in told["mistakes"]] == [f"pin_keypad.{key}" for key in wrong]


@pytest.mark.parametrize("text", ["", "colour = 1\n", "[gateway]\n"])
def test_a_file_that_could_be_anything_asks_for_its_kind(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    told = check(file, "--lang", "en")
    assert told.exit_code == 1
    assert "--kind" in told.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    told = check(tmp_path / "none.toml", "--lang", "zh")
    assert told.exit_code == 1
    assert "无法读取文件" in told.stderr
