"""A terminal daemon in this process, wired as it ships, beside a real gateway; reader and clock are the test's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import msgspec

from tests.gateway_world import TERMINAL, World
from yikatong.api.diagnostics.v1.diagnostics_pb2_grpc import DiagnosticsServiceStub
from yikatong.core.ports import CardReader
from yikatong.runtime.clock import Clock, SystemClock
from yikatong.runtime.tls import Identity
from yikatong.simulators.reader import SimulatedReader
from yikatong.terminal import main as terminal_main
from yikatong.terminal.config import DaemonConfig, Gateway, Hotlines, Reader, Sockets
from yikatong.terminal.live import Limits
from yikatong.terminal.terminal import Terminal


class ClockOff(SystemClock):
    """A machine whose wall clock is off; durations are right."""

    def __init__(self, offset: timedelta) -> None:
        super().__init__()
        self._offset = offset

    def now(self) -> datetime:
        return super().now() + self._offset


@dataclass(frozen=True)
class Daemon:
    """A running daemon. `technician` and `his` are stubs over its sockets; `file` is its configuration."""

    terminal: Terminal
    config: DaemonConfig
    file: Path
    diagnostics: Any
    """DiagnosticsService over the technicians' socket."""


def configuration(folder: Path, port: int, identity: Identity, **changes: Any) -> DaemonConfig:
    """Of terminal-1, in development, with everything under `folder`."""
    config = DaemonConfig(
        terminal_id=TERMINAL,
        gateway=Gateway(f"127.0.0.1:{port}", str(identity.authority), str(identity.certificate), str(identity.key)),
        reader=Reader(kind="simulated"),
        sockets=Sockets(str(folder / "his.sock"), str(folder / "tech.sock")),
        hotlines=Hotlines("12393", "0531-7654321"),
        state=str(folder / "terminal"),
        development=True,
    )
    return msgspec.structs.replace(config, **changes)


def written(config: DaemonConfig, path: Path) -> Path:
    """The configuration as the file that a person would have written."""
    plain = {key: value for key, value in msgspec.to_builtins(config).items() if value is not None}
    path.write_bytes(msgspec.toml.encode(plain))
    return path


@contextlib.asynccontextmanager
async def daemon(
    province: World,
    port: int,
    *,
    clock: Clock | None = None,
    reader: CardReader | None = None,
    identity: Identity | None = None,
    signed_in: bool = True,
    limits: Limits | None = None,
    **changes: Any,
) -> AsyncIterator[Daemon]:
    """A daemon whose reader is empty unless another is given. Waits for its sign-in where `signed_in`."""
    folder = province.folder
    config = configuration(folder, port, identity or province.ca.client(TERMINAL), **changes)
    Path(config.state).mkdir(exist_ok=True)
    stop = asyncio.Event()
    ready: asyncio.Future[Terminal] = asyncio.get_running_loop().create_future()
    held = reader or SimulatedReader()
    task = asyncio.create_task(
        terminal_main.serve(
            config,
            stop=stop,
            ready=ready.set_result,
            clock=clock,
            reader=held,
            **({} if limits is None else {"limits": limits}),
        )
    )
    try:
        done, _ = await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            task.result()
        terminal = ready.result()
        if signed_in:
            async with asyncio.timeout(20):
                await terminal.session.signed_in.wait()
        async with grpc.aio.insecure_channel(f"unix:{config.sockets.technician}") as channel:
            yield Daemon(terminal, config, written(config, folder / "daemon.toml"), DiagnosticsServiceStub(channel))
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
        await held.close()
    assert task.result() == terminal_main.EXIT_OK


@contextlib.asynccontextmanager
async def serving(config: DaemonConfig) -> AsyncIterator[None]:
    """The daemon as its configuration alone makes it, signed in."""
    Path(config.state).mkdir()
    stop = asyncio.Event()
    ready: asyncio.Future[Terminal] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(terminal_main.serve(config, stop=stop, ready=ready.set_result))
    try:
        async with asyncio.timeout(20):
            await (await ready).session.signed_in.wait()
        yield
    finally:
        stop.set()
        await asyncio.wait([serving])
    assert serving.result() == terminal_main.EXIT_OK


async def command(*arguments: str, stdin: int | None = None, **environment: str) -> tuple[int, str, str]:
    """Runs `yikatong …` as a process of its own: exit status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "yikatong.cli.main",
        *arguments,
        env={**os.environ, "LANG": "C.UTF-8", "NO_COLOR": "1", **environment},
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()
