"""Help and language: both languages in every text, exit statuses named, `--lang` before or after the command."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from yikatong.cli.main import main


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


COMMANDS = list(_commands(main))
LEAVES = [(path, command) for path, command in COMMANDS if not isinstance(command, click.Group)]
CHINESE, ENGLISH = re.compile("[一-鿿]"), re.compile("[a-z]{2,}")


def _ids(commands: list[tuple[tuple[str, ...], click.Command]]) -> list[str]:
    return [" ".join(path) for path, _ in commands]


def test_the_commands_are_there() -> None:
    assert len(LEAVES) > 20
    assert {("pay",), ("simulate", "card"), ("ops", "audit")} <= {path for path, _ in LEAVES}


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=_ids(COMMANDS))
def test_every_text_is_chinese_first_and_english(path: tuple[str, ...], command: click.Command) -> None:
    texts = [command.help, *(option.help for option in command.params if isinstance(option, click.Option))]
    for text in texts:
        assert text is not None, "an option without help"
        chinese, english = CHINESE.search(text), ENGLISH.search(text)
        assert chinese is not None, text
        assert english is not None, text
    page = command.get_help(click.Context(command, help_option_names=["--help"]))
    assert page.startswith("用法 / Usage: ")
    for words in ("选项 / Options:", "显示本帮助 / show this help"):
        assert words in page


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=_ids(LEAVES))
def test_help_names_the_exit_statuses(path: tuple[str, ...], command: click.Command) -> None:
    group = main.get_command(click.Context(main), path[0])
    assert group is not None
    text = f"{command.help} {group.help}"  # a group says it for those of its commands that are all alike
    assert "退出码" in text
    assert re.search("[Ee]xit status", text)


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["--lang", "zh", "explain", "NO_CARD"], "C", "读卡器中没有卡。"),
        (["explain", "NO_CARD", "--lang", "zh"], "C", "读卡器中没有卡。"),
        (["explain", "NO_CARD"], "zh_CN.UTF-8", "读卡器中没有卡。"),
        (["--lang", "en", "explain", "NO_CARD"], "zh_CN.UTF-8", "There is no card in the reader."),
        (["--lang", "zh", "explain", "NO_CARD", "--lang", "en"], "zh_CN.UTF-8", "There is no card in the reader."),
        (["explain", "NO_CARD"], "C", "There is no card in the reader."),
    ],
)
def test_the_language_is_the_nearest_lang_then_the_locale(
    arguments: list[str], environment: str, expected: str
) -> None:
    told = CliRunner().invoke(main, arguments, env={"LC_ALL": environment})
    assert told.exit_code == 0
    assert expected in told.stdout


def test_an_unknown_language_is_refused() -> None:
    assert CliRunner().invoke(main, ["--lang", "fr", "explain"]).exit_code == 2


@pytest.mark.parametrize("command", [["cancel"], ["refund"]], ids=["cancel", "refund"])
@pytest.mark.parametrize("key", ["RX-1", "nothing", "", "00000000-0000-0000-0000-00000000000"])
def test_what_is_no_transaction_id_names_no_transaction(command: list[str], key: str) -> None:
    amount = ["1"] if command == ["refund"] else []
    told = CliRunner().invoke(main, [*command, key, *amount, "--lang", "en"])
    assert told.exit_code == 1
    assert "[TRANSACTION_NOT_FOUND]" in told.stderr
    assert "No money moved." in told.stderr
