"""A bad network: a TCP relay between two of our processes that delays, holds back, cuts, truncates, swallows, refuses.

It relays bytes and understands none, so TLS goes through it untouched. What befalls a connection is drawn from a seed,
the connection's number and its direction: the same traffic on the same seed meets the same fate. TCP itself neither
loses nor repeats nor reorders bytes within a connection; calls are repeated by their callers, once answers are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

_CHUNK_BYTES: Final = 65536
_HOST: Final = "127.0.0.1"
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Weather:
    """What may happen. Probabilities are per connection (`refused`) or per chunk that was read from one side."""

    refused: float = 0.0
    """The connection is reset before a byte is relayed."""
    dropped: float = 0.0
    """The connection is reset, and the chunk is lost."""
    truncated: float = 0.0
    """A part of the chunk arrives, in the middle of whatever frame it is; then the connection is reset."""
    swallowed: float = 0.0
    """From now on the connection delivers nothing, either way, and nobody is told: a router has forgotten it."""
    held: float = 0.0
    """The chunk, and what comes after it, waits for up to `hold_s`."""
    hold_s: float = 0.0
    delay_s: float = 0.0
    """Every chunk waits for up to this long."""


CALM: Final = Weather()


@dataclass(eq=False)
class _Connection:
    """One relayed connection. `swallows`: it delivers nothing any more."""

    number: int
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    swallows: bool = False

    def reset(self) -> None:
        """Both ends hear of it at once, and lose what was under way."""
        for writer in (self.near, self.far):
            if writer is not None:
                _reset(writer)

    def close(self) -> None:
        for writer in (self.near, self.far):
            if writer is not None:
                writer.close()


@dataclass
class Relay:
    """Listens at `port` and relays to `target`. An asynchronous context manager; `weather` may change at any time.

    `happened` counts what befell, by the names of `Weather`, and `connections`.
    """

    seed: int
    target: int = 0
    """Port on this machine; set before the first connection comes."""
    weather: Weather = CALM
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None, "the relay is not entered"
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._accept, _HOST, 0)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.happened["connections"] += 1
        task = asyncio.create_task(self._relay(_Connection(self.happened["connections"], writer), reader))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _relay(self, connection: _Connection, near: asyncio.StreamReader) -> None:
        dice = random.Random(f"{self.seed} {connection.number}")  # noqa: S311 - repeatable on purpose
        try:
            if self._hits(dice, self.weather.refused, "refused"):
                connection.reset()
                return
            try:
                far, connection.far = await asyncio.open_connection(_HOST, self.target)
            except OSError:  # nobody listens there now: the caller hears what it would hear without us
                connection.reset()
                return
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(connection, near, connection.far, "out"))
                both.create_task(self._pump(connection, far, connection.near, "back"))
        finally:
            connection.close()

    async def _pump(
        self, connection: _Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: str
    ) -> None:
        """One direction, until its source ends or the connection does."""
        dice = random.Random(f"{self.seed} {connection.number} {way}")  # noqa: S311 - repeatable on purpose
        with contextlib.suppress(OSError):  # an end that was killed, or reset by the other direction
            while chunk := await source.read(_CHUNK_BYTES):
                if not await self._pass(connection, chunk, sink, dice):
                    return
            if not connection.swallows:
                sink.write_eof()

    async def _pass(
        self, connection: _Connection, chunk: bytes, sink: asyncio.StreamWriter, dice: random.Random
    ) -> bool:
        """Relays one chunk as the weather allows. Returns False where the connection is gone."""
        weather = self.weather
        if self._hits(dice, weather.swallowed, "swallowed"):
            connection.swallows = True
        if connection.swallows:
            return True
        if self._hits(dice, weather.dropped, "dropped"):
            connection.reset()
            return False
        truncated = self._hits(dice, weather.truncated, "truncated")
        wait_s = dice.uniform(0.0, weather.hold_s) if self._hits(dice, weather.held, "held") else 0.0
        wait_s += dice.uniform(0.0, weather.delay_s)
        if wait_s:
            await asyncio.sleep(wait_s)
        if connection.swallows:
            return True  # type: ignore[unreachable]  # another task sets it while this one sleeps
        sink.write(chunk[: dice.randrange(len(chunk))] if truncated else chunk)
        await sink.drain()
        if truncated:
            # An orderly end, so that what was written does arrive: a reset could overtake it.
            connection.close()
        return not truncated

    def _hits(self, dice: random.Random, rate: float, name: str) -> bool:
        """Draws even where the weather is calm: what comes later does not depend on it."""
        hit = dice.random() < rate
        self.happened[name] += hit
        return hit


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    writer.transport.abort()
