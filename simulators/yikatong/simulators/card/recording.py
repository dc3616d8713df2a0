"""A recording of `yikatong trace --record`, read strictly: docs/trace-format.md says what each line may be.

It came from somewhere else: what is wrong with it is told with its line, and nothing in it costs more than its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from yikatong.simulators.card.files import SSSE_AID

VERSION: Final = 1
LINE_MAX: Final = 8 * 1024
LINES_MAX: Final = 200_000
BYTES_MAX: Final = 300
"""Of a command or an answer: T=0 has 261 and 258 (card-facts §1.3)."""
ATR_MIN, ATR_MAX = 2, 33
TOOK_MS_MAX: Final = 60_000.0

_HEADER: Final = 4
_LE: Final = 5

Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9A-F]{2})*$", max_length=2 * BYTES_MAX)]
Text = Annotated[str, msgspec.Meta(max_length=1000)]
Ms = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class _Line(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, tag_field="event"):
    """A line of the file, as an object of JSON."""


class _Told(_Line, frozen=True, kw_only=True):
    """What every event on a device has."""

    device: Text
    at_ms: Ms
    zh: Text = ""
    en: Text = ""


class Begun(_Line, frozen=True, kw_only=True, tag="begun"):
    format: Literal["yikatong-trace"]
    version: int
    program: Text = ""
    at: Text = ""
    identity: Literal["invented"]


class Card(_Told, frozen=True, kw_only=True, tag="card"):
    atr: Hex = ""
    failure: Text = ""


class Exchange(_Told, frozen=True, kw_only=True, tag="exchange"):
    took_ms: Annotated[float, msgspec.Meta(ge=0.0, le=TOOK_MS_MAX)]
    header: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-F]{8}$")]
    command_length: Count = 0
    answer_length: Count = 0
    command: Hex = ""
    answer: Hex = ""
    status: Annotated[str, msgspec.Meta(pattern=r"^([0-9A-F]{4})?$")] = ""
    failure: Text = ""
    hidden: bool = False
    left_out: bool = False


class Frame(_Told, frozen=True, kw_only=True, tag="frame"):
    sent: bool
    length: Count


class Missed(_Line, frozen=True, kw_only=True, tag="missed"):
    count: Count


_DECODER: Final = msgspec.json.Decoder(Begun | Card | Exchange | Frame | Missed)


class RecordingRefused(Exception):
    """A file that is no recording: where it goes wrong (`line`, 0 for the whole file), and why, in both languages."""

    def __init__(self, line: int, zh: str, en: str) -> None:
        super().__init__(f"{line}: {en}")
        self.line, self.zh, self.en = line, zh, en


@dataclass(frozen=True, slots=True)
class Step:
    """A command and what the card did. `command` is the whole of it, or `header` where its data are not told.

    `answer` has its status word, and is empty where the card stayed silent or (`leaves`) left the reader.
    """

    line: int
    header: bytes
    command: bytes
    command_length: int
    hidden: bool
    answer: bytes
    leaves: bool
    took_s: float

    def fits(self, apdu: bytes) -> bool:
        if self.command:
            return apdu == self.command
        return apdu[:_HEADER] == self.header and (self.hidden or len(apdu) - _LE == self.command_length)


@dataclass(frozen=True, slots=True)
class RecordedCard:
    """One card in one reader: what was said to it each time that it was powered."""

    device: str
    atr: bytes
    stays: tuple[tuple[Step, ...], ...]

    @property
    def social_security(self) -> bool:
        """Whether it was asked for its social security environment: a PSAM is not."""
        return any(step.command[_LE:] == SSSE_AID for stay in self.stays for step in stay)


@dataclass(frozen=True, slots=True)
class Recording:
    """The cards in a file, in the order in which they were first powered."""

    cards: tuple[RecordedCard, ...]
    missed: int

    @property
    def usual(self) -> int:
        """Which card is meant where none is named: the first social security card, or else the first one; from 1."""
        return next((number for number, card in enumerate(self.cards, start=1) if card.social_security), 1)


def load(path: Path) -> Recording:
    """Raises RecordingRefused, OSError."""
    cards: dict[tuple[str, bytes], list[list[Step]]] = {}
    present: dict[str, list[Step]] = {}
    missed = 0
    for number, line in _lines(path):
        match line:
            case Begun() if number > 1:
                raise RecordingRefused(number, "另一个录制文件的开头", "another recording begins here")
            case Card() if line.atr:
                present[line.device] = []
                cards.setdefault((line.device, _atr(number, line.atr)), []).append(present[line.device])
            case Card():
                present.pop(line.device, None)  # this one could not be powered
            case Exchange():
                step = _step(number, line)
                if line.device in present:
                    present[line.device].append(step)
            case Missed():
                missed += line.count
    made = [
        RecordedCard(device, atr, tuple(tuple(stay) for stay in stays if stay))
        for (device, atr), stays in cards.items()
    ]
    spoken_to = tuple(card for card in made if card.stays)
    if not spoken_to:
        raise RecordingRefused(0, "其中没有卡的应答", "there is no card's answer in it")
    return Recording(spoken_to, missed)


def _lines(path: Path) -> Iterator[tuple[int, Begun | Card | Exchange | Frame | Missed]]:
    """Every line with its number; the first one says what the file is."""
    with path.open("rb") as file:
        for number in range(1, LINES_MAX + 2):
            raw = file.readline(LINE_MAX + 1)
            if not raw:
                break
            if number > LINES_MAX:
                raise RecordingRefused(number, "行数过多", "there are too many lines")
            if len(raw) > LINE_MAX:
                raise RecordingRefused(number, "该行过长", "the line is too long")
            try:
                line = _DECODER.decode(raw)
            except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
                why = "".join(char if char.isprintable() else "?" for char in str(error))[:200]
                raise RecordingRefused(number, f"格式不符：{why}", f"it is not as it should be: {why}") from error
            if number == 1 and not isinstance(line, Begun):
                raise RecordingRefused(1, "开头不是录制文件的标识", "no recording begins so")
            if isinstance(line, Begun) and line.version != VERSION:
                shown = f"version {line.version}"
                raise RecordingRefused(number, f"不支持该版本：{shown}", f"only version {VERSION} is known: {shown}")
            yield number, line


def _atr(number: int, text: str) -> bytes:
    atr = bytes.fromhex(text)
    if not ATR_MIN <= len(atr) <= ATR_MAX:
        raise RecordingRefused(number, "复位应答的长度不对", "no ATR has that length")
    return atr


def _step(number: int, line: Exchange) -> Step:
    header, command, data = bytes.fromhex(line.header), bytes.fromhex(line.command), bytes.fromhex(line.answer)
    if command and not command.startswith(header):
        raise RecordingRefused(number, "指令与其头不符", "the command does not begin with its header")
    if len(data) != line.answer_length:
        zh, en = "应答数据缺失或长度不符", "the answer's data are missing, or of another length"
        raise RecordingRefused(number, zh, en)
    if not line.status and (data or not line.failure):
        raise RecordingRefused(number, "既没有状态字，也没有原因", "there is neither a status word nor a failure")
    return Step(
        number,
        header,
        command,
        line.command_length,
        line.hidden,
        data + bytes.fromhex(line.status),
        line.failure == "CARD_REMOVED",
        line.took_ms / 1000,
    )
