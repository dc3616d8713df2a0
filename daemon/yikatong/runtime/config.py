"""Configuration files: TOML in, a typed value out, or every mistake with its line, key and what was expected."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.config_check import Finding, contradictions, findings, lines_of

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to correct: what is wrong with `key` (dotted) in two languages. `line` counts from 1.

    Where a key is missing it is the line of its section; 0 where that is missing as well, or nothing could be read.
    """

    line: int
    key: str
    zh: str
    en: str

    def in_chinese(self) -> str:
        return (f"第 {self.line} 行：" if self.line else "") + f"{self.key}：{self.zh}"

    def in_english(self) -> str:
        return (f"line {self.line}: " if self.line else "") + f"{self.key}: {self.en}"

    def __str__(self) -> str:
        return f"{self.in_chinese()} / {self.in_english()}"


class ConfigurationInvalid(YikatongError):
    """The file can't be used; `mistakes` says why, all of them, in the order of their lines."""

    def __init__(self, path: Path, mistakes: list[Mistake]) -> None:
        super().__init__(Reason.CONFIGURATION_INVALID, "; ".join(map(str, mistakes)), file=path.name)
        self.mistakes = mistakes


def load(path: Path, shape: type[T]) -> T:
    """Reads `path` into `shape` (a msgspec Struct that forbids unknown fields). Raises ConfigurationInvalid.

    What contradicts itself (config_check.Consistent) is looked for once each key is right by itself.
    """
    text, document = read(path)
    found = findings(shape, document)
    if not found:
        value = msgspec.convert(document, shape, strict=True)
        found = contradictions(value)
        if not found:
            return value
    lines = lines_of(text)
    mistakes = [_mistake(finding, lines) for finding in found]
    raise ConfigurationInvalid(path, sorted(mistakes, key=lambda mistake: mistake.line))


def read(path: Path) -> tuple[str, dict[str, Any]]:
    """The file's text, and what TOML makes of it. Raises ConfigurationInvalid."""
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        why = error.strerror or type(error).__name__
        unreadable = Mistake(0, str(path), f"无法读取文件（{why}）", f"the file can't be read ({why})")
        raise ConfigurationInvalid(path, [unreadable]) from error
    except UnicodeDecodeError as error:
        garbled = Mistake(0, path.name, "文件不是 UTF-8 编码", "the file is not UTF-8")
        raise ConfigurationInvalid(path, [garbled]) from error
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        broken = Mistake(int(line[1]) if line else 0, path.name, f"不是合法的 TOML（{error}）", f"not TOML: {error}")
        raise ConfigurationInvalid(path, [broken]) from error


def _mistake(finding: Finding, lines: dict[tuple[str | int, ...], int]) -> Mistake:
    places = (finding.keys[:end] for end in range(len(finding.keys), 0, -1))
    line = next((lines[place] for place in places if place in lines), 0)
    return Mistake(line, ".".join(map(str, finding.keys)), finding.zh, finding.en)
