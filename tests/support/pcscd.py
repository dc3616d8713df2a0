"""A private pcscd for the tests of one process: libpcsclite looks for its socket once, so its place never changes."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, aclosing, contextmanager
from functools import cache
from pathlib import Path

import pytest

from yikatong.drivers.pcsc import PcscReader
from yikatong.drivers.pcsc.presence import Presence
from yikatong.simulators.pcscd import PrivatePcscd, why_not_private
from yikatong.simulators.reader import SimulatedReader
from yikatong.simulators.vpcd import VirtualSlot


@cache
def _directory() -> Path:
    return Path(tempfile.gettempdir()) / f"yikatong-pcscd-{os.getpid()}"


@contextmanager
def private_pcscd() -> Iterator[tuple[PrivatePcscd, VirtualSlot]]:
    """A pcscd with an empty slot. Skips where there can be none; in CI that is a failure."""
    with private_slots(1) as (pcscd, slots):
        yield pcscd, slots[0]


@contextmanager
def private_slots(readers: int, *, others: str = "") -> Iterator[tuple[PrivatePcscd, list[VirtualSlot]]]:
    """The same with several readers, whose slots (two each) are all empty, in the order of `PrivatePcscd.slots`."""
    if obstacle := why_not_private():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no private pcscd: {obstacle}")
    directory = _directory()
    try:
        with PrivatePcscd(directory, readers=readers, others=others) as pcscd, ExitStack() as stack:
            os.environ.update(pcscd.environment)
            yield pcscd, [stack.enter_context(VirtualSlot(slot.port)) for slot in pcscd.slots]
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def empty(reader: PcscReader | SimulatedReader) -> None:
    """Returns when the reader sees that no card is in it: pcscd looks every 0.4 s, later where it is busy elsewhere."""
    async with asyncio.timeout(60), aclosing(reader.watch()) as states:
        async for state in states:
            if state.present and not state.card_present:
                return


def clear(pcscd: PrivatePcscd, slot: VirtualSlot) -> None:
    """Takes the card out of the first slot, and waits until pcscd has seen it."""
    slot.remove()
    presence = Presence(pcscd.reader_name)
    while presence.wait(1000).card_present:
        pass
    presence.close()
