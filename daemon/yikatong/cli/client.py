"""The command's way to a daemon: its socket, a call, and what went wrong in words that a person can use.

exit status 1: it was refused, and no money moved; 2: it could not be asked; 3: the outcome is still open
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from yikatong.cli import output
from yikatong.core.reasons import Moved, Reason, YikatongError

if TYPE_CHECKING:
    import grpc.aio

    from yikatong.terminal.config import DaemonConfig

CONFIG_DEFAULT: Final = Path("/etc/yikatong/daemon.toml")
CONFIG_VARIABLE: Final = "YIKATONG_CONFIG"

EXIT_FAILED: Final = 1
EXIT_NOT_ASKED: Final = 2
EXIT_PENDING: Final = 3

_CONNECT_S: Final = 2.0
_MONEY: Final = {
    Moved.NOT_MOVED.value: ("没有动钱。", "No money moved."),
    Moved.MOVED.value: ("钱已扣。", "The money has moved."),
    Moved.PENDING.value: (
        "结果未定：用同一请求号再问，不要重复收费。",
        "The outcome is open: ask again with the same request id; do not charge again.",
    ),
}

Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Place:
    """Where the daemon listens, and whom to call while it has not said so itself. `config` is None where none is."""

    his: str
    technician: str
    policy_hotline: str
    fault_hotline: str
    config: DaemonConfig | None = None
    pin: str = ""
    """Where PINs are typed on a computer's keyboard; the socket is there only where the configuration says so."""


@dataclass(frozen=True, slots=True)
class SocketCause:
    """Why a socket does not answer, and the next step."""

    zh: str
    en: str
    next_zh: str
    next_en: str


class DaemonDown(YikatongError):
    """Nothing answers at the daemon's socket; `cause` says what was found there, and what to do."""

    def __init__(self, cause: SocketCause, path: str) -> None:
        super().__init__(Reason.DAEMON_UNREACHABLE, f"no answer at {path}")
        self.cause = cause


_START_ZH: Final = "请启动守护进程：systemctl start yikatong-daemon；查看原因：journalctl -u yikatong-daemon。"
_START_EN: Final = "Start it: systemctl start yikatong-daemon; see why it ended: journalctl -u yikatong-daemon."
_GROUP_ZH: Final = "请把当前用户加入 yikatong-his（收费）或 yikatong-tech（维护）组，或改用 sudo。"
_GROUP_EN: Final = "Join the group yikatong-his (payments) or yikatong-tech (maintenance), or use sudo."


def with_config(command: Command) -> Command:
    """Adds `--config/-c FILE` as `config: Path | None`."""
    return click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=CONFIG_VARIABLE,
        default=None,
        help=f"守护进程配置文件 / the daemon's configuration ({CONFIG_DEFAULT}).",
    )(command)


def place(config: Path | None) -> Place:
    """Reads the named file, or the installed one where it can be read; the packaged places where there is none.

    Raises ConfigurationInvalid.
    """
    from yikatong.runtime.config import load
    from yikatong.terminal.config import DaemonConfig, Hotlines, Sockets

    if config is None and not os.access(CONFIG_DEFAULT, os.R_OK):
        sockets, hotlines = Sockets(), Hotlines()
        return Place(sockets.his, sockets.technician, hotlines.policy, hotlines.fault, pin=sockets.pin)
    found = load(config or CONFIG_DEFAULT, DaemonConfig)
    sockets, hotlines = found.sockets, found.hotlines
    return Place(sockets.his, sockets.technician, hotlines.policy, hotlines.fault, found, sockets.pin)


def found_place(config: Path | None) -> Place:
    """As `place`; a configuration that can't be used is told to the person and ends the command."""
    try:
        return place(config)
    except YikatongError as error:
        if output.wants_debug():
            raise
        sys.exit(tell(error))


def why_silent(path: str) -> SocketCause | None:
    """What keeps us from the daemon's socket; None where something listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_CONNECT_S)
        try:
            line.connect(path)
        except OSError as error:
            match error.errno:
                case errno.ENOENT:
                    return SocketCause("守护进程没有运行。", "The daemon is not running.", _START_ZH, _START_EN)
                case errno.ECONNREFUSED:
                    return SocketCause(
                        "守护进程已退出，只留下套接字。",
                        "The daemon has ended and left its socket.",
                        _START_ZH,
                        _START_EN,
                    )
                case errno.EACCES | errno.EPERM:
                    return SocketCause(
                        "当前用户无权访问守护进程。", "This user may not talk to the daemon.", _GROUP_ZH, _GROUP_EN
                    )
                case _:
                    name = os.strerror(error.errno) if error.errno else "timeout"
                    return SocketCause(
                        f"守护进程不应答（{name}）。", f"The daemon does not answer ({name}).", _START_ZH, _START_EN
                    )
    return None


@asynccontextmanager
async def channel(path: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the daemon behind the unix socket `path`. Raises DaemonDown where nothing listens."""
    import grpc.aio

    if (cause := why_silent(path)) is not None:
        raise DaemonDown(cause, path)
    async with grpc.aio.insecure_channel(f"unix:{path}", options=[("grpc.enable_retries", 0)]) as opened:
        yield opened


