"""A configuration file is right, or every mistake is named with its line and key."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from yikatong.runtime.config import ConfigurationInvalid, load


class Link(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    address: str
    port: int = 1


class Shape(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    name: str
    link: Link
    cities: list[Link] = []


def _load(folder: Path, text: str) -> Shape:
    file = folder / "a.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, Shape)


def test_a_right_file_is_read(tmp_path: Path) -> None:
    shape = _load(tmp_path, 'name = "威海"\n[link]\naddress = "a"\n[[cities]]\naddress = "b"\nport = 2\n')
    assert shape == Shape("威海", Link("a"), [Link("b", 2)])


def test_every_mistake_is_named_with_its_line_and_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        _load(tmp_path, 'name = 1\n\n[link]\naddress = "a"\nport = "x"\nprot = 2\n\n[[cities]]\naddress = 3\n')
    assert {(mistake.line, mistake.key) for mistake in caught.value.mistakes} == {
        (1, "name"),
        (5, "link.port"),
        (6, "link.prot"),
        (9, "cities.0.address"),
    }


def test_a_missing_key_is_named_without_a_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        _load(tmp_path, '[link]\naddress = "a"\n')
    assert [(mistake.line, mistake.key) for mistake in caught.value.mistakes] == [(0, "name")]


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        _load(tmp_path, 'name = "a"\nlink = {\n')
    assert caught.value.mistakes[0].line in {2, 3}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="can't be read"):
        load(tmp_path / "none.toml", Shape)
