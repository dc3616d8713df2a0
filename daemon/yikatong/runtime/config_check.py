"""What is wrong with a configuration: each key compared with the shape that it should have, and where it stands."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final, Protocol, get_args, get_origin, runtime_checkable

import msgspec
from msgspec import inspect

Keys = tuple[str | int, ...]
"""Where something stands: names, and indexes from 0 in lists."""

_FOUND: Final = {
    str: ("文本", "text"),
    bool: (" true 或 false", "true or false"),
    int: ("整数", "a whole number"),
    float: ("小数", "a number with decimals"),
    list: ("列表", "a list"),
    dict: ("一节", "a section"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at `keys`, in two languages."""

    keys: Keys
    zh: str
    en: str


@runtime_checkable
class Consistent(Protocol):
    """A configuration whose keys can contradict each other though each is right by itself."""

    def contradictions(self) -> list[Finding]:
        """All of them; empty where there are none."""


def contradictions(configuration: object) -> list[Finding]:
    """What its keys say against each other; empty also where they can't."""
    return configuration.contradictions() if isinstance(configuration, Consistent) else []


def findings(shape: Any, value: Any, keys: Keys = ()) -> list[Finding]:
    """All that keeps `value`, which stands at `keys`, from being a `shape` (a type for msgspec); empty where it is."""
    inside = list(_inside(shape, value, keys))
    if not inside:
        try:
            msgspec.convert(value, shape, strict=True)
        except msgspec.ValidationError:
            inside = [Finding(keys, *_in_words(shape, value))]
    return inside


def _inside(shape: Any, value: Any, keys: Keys) -> Iterator[Finding]:
    """What is wrong with the parts of a section or list."""
    shape = _bare(shape)
    if isinstance(value, dict) and isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
        for name in value:
            if name in fields:
                yield from findings(fields[name].type, value[name], (*keys, name))
            else:
                close = difflib.get_close_matches(name, sorted(fields.keys() - value.keys()), n=1)
                zh, en = (f"；是否应为 {close[0]}？", f"; is it {close[0]}?") if close else ("", "")
                yield Finding((*keys, name), f"没有这个键{zh}", f"there is no such key{en}")
        for name in sorted(fields.keys() - value.keys()):
            if fields[name].required:
                yield from _missing(fields[name].type, (*keys, name))
    elif isinstance(value, list) and get_origin(shape) is list:
        (item,) = get_args(shape)
        for index, part in enumerate(value):
            yield from findings(item, part, (*keys, index))


def _missing(shape: Any, keys: Keys) -> list[Finding]:
    """A key that must be there; of a section each one in it that must be."""
    expected = _expected(shape)
    missing = Finding(keys, f"缺少；应为{expected.zh}", f"missing; expected {expected.en}")
    return list(_inside(shape, {}, keys)) or [missing]


def _bare(shape: Any) -> Any:
    """`X` of `X | None`: TOML has no null."""
    if NoneType in (alternatives := get_args(shape)):
        (shape,) = (kind for kind in alternatives if kind is not NoneType)
    return shape


def _in_words(shape: Any, value: Any) -> tuple[str, str]:
    """What was expected instead of a value. The value itself is not shown: nobody knows what was pasted there."""
    expected, found = _expected(shape), _FOUND.get(type(value), ("日期或时间", "a date or a time"))
    if found == _FOUND[expected.kind]:
        return f"应为{expected.zh}", f"expected {expected.en}"
    return f"应为{expected.zh}，现为{found[0]}", f"expected {expected.en}, found {found[1]}"


@dataclass(frozen=True, slots=True)
class _Expected:
    kind: type
    zh: str
    en: str


def _expected(shape: Any) -> _Expected:
    match inspect.type_info(_bare(shape)):
        case inspect.StructType():
            return _Expected(dict, "一节", "a section")
        case inspect.ListType():
            return _Expected(list, "列表", "a list")
        case inspect.BoolType():
            return _Expected(bool, " true 或 false", "true or false")
        case inspect.LiteralType(values=values):
            named = ", ".join(f'"{name}"' for name in values)
            return _Expected(str, f"以下之一：{named}", f"one of {named}")
        case inspect.IntType(gt=above):
            zh, en = ("", "") if above is None else (f"大于 {above} 的", f" above {above}")
            return _Expected(int, f"{zh}整数", f"a whole number{en}")
        case inspect.StrType(pattern=str(pattern)):
            return _Expected(str, f"符合 {pattern} 的文本", f"text like {pattern}")
        case inspect.StrType(min_length=int(least), max_length=int(most)):
            return _Expected(str, f" {least} 至 {most} 个字符的文本", f"text of {least} to {most} characters")
        case inspect.StrType(min_length=1):
            return _Expected(str, "非空的文本", "text that is not empty")
        case inspect.StrType():
            return _Expected(str, "文本", "text")
        case other:
            raise TypeError(f"no words for {type(other).__name__} in a configuration yet")


def lines_of(text: str) -> dict[Keys, int]:
    """Line, from 1, of every key and section header of a TOML file. A section's header stands for the section."""
    lines: dict[Keys, int] = {}
    entries: dict[Keys, int] = {}
    section: Keys = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", line):
            section = ()
            *outer, last = _names(header[2])
            for name in outer:
                section = _entered((*section, name), entries)
            section = (*section, last)
            if header[1] == "[[":
                entries[section] = entries.get(section, -1) + 1
                section = _entered(section, entries)
            lines.setdefault(section, number)
        elif key := re.match(r"\s*([A-Za-z0-9_\-.\s\"']+?)\s*=", line):
            lines.setdefault((*section, *_names(key[1])), number)
    return lines


def _names(dotted: str) -> list[str]:
    return [name.strip().strip("\"'") for name in dotted.split(".")]


def _entered(section: Keys, entries: dict[Keys, int]) -> Keys:
    """The section, or its newest entry where it is a list of sections."""
    return (*section, entries[section]) if section in entries else section
