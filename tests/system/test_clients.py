"""Clients that nobody here wrote, and the one that README prints, against a daemon, a gateway and a city that run."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2

from yikatong.cli.province import FAULT_HOTLINE, POLICY_HOTLINE, Province

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def province(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Province]:
    with Province(tmp_path_factory.mktemp("province"), card="works", in_process=True, pin_keypad=False) as made:
        yield made


def _buf_curl(province: Province, method: str, body: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """`buf curl` learns the schema from the daemon's reflection: it has none of our files."""
    command = [TOOLS / "buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--unix-socket"]
    return subprocess.run(
        [*command, province.his_socket, f"http://localhost/{method}", "--data", json.dumps(body)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )


def _debit(number: str, **more: Any) -> dict[str, Any]:
    return {
        "requestId": f"buf-{number}",
        "orderNo": f"order-{number}",
        "amountFen": "3650",
        "purpose": "PURPOSE_PHARMACY_PURCHASE",
        **more,
    }


SERVICE = "yikatong.api.terminal.v1.TerminalService"


def test_buf_curl_makes_a_debit_over_the_daemons_socket(province: Province) -> None:
    first = _buf_curl(province, f"{SERVICE}/Debit", _debit("1"))
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)["transaction"]
    assert (told["state"], told["outcome"]) == ("TRANSACTION_STATE_APPROVED", "OUTCOME_MOVED")
    assert (told["homeRegion"], told["homeCity"], told["treatmentRegion"]) == ("371000", "威海", "370200")
    again = _buf_curl(province, f"{SERVICE}/Debit", _debit("1"))
    assert json.loads(again.stdout)["transaction"]["transactionId"] == told["transactionId"]
    receipt = _buf_curl(province, f"{SERVICE}/GetReceipt", {"transactionId": told["transactionId"]})
    text = json.loads(receipt.stdout)["text"]
    assert POLICY_HOTLINE in text
    assert FAULT_HOTLINE in text


def test_cancelling_a_debit_that_waits_for_its_confirmation_reverses_it(province: Province) -> None:
    held = json.loads(_buf_curl(province, f"{SERVICE}/Debit", _debit("held", confirmWithinMs=60_000)).stdout)[
        "transaction"
    ]
    assert (held["state"], held["journalState"]) == ("TRANSACTION_STATE_APPROVED", "HELD")
    key = {"transactionId": held["transactionId"]}
    for _ in range(2):
        cancelled = _buf_curl(province, f"{SERVICE}/CancelTransaction", {**key, "requestId": "buf-cancel"})
        told = json.loads(cancelled.stdout)["transaction"]
        assert (told["state"], told["outcome"]) == ("TRANSACTION_STATE_REVERSED", "OUTCOME_NOT_MOVED")
        assert (told["kind"], told["transactionId"]) == ("TRANSACTION_KIND_DEBIT", held["transactionId"])
    late = _buf_curl(province, f"{SERVICE}/ConfirmTransaction", key)
    assert "CONFIRM_TOO_LATE" in base64.b64decode(json.loads(late.stderr)["details"][0]["value"] + "==").decode(
        "latin-1"
    )
    paid = _buf_curl(province, f"{SERVICE}/Debit", _debit("held", requestId="buf-held-again"))
    assert json.loads(paid.stdout)["transaction"]["state"] == "TRANSACTION_STATE_APPROVED", "the order is free again"


def test_what_this_terminal_does_not_know_is_not_said_to_have_moved_nothing(province: Province) -> None:
    for key in ({"requestId": "never-sent"}, {"orderNo": "never-sent"}):
        unknown = _buf_curl(province, f"{SERVICE}/GetTransaction", key)
        details = {detail["type"]: detail["value"] for detail in json.loads(unknown.stderr)["details"]}
        info = error_details_pb2.ErrorInfo.FromString(base64.b64decode(details["google.rpc.ErrorInfo"] + "=="))
        assert (info.reason, dict(info.metadata)) == (
            "TRANSACTION_NOT_FOUND",
            {"outcome": "PENDING", "retry": "SAME_REQUEST"},
        )


