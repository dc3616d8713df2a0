"""What is traced, as messages."""

from __future__ import annotations

from yikatong.api.diagnostics.v1 import diagnostics_pb2 as api
from yikatong.core.reasons import Reason
from yikatong.core.trace import (
    CardExchange,
    CardPowered,
    Direction,
    LineFrame,
    Missed,
    RecordedBytes,
    TraceBegun,
    TraceEvent,
)


def message(event: TraceEvent, version: str, *, record: bool) -> api.TraceApdusResponse:
    """`version` is the daemon's; `record`: what was asked for."""
    match event:
        case TraceBegun():
            return api.TraceApdusResponse(begun=api.TraceBegun(version=version, record=record))
        case Missed():
            return api.TraceApdusResponse(missed=event.count)
    told = api.TraceApdusResponse(at_us=event.at_us, device=event.device, text_zh=event.zh, text_en=event.en)
    match event:
        case CardPowered():
            told.card.CopyFrom(api.TracedCard(atr=event.atr, failure=_code(event.failure)))
        case LineFrame():
            told.frame.CopyFrom(api.TracedFrame(sent=event.direction is Direction.SENT, length=event.length))
        case CardExchange():
            told.exchange.CopyFrom(_exchange(event))
    return told


def _exchange(event: CardExchange) -> api.TracedExchange:
    told = api.TracedExchange(
        took_us=event.took_us,
        header=event.header,
        command_length=event.command_length,
        answer_length=event.answer_length,
        status=b"" if event.status is None else event.status.to_bytes(2),
        failure=_code(event.failure),
        hidden=event.secret,
    )
    match event.recorded:
        case RecordedBytes(command, answer, left_out):
            told.command, told.answer, told.left_out = command, answer[:-2], left_out
    return told


def _code(failure: Reason | None) -> str:
    return failure.value if failure else ""
