"""What the e-voucher service may say that is no answer."""

from __future__ import annotations

import pytest

from yikatong.core.reasons import Reason, YikatongError
from yikatong.gateway.voucher_client import ANSWER_MAX, _holder


@pytest.mark.parametrize(
    "said", [b'{"code":0,"more":' + b"[" * (ANSWER_MAX - 100), b"", b"[]", b'{"code":0,"data":{"userName":"\xff"}}']
)
def test_an_answer_that_makes_no_sense_is_a_service_that_failed(said: bytes) -> None:
    with pytest.raises(YikatongError) as caught:
        _holder(said)
    assert caught.value.reason is Reason.VOUCHER_SERVICE_UNREACHABLE
