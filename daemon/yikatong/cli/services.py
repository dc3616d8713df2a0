"""`yikatong daemon`, `yikatong gateway`: what systemd starts; `yikatong check-config`: is the file right?"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import msgspec

from yikatong.cli import output
from yikatong.cli.folder import FolderUnusable, check_exists, check_state, user
from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.config import ConfigurationInvalid, Mistake, load, read
from yikatong.runtime.program import run_until_told

EXIT_CONFIGURATION: Final = 78
"""EX_CONFIG: starting again does not help; the units do not restart on it."""

_WITHOUT_HOPE: Final = frozenset(
    {Reason.CONFIGURATION_INVALID, Reason.CERTIFICATE_INVALID, Reason.TERMINAL_SUPERSEDED, Reason.STORE_NOT_OURS}
)

Config = TypeVar("Config")

_CONFIG = click.option(
    "--config",
    "-c",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="配置文件 / configuration file",
)


@click.command()
@_CONFIG
def daemon(file: Path) -> None:
    """运行终端守护进程 / Run the terminal daemon in the foreground.

    退出码：0 按命令停止，1 出错（可重启），78 配置、证书或身份有误（重启无用）。
    Exit status: 0 stopped as told, 1 failed (start it again), 78 configuration, certificate or identity is wrong.
    """
    from yikatong.runtime import logs
    from yikatong.runtime.read_only_store import is_read_only
    from yikatong.runtime.secrecy import hide_memory
    from yikatong.terminal.config import DaemonConfig
    from yikatong.terminal.main import serve

    config = _or_exit(lambda: load(file, DaemonConfig))
    logs.configure(level=config.log_level)
    if config.pin_keypad is not None:
        hide_memory()
    state = Path(config.state)
    _or_exit(lambda: check_exists(state, Reason.JOURNAL_UNAVAILABLE, owner=user()))
    if not is_read_only(state):
        _or_exit(lambda: check_state(state, Reason.JOURNAL_UNAVAILABLE, owner=user()))
    _run(lambda stop: serve(config, stop=stop))


@click.command()
@_CONFIG
def gateway(file: Path) -> None:
    """运行网关 / Run the provincial gateway in the foreground.

    退出码：0 按命令停止，1 出错（可重启），78 配置或证书有误（重启无用）。
    Exit status: 0 stopped as told, 1 failed (start it again), 78 configuration or certificate is wrong.
    """
    from yikatong.gateway.config import GatewayConfig
    from yikatong.gateway.main import serve
    from yikatong.runtime import logs

    config = _or_exit(lambda: load(file, GatewayConfig))
    logs.configure(level=config.log_level)
    _or_exit(lambda: check_state(Path(config.state_dir), Reason.STORE_UNAVAILABLE, owner=user()))
    _run(lambda stop: serve(config, stop=stop))


@click.command(name="check-config")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--kind",
    type=click.Choice(["daemon", "gateway", "operator", "city", "voucher-service"]),
    help="文件种类，默认按内容判断 / kind of file; by its content otherwise",
)
@output.with_json
@output.with_language
def check_config(file: Path, kind: str | None) -> None:
    """检查配置文件，逐行指出所有错误 / Validate a configuration file; every mistake with its line and key.

    \b
    daemon    终端守护进程 / the terminal daemon
    gateway   省级网关 / the provincial gateway
    operator  网关操作员 / a gateway operator
    city      模拟的参保城市 / the simulated home city

    退出码：0 正确，1 有错误。 / Exit status: 0 valid, 1 there are mistakes.
    """
    mistakes = []
    try:
        kind = kind or _kind(file)
        load(file, _shapes()[kind])
    except ConfigurationInvalid as error:
        mistakes = error.mistakes
    if output.wants_json():
        rows = [{"line": m.line, "key": m.key, "zh": m.zh, "en": m.en} for m in mistakes]
        output.echo_json({"file": str(file), "kind": kind, "valid": not mistakes, "mistakes": rows})
    else:
        for mistake in mistakes:
            output.say(f"✗ {file}：{mistake.in_chinese()}", f"✗ {file}: {mistake.in_english()}", error=True)
        if not mistakes:
            output.say(f"✓ {file}：配置正确（{kind}）。", f"✓ {file}: valid ({kind}).")
    sys.exit(1 if mistakes else 0)


def _shapes() -> dict[str, type[msgspec.Struct]]:
    """What each kind of file must look like."""
    from yikatong.cli.asking import Operator
    from yikatong.gateway.config import GatewayConfig
    from yikatong.simulators.city import CityConfig
    from yikatong.simulators.voucher_service import VoucherServiceConfig
    from yikatong.terminal.config import DaemonConfig

    return {
        "daemon": DaemonConfig,
        "gateway": GatewayConfig,
        "operator": Operator,
        "city": CityConfig,
        "voucher-service": VoucherServiceConfig,
    }


def _kind(file: Path) -> str:
    """The kind that knows most of the file's keys. Raises ConfigurationInvalid where that is more than one, or none."""
    _, document = read(file)
    known = {kind: len(document.keys() & set(shape.__struct_fields__)) for kind, shape in _shapes().items()}
    most = [kind for kind, count in known.items() if count and count == max(known.values())]
    if len(most) != 1:
        unclear = Mistake(
            0, file.name, "看不出是哪种配置文件，请加 --kind", "which kind of file it is, is not clear: add --kind"
        )
        raise ConfigurationInvalid(file, [unclear])
    return most[0]


def _or_exit(make: Callable[[], Config]) -> Config:
    try:
        return make()
    except YikatongError as error:
        _leave(error)


def _leave(error: YikatongError) -> NoReturn:
    """Says why the service does not run, and what to do next; systemd's journal keeps it."""
    meaning = error.meaning
    detail = f"{error.zh} {error.en}" if isinstance(error, FolderUnusable) else error.detail
    step = error if isinstance(error, FolderUnusable) else meaning
    click.echo(f"✗ {meaning.zh} {meaning.en} [{error.reason.value}] {detail}", err=True)
    click.echo(f"  {step.next_zh} {step.next_en}", err=True)
    sys.exit(EXIT_CONFIGURATION if error.reason in _WITHOUT_HOPE else 1)


def _run(serve: Callable[[asyncio.Event], Coroutine[Any, Any, int]]) -> None:
    """Runs a service until SIGTERM or SIGINT, then exits with its status."""
    try:
        sys.exit(run_until_told(serve))
    except YikatongError as error:
        _leave(error)
