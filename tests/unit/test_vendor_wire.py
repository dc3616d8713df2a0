"""What the library's process says, without a process: any bytes are a reply within limits, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.drivers.vendor import wire


@given(st.binary(min_size=wire.REPLY.size, max_size=wire.REPLY.size))
def test_any_header_is_within_limits_or_none(header: bytes) -> None:
    try:
        status, length = wire.reply_header(header)
    except ValueError:
        assert int.from_bytes(header[4:], "little") > wire.ANSWER_MAX
    else:
        assert wire.REPLY.pack(status, length) == header
        assert length <= wire.ANSWER_MAX


@pytest.mark.parametrize("length", [wire.ANSWER_MAX + 1, 2**32 - 1])
def test_a_reply_that_is_too_long_is_none(length: int) -> None:
    with pytest.raises(ValueError, match="no reply"):
        wire.reply_header(wire.REPLY.pack(0, length))
