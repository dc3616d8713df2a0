"""What the manual prints is what works: its client against a province, its commands, its references and links."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.cli.province import FAULT_HOTLINE, Province

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TOOLS = Path(sys.executable).parent
GUIDE = "his-integration.md"
SOCKET = "/run/yikatong/his/his.sock"


@pytest.fixture(scope="module")
def province(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Province]:
    with Province(tmp_path_factory.mktemp("province"), card="works", in_process=True, pin_keypad=False) as made:
        yield made


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def _client() -> str:
    """The one client that both guides print."""
    english, chinese = _blocks(DOCS / GUIDE, "python"), _blocks(DOCS / "zh-CN" / GUIDE, "python")
    assert len(english) == 1
    assert english == chinese
    return english[0]


@contextlib.contextmanager
def _started(
    province: Province, folder: Path, *arguments: str, timeout_s: int = 130
) -> Iterator[subprocess.Popen[str]]:
    code = _client()
    assert SOCKET in code
    assert code.count("his.Debit, request, 130") == 2
    script = folder / "his.py"
    code = code.replace(SOCKET, str(province.his_socket)).replace("request, 130", f"request, {timeout_s}")
    script.write_text(code, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, script, *arguments], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # does nothing to one that has ended


def _end(process: subprocess.Popen[str]) -> tuple[int, str]:
    printed, complaint = process.communicate(timeout=90)
    assert complaint == ""
    return process.returncode, printed


def _run(province: Province, folder: Path, *arguments: str) -> tuple[int, str]:
    with _started(province, folder, *arguments) as client:
        return _end(client)


def _transaction(province: Province, order_no: str) -> Any:
    """The order's transaction; None where the daemon does not know it, or is not there."""
    with grpc.insecure_channel(f"unix:{province.his_socket}") as channel:
        request = api.GetTransactionRequest(order_no=order_no)
        try:
            return TerminalServiceStub(channel).GetTransaction(request, timeout=5).transaction
        except grpc.RpcError:
            return None


def _until(seen: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def test_the_client_charges_once_however_often_it_runs(province: Province, tmp_path: Path) -> None:
    status, first = _run(province, tmp_path, "RX-1", "3650")
    assert status == 0
    assert "已扣款" in first
    assert FAULT_HOTLINE in first
    paid = _transaction(province, "RX-1")
    assert (paid.confirmed, paid.journal_state) == (True, "APPROVED")
    assert _run(province, tmp_path, "RX-1", "3650") == (0, first)
    (tmp_path / "RX-1.request").unlink()
    status, other = _run(province, tmp_path, "RX-1", "3650")
    assert status == 1
    assert "ORDER_ALREADY_PAID MOVED NEVER 该单据已支付。" in other
    assert paid.transaction_id in other


def test_the_client_may_try_again_after_a_decline(province: Province, tmp_path: Path) -> None:
    status, printed = _run(province, tmp_path, "RX-2", "99999999")
    assert status == 1
    assert "TRANSACTION_STATE_DECLINED INSUFFICIENT_BALANCE" in printed
    assert not (tmp_path / "RX-2.request").exists()
    assert _run(province, tmp_path, "RX-2", "100")[0] == 0


def test_the_client_forgets_a_request_that_was_not_valid(province: Province, tmp_path: Path) -> None:
    status, printed = _run(province, tmp_path, "RX-5", "0")
    assert status == 1
    assert printed.startswith("INVALID_FIELD NOT_MOVED NEW_REQUEST 字段不符合要求。")
    assert "amount_fen" in printed
    assert _run(province, tmp_path, "RX-5", "100")[0] == 0, "corrected, it is a new request"


def test_the_client_waits_for_the_proof_of_a_lost_answer(province: Province, tmp_path: Path) -> None:
    province.lose_answers()
    with _started(province, tmp_path, "RX-3", "100", timeout_s=4) as client:
        try:
            _until(
                lambda: (row := _transaction(province, "RX-3")) and row.resolves_to == api.TRANSACTION_STATE_REVERSED
            )
        finally:
            province.heal()
        status, printed = _end(client)
    assert status == 1
    assert "TRANSACTION_STATE_REVERSED CANCELLED_BY_CALLER" in printed
    assert not (tmp_path / "RX-3.request").exists()


def test_the_client_outlives_a_daemon_that_dies_in_the_middle(province: Province, tmp_path: Path) -> None:
    """The library's own UNAVAILABLE carries no details: the client must take it for PENDING, and ask."""
    province.lose_answers()
    with _started(province, tmp_path, "RX-4", "100") as client:
        try:
            _until(lambda: (row := _transaction(province, "RX-4")) and row.journal_state == "SENT")
            province.kill("daemon")
        finally:
            province.heal()
        province.start("daemon")
        status, _ = _end(client)
    row = _transaction(province, "RX-4")
    assert row.state in {api.TRANSACTION_STATE_APPROVED, api.TRANSACTION_STATE_REVERSED}
    assert status == (0 if row.state == api.TRANSACTION_STATE_APPROVED else 1)


@pytest.mark.parametrize("page", [GUIDE, f"zh-CN/{GUIDE}"])
def test_the_commands_of_the_guide_work(province: Province, page: str) -> None:
    commands = [block for block in _blocks(DOCS / page, "sh") if "buf curl" in block]
    assert len(commands) == 2, "a debit and a look at it"
    for command in commands:
        assert SOCKET in command
        made = command.replace(SOCKET, str(province.his_socket)).replace("RX-20260101-0001", f"{page}-1")
        ran = subprocess.run(
            ["sh", "-ec", made.replace("4f0c2f8e", str(len(page)))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"},
        )
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)["transaction"]["state"] == "TRANSACTION_STATE_APPROVED"


def test_every_section_of_the_card_facts_that_is_named_is_there() -> None:
    headings = re.findall(r"(?m)^#{2,3} (\d+(?:\.\d+)?)\b", (DOCS / "card-facts.md").read_text(encoding="utf-8"))
    items = re.findall(r"(?m)^(\d+)\. ", (DOCS / "card-facts.md").read_text(encoding="utf-8"))
    there = {*headings, *(f"11.{item}" for item in items)}
    named = set()
    for root in ("daemon", "drivers", "simulators", "tests", "deploy", "docs"):
        for file in (ROOT / root).rglob("*"):
            if file.suffix in {".py", ".rules", ".md"}:
                for line in file.read_text(encoding="utf-8").splitlines():
                    if "card-facts" in line or "tests/support/exchanges" in str(file):
                        named |= set(re.findall(r"§(\d+(?:\.\d+)?)", line))
    assert {"2.2", "10.5", "11.11"} <= named
    assert named - there == set()


@pytest.mark.parametrize("page", sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")))
def test_links_between_the_pages_lead_somewhere(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target]
    assert [target for target in targets if not ((DOCS / page).parent / target).exists()] == []
