"""A configuration file is right, or every mistake is named with its line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.cli.asking import Operator
from yikatong.gateway.config import GatewayConfig
from yikatong.runtime.config import ConfigurationInvalid, Mistake, load
from yikatong.runtime.config_check import findings
from yikatong.simulators.city import CityConfig
from yikatong.terminal.config import DaemonConfig


class Link(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    address: Annotated[str, msgspec.Meta(min_length=1)]
    port: Annotated[int, msgspec.Meta(gt=0)] = 1
    level: Literal["LOW", "HIGH"] = "LOW"
    on: bool = False


class Shape(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=8)]
    link: Link
    spare: Link | None = None
    cities: list[Link] = []
    codes: list[Annotated[str, msgspec.Meta(pattern="^[0-9]{6}$")]] = []
    note: str = ""


def _load(folder: Path, text: str) -> Shape:
    file = folder / "a.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, Shape)


def _mistakes(folder: Path, text: str) -> list[Mistake]:
    with pytest.raises(ConfigurationInvalid) as caught:
        _load(folder, text)
    return caught.value.mistakes


def _places(folder: Path, text: str) -> list[tuple[int, str]]:
    return [(mistake.line, mistake.key) for mistake in _mistakes(folder, text)]


RIGHT = 'name = "威海"\n[link]\naddress = "a"\n'


def test_a_right_file_is_read(tmp_path: Path) -> None:
    shape = _load(tmp_path, RIGHT + '[[cities]]\naddress = "b"\nport = 2\n[spare]\naddress = "c"\n')
    assert shape == Shape("威海", Link("a"), Link("c"), [Link("b", 2)])


def test_every_mistake_is_named_with_its_line_and_key(tmp_path: Path) -> None:
    text = 'name = 1\n\n[link]\naddress = "a"\nport = "x"\nprot = 2\n\n[[cities]]\naddress = 3\n'
    assert _places(tmp_path, text) == [(1, "name"), (5, "link.port"), (6, "link.prot"), (9, "cities.0.address")]


def test_every_missing_key_is_named_with_the_line_of_its_section(tmp_path: Path) -> None:
    assert _places(tmp_path, "") == [(0, "link.address"), (0, "name")]
    assert _places(tmp_path, "[link]\n[spare]\n") == [(0, "name"), (1, "link.address"), (2, "spare.address")]
    text = RIGHT + '[[cities]]\naddress = "b"\n\n[[cities]]\n\n[[ cities ]]\nport = 2\n'
    assert _places(tmp_path, text) == [(7, "cities.1.address"), (9, "cities.2.address")]


def test_each_entry_of_a_list_has_its_own_line(tmp_path: Path) -> None:
    entries = '[[cities]]\naddress = ""\n' * 3
    assert _places(tmp_path, RIGHT + entries) == [(n, f"cities.{i}.address") for i, n in enumerate((5, 7, 9))]
    inline = 'cities = [\n  {address = ""},\n  {address = ""},\n]\n'
    assert _places(tmp_path, inline + RIGHT) == [(1, "cities.0.address"), (1, "cities.1.address")]
    assert _places(tmp_path, 'codes = ["370100", "1"]\n' + RIGHT) == [(1, "codes.1")]
    assert _places(tmp_path, "spare.port = 0\nspare.address = 'x'\n" + RIGHT) == [(1, "spare.port")]


@pytest.mark.parametrize(
    ("line", "zh", "en"),
    [
        ("note = 3", "应为文本，现为整数", "expected text, found a whole number"),
        ("note = 2026-01-01", "应为文本，现为日期或时间", "expected text, found a date or a time"),
        ("note = 1.5", "应为文本，现为小数", "expected text, found a number with decimals"),
        ("spare = 3", "应为一节，现为整数", "expected a section, found a whole number"),
        ("cities = {}", "应为列表，现为一节", "expected a list, found a section"),
        ("codes = true", "应为列表，现为 true 或 false", "expected a list, found true or false"),
        ('codes = ["x"]', "应为符合 ^[0-9]{6}$ 的文本", "expected text like ^[0-9]{6}$"),
        ("spare = {address = ''}", "应为非空的文本", "expected text that is not empty"),
        ("spare = {address = 'x', port = 0}", "应为大于 0 的整数", "expected a whole number above 0"),
        (
            "spare = {address = 'x', on = 1}",
            "应为 true 或 false，现为整数",
            "expected true or false, found a whole number",
        ),
        ("spare = {address = 'x', level = 'low'}", '应为以下之一："HIGH", "LOW"', 'expected one of "HIGH", "LOW"'),
        ("adress = 3", "没有这个键", "there is no such key"),
        ("spare = {adress = 'x'}", "没有这个键；是否应为 address？", "there is no such key; is it address?"),
    ],
)
def test_what_was_expected_in_both_languages_chinese_first(line: str, zh: str, en: str, tmp_path: Path) -> None:
    mistake = _mistakes(tmp_path, f"{line}\n{RIGHT}")[0]
    assert (mistake.zh, mistake.en, mistake.line) == (zh, en, 1)
    assert str(mistake) == f"第 1 行：{mistake.key}：{zh} / line 1: {mistake.key}: {en}"


def test_a_missing_key_says_what_belongs_there(tmp_path: Path) -> None:
    (mistake,) = _mistakes(tmp_path, '[link]\naddress = "a"\n')
    assert str(mistake) == ("name：缺少；应为 1 至 8 个字符的文本 / name: missing; expected text of 1 to 8 characters")


def test_what_was_pasted_is_not_repeated(tmp_path: Path) -> None:
    assert "990000195001010019" not in str(_mistakes(tmp_path, 'codes = ["990000195001010019"]\n' + RIGHT)[0])


@pytest.mark.parametrize("shape", [DaemonConfig, GatewayConfig, CityConfig, Operator])
def test_every_required_key_of_our_files_is_asked_for_at_once(shape: type[msgspec.Struct], tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    file.write_text("")
    with pytest.raises(ConfigurationInvalid) as caught:
        load(file, shape)
    required = {field.name for field in msgspec.structs.fields(shape) if field.required}
    assert {mistake.key.partition(".")[0] for mistake in caught.value.mistakes} == required


_VALUES = st.recursive(
    st.one_of(st.integers(-1, 2), st.booleans(), st.sampled_from(["", "a", "LOW", "370100", "too long a text"])),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(Shape.__struct_fields__ + Link.__struct_fields__), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(Shape.__struct_fields__), _VALUES))
def test_a_mistake_is_found_exactly_where_the_document_does_not_fit(document: dict[str, object]) -> None:
    try:
        msgspec.convert(document, Shape)
        fits = True
    except msgspec.ValidationError:
        fits = False
    assert (not findings(Shape, document)) is fits


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    (mistake,) = _mistakes(tmp_path, 'name = "a"\nlink = {\n')
    assert mistake.line in {2, 3}
    assert "TOML" in mistake.zh
    assert "TOML" in mistake.en


def test_a_file_that_is_missing_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="can't be read"):
        load(tmp_path / "none.toml", Shape)
    (tmp_path / "gb.toml").write_bytes('name = "威海"'.encode("gb18030"))
    with pytest.raises(ConfigurationInvalid, match="not UTF-8"):
        load(tmp_path / "gb.toml", Shape)