def test_a_mistake_is_answered_with_field_outcome_and_what_to_do(province: Province) -> None:
    for body, field in ((_debit("2", amountFen="0"), "amount_fen"), (_debit("2", orderNo=""), "order_no")):
        refused = _buf_curl(province, f"{SERVICE}/Debit", body)
        assert refused.returncode != 0
        error = json.loads(refused.stderr)
        details = {detail["type"]: base64.b64decode(detail["value"] + "==") for detail in error["details"]}
        info = error_details_pb2.ErrorInfo.FromString(details["google.rpc.ErrorInfo"])
        assert (error["code"], info.reason, info.domain) == ("invalid_argument", "INVALID_FIELD", "yikatong")
        assert dict(info.metadata) == {"field": field, "outcome": "NOT_MOVED", "retry": "NEW_REQUEST"}
        told = error_details_pb2.LocalizedMessage.FromString(details["google.rpc.LocalizedMessage"])
        assert (told.locale, "字段" in told.message) == ("zh-CN", True)


def test_the_standard_health_service_answers(province: Province) -> None:
    for service in ("", SERVICE):
        answer = _buf_curl(province, "grpc.health.v1.Health/Check", {"service": service})
        assert json.loads(answer.stdout) == {"status": "SERVING"}, answer.stderr


def _command(province: Province, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOLS / "yikatong", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "YIKATONG_CONFIG": str(province.daemon_config), "LANG": "zh_CN.UTF-8"},
    )


def test_the_window_command_reads_pays_and_lists(province: Province) -> None:
    card = _command(province, "card", "--json")
    assert json.loads(card.stdout)["card"]["card_number"] == "T*****01X"
    paid = _command(province, "pay", "12.34", "--order", "RX-1")
    assert paid.returncode == 0, paid.stderr
    assert "12.34 元" in paid.stdout
    assert "已扣款" in paid.stdout
    twice = _command(province, "pay", "12.34", "--order", "RX-1")
    assert twice.returncode == 1
    assert "ORDER_ALREADY_PAID" in twice.stderr
    assert FAULT_HOTLINE in twice.stderr
    rows = json.loads(_command(province, "transactions", "--json").stdout)
    assert rows[0]["order_no"] == "RX-1"
    assert _command(province, "transactions", "--open").stdout == "没有未决交易。\n"


def test_an_amount_that_is_none_is_refused_before_anything(province: Province) -> None:
    for amount in ("0.001", "-1", "1e3", "NaN", "１２"):
        refused = _command(province, "pay", "--", amount)
        assert refused.returncode == 2, amount
        assert "36.50" in refused.stderr


def test_the_client_that_readme_prints_works_as_printed(province: Province, tmp_path: Path) -> None:
    printed = {}
    for readme in ("README.md", "README.zh-CN.md"):
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
        assert len(blocks) == 1, readme
        printed[readme] = blocks[0]
    assert printed["README.md"] == printed["README.zh-CN.md"]
    code = printed["README.md"]
    assert "/run/yikatong/his/his.sock" in code
    script = tmp_path / "his.py"
    script.write_text(code.replace("/run/yikatong/his/his.sock", str(province.his_socket)), encoding="utf-8")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "APPROVED" in ran.stdout
    assert "已扣款" in ran.stdout


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_demo_shows_what_it_promises(tmp_path: Path, language: str) -> None:
    ran = subprocess.run(
        [TOOLS / "yikatong", "demo", "--lang", language, "--keep", tmp_path / "demo"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    assert "✗" not in ran.stdout
    assert "PENDING → REVERSED" in ran.stdout
    assert "-36.50, +36.50" in ran.stdout
    assert ("谁都不用猜" if language == "zh" else "nobody has to guess") in ran.stdout
