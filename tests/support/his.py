"""A HIS at the socket of a province's daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.cli.province import Province


@asynccontextmanager
async def his_of(province: Province) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"unix:{province.his_socket}") as channel:
        yield TerminalServiceStub(channel)
