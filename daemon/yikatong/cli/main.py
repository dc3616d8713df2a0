"""The command `yikatong`. Each group lives in a file of its own and is imported when it is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from typing import Final

import click

from yikatong.cli import output

# grpcio's C core writes notes of its own to standard error; only its errors are anybody's business here.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

_COMMANDS: Final = {
    "demo": "demo",
    "daemon": "services",
    "gateway": "services",
    "check-config": "services",
    "card": "window",
    "pay": "window",
    "pin": "pin_prompt",
    "cancel": "window",
    "refund": "window",
    "transactions": "window",
    "receipt": "window",
    "doctor": "doctor",
    "selftest": "selftest",
    "trace": "trace",
    "simulate": "simulate",
    "bench": "bench",
    "ops": "ops",
    "explain": "explain",
}


class Lazy(click.Group):
    """Finds a command in its module: `doctor` does not wait for the imports of `daemon`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"yikatong.cli.{_COMMANDS[cmd_name]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


class Bilingual(click.HelpFormatter):
    """click's own words in help, in both languages too."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, prefix or "用法 / Usage: ")

    def write_heading(self, heading: str) -> None:
        super().write_heading(_CLICKS_WORDS.get(heading, heading))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(name, _CLICKS_WORDS.get(text, text)) for name, text in rows], col_max, col_spacing)


_CLICKS_WORDS: Final = {
    "Options": "选项 / Options",
    "Commands": "命令 / Commands",
    "Show this message and exit.": "显示本帮助 / show this help",
}
click.Context.formatter_class = Bilingual


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="yikatong", help="显示版本 / show the version")
@output.with_language
def main() -> None:
    """一卡通：社会保障卡异地扣款中间件 / Yikatong: payment with the social security card in another city.

    语言由 --lang 决定，否则由 LANG 决定。 / Chinese or English by --lang, else by LANG.

    退出码：各命令的 --help 写明；2 也表示用法有误。
    Exit status: the --help of each command says it; 2 also where the command line is wrong.
    """


if __name__ == "__main__":
    main()
