"""A feed: one value that changes now and then, and any number of followers who want each change."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

T = TypeVar("T")

_BACKLOG_MAX = 256


class Feed(Generic[T]):
    """`publish` may be called from any thread; equal values in a row count as one.

    A follower that does not keep up loses the oldest changes, never the newest.
    """

    def __init__(self, value: T | None = None) -> None:
        self._value = value
        self._lock = threading.Lock()
        self._followers: set[_Follower[T]] = set()

    @property
    def value(self) -> T | None:
        """What was published last; None before the first time."""
        return self._value

    @property
    def followed(self) -> bool:
        return bool(self._followers)

    def publish(self, value: T) -> None:
        with self._lock:
            if value == self._value:
                return
            self._value = value
            for follower in self._followers:
                follower.tell(value)

    def forget(self) -> None:
        """The value is no longer kept up to date: the next follower waits for a fresh one."""
        with self._lock:
            self._value = None

    def fail(self, error: BaseException) -> None:
        """Nothing more will come: every follower gets `error`."""
        with self._lock:
            self._value = None
            for follower in self._followers:
                follower.tell(error)

    async def follow(self) -> AsyncGenerator[T, None]:
        """The present value, if there is one, then every change."""
        follower: _Follower[T] = _Follower()
        with self._lock:
            if self._value is not None:
                follower.tell(self._value)
            self._followers.add(follower)
        try:
            while True:
                item = await follower.next()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            with self._lock:
                self._followers.discard(follower)


class _Follower(Generic[T]):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[T | BaseException] = asyncio.Queue(_BACKLOG_MAX)

    def tell(self, item: T | BaseException) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: T | BaseException) -> None:
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(item)

    async def next(self) -> T | BaseException:
        return await self._waiting.get()
