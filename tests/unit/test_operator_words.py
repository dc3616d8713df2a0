"""What an operator reads where something is refused: each cause in both languages, nobody's cashier's next step."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from yikatong.cli import asking, client, output
from yikatong.core.reasons import Reason, YikatongError

SOURCES = Path(__file__).resolve().parents[2] / "daemon/yikatong"


def told(error: YikatongError, *options: str) -> tuple[int, str]:
    @click.command()
    @output.with_json
    @output.with_language
    @output.with_debug
    def failing() -> None:
        raise SystemExit(asking.tell(error))

    result = CliRunner().invoke(failing, options)
    return result.exit_code, result.output


def test_every_cause_that_the_code_names_has_its_words() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (SOURCES / "gateway").glob("*.py"))
    text += "".join(path.read_text(encoding="utf-8") for path in (SOURCES / "cli").glob("ops*.py"))
    assigned = re.findall(r'why = "([A-Z_]+)" if .* else "([A-Z_]+)"', text)
    named = {*re.findall(r'why="([A-Z_]+)"', text), *(why for pair in assigned for why in pair)}
    assert {"MONTH_NOT_OVER", "NO_SUCH_CITY", "CONTENT_DIFFERS", "LATER_MONTH_CLOSED"} <= named
    assert named == set(asking._WHY)


@pytest.mark.parametrize("why", asking._WHY)
def test_a_cause_is_told_in_the_operators_language(why: str) -> None:
    zh, en = asking._WHY[why]
    error = YikatongError(Reason.NOT_DECIDABLE, "the detail of a programmer", why=why)
    assert zh in told(error, "--lang", "zh")[1]
    status, words = told(error, "--lang", "en")
    assert (status, en in words, "programmer" in words) == (client.EXIT_FAILED, True, False)


@pytest.mark.parametrize(
    "reason",
    [
        Reason.INSTITUTION_UNKNOWN,
        Reason.TERMINAL_UNKNOWN,
        Reason.TRANSACTION_NOT_FOUND,
        Reason.GATEWAY_UNREACHABLE,
        Reason.NOT_ALLOWED,
        Reason.CERTIFICATE_INVALID,
        Reason.STORE_UNAVAILABLE,
        Reason.INTERNAL,
        Reason.INVALID_FIELD,
    ],
)
def test_an_operator_is_nobodys_cashier(reason: Reason) -> None:
    meaning = YikatongError(reason).meaning
    for language, next_step in (("zh", meaning.next_zh), ("en", meaning.next_en)):
        words = told(YikatongError(reason), "--lang", language)[1]
        assert next_step not in words
        assert "现金" not in words
        assert "money" not in words


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.GATEWAY_UNREACHABLE, client.EXIT_NOT_ASKED),
        (Reason.CERTIFICATE_INVALID, client.EXIT_NOT_ASKED),
        (Reason.CONFIGURATION_INVALID, client.EXIT_NOT_ASKED),
        (Reason.STORE_UNAVAILABLE, client.EXIT_PENDING),
        (Reason.INTERNAL, client.EXIT_PENDING),
        (Reason.SECOND_PERSON_NEEDED, client.EXIT_FAILED),
    ],
)
def test_the_exit_status_says_whether_it_took_effect(reason: Reason, status: int) -> None:
    assert told(YikatongError(reason))[0] == status
