"""A lane over a driver that may hang: a call that does not come back is given up, with its thread, and told of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import structlog

from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.lane import Device, Lane

T = TypeVar("T")

_log = structlog.stdlib.get_logger(__name__)

STUCK_MAX: Final = 3
"""So many threads may hang in the driver; then each job is refused at once, until one comes back."""


class Worker(Generic[Device]):
    """A lane that is replaced when a job does not end in time. The job that was given up may still happen.

    A thread that comes back after all closes its device and ends. `run` and `close` belong to one event loop.
    """

    def __init__(self, name: str, open_device: Callable[[], Device], *, reopen_after: frozenset[Reason]) -> None:
        self._name, self._open, self._reopen_after = name, open_device, reopen_after
        self._given_up: list[Lane[Device]] = []
        self._lane = self._new_lane()

    @property
    def stuck(self) -> int:
        """How many threads hang in the driver now."""
        self._given_up = [lane for lane in self._given_up if not lane.ended]
        return len(self._given_up)

    @property
    def lane(self) -> object:
        """Which lane works now: another one after a job was given up."""
        return self._lane

    async def run(self, job: Callable[[Device], T], *, limit_s: float, action: str) -> T:
        """What `Lane.run` says; raises READER_FAILED where the job has not ended after `limit_s`.

        `action` is for people: what the driver was asked to do.
        """
        if self.stuck >= STUCK_MAX:
            raise self._stuck(action)
        lane = self._lane
        try:
            async with asyncio.timeout(limit_s) as patience:
                return await lane.run(job)
        except YikatongError as error:
            if error.reason is Reason.DEVICE_BUSY and self.stuck:  # by the call that was given up
                raise self._stuck(action) from error
            raise
        except TimeoutError:
            if not patience.expired():
                raise
            if lane is self._lane:
                await self._give_up(lane, action)
            raise self._stuck(action) from None

    async def close(self) -> None:
        await self._lane.close()

    async def _give_up(self, lane: Lane[Device], action: str) -> None:
        self._lane = self._new_lane()
        self._given_up.append(lane)
        await lane.close(timeout_s=0)
        _log.error("driver_stuck", device=self._name, action=action, stuck=self.stuck)

    def _stuck(self, action: str) -> YikatongError:
        return YikatongError(
            Reason.READER_FAILED,
            f"the reader's driver did not come back: {action}",
            device=self._name,
            stuck_calls=self.stuck,
        )

    def _new_lane(self) -> Lane[Device]:
        return Lane(self._name, self._open, reopen_after=self._reopen_after)
