"""What operators have done (操作留痕): each act once, for ever, linked to the one before it by a keyed digest.

Agreements and closures that hold now are read from these acts; there is no second record that could say something else.
An act taken out of the middle or changed breaks the chain. One taken from the end does not: whoever wants proof
against that notes number and head of the last act elsewhere (`yikatong ops audit` shows them).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

import apsw
import msgspec

from yikatong.ledger.report import Finding

SCHEMA: Final = """
CREATE TABLE act (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    content BLOB NOT NULL,
    head BLOB NOT NULL
) STRICT;
CREATE INDEX act_of_subject ON act (kind, subject);
CREATE TRIGGER act_is_never_changed BEFORE UPDATE ON act
BEGIN SELECT RAISE(ABORT, 'acts are only added'); END;
CREATE TRIGGER act_is_never_deleted BEFORE DELETE ON act
BEGIN SELECT RAISE(ABORT, 'acts are only added'); END;
"""

_GENESIS: Final = bytes(32)


class ActKind(Enum):
    """What was done; the subject is an institution, a terminal, a region, a transaction, or a month."""

    AGREEMENT = "AGREEMENT"
    TERMINAL_REPLACED = "TERMINAL_REPLACED"
    CITY_CLOSED = "CITY_CLOSED"
    CITY_OPENED = "CITY_OPENED"
    PROPOSED = "PROPOSED"
    WITHDRAWN = "WITHDRAWN"
    APPROVED = "APPROVED"
    MONTH_CLOSED = "MONTH_CLOSED"


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One act. Times are ISO 8601 in UTC. `operator`: common name of the certificate; `value`: what was ordered."""

    kind: ActKind
    subject: str
    at: str
    operator: str
    reason: str
    value: str = ""
    begins_at: str = ""
    ends_at: str = ""
    number: int = 0
    """Its place in the chain, 0 until it has one. Kept beside the content, not in it."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain stands."""

    number: int
    digest: bytes


class Acts:
    """The chain in one store. Every method runs inside the caller's transaction on `connection`."""

    def __init__(self, key: bytes) -> None:
        """`key`: of the store that holds the chain; acts are linked by a key of their own made from it."""
        self._key = hmac.digest(key, b"acts", "sm3")

    def add(self, connection: apsw.Connection, act: Act) -> Act:
        """Appends the act; returns it with its number."""
        last = self.head(connection)
        number, content = last.number + 1, msgspec.json.encode(msgspec.structs.replace(act, number=0))
        head = self._link(last.digest, number, content)
        connection.execute(
            "INSERT INTO act VALUES (?, ?, ?, ?, ?)", (number, act.kind.value, act.subject, content, head)
        )
        return msgspec.structs.replace(act, number=number)

    def of(self, connection: apsw.Connection, *kinds: ActKind, subject: str = "") -> list[Act]:
        """Acts of these kinds in their order; only about `subject` where one is named."""
        sql = "SELECT number, content FROM act WHERE kind = ? AND ? IN ('', subject)"
        found = [
            msgspec.structs.replace(_decode(content), number=number)
            for kind in kinds
            for number, content in connection.execute(sql, (kind.value, subject))
        ]
        return sorted(found, key=lambda act: act.number)

    def head(self, connection: apsw.Connection) -> Head:
        last = connection.execute("SELECT number, head FROM act ORDER BY number DESC LIMIT 1").fetchone()
        return Head(int(last[0]), bytes(last[1])) if last else Head(0, _GENESIS)

    def audit(self, connection: apsw.Connection) -> Iterator[Finding]:
        """Walks the chain. Nothing where it is whole."""
        previous, expected = _GENESIS, 1
        for number, kind, subject, content, head in connection.execute("SELECT * FROM act ORDER BY number"):
            if number != expected or bytes(head) != self._link(previous, number, bytes(content)):
                yield Finding("I8", f"act:{number}", "the chain of operators' acts is broken here")
            elif ((act := _decode(content)).kind.value, act.subject) != (kind, subject):
                yield Finding("I8", f"act:{number}", "an operator's act is filed under another name")
            previous, expected = bytes(head), number + 1

    def _link(self, previous: bytes, number: int, content: bytes) -> bytes:
        return hmac.digest(self._key, previous + number.to_bytes(8, "big") + content, "sm3")


def _decode(content: bytes) -> Act:
    return _DECODER.decode(content)


_DECODER: Final = msgspec.json.Decoder(Act)
