"""Recordings as the command writes them, of cards of the test's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.tracing import Step, bench, watched
from yikatong.cli.trace import as_json
from yikatong.core.trace import TraceBegun, TraceEvent
from yikatong.simulators.card.port import PretendCard
from yikatong.terminal import trace_rpc


def lines(events: Iterable[TraceEvent]) -> list[dict[str, Any]]:
    """What `yikatong trace --record` writes of them."""
    return [as_json(trace_rpc.message(event, "0.0.0", record=True)) for event in (TraceBegun(), *events)]


def written(path: Path, content: Iterable[dict[str, Any] | str]) -> Path:
    text = (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in content)
    path.write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    return path


async def recorded(visits: list[tuple[PretendCard, list[Step[Any]]]]) -> tuple[list[TraceEvent], list[list[Any]]]:
    """The events of these visits, and what their steps gave or raised."""
    async with bench() as made, watched(made.trace, recording=True) as watching:
        given = [await made.visit(card, *steps) for card, steps in visits]
        return await watching.rest(made.trace), given
