"""A disk that fails at its n-th operation, for every n: nothing acknowledged is lost, and nothing more is promised."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest

from tests.support.losing_power import VFS, Claims, JournalSubject, LedgerSubject, losing_power, watch
from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.store import OpenStore, Store, StoreFailed
from yikatong.simulators.power_loss import Disk, Operation

# apsw warns of errors that SQLite drops, as it does those of the machine's disk: while it rolls back and closes.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SEED = 3
FAILURES = {
    "full": (Operation.WRITE, lambda: apsw.FullError("invented")),
    "write": (Operation.WRITE, lambda: apsw.IOError("invented")),
    "sync": (Operation.SYNC, lambda: apsw.IOError("invented")),
    "open": (Operation.OPEN, lambda: apsw.CantOpenError("invented")),
    "truncate": (Operation.TRUNCATE, lambda: apsw.IOError("invented")),
    "delete": (Operation.DELETE, lambda: apsw.IOError("invented")),
    "read": (Operation.READ, lambda: apsw.IOError("invented")),
}


class Failing:
    """Fails the n-th operation of a kind: that one alone, or every one from then on."""

    def __init__(self, name: str, n: int, *, once: bool) -> None:
        self._operation, self._error = FAILURES[name]
        self._left, self._once = n, once
        self.struck = False

    def __call__(self, operation: Operation, name: str) -> None:
        if operation is self._operation:
            self._left -= 1
            if self._left == 0 or (self._left < 0 and not self._once):
                self.struck = True
                raise self._error()


@pytest.mark.parametrize("kind", [JournalSubject, LedgerSubject])
@pytest.mark.parametrize("seed", range(6))
async def test_what_a_failed_sync_left_in_memory_is_not_taken_for_durable(
    seed: int, kind: type[JournalSubject | LedgerSubject], tmp_path: Path
) -> None:
    """The kernel shows pages that it could not write, as if it had. A start builds on them; then the power fails."""
    subject, dice, struck = kind(tmp_path), random.Random(seed), 0
    with losing_power() as vfs:
        for n in range(1, 1_000):
            vfs.disk = disk = Disk()
            disk.before = failing = Failing("sync", n, once=True)
            claims, stores = Claims(), []
            found: Disk | None = None
            try:
                await subject.work(claims, random.Random(seed), collecting(stores))
            except (StoreFailed, YikatongError):
                found = disk.copy()
            for store in stores:
                await store.close()
            if not failing.struck:
                break
            if found is None:  # it failed while the work was being closed
                continue
            struck += 1
            vfs.disk = found
            moments = watch(found, claims)
            await subject.recover(claims)
            moments.append((found.moment(), claims.mark()))
            for moment, mark in moments:
                vfs.disk = Disk(moment.files(dice))
                await subject.recover(claims.until(mark))
        else:
            raise AssertionError("it never passes")
    assert struck > 5


def collecting(stores: list[Store]) -> OpenStore:
    def open_store(path: Path, *, application_id: int, version: int, schema: str) -> Store:
        stores.append(Store(path, application_id=application_id, version=version, schema=schema, vfs=VFS))
        return stores[-1]

    return open_store


@pytest.mark.parametrize("kind", [JournalSubject, LedgerSubject])
@pytest.mark.parametrize("once", [True, False], ids=["once", "from-then-on"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_every_failure_of_the_disk(
    failure: str, once: bool, kind: type[JournalSubject | LedgerSubject], tmp_path: Path
) -> None:
    refused = 0
    with losing_power() as vfs:
        for n in range(1, 1_000):
            vfs.disk = disk = Disk()
            disk.before = failing = Failing(failure, n, once=once)
            claims, stores = Claims(), []
            subject = kind(tmp_path)
            try:
                await subject.work(claims, random.Random(SEED), collecting(stores))
            except (StoreFailed, YikatongError) as error:
                assert not isinstance(error, YikatongError) or error.reason is Reason.JOURNAL_UNAVAILABLE
                refused += 1
                for store in stores:  # empty where the file could not be opened
                    assert store.failed
                    with pytest.raises(StoreFailed):  # also where the disk would do it again
                        await store.commit(lambda connection: None)
            for store in stores:
                await store.close()
            disk.before = lambda operation, name: None
            after_power_loss = disk.moment().files(random.Random(n))
            await subject.recover(claims.until(claims.mark()))  # the machine went on running
            vfs.disk = Disk(after_power_loss)
            await subject.recover(claims)
            if not failing.struck:
                break
        else:
            raise AssertionError("it never passes")
    assert n > 1
    assert refused > 0 or failure in {"truncate", "delete", "read"}
