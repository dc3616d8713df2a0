"""gRPC in virtual time: the generated stubs and services of the shipped code over lines that lose, repeat and delay.

What travels are serialised messages and rich statuses. A call that fails looks like grpcio's own failure: UNAVAILABLE
where the connection broke, DEADLINE_EXCEEDED where nothing was heard. A caller that leaves may or may not be noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import grpc

from yikatong.runtime.edge import Edge
from yikatong.simulation.chance import Chance
from yikatong.simulation.loop import Life, VirtualLoop, outside, running_process
from yikatong.simulation.points import message_point

_NEAR_S: Final = (0.003, 0.06)
_SLOW_S: Final = (0.3, 25.0)
_VERY_LATE_S: Final = (20.0, 160.0)


@dataclass(frozen=True, slots=True)
class Reply:
    """A message, or a status without one."""

    body: bytes = b""
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailing: tuple[tuple[str, str | bytes], ...] = ()


class Context:
    """A ServicerContext: who calls, and for how long it listens."""

    def __init__(self, peer: str, deadline_s: float | None) -> None:
        self._peer, self._deadline_s = peer, deadline_s
        self.aborted = Reply(code=grpc.StatusCode.UNKNOWN)

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {"x509_common_name": [self._peer.encode()]}

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def time_remaining(self) -> float | None:
        return None if self._deadline_s is None else self._deadline_s - asyncio.get_running_loop().time()

    async def abort_with_status(self, status: Any) -> None:
        self.aborted = Reply(b"", status.code, status.details, tuple(status.trailing_metadata))
        raise grpc.aio.AbortError


class Server:
    """What the generated `add_…_to_server` functions fill; each method goes through the shipped edge."""

    def __init__(self, life: Life, edge: Edge) -> None:
        self.life = life
        self._edge = edge
        self._handlers: dict[str, Any] = {}
        self._guarded: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The registered handlers say the same."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    async def serve(self, method: str, payload: bytes, context: Context) -> Reply:
        handler: Any = self._guarded.get(method)
        if handler is None:
            handler = self._guarded[method] = await self._edge.intercept_service(
                _always(self._handlers[method]),
                _Details(method),  # type: ignore[arg-type]  # the one field that is read
            )
        try:
            answer = await handler.unary_unary(handler.request_deserializer(payload), context)
        except grpc.aio.AbortError:
            return context.aborted
        return Reply(handler.response_serializer(answer))


@dataclass(frozen=True, slots=True)
class _Details:
    method: str


def _always(handler: Any) -> Callable[[Any], Awaitable[Any]]:
    async def continuation(details: Any) -> Any:
        return handler

    return continuation


@dataclass(eq=False, slots=True)
class _Call:
    """`misfortune`: factor of all rates; terminals that never get signed in show nothing."""

    method: str
    payload: bytes
    deadline_s: float | None
    answer: asyncio.Future[Reply]
    handlers: list[asyncio.Task[Reply]] = field(default_factory=list)
    name: str = ""
    misfortune: float = 1.0

    def __post_init__(self) -> None:
        self.name = self.method.rsplit("/", 1)[1]
        self.misfortune = 0.2 if self.name == "SignIn" else 1.0


class Line:
    """From one machine to another. `way` names its fault points; without, it is a local socket, and loses nothing."""

    def __init__(self, name: str, peer: str, loop: VirtualLoop, chance: Chance, *, way: str = "") -> None:
        """`peer`: the common name in the caller's certificate."""
        self.name, self._peer, self._loop, self._chance, self._way = name, peer, loop, chance, way
        self.server: Server | None = None
        self._cut = False
        self._calls: dict[_Call, None] = {}
        self._watchers: list[asyncio.Future[None]] = []

    # --- the far end ----------------------------------------------------------------------------------------------

    def listen(self, server: Server) -> None:
        self.server = server
        server.life.at_death(self._down)
        self._changed()

    def _down(self) -> None:
        """The server's process is dead: who waits for it learns so, or doesn't."""
        self.server = None
        self._changed()
        for call in list(self._calls):
            if call.handlers and not self._hits(call, self._chance.rates.silent_loss, "does not hear of a death"):
                self._soon(self._settle, call, _BROKEN)

    def cut(self, *, cut: bool) -> None:
        """A partition begins or ends."""
        self._cut = cut
        self._changed()

    # --- the near end ---------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        return self.server is not None and not self._cut

    async def change(self) -> None:
        """Returns at the next change of `up`, or of who is there."""
        watcher = self._loop.create_future()
        self._watchers.append(watcher)
        await watcher

    def _changed(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def call(self, method: str, payload: bytes, timeout_s: float | None) -> Reply:
        deadline_s = None if timeout_s is None else self._loop.time() + timeout_s
        call = _Call(method, payload, deadline_s, self._loop.create_future())
        self._calls[call] = None
        process = running_process()
        if process is not None:
            process.at_death(partial(self._leave, call))
        outside(self._send, call)
        try:
            async with asyncio.timeout(timeout_s):
                return await call.answer
        except TimeoutError:
            outside(self._leave, call)
            return Reply(code=grpc.StatusCode.DEADLINE_EXCEEDED)
        except asyncio.CancelledError:
            outside(self._leave, call)
            raise

    # --- under way ------------------------------------------------------------------------------------------------

    def _hits(self, call: _Call, rate: float, misfortune: str) -> bool:
        rate *= call.misfortune
        return (
            bool(self._way)
            and self._chance.may_hit(rate)
            and self._chance.hits(rate, message_point(self._way, call.name, misfortune))
        )

    def _travel(self, what: str, step: Callable[..., None], call: _Call, *arguments: Any) -> None:
        """Message or answer (`what`: "answer ") is under way."""
        dice, rates = self._chance.dice, self._chance.rates
        if self._hits(call, rates.very_late, f"{what}very late"):
            delay_s = dice.uniform(*_VERY_LATE_S)
        elif self._hits(call, rates.slow, f"{what}slow"):
            delay_s = dice.uniform(*_SLOW_S)
        else:
            delay_s = dice.uniform(*_NEAR_S)
        self._loop.call_later(delay_s, step, call, *arguments)

    def _soon(self, step: Callable[..., None], call: _Call, *arguments: Any) -> None:
        """What the near end learns of the connection."""
        self._loop.call_later(self._chance.dice.uniform(*_NEAR_S), step, call, *arguments)

    def _send(self, call: _Call) -> None:
        rates = self._chance.rates
        self._note("calls", call)
        if self._hits(call, rates.duplicated, "duplicated"):
            self._travel("", self._arrive, call)
        if self._hits(call, rates.lost, "lost"):
            self._lose(call)
        else:
            self._travel("", self._arrive, call)

    def _lose(self, call: _Call) -> None:
        if not self._hits(call, self._chance.rates.silent_loss, "is lost in silence"):
            self._soon(self._settle, call, _BROKEN)

    def _arrive(self, call: _Call) -> None:
        server = self.server
        if server is None or self._cut:
            self._lose(call)
            return
        self._note("arrives", call)
        context = Context(self._peer, call.deadline_s)
        handling = self._loop.create_task(server.serve(call.method, call.payload, context), context=server.life.context)
        call.handlers.append(handling)
        handling.add_done_callback(partial(outside, self._handled, call))

    def _handled(self, call: _Call, handling: asyncio.Task[Reply]) -> None:
        if handling.cancelled():
            reply = Reply(code=grpc.StatusCode.CANCELLED)
        elif (error := handling.exception()) is not None:
            self._loop.failures.append(f"{call.name}: {error!r}")
            reply = Reply(code=grpc.StatusCode.UNKNOWN)
        else:
            reply = handling.result()
        self._note(f"answers {reply.code.name} to", call)
        if self._hits(call, self._chance.rates.answer_lost, "answer lost"):
            self._lose(call)
        else:
            self._travel("answer ", self._return, call, reply)

    def _return(self, call: _Call, reply: Reply) -> None:
        if self._cut:
            self._lose(call)
        else:
            self._settle(call, reply)

    def _settle(self, call: _Call, reply: Reply) -> None:
        self._calls.pop(call, None)
        if not call.answer.done():
            self._note(f"hears {reply.code.name} of", call)
            call.answer.set_result(reply)

    def _leave(self, call: _Call) -> None:
        """The caller is gone or listens no longer; the far end notices now, later, or never."""
        self._calls.pop(call, None)
        if not call.answer.done():
            call.answer.cancel()
        if not self._hits(call, self._chance.rates.silent_loss, "is not heard to be given up"):
            self._soon(_cancel, call)

    def _note(self, what: str, call: _Call) -> None:
        self._chance.note(self._loop.time(), f"{self.name} {what} {call.name} {len(call.payload)}")


_BROKEN: Final = Reply(code=grpc.StatusCode.UNAVAILABLE)


def _cancel(call: _Call) -> None:
    for handling in call.handlers:
        handling.cancel()


class Channel:
    """The part of grpc.aio.Channel that stubs and our own channel classes use."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        _registered_method: bool = False,
    ) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, timeout: float | None = None) -> Any:
            reply = await self._line.call(method, request_serializer(request), timeout)
            if reply.code is grpc.StatusCode.OK:
                return response_deserializer(reply.body)
            raise grpc.aio.AioRpcError(
                reply.code, grpc.aio.Metadata(), grpc.aio.Metadata(*reply.trailing), details=reply.details
            )

        return call

    def unary_stream(self, method: str, **_: Any) -> None:
        """Nobody watches here."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return grpc.ChannelConnectivity.READY if self._line.up else grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def wait_for_state_change(self, last: grpc.ChannelConnectivity) -> None:
        await self._line.change()

    async def close(self) -> None:
        """Lines outlive processes."""
