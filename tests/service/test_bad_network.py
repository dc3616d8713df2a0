"""The bad network itself: what each kind of weather does to a connection, byte by byte, and to our mTLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from yikatong.gateway.development_ca import DevelopmentCa
from yikatong.simulators.network import CALM, Relay, Weather

HOST = "127.0.0.1"
BULK = bytes(range(256)) * 4096
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """A far end; yields its port. Its handlers end by themselves."""
    tasks: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(handle(reader, writer)))

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1000):
        writer.write(chunk)
        await writer.drain()


class Listener:
    """Keeps what arrives; `ended` says how its one connection ended: EOF or RESET."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1000):
                self.heard += chunk
        except ConnectionResetError:
            self.ended.set_result("RESET")
        else:
            self.ended.set_result("EOF")


async def _answer(port: int, data: bytes) -> bytes:
    """Sends, ends its side, and reads to the end."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "weather",
    [CALM, Weather(delay_s=0.002), Weather(held=1.0, hold_s=0.005), Weather(held=0.3, hold_s=0.02, delay_s=0.001)],
    ids=["calm", "delayed", "held", "both"],
)
async def test_what_is_only_late_arrives_whole_and_in_order(weather: Weather) -> None:
    async with serving(echo) as port, Relay(1, port, weather) as relay:
        assert await _answer(relay.port, BULK) == BULK
        assert relay.happened["connections"] == 1
        assert (relay.happened["held"] > 0) is (weather.held > 0)


async def test_a_refused_connection_is_reset_and_the_far_end_hears_nothing() -> None:
    listener = Listener()
    async with serving(listener) as port, Relay(1, port, Weather(refused=1.0)) as relay:
        with pytest.raises(ConnectionResetError):
            await _answer(relay.port, b"debit")
        assert relay.happened == {"connections": 1, "refused": 1}
        assert not listener.ended.done()


async def test_where_nobody_listens_the_caller_is_reset() -> None:
    async with serving(echo) as port:
        pass
    async with Relay(1, port) as relay:
        with pytest.raises(ConnectionResetError):
            await _answer(relay.port, b"debit")


async def test_a_dropped_connection_is_reset_at_both_ends_and_the_chunk_is_lost() -> None:
    listener = Listener()
    async with serving(listener) as port, Relay(1, port, Weather(dropped=1.0)) as relay:
        with pytest.raises(ConnectionResetError):
            await _answer(relay.port, b"debit")
        assert await listener.ended == "RESET"
        assert listener.heard == b""


async def test_a_truncated_stream_ends_in_the_middle() -> None:
    listener = Listener()
    async with serving(listener) as port, Relay(1, port, Weather(truncated=1.0)) as relay:
        assert await _answer(relay.port, b"0123456789") == b""
        await listener.ended
        assert b"0123456789".startswith(listener.heard)
        assert len(listener.heard) < 10
        assert relay.happened["truncated"] == 1


async def test_what_is_swallowed_never_arrives_and_nobody_is_told() -> None:
    listener = Listener()
    async with serving(listener) as port, Relay(1, port, Weather(swallowed=1.0)) as relay:
        reader, writer = await asyncio.open_connection(HOST, relay.port)
        writer.write(b"debit")
        while not relay.happened["swallowed"]:
            await asyncio.sleep(0)
        relay.weather = CALM  # better weather brings no forgotten connection back
        writer.write(b"debit again")
        assert await _answer_of_another(relay) == b""  # a round trip later
        assert listener.heard == b""
        assert not reader.at_eof()
        assert not listener.ended.done()
        writer.close()


async def _answer_of_another(relay: Relay) -> bytes:
    """A fresh connection through the same relay goes through, to an end that hangs up."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(hang_up) as port:
        relay.target = port
        return await _answer(relay.port, b"another")


async def test_the_end_of_one_side_is_told_to_the_other() -> None:
    listener = Listener()
    async with serving(listener) as port, Relay(1, port) as relay:
        assert await _answer(relay.port, b"debit") == b""
        assert await listener.ended == "EOF"
        assert listener.heard == b"debit"


async def _fates(seed: int) -> list[int]:
    """How many of thirty messages each of six connections got through before it ended."""
    fates = []
    async with serving(echo) as port, Relay(seed, port, Weather(dropped=0.05, truncated=0.05)) as relay:
        for _ in range(6):
            reader, writer = await asyncio.open_connection(HOST, relay.port)
            passed = 0
            try:
                while passed < 30:
                    writer.write(b"debit")
                    await reader.readexactly(5)
                    passed += 1
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            fates.append(passed)
            writer.close()
    return fates


async def test_the_same_seed_brings_the_same_fates_and_another_seed_others() -> None:
    first = await _fates(7)
    assert first == await _fates(7)
    assert len({tuple(await _fates(seed)) for seed in range(4)}) > 1
    assert min(first) < 30


async def test_mutual_tls_goes_through_untouched_and_calls_fail_as_on_a_bad_line(tmp_path: Path) -> None:
    ca = DevelopmentCa.create(tmp_path)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_secure_port(f"{HOST}:0", ca.server("gateway").server_credentials())
    await server.start()
    request = health_pb2.HealthCheckRequest()
    async with Relay(1, port) as relay:
        credentials = ca.client("terminal-1").channel_credentials()
        async with grpc.aio.secure_channel(f"localhost:{relay.port}", credentials) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(request, wait_for_ready=True)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            for weather in (Weather(dropped=1.0), Weather(truncated=1.0)):
                relay.weather = weather
                with pytest.raises(grpc.aio.AioRpcError) as failure:
                    await stub.Check(request)
                assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
            relay.weather = CALM
            await stub.Check(request, wait_for_ready=True)
    await server.stop(None)
