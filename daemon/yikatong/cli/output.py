"""What every command shares towards the person at the terminal: language, JSON, colours, and the common options.

A choice that is made once for a whole command (`--lang`, `--json`, `--debug`) lies in click's `meta`, which nested
commands share, so that nobody has to hand it on.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

Language = Literal["zh", "en"]
Command = TypeVar("Command", bound=Callable[..., Any])

_LANGUAGE: Final = "yikatong.language"
_JSON: Final = "yikatong.json"
_DEBUG: Final = "yikatong.debug"


def language(option: str | None = None) -> Language:
    """`option` where it is given, else `--lang`, else the locale: Chinese where it begins with zh, else English."""
    chosen = (
        option
        or _meta(_LANGUAGE)
        or next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
    )
    return "zh" if str(chosen).lower().startswith("zh") else "en"


def choose(zh: str, en: str) -> str:
    """The one of two texts that this person reads."""
    return zh if language() == "zh" else en


def say(zh: str, en: str, *, error: bool = False) -> None:
    """One line in the person's language; to standard error where `error`."""
    click.echo(choose(zh, en), err=error)


def wants_json() -> bool:
    return bool(_meta(_JSON))


def wants_debug() -> bool:
    return bool(_meta(_DEBUG))


def echo_json(value: Any) -> None:
    """`value` as JSON on standard output: plain dicts, lists, strings and numbers."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def console(*, error: bool = False) -> Console:
    """Coloured on a terminal, plain elsewhere and where NO_COLOR is set; it never reinterprets what it prints."""
    from rich.console import Console

    return Console(file=sys.stderr if error else sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)


def with_language(command: Command) -> Command:
    """Adds `--lang`."""
    return click.option(
        "--lang",
        type=click.Choice(["zh", "en"]),
        expose_value=False,
        is_eager=True,
        callback=_keep(_LANGUAGE),
        help="语言，默认按 LANG / language, by LANG otherwise",
    )(command)


def with_json(command: Command) -> Command:
    """Adds `--json`."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_keep(_JSON),
        help="以 JSON 输出 / print JSON",
    )(command)


def with_debug(command: Command) -> Command:
    """Adds `--debug`."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_keep(_DEBUG),
        help="出错时显示回溯 / show a traceback on failure",
    )(command)


def _keep(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            context.meta[key] = value

    return callback


def _meta(key: str) -> Any:
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(key)
