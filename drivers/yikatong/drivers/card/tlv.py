"""Tag, length, value, read strictly: what the card says about lengths is checked before it is believed.

Two forms: BER as in a select's answer (ISO/IEC 7816-4), and the card's own records, where tag and length are one byte
each whatever the tag's bits say (card-facts §2.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from yikatong.core.reasons import Reason, YikatongError

DEPTH_MAX: Final = 8
NODES_MAX: Final = 512
RECORD_HEADER: Final = 2


@dataclass(frozen=True, slots=True)
class Node:
    """One BER-TLV object; `children` are those of a constructed one."""

    tag: int
    value: bytes
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.walk()


def parse_ber(data: bytes) -> tuple[Node, ...]:
    """Definite lengths of at most two bytes, depth 8, 512 nodes, nothing left over. Raises CARD_MALFORMED."""
    return _Parser().parse(data, depth=1)


def single(nodes: tuple[Node, ...], tag: int) -> bytes | None:
    """The value of the one object with this tag, at any depth; None for none. Raises CARD_MALFORMED for two."""
    found = [node.value for top in nodes for node in top.walk() if node.tag == tag]
    if len(found) > 1:
        raise malformed("a tag that may stand once stands twice", tag=f"{tag:X}")
    return found[0] if found else None


def record_tag(record: bytes) -> int | None:
    """Which item a record says it is; None for an empty one."""
    return record[0] if record else None


def record_value(record: bytes, tag: int) -> bytes:
    """The value of a record that must be exactly one item with this tag. Raises CARD_MALFORMED."""
    if len(record) < RECORD_HEADER or record[0] != tag:
        raise malformed("a record is not what was asked for", tag=f"{tag:02X}")
    if record[1] != len(record) - RECORD_HEADER:
        raise malformed("a record's length is not its length", tag=f"{tag:02X}")
    return record[RECORD_HEADER:]


def malformed(detail: str, **facts: str | int) -> YikatongError:
    return YikatongError(Reason.CARD_MALFORMED, detail, **facts)


class _Parser:
    def __init__(self) -> None:
        self._nodes = 0

    def parse(self, data: bytes, depth: int) -> tuple[Node, ...]:
        if depth > DEPTH_MAX:
            raise malformed("TLV nested too deeply")
        nodes = []
        at = 0
        while at < len(data):
            self._nodes += 1
            if self._nodes > NODES_MAX:
                raise malformed("too many TLV objects")
            tag, at = read_tag(data, at)
            length, at = read_length(data, at)
            if length > len(data) - at:
                raise malformed("a TLV object is longer than what holds it")
            value = data[at : at + length]
            at += length
            nodes.append(Node(tag, value, self.parse(value, depth + 1) if is_constructed(tag) else ()))
        return tuple(nodes)


def is_constructed(tag: int) -> bool:
    first = tag >> 8 if tag > 0xFF else tag
    return bool(first & 0x20)


def read_tag(data: bytes, at: int) -> tuple[int, int]:
    """One byte, or two where the low five bits of the first are all set. Longer ones are refused."""
    first = data[at]
    if first & 0x1F != 0x1F:
        return first, at + 1
    if at + 1 >= len(data) or data[at + 1] & 0x80:
        raise malformed("a tag that does not end")
    return first << 8 | data[at + 1], at + 2


def read_length(data: bytes, at: int) -> tuple[int, int]:
    """Behind a tag: the length, and where its value begins. Raises CARD_MALFORMED."""
    if at >= len(data):
        raise malformed("a tag without a length")
    first = data[at]
    if first < 0x80:
        return first, at + 1
    count = first & 0x7F
    if count not in {1, 2} or at + 1 + count > len(data):
        raise malformed("a length that is indefinite, too long or cut off")
    return int.from_bytes(data[at + 1 : at + 1 + count], "big"), at + 1 + count
