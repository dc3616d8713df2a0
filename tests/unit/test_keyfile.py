"""A key is whole or not there, whenever the power fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.keyfile import load_or_create


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    key = load_or_create(path)
    assert len(key) == 32
    assert load_or_create(path) == key
    assert [(found.name, found.stat().st_mode & 0o777) for found in tmp_path.iterdir()] == [("store.key", 0o600)]


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_start_that_is_cut_short_leaves_no_half_key(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise OSError("invented")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, cut)
        with pytest.raises(YikatongError):
            load_or_create(tmp_path / "store.key")
    (left,) = tmp_path.iterdir()
    assert left.name != "store.key"
    left.write_bytes(b"half")
    assert len(load_or_create(tmp_path / "store.key")) == 32


def test_who_comes_second_takes_the_key_of_who_was_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, link = tmp_path / "store.key", os.link

    def other_first(beside: Path, target: Path) -> None:
        path.write_bytes(bytes(32))
        link(beside, target)

    monkeypatch.setattr(os, "link", other_first)
    assert load_or_create(path) == bytes(32)


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.key").write_bytes(b"short")
    with pytest.raises(YikatongError) as caught:
        load_or_create(tmp_path / "store.key")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
