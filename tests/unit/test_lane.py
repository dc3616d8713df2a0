"""The lane: one thread, one device, one bounded queue."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest

from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.lane import Lane


class Device:
    """Remembers who did what to it."""

    def __init__(self) -> None:
        self.threads = [threading.get_ident()]
        self.closed = False

    def touch(self) -> int:
        self.threads.append(threading.get_ident())
        return len(self.threads)

    def close(self) -> None:
        self.threads.append(threading.get_ident())
        self.closed = True


class Gate:
    """A job that runs until it is let go."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, _device: Device) -> str:
        self.entered.set()
        assert self.open.wait(30)
        return "through"

    async def until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 30)


def _refuse(_device: Device) -> None:
    raise YikatongError(Reason.READER_FAILED, "broken")


async def test_the_device_belongs_to_one_thread() -> None:
    devices: list[Device] = []

    def open_device() -> Device:
        devices.append(Device())
        return devices[-1]

    lane = Lane("one", open_device)
    assert devices == []  # opened when it is needed
    await asyncio.gather(*(lane.run(Device.touch) for _ in range(5)))
    assert await lane.close()
    [device] = devices
    assert device.closed
    assert len(set(device.threads)) == 1
    assert threading.get_ident() not in device.threads


async def test_jobs_run_in_order() -> None:
    lane = Lane("order", Device)
    done: list[int] = []
    await asyncio.gather(*(lane.run(lambda _device, n=n: done.append(n)) for n in range(10)))
    assert done == list(range(10))
    assert await lane.close()


async def test_a_full_lane_refuses() -> None:
    lane, gate = Lane("full", Device, depth_max=1), Gate()
    running = asyncio.create_task(lane.run(gate))
    await gate.until_entered()
    waiting = asyncio.create_task(lane.run(Device.touch))
    await asyncio.sleep(0)
    with pytest.raises(YikatongError) as caught:
        await lane.run(Device.touch)
    assert caught.value.reason is Reason.DEVICE_BUSY
    assert lane.busy_s > 0
    gate.open.set()
    assert await running == "through"
    assert await waiting
    assert await lane.close()


async def test_cancelling_drops_a_job_that_waits() -> None:
    lane, gate = Lane("cancel", Device), Gate()
    ran: list[str] = []
    running = asyncio.create_task(lane.run(gate))
    await gate.until_entered()
    waiting = asyncio.create_task(lane.run(lambda _device: ran.append("waiting")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    gate.open.set()
    await running
    await lane.run(lambda _device: ran.append("after"))
    assert ran == ["after"]
    assert await lane.close()


async def test_cancelling_never_ends_a_job_that_runs() -> None:
    lane, gate = Lane("runs", Device), Gate()
    ended: list[str] = []

    def job(device: Device) -> None:
        ended.append(gate(device))

    running = asyncio.create_task(lane.run(job))
    await gate.until_entered()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert ended == []
    gate.open.set()
    await lane.run(Device.touch)
    assert ended == ["through"]
    assert await lane.close()


async def test_a_broken_device_is_opened_again() -> None:
    devices: list[Device] = []

    def open_device() -> Device:
        devices.append(Device())
        return devices[-1]

    lane = Lane("again", open_device, reopen_after=frozenset({Reason.READER_FAILED}))
    with pytest.raises(YikatongError):
        await lane.run(_refuse)
    await lane.run(Device.touch)
    assert [device.closed for device in devices] == [True, False]
    with pytest.raises(ZeroDivisionError):
        await lane.run(lambda _device: 1 // 0)
    await lane.run(Device.touch)
    assert len(devices) == 2
    assert await lane.close()


async def test_a_device_that_cannot_be_opened_tells_the_job_that_asked() -> None:
    attempts: list[int] = []

    def open_device() -> Device:
        attempts.append(1)
        if len(attempts) == 1:
            raise YikatongError(Reason.NO_READER, "not there yet")
        return Device()

    lane = Lane("late", open_device)
    with pytest.raises(YikatongError) as caught:
        await lane.run(Device.touch)
    assert caught.value.reason is Reason.NO_READER
    assert await lane.run(Device.touch)
    assert await lane.close()


async def test_a_device_that_fails_to_close_does_not_end_the_lane() -> None:
    class Stubborn(Device):
        def close(self) -> None:
            raise OSError("still held")

    lane = Lane("stubborn", Stubborn, reopen_after=frozenset({Reason.READER_FAILED}))
    with pytest.raises(YikatongError) as caught:
        await lane.run(_refuse)
    assert caught.value.reason is Reason.READER_FAILED
    assert await lane.run(Device.touch)
    assert await lane.close()


async def test_a_job_that_runs_dry_wakes_its_caller() -> None:
    lane = Lane("dry", Device)
    with pytest.raises(RuntimeError, match="ran dry"):
        await lane.run(lambda _device: next(iter(())))
    assert await lane.close()


async def test_closing_refuses_what_waits_and_what_comes() -> None:
    lane, gate = Lane("closing", Device), Gate()
    running = asyncio.create_task(lane.run(gate))
    await gate.until_entered()
    waiting = asyncio.create_task(lane.run(Device.touch))
    await asyncio.sleep(0)
    closing = asyncio.create_task(lane.close())
    await asyncio.sleep(0)
    gate.open.set()
    assert await closing
    assert await running == "through"
    for late in (waiting, lane.run(Device.touch)):
        with pytest.raises(YikatongError) as caught:
            await late
        assert caught.value.reason is Reason.DEVICE_BUSY


async def test_closing_while_stuck_tells_so_and_returns() -> None:
    lane, gate = Lane("stuck", Device, depth_max=1), Gate()
    running = asyncio.create_task(lane.run(gate))
    await gate.until_entered()
    waiting = asyncio.create_task(lane.run(Device.touch))
    await asyncio.sleep(0)  # the queue is full now: closing must not wait for room in it
    assert not await lane.close(timeout_s=0.01)
    gate.open.set()
    assert await running == "through"
    with pytest.raises(YikatongError):
        await waiting
    assert await lane.close()


async def test_what_the_caller_logs_with_crosses_into_the_thread() -> None:
    field: contextvars.ContextVar[str] = contextvars.ContextVar("field", default="lost")
    lane = Lane("context", Device)
    field.set("kept")
    assert await lane.run(lambda _device: field.get()) == "kept"
    assert await lane.close()


async def test_an_idle_lane_keeps_nothing_of_its_last_job() -> None:
    class Secret:
        pass

    lane = Lane("forgets", Device)
    secret = Secret()
    gone = weakref.ref(secret)
    await lane.run(lambda _device, secret=secret: None)
    del secret
    idle = threading.Event()
    while gone() is not None and not idle.wait(0.001):  # the thread answers before it goes back to its queue
        gc.collect()
    assert await lane.close()
