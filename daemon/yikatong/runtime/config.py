"""Configuration files: TOML in, a typed value out, or every mistake with its line, key and what was expected."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from yikatong.core.reasons import Reason, YikatongError

T = TypeVar("T", bound=msgspec.Struct)

_MISTAKES_MAX = 50


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to correct. `line` counts from 1; 0 where the key is missing altogether. `key` is dotted."""

    line: int
    key: str
    expected: str

    def __str__(self) -> str:
        where = f"第 {self.line} 行 line {self.line}" if self.line else "缺少 missing"
        return f"{where}: {self.key}: {self.expected}"


class ConfigurationInvalid(YikatongError):
    """The file can't be used; `mistakes` says why, all of them."""

    def __init__(self, path: Path, mistakes: list[Mistake]) -> None:
        super().__init__(Reason.CONFIGURATION_INVALID, "; ".join(map(str, mistakes)), file=path.name)
        self.mistakes = mistakes


def load(path: Path, shape: type[T]) -> T:
    """Reads `path` into `shape` (a msgspec Struct that forbids unknown fields). Raises ConfigurationInvalid."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationInvalid(
            path, [Mistake(0, path.name, f"the file can't be read: {error.strerror}")]
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        found = re.search(r"line (\d+)", str(error))
        raise ConfigurationInvalid(path, [Mistake(int(found[1]) if found else 0, path.name, str(error))]) from error
    mistakes: list[Mistake] = []
    remaining = document
    while len(mistakes) < _MISTAKES_MAX:
        try:
            value = msgspec.convert(remaining, shape, strict=True)
        except msgspec.ValidationError as error:
            mistake, keys = _mistake(text, str(error))
            if mistakes and mistake.key in {known.key for known in mistakes}:
                break  # a required key that we took out to see what else is wrong
            mistakes.append(mistake)
            if not keys or not _remove(remaining, keys):
                break
        else:
            if not mistakes:
                return value
            break
    raise ConfigurationInvalid(path, mistakes)


def _mistake(text: str, message: str) -> tuple[Mistake, list[str | int]]:
    expected, _, at = message.partition(" - at `$")
    keys: list[str | int] = [
        int(index) if index else name for name, index in re.findall(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]", at.rstrip("`"))
    ]
    if found := re.search(r"(?:unknown|required) field `([^`]+)`", expected):
        keys.append(found[1])
    dotted = ".".join(map(str, keys)) or "."
    return Mistake(_line(text, keys), dotted, expected), keys


def _line(text: str, keys: list[str | int]) -> int:
    """Line of the key in the file, following [tables] and [[arrays of tables]]; 0 where it does not stand there."""
    table: list[str | int] = []
    counts: dict[str, int] = {}
    best = 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[\s*([^\]]+?)\s*\]\]", line):
            counts[header[1]] = counts.get(header[1], -1) + 1
            table = [*header[1].split("."), counts[header[1]]]
        elif header := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            table = list(header[1].split("."))
        elif key := re.match(r"""\s*["']?([A-Za-z0-9_.-]+)["']?\s*=""", line):
            full = [*table, *key[1].split(".")]
            if full == keys[: len(full)]:
                best = number
            continue
        else:
            continue
        if table == keys[: len(table)] and len(keys) == len(table):
            best = number
    return best


def _remove(document: Any, keys: list[str | int]) -> bool:
    for key in keys[:-1]:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return False
    if isinstance(document, dict) and keys[-1] in document:
        del document[keys[-1]]
        return True
    return False
