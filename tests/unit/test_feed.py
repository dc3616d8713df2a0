"""A feed: each follower gets the present value and every change."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest

from yikatong.runtime.feed import Feed


async def test_the_present_value_then_each_change_but_no_repetition() -> None:
    feed = Feed(1)
    async with aclosing(feed.follow()) as values:
        assert await anext(values) == 1
        for value in (1, 2, 2, 3):
            feed.publish(value)
        assert [await anext(values), await anext(values)] == [2, 3]


async def test_without_a_value_the_follower_waits_for_one() -> None:
    feed: Feed[int] = Feed()
    async with aclosing(feed.follow()) as values:
        first = asyncio.ensure_future(anext(values))
        await asyncio.sleep(0)
        assert not first.done()
        feed.publish(7)
        assert await first == 7
        assert feed.followed
    assert not feed.followed


async def test_publishing_from_another_thread() -> None:
    feed: Feed[int] = Feed()
    async with aclosing(feed.follow()) as values:
        first = asyncio.ensure_future(anext(values))
        await asyncio.sleep(0)
        publisher = threading.Thread(target=feed.publish, args=(1,))
        publisher.start()
        assert await first == 1
        publisher.join()


async def test_a_slow_follower_loses_the_oldest() -> None:
    feed = Feed(0)
    async with aclosing(feed.follow()) as values:
        assert await anext(values) == 0
        for value in range(1, 1001):
            feed.publish(value)
        await asyncio.sleep(0)  # the changes reach the follower's backlog
        kept = [await anext(values)]
        while kept[-1] != 1000:
            kept.append(await anext(values))
    assert kept == list(range(1000 - len(kept) + 1, 1001))
    assert len(kept) < 1000


async def test_a_failure_reaches_every_follower() -> None:
    feed = Feed(0)
    async with aclosing(feed.follow()) as values:
        assert await anext(values) == 0
        feed.fail(RuntimeError("no more"))
        with pytest.raises(RuntimeError, match="no more"):
            await anext(values)
    assert feed.value is None
