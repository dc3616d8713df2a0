"""The edge of a service: requests are validated and errors translated here, once for every method.

A YikatongError becomes a gRPC status with google.rpc.ErrorInfo (domain `yikatong`, reason, metadata) and
LocalizedMessage; everything else becomes INTERNAL with an incident number, and its traceback goes to the log alone.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
import protovalidate
import structlog
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from yikatong.core.reasons import Moved, Reason, Status, YikatongError

DOMAIN: Final = "yikatong"
_log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


def wants_english(context: Context) -> bool:
    """Whether the caller's `accept-language` prefers English; Chinese is the default."""
    for key, value in context.invocation_metadata() or ():
        if key == "accept-language":
            return str(value).lower().startswith("en")
    return False


def status_of(error: YikatongError, *, english: bool) -> status_pb2.Status:
    """The rich status of an error. A decline that reaches this point is told as FAILED_PRECONDITION (enquiries)."""
    meaning = error.meaning
    name = "FAILED_PRECONDITION" if meaning.status is Status.DECLINED else meaning.status.value
    metadata = {key: str(value) for key, value in error.facts.items()}
    metadata.setdefault("outcome", meaning.moved.value)
    metadata.setdefault("retry", meaning.retry.value)
    info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=error.reason.value, metadata=metadata)
    text = f"{meaning.en} {meaning.next_en}" if english else f"{meaning.zh}{meaning.next_zh}"
    told = error_details_pb2.LocalizedMessage(locale="en" if english else "zh-CN", message=text)
    details = []
    for message in (info, told):
        packed = any_pb2.Any()
        packed.Pack(message)
        details.append(packed)
    return status_pb2.Status(code=code_pb2.Code.Value(name), message=str(error), details=details)


async def abort(context: Context, error: YikatongError) -> None:
    """Ends the call with the error; never returns."""
    await context.abort_with_status(rpc_status.to_status(status_of(error, english=wants_english(context))))


def _check(request: Message) -> None:
    try:
        protovalidate.validate(request)
    except protovalidate.ValidationError as error:
        violation = error.violations[0].proto
        field = ".".join(element.field_name for element in violation.field.elements) if violation.field else ""
        raise YikatongError(Reason.INVALID_FIELD, violation.message, field=field) from error


def _incident(error: Exception, method: str) -> YikatongError:
    incident = secrets.token_hex(4)
    _log.error("internal error", method=method, incident=incident, exc_info=error)
    return YikatongError(Reason.INTERNAL, incident=incident, outcome=Moved.PENDING.value)


class Edge(grpc.aio.ServerInterceptor):
    """Validates each request against its protovalidate rules and translates each error.

    `admit` is asked before every call and may raise YikatongError: who is it, and may they (certificate, role)?
    """

    def __init__(self, admit: Callable[[Context, str, Any], None] | None = None) -> None:
        self._admit = admit
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        if (known := self._handlers.get(method)) is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith("/yikatong."):
            return handler
        if handler.unary_unary is not None:
            handler = self._unary(handler, method)
        elif handler.unary_stream is not None:
            handler = self._stream(handler, method)
        self._handlers[method] = handler
        return handler

    def _enter(self, request: Message, context: Context, method: str) -> None:
        if self._admit is not None:  # first: who may not ask learns nothing about what may be asked
            self._admit(context, method, request)
        _check(request)

    def _unary(self, handler: grpc.RpcMethodHandler[Any, Any], method: str) -> grpc.RpcMethodHandler[Any, Any]:
        serve: Any = handler.unary_unary  # the stubs know only synchronous handlers

        async def served(request: Any, context: Context) -> Any:
            try:
                self._enter(request, context, method)
                return await serve(request, context)
            except YikatongError as error:
                await abort(context, error)
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - the border: nothing foreign gets past it
                await abort(context, _incident(error, method))

        return grpc.unary_unary_rpc_method_handler(
            served,
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _stream(self, handler: grpc.RpcMethodHandler[Any, Any], method: str) -> grpc.RpcMethodHandler[Any, Any]:
        serve: Any = handler.unary_stream  # the stubs know only synchronous handlers

        async def served(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                self._enter(request, context, method)
                async for message in serve(request, context):
                    yield message
            except YikatongError as error:
                await abort(context, error)
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - the border: nothing foreign gets past it
                await abort(context, _incident(error, method))

        return grpc.unary_stream_rpc_method_handler(
            served,
            handler.request_deserializer,
            handler.response_serializer,
        )


def error_of(error: grpc.aio.AioRpcError) -> YikatongError | None:
    """The YikatongError that a server of ours told, or None where the status is not ours (link, TLS, deadline)."""
    rich = rpc_status.from_call(error)  # type: ignore[arg-type]  # AioRpcError has what from_call reads
    if rich is None:
        return None
    for detail in rich.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            try:
                return YikatongError(Reason(info.reason), rich.message, **dict(info.metadata))
            except ValueError:
                return None
    return None