def metadata() -> tuple[tuple[str, str], ...]:
    """Goes with every call, so that the daemon speaks the person's language."""
    return (("accept-language", output.choose("zh-CN", "en")),)


def run(
    work: Coroutine[Any, Any, Result], at: Place | None = None, *, money: bool = False, asked_before: bool = False
) -> Result:
    """Runs `work`; a failure is told to the person (JSON with `--json`) and ends the command with its exit status.

    `money`: the work may have moved some, so that silence means "still open", never "failed". `asked_before`: its
    request id may have been used, so that even a daemon that is not there says nothing about the money.
    """
    import grpc.aio

    try:
        return asyncio.run(work)
    except (YikatongError, grpc.aio.AioRpcError) as error:
        if output.wants_debug():
            raise
        told = error if isinstance(error, YikatongError) else failure_of(error, money=money)
        if asked_before and told.reason is Reason.DAEMON_UNREACHABLE:
            told.facts["outcome"] = Moved.PENDING.value
        sys.exit(tell(told, at))


def failure_of(error: grpc.aio.AioRpcError, *, money: bool = False) -> YikatongError:
    """What a call's failure means: what the daemon told, else that it fell silent."""
    from yikatong.runtime import edge

    if (told := edge.error_of(error)) is not None:
        return told
    name = error.code().name
    if money:
        return YikatongError(Reason.OUTCOME_PENDING, f"the daemon fell silent: {name}")
    return YikatongError(Reason.DAEMON_UNREACHABLE, f"the daemon fell silent: {name}")


def tell(error: YikatongError, at: Place | None = None) -> int:
    """Tells a failure: one sentence, the reason code, the next step, the fault hotline. Returns the exit status."""
    meaning = error.meaning
    sentence, next_step = output.choose(meaning.zh, meaning.en), output.choose(meaning.next_zh, meaning.next_en)
    if isinstance(error, DaemonDown):
        sentence = output.choose(error.cause.zh, error.cause.en)
        next_step = output.choose(error.cause.next_zh, error.cause.next_en)
    outcome = str(error.facts.get("outcome", meaning.moved.value))
    hotline = at.fault_hotline if at else ""
    if output.wants_json():
        output.echo_json(
            {
                "error": {
                    "reason": error.reason.value,
                    "message": sentence,
                    "next_step": next_step,
                    "detail": error.detail,
                    "facts": {**error.facts, "outcome": outcome},
                    "fault_hotline": hotline,
                }
            }
        )
    else:
        console = output.console(error=True)
        console.print(f"✗ {sentence} [{error.reason.value}]", style="bold red")
        if error.detail:
            console.print(f"  {error.detail}", style="dim")
        for fact, (zh, en) in _SAID.items():
            if fact in error.facts:
                console.print(f"  {output.choose(zh, en)}: {error.facts[fact]}")
        console.print(f"  {output.choose(*_MONEY[outcome])}")
        if transaction_id := error.facts.get("transaction_id"):
            console.print(f"  {output.choose('交易号', 'transaction')}: {transaction_id}")
            if at is not None:
                console.print(f"  {output.choose('凭条', 'slip')}: yikatong receipt {transaction_id}")
        console.print(f"  {output.choose('下一步', 'next')}: {next_step}")
        if hotline:
            console.print(f"  {output.choose('故障热线', 'fault hotline')}: {hotline}")
    return _exit_status(error.reason, outcome)


_SAID: Final = {
    "field": ("字段", "field"),
    "tries_left": ("剩余次数", "tries left"),
    "wait_s": ("请等待（秒）", "wait, in seconds"),
}
"""Facts that a cashier has to hear."""


def _exit_status(reason: Reason, outcome: str) -> int:
    if outcome == Moved.PENDING.value:
        return EXIT_PENDING
    return EXIT_NOT_ASKED if reason in {Reason.DAEMON_UNREACHABLE, Reason.CONFIGURATION_INVALID} else EXIT_FAILED
