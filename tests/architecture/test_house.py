"""What holds the house together: the namespace, the directions, the lists that must be complete."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from google.protobuf import descriptor, descriptor_pool

from yikatong.cli.reference import reasons_page
from yikatong.core.reasons import MEANING, Moved, Reason, Retry, Status

ROOT = Path(__file__).resolve().parents[2]
PORTIONS = [ROOT / folder / "yikatong" for folder in ("daemon", "drivers", "simulators", "protos/gen")]


def test_no_portion_of_the_namespace_has_an_init_file() -> None:
    assert all(portion.is_dir() for portion in PORTIONS)
    assert [portion for portion in PORTIONS if (portion / "__init__.py").exists()] == []


def test_imports_go_one_way() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    found = subprocess.run([program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-3000:]


def test_every_reason_has_its_meaning_in_both_languages() -> None:
    assert set(MEANING) == set(Reason)
    for reason, meaning in MEANING.items():
        assert re.fullmatch(r"[A-Z][A-Z0-9_]{1,62}", reason.value)
        for zh in (meaning.zh, meaning.next_zh):
            assert re.search(r"[一-鿿]", zh), reason
            assert zh.endswith("。"), reason
        for en in (meaning.en, meaning.next_en):
            assert en.endswith("."), reason


def test_a_status_that_invites_a_retry_stands_only_where_nothing_was_sent() -> None:
    for reason, meaning in MEANING.items():
        if meaning.status in {Status.UNAVAILABLE, Status.RESOURCE_EXHAUSTED}:
            assert meaning.moved is Moved.NOT_MOVED, reason
        if meaning.moved is not Moved.NOT_MOVED:
            assert meaning.retry is not Retry.NEW_REQUEST, reason


def test_the_page_of_reasons_is_made_from_the_table() -> None:
    page = ROOT / "docs" / "reasons.md"
    assert page.read_text(encoding="utf-8") == reasons_page(), "run: yikatong explain --page > docs/reasons.md"


def _messages(message: descriptor.Descriptor) -> list[descriptor.Descriptor]:
    return [message, *(inner for nested in message.nested_types for inner in _messages(nested))]


def test_no_message_carries_a_pin_or_a_key() -> None:
    """Yes or no carries none."""
    pool = descriptor_pool.Default()
    names = [str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos/yikatong").rglob("*.proto")]
    for name in names:  # importing a generated module is what fills the pool
        importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    fields = [
        field.full_name
        for name in names
        for top in pool.FindFileByName(name).message_types_by_name.values()
        for message in _messages(top)
        for field in message.fields
        if field.type != field.TYPE_BOOL
    ]
    assert len(fields) > 100
    assert [field for field in fields if re.search(r"(^|[._])(pin|password|secret|key)(_|$)", field)] == []


@pytest.mark.parametrize("library", ["grpcio", "protobuf"])
def test_the_floors_are_those_that_generated_code_demands(library: str) -> None:
    generated = ROOT / "protos/gen/yikatong/api/money/v1/money_pb2.py"
    services = ROOT / "protos/gen/yikatong/api/gateway/v1/gateway_pb2_grpc.py"
    pattern = {
        "protobuf": (generated, r"# Protobuf Python Version: ([0-9.]+)"),
        "grpcio": (services, r"GRPC_GENERATED_VERSION = '([0-9.]+)'"),
    }[library]
    demanded = re.search(pattern[1], pattern[0].read_text(encoding="utf-8"))
    assert demanded is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"{library}>={demanded[1]}" in project["dependencies"]


def test_every_dependency_has_its_reason() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [*project["dependency-groups"].values(), project["project"]["dependencies"]]
    names = {re.split(r"[=<>\[;]", entry)[0] for group in groups for entry in group}
    assert sorted(name for name in names if f"`{name}`" not in page) == []


def test_the_lock_files_carry_a_hash_for_every_distribution() -> None:
    for lock in (ROOT / "deploy/lock").glob("*.txt"):
        entries = re.split(r"\n(?=[a-z0-9])", lock.read_text(encoding="utf-8").strip())
        assert entries
        for entry in entries:
            assert "--hash=sha256:" in entry, (lock.name, entry[:40])


def test_modules_stay_one_room() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for portion in PORTIONS[:3]
        for path in portion.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 600
    }
    assert long == {}


_SPEAKS_GRPC = re.compile(r"^\s*(?:from|import) (?:grpc|google\.protobuf|google\.rpc|yikatong\.api)\b", re.MULTILINE)
# Besides the services, their clients and the wiring: what keeps an order in its wire form, sealed.
_EDGES = re.compile(r"(^|/)(rpc|\w+_rpc|\w+_client|main|edge|wire(_\w+)?|tls|city|sealing)\.py$|/cli/|/simulation/")


def test_only_the_edges_speak_protobuf_and_grpc() -> None:
    speakers = {
        str(path.relative_to(ROOT))
        for portion in PORTIONS[:3]
        for path in portion.rglob("*.py")
        if _SPEAKS_GRPC.search(path.read_text(encoding="utf-8"))
    }
    assert len(speakers) > 10
    assert sorted(name for name in speakers if not _EDGES.search(name)) == []
