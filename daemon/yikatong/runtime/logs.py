"""Structured logs that fail closed: plain values pass, everything else is named by its type; numbers of people never.

One canonical line per transaction; the rest is DEBUG. Tracebacks carry no local variables.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

_IDENTITY = re.compile(r"[0-9]{6}(?:19|20)[0-9]{2}[01][0-9][0-3][0-9][0-9]{3}[0-9Xx]")
_PLAIN = (str, int, float, bool, type(None))


def _only_plain(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if key == "exc_info":
            continue
        if not isinstance(value, _PLAIN):
            event[key] = f"<{type(value).__name__}>"
        elif isinstance(value, str):
            event[key] = _IDENTITY.sub("<withheld>", value)
    return event


def _withhold_in_traceback(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if isinstance(text := event.get("exception"), str):
        event["exception"] = _IDENTITY.sub("<withheld>", text)
    return event


def configure(*, level: str = "INFO", stream: TextIO | None = None) -> None:
    """JSON lines on `stream` (standard error): systemd's journal takes them as they are."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _only_plain,
            structlog.processors.format_exc_info,  # a plain traceback: no locals
            _withhold_in_traceback,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
