"""What passed between terminal and devices, as it may be shown: made where it passed, with nobody's data in it.

`at_us` are microseconds since the watching began, `took_us` from command to answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from yikatong.core.reasons import Reason


class Direction(Enum):
    """Seen from the terminal."""

    SENT = "SENT"
    RECEIVED = "RECEIVED"


@dataclass(frozen=True, slots=True)
class TraceBegun:
    """Everything from here on is told."""


@dataclass(frozen=True, slots=True)
class CardPowered:
    """A card was powered, or (with `failure`) could not be. `atr`: with an invented serial, and for recordings only."""

    device: str
    at_us: int
    zh: str
    en: str
    atr: bytes = b""
    failure: Reason | None = None


@dataclass(frozen=True, slots=True)
class RecordedBytes:
    """An exchange of an invented card: the bytes that a replay compares and answers.

    `command` is cut to its header where its data are not told. `left_out`: the answer's data are fill of the right
    length. The status word is in `answer`; empty where the card gave none.
    """

    command: bytes
    answer: bytes
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class CardExchange:
    """A command to a card and what came of it: its status word, or `failure`.

    `header` is CLA INS P1 P2. Lengths are those of the data, without header and status word. Of a command that carries
    a PIN (`secret`) neither data nor length are told, nor how long it took.
    """

    device: str
    at_us: int
    took_us: int
    header: bytes
    command_length: int
    answer_length: int
    status: int | None
    failure: Reason | None
    zh: str
    en: str
    secret: bool = False
    recorded: RecordedBytes | None = None


@dataclass(frozen=True, slots=True)
class LineFrame:
    """A command or an answer on a serial line, in words; `length` in bytes."""

    device: str
    at_us: int
    direction: Direction
    zh: str
    en: str
    length: int


@dataclass(frozen=True, slots=True)
class Missed:
    """So many events are not here: the watcher was too slow for them."""

    count: int


TraceEvent = TraceBegun | CardPowered | CardExchange | LineFrame | Missed
