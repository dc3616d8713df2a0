"""What is insisted on is not given up because there is much to do, nor for ever because something is wrong."""

from __future__ import annotations

import pytest

from yikatong.core.orders import ReversalAnswer, Reversed, Undecided
from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.leg import LinkDown, insist


async def told(*says: ReversalAnswer | Exception) -> tuple[ReversalAnswer, int]:
    """The answer, and how often it went unanswered before."""
    left, unanswered = list(says), list[int]()

    async def send() -> ReversalAnswer:
        said = left.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    answer = await insist(send, lambda attempt: 0.0, call_s=5.0, unanswered=unanswered.append)
    return answer, len(unanswered)


async def test_a_store_that_has_too_much_to_do_is_asked_again() -> None:
    busy = YikatongError(Reason.STORE_UNAVAILABLE)
    assert await told(busy, LinkDown("down"), Undecided(), busy, Reversed("V")) == (Reversed("V"), 4)


async def test_what_is_our_own_fault_is_not_repeated() -> None:
    with pytest.raises(YikatongError) as error:
        await told(YikatongError(Reason.INTERNAL), Reversed("V"))
    assert error.value.reason is Reason.INTERNAL
