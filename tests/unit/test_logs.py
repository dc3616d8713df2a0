"""Logs fail closed: what is not a plain value is named by its type, and an identity number never gets through."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from tests.support.rows import PAYER, order
from yikatong.runtime import logs

NUMBER = PAYER.social_security_number.reveal()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    made = io.StringIO()
    logs.configure(stream=made)
    yield made
    structlog.reset_defaults()


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_plain_values_pass(stream: io.StringIO) -> None:
    structlog.get_logger().info("transaction", transaction_id="t", amount_fen=1, self_test=False, reason=None)
    (line,) = _lines(stream)
    assert (line["transaction_id"], line["amount_fen"], line["self_test"], line["reason"]) == ("t", 1, False, None)


def test_everything_else_is_named_by_its_type(stream: io.StringIO) -> None:
    structlog.get_logger().info(
        "odd",
        payer=PAYER,
        order=order(),
        raw=b"\x01",
        number=PAYER.social_security_number,
        rows=[NUMBER],
        pin=bytearray(6),
    )
    (line,) = _lines(stream)
    assert line["payer"] == "<CardPayer>"
    assert line["order"] == "<DebitOrder>"
    assert (line["raw"], line["rows"], line["pin"]) == ("<bytes>", "<list>", "<bytearray>")
    assert line["number"] == "<SocialSecurityNumber>"


@pytest.mark.parametrize("text", [NUMBER, f"person={NUMBER};", NUMBER[:-1] + "x"])
def test_an_identity_number_is_withheld_wherever_it_stands(stream: io.StringIO, text: str) -> None:
    structlog.get_logger().info(f"seen {text}", detail=text)
    try:
        raise ValueError(text)
    except ValueError as error:
        structlog.get_logger().error("failed", exc_info=error)
    written = stream.getvalue()
    assert text not in written
    assert NUMBER[:17] not in written
    assert written.count("<withheld>") >= 3


def test_a_traceback_carries_no_local_variables(stream: io.StringIO) -> None:
    def fails() -> None:
        secret = "the-PIN-of-nobody"
        raise RuntimeError("broke" if secret else "")

    try:
        fails()
    except RuntimeError as error:
        structlog.get_logger().error("failed", exc_info=error)
    written = stream.getvalue()
    assert "RuntimeError: broke" in written
    assert '"the-PIN-of-nobody' not in written.replace("\\", "")


def test_what_lies_below_the_level_is_not_written() -> None:
    made = io.StringIO()
    logs.configure(level="WARNING", stream=made)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    structlog.reset_defaults()
    assert "quiet" not in made.getvalue()
    assert "loud" in made.getvalue()
