"""The sample configurations load as they are, load with every optional key switched on, and leave no key out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from yikatong.cli.asking import Operator
from yikatong.gateway.config import GatewayConfig
from yikatong.gateway.registry import registry_from
from yikatong.runtime.config import load
from yikatong.terminal.config import DaemonConfig

SAMPLES = Path(__file__).resolve().parents[2] / "deploy/config"
SHAPES = {"daemon.toml": DaemonConfig, "gateway.toml": GatewayConfig, "operator.toml": Operator}

NO_DEFAULT = {
    "pin_keypad.device",
    "scanner.device",
    "id_card_reader.device",
    "receipt_printer.device",
    "customer_display.device",
    "city_tls.authority",
    "city_tls.certificate",
    "city_tls.key",
    "voucher_service.url",
    "voucher_service.tls.authority",
    "voucher_service.tls.certificate",
    "voucher_service.tls.key",
    "cities.open_from",
    "cities.open_to",
    "cities.address",
}
"""Optional keys that the samples show with an example instead of a default."""


def _switched_on(text: str) -> str:
    """Without the "#" of every line that is a disabled key or section; comments have a blank behind theirs."""
    return re.sub(r"(?m)^#(?=[a-z\[])", "", text)


def _struct(kind: Any) -> Any:
    """The struct in `Struct`, `Struct | None` or `list[Struct]`; None where there is none."""
    for candidate in (kind, *get_args(kind)):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            return candidate
    return None


def _keys(shape: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name of every key that holds a value → its default; NODEFAULT where it must be given."""
    found = {}
    for field in msgspec.structs.fields(shape):
        inner = _struct(field.type)
        if inner is None:
            factory = field.default_factory
            found[prefix + field.name] = field.default if factory is msgspec.NODEFAULT else factory()
        else:
            found |= _keys(inner, f"{prefix}{field.name}.")
    return found


def _values(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in document.items():
        tables = value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        for table in tables:
            found |= _values(table, f"{prefix}{name}.") if isinstance(table, dict) else {prefix + name: value}
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_the_sample_loads_as_it_is_and_with_every_key(name: str, tmp_path: Path) -> None:
    load(SAMPLES / name, SHAPES[name])
    whole = tmp_path / name
    whole.write_text(_switched_on((SAMPLES / name).read_text(encoding="utf-8")), encoding="utf-8")
    load(whole, SHAPES[name])


@pytest.mark.parametrize("name", SHAPES)
def test_the_sample_leaves_no_key_out(name: str) -> None:
    shown = _values(tomllib.loads(_switched_on((SAMPLES / name).read_text(encoding="utf-8"))))
    assert shown.keys() == _keys(SHAPES[name]).keys()


@pytest.mark.parametrize("name", SHAPES)
def test_what_the_sample_leaves_switched_off_is_the_default(name: str) -> None:
    text = (SAMPLES / name).read_text(encoding="utf-8")
    given, shown, defaults = (
        _values(tomllib.loads(text)),
        _values(tomllib.loads(_switched_on(text))),
        _keys(SHAPES[name]),
    )
    off = shown.keys() - given.keys()
    assert {key for key in off if shown[key] != defaults[key]} == NO_DEFAULT & off
    assert off >= NO_DEFAULT & shown.keys()


def test_the_samples_fit_each_other() -> None:
    registry = registry_from(load(SAMPLES / "gateway.toml", GatewayConfig))
    registry.member_of(load(SAMPLES / "daemon.toml", DaemonConfig).terminal_id)
