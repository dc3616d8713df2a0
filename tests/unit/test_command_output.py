"""What a person at the terminal is told: language, failures in words, exit statuses."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from yikatong.cli import client, output
from yikatong.core.reasons import Reason, YikatongError

AT = client.Place("/his", "/tech", "12393", "0531-7654321")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "C", "LC_MESSAGES": "zh_CN"}, "zh"),
    ],
)
def test_language_by_locale(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert output.language() == expected
    assert output.language("zh") == "zh"


def _failing(error: YikatongError) -> click.Command:
    async def work() -> None:
        raise error

    @click.command()
    @output.with_json
    @output.with_language
    @output.with_debug
    def failing() -> None:
        client.run(work(), AT)

    return failing


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (YikatongError(Reason.NO_CARD), client.EXIT_FAILED),
        (YikatongError(Reason.INSUFFICIENT_BALANCE), client.EXIT_FAILED),
        (YikatongError(Reason.DAEMON_UNREACHABLE), client.EXIT_NOT_ASKED),
        (YikatongError(Reason.CONFIGURATION_INVALID), client.EXIT_NOT_ASKED),
        (YikatongError(Reason.OUTCOME_PENDING), client.EXIT_PENDING),
        (YikatongError(Reason.JOURNAL_UNAVAILABLE, outcome="PENDING"), client.EXIT_PENDING),
    ],
)
def test_exit_status_says_what_became_of_the_money(error: YikatongError, status: int) -> None:
    assert CliRunner().invoke(_failing(error), []).exit_code == status


def test_a_failure_in_words() -> None:
    error = YikatongError(Reason.NO_CARD, "the slot is empty", transaction_id="5f0d1b6e")
    told = CliRunner().invoke(_failing(error), ["--lang", "zh"]).stderr
    for part in ("NO_CARD", error.meaning.zh, error.meaning.next_zh, "the slot is empty", "5f0d1b6e", "0531-7654321"):
        assert part in told


def test_a_failure_as_json() -> None:
    error = YikatongError(Reason.PIN_WRONG, tries_left=2)
    told = json.loads(CliRunner().invoke(_failing(error), ["--json", "--lang", "en"]).stdout)["error"]
    assert told["reason"] == "PIN_WRONG"
    assert told["message"] == error.meaning.en
    assert told["facts"] == {"tries_left": 2, "outcome": "NOT_MOVED"}


def test_a_traceback_only_with_debug() -> None:
    error = YikatongError(Reason.NO_CARD)
    assert CliRunner().invoke(_failing(error), ["--debug"]).exception is error
    assert isinstance(CliRunner().invoke(_failing(error), []).exception, SystemExit)


def test_a_socket_says_why_it_is_silent(tmp_path: Path) -> None:
    path = str(tmp_path / "his.sock")
    nothing = client.why_silent(path)
    assert nothing is not None
    assert "not running" in nothing.en
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(path)
        left = client.why_silent(path)
        assert left is not None
        assert "left its socket" in left.en
        line.listen()
        assert client.why_silent(path) is None


def test_place_without_a_configuration_is_the_packaged_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client, "CONFIG_DEFAULT", tmp_path / "none.toml")
    assert client.place(None).his == "/run/yikatong/his/his.sock"
    with pytest.raises(YikatongError) as missing:
        client.place(tmp_path / "none.toml")
    assert missing.value.reason is Reason.CONFIGURATION_INVALID
