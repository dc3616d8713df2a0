"""A recording comes from somewhere else: damaged and hostile files are refused, with the line, and cost little."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from yikatong.cli.main import main
from yikatong.simulators.card import recording
from yikatong.simulators.card.recording import LINE_MAX, LINES_MAX, RecordingRefused, load

BEGUN = {
    "event": "begun",
    "format": "yikatong-trace",
    "version": 1,
    "program": "0.1.0",
    "at": "",
    "identity": "invented",
}
CARD = {
    "event": "card",
    "device": "reader",
    "at_ms": 0.5,
    "zh": "",
    "en": "",
    "atr": "3B6D000000815443308699250100000001",
}
SELECT = {
    "event": "exchange",
    "device": "reader",
    "at_ms": 1.0,
    "took_ms": 0.25,
    "header": "00A40400",
    "command": "00A404000F7378312E73682EC9E7BBE1B1A3D5CF",
    "command_length": 15,
    "answer_length": 0,
    "status": "611E",
}
SOUND = [BEGUN, CARD, SELECT]


def text(*lines: Any) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def refused(tmp_path: Path, content: bytes) -> RecordingRefused:
    file = tmp_path / "recording"
    file.write_bytes(content)
    with pytest.raises(RecordingRefused) as caught:
        load(file)
    assert caught.value.zh
    assert caught.value.en.isprintable()
    assert caught.value.zh.isprintable()
    return caught.value


def test_a_sound_one_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "recording"
    frame = {"event": "frame", "device": "/dev/pad", "at_ms": 2.0, "sent": True, "length": 1}
    other = SELECT | {"device": "another reader"}
    dead = {"event": "card", "device": "reader", "at_ms": 3, "failure": "CARD_MUTE"}
    file.write_bytes(text(*SOUND, frame, other, {"event": "missed", "count": 3}, dead, SELECT))
    taken = load(file)
    assert ([card.device for card in taken.cards], taken.missed, taken.usual) == (["reader"], 3, 1)
    (stay,) = taken.cards[0].stays
    (step,) = stay
    assert (step.line, step.answer, step.took_s) == (3, b"\x61\x1e", 0.00025)


def test_the_social_security_card_is_meant_and_not_the_psam(tmp_path: Path) -> None:
    file, psam = tmp_path / "recording", {"device": "psam"}
    asked = SELECT | psam | {"command": "00A4040006D15600000590", "command_length": 6}
    file.write_bytes(text(BEGUN, CARD | psam, asked, *SOUND[1:], asked))
    taken = load(file)
    assert [(card.device, len(card.stays[0])) for card in taken.cards] == [("psam", 2), ("reader", 1)]
    assert taken.usual == 2
    file.write_bytes(text(BEGUN, CARD | psam, asked))
    assert load(file).usual == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"took_ms": -1}, ">= 0"),
        ({"took_ms": 60_001}, "<= 60000"),
        ({"took_ms": "soon"}, "float"),
        ({"took_ms": None}, "float"),
        ({"header": "00A404"}, "regex"),
        ({"header": "00a40400"}, "regex"),
        ({"header": "00B20704"}, "does not begin with its header"),
        ({"command": "00A4040"}, "regex"),
        ({"command": "zz"}, "regex"),
        ({"command": "00A40400" + "00" * 300}, "length"),
        ({"answer": "00", "answer_length": 2}, "missing, or of another length"),
        ({"answer": "", "answer_length": 2}, "missing, or of another length"),
        ({"answer_length": 10**30}, ""),
        ({"answer_length": 1.5}, "int"),
        ({"status": "9"}, "regex"),
        ({"status": "", "failure": ""}, "neither a status word nor a failure"),
        ({"status": "", "failure": "CARD_MUTE", "answer": "00", "answer_length": 1}, "neither"),
        ({"event": "explode"}, "explode"),
        ({"event": "\x1b[31m\u202e"}, "?"),
        ({"and": "more"}, "unknown field"),
        ({"device": None}, "str"),
        ({"device": ["reader"]}, "str"),
        ({"device": "x" * 1001}, "length"),
    ],
)
def test_a_line_that_is_not_as_it_should_be(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    error = refused(tmp_path, text(BEGUN, CARD, SELECT, SELECT | changes, SELECT))
    assert error.line == 4
    assert why in error.en


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 0),
        (b"\n", 1),
        (b"\x00" * 100, 1),
        (b"{}", 1),
        (b"[]", 1),
        (b"null", 1),
        (b"\xff\xfe{", 1),
        (text(CARD), 1),
        (text(BEGUN), 0),
        (text(BEGUN, SELECT), 0),
        (text(BEGUN, CARD), 0),
        (text(BEGUN, CARD, b""), 3),
        (text(BEGUN, CARD, BEGUN), 3),
        (text(BEGUN | {"version": 2}), 1),
        (text(BEGUN | {"version": "1"}), 1),
        (text(BEGUN | {"format": "something else"}), 1),
        (text(BEGUN | {"identity": "masked"}, CARD, SELECT), 1),
        (text(BEGUN, CARD | {"atr": "3B"}, SELECT), 2),
        (text(BEGUN, CARD | {"atr": "3B" * 34}, SELECT), 2),
        (text(*SOUND)[:-20], 3),
        (text(BEGUN, CARD, b'{"event":"exchange","device":"' + b"\xc3\x28" + b'"}'), 3),
        (text(BEGUN, CARD, b"[" * 8000), 3),
        (text(BEGUN, CARD, b'{"event":"exchange","device":' + b"[" * 7000), 3),
        (text(BEGUN, CARD, b'{"event":"exchange","took_ms":NaN}'), 3),
        (text(BEGUN, CARD, b'{"event":"exchange","at_ms":1e999}'), 3),
        (text(BEGUN, CARD, b'{"event":"missed","count":' + b"9" * 5000 + b"}"), 3),
        (text(BEGUN, CARD, b" " * (LINE_MAX + 1)), 3),
        (text(BEGUN, CARD, SELECT) + b"x" * (64 * 1024), 4),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, line: int) -> None:
    assert refused(tmp_path, content).line == line


def test_the_example_in_the_manual_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "trace-format.md").read_text(encoding="utf-8")
    example = page.split("```json\n")[1].split("```")[0]
    file = tmp_path / "recording"
    file.write_text(example, encoding="utf-8")
    ((read, verify),) = load(file).cards[0].stays
    assert read.answer == bytes.fromhex("07094C39333533383530369000")
    assert verify.fits(bytes.fromhex("0020000003123456"))
    assert verify.fits(bytes.fromhex("0020000008") + bytes(8))


def test_an_endless_line_and_endless_lines_cost_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = tmp_path / "endless"
    with endless.open("wb") as file:
        file.write(text(BEGUN))
        file.truncate(2**30)  # a line of zeros
    tracemalloc.start()
    try:
        with pytest.raises(RecordingRefused) as caught:
            load(endless)
        assert caught.value.line == 2
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert LINES_MAX == 200_000
    monkeypatch.setattr(recording, "LINES_MAX", 5)
    assert refused(tmp_path, text(BEGUN, *[CARD] * 5)).line == 6


def test_damaged_ones_are_refused_or_are_recordings(tmp_path: Path) -> None:
    dice = random.Random(1)
    sound = text(BEGUN, CARD, *[SELECT] * 5)
    file, taken = tmp_path / "recording", 0
    for _ in range(1000):
        damaged = bytearray(sound)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(damaged))
            damaged[at : at + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 3))
        file.write_bytes(damaged)
        try:
            cards = load(file).cards
        except RecordingRefused as error:
            assert error.line <= 10
        else:
            taken += bool(cards)
    assert 0 < taken < 1000


def test_the_command_tells_the_line(tmp_path: Path) -> None:
    file = tmp_path / "recording"
    file.write_bytes(text(BEGUN, CARD, SELECT | {"status": "9"}))
    said = CliRunner().invoke(main, ["simulate", "card", "--replay", str(file), "--lang", "en"])
    assert (said.exit_code, said.stdout) == (1, "")
    assert f"✗ {file}:3: it is not as it should be" in said.stderr
    said = CliRunner().invoke(main, ["simulate", "card", "--replay", str(file), "--lang", "zh"])
    assert f"✗ {file}:3：格式不符" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["--replay", "{folder}/nothing"], 1, "can't be read"),
        (["--replay", "{folder}"], 2, ""),
        (["works", "--replay", "{folder}/r"], 2, "names the card already"),
        (["--replay", "{folder}/r", "--number", "2"], 1, "there is no 2"),
        (["--replay", "{folder}/r", "--number", "0"], 2, ""),
        (["--replay", "{folder}/r", "--port", "1"], 1, "No virtual reader on port 1"),
    ],
)
def test_what_the_command_refuses(tmp_path: Path, arguments: list[str], status: int, why: str) -> None:
    (tmp_path / "r").write_bytes(text(*SOUND))
    given = [argument.format(folder=tmp_path) for argument in arguments]
    said = CliRunner().invoke(main, ["simulate", "card", *given, "--lang", "en"])
    assert said.exit_code == status
    assert why in said.stderr
