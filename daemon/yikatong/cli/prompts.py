"""What a cashier's screen shows while a transaction is under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

import grpc.aio

from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.cli import client

if TYPE_CHECKING:
    from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceAsyncStub

_LAST_S: Final = 0.05
"""The last prompt is on its way when the answer is there."""


@contextlib.asynccontextmanager
async def shown(
    his: TerminalServiceAsyncStub, show: Callable[[str], None], *, request_id: str = ""
) -> AsyncIterator[None]:
    """Shows the prompts of one request, or of all: each stage once, and where it lasts who keeps us waiting."""
    watching = his.WatchTerminal(api.WatchTerminalRequest(), metadata=client.metadata())
    await watching.wait_for_connection()

    async def watch() -> None:
        stage = api.STAGE_UNSPECIFIED
        async for event in watching:
            if event.HasField("stage") and request_id in ("", event.stage.request_id):
                show(event.stage.sentence if event.stage.stage == stage else event.stage.prompt)
                stage = event.stage.stage

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        await asyncio.sleep(_LAST_S)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):  # how it ended is the answer's to say
            await task
