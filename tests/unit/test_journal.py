"""The journal keeps what it has acknowledged, proves its chain, and refuses what it can't trust."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from tests.support.rows import PAYER, row
from yikatong.core.bill import Bill, Item, Share
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.terminal_table import State
from yikatong.terminal.journal import Journal
from yikatong.terminal.proof import SLICE


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "journal.db")
    yield opened
    await opened.close()


async def test_a_row_is_found_by_each_of_its_keys_after_a_restart(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal.db")
    bill = Bill((Item("阿莫西林", "X1", "L1", 1500, 3650),), (Share("CASH", 100),), 3750, "op")
    kept = await first.record(row(confirm_within_ms=5, order_part="1"), bill)
    await first.close()
    second = Journal(tmp_path / "journal.db")
    try:
        assert await second.prove() == 1
        assert await second.by_id(kept.transaction_id) == kept
        assert await second.by_request(kept.request_id) == kept
        assert await second.by_order(kept.order_no, "1") == kept
        assert await second.by_order(kept.order_no, "") is None
        assert await second.bill(kept.transaction_id) == bill
        assert list(await second.unresolved()) == [kept]
    finally:
        await second.close()


async def test_sequences_are_gap_free_and_given_once(journal: Journal) -> None:
    first = await journal.record(row())
    second = await journal.record(row())
    first = await journal.record(replace(first, state=State.REVERSING))
    assert (first.sequence, second.sequence) == (1, 2)
    assert (await journal.head()).sequence == 2
    assert (await journal.head()).number == 3


async def test_one_request_id_has_one_row(journal: Journal) -> None:
    kept = await journal.record(row())
    with pytest.raises(apsw.ConstraintError):
        await journal.record(replace(row(), request_id=kept.request_id))
    assert (await journal.head()).sequence == 1, "what was refused left no gap"


async def test_the_debit_of_an_order_that_counts_is_the_one_that_may_have_moved_money(journal: Journal) -> None:
    paid = await journal.record(row(State.SENT))
    paid = await journal.record(replace(paid, state=State.APPROVED))
    await journal.record(replace(row(State.DECLINED), order_no=paid.order_no))
    assert await journal.by_order(paid.order_no, "") == paid


async def test_open_rows_are_those_that_still_need_work(journal: Journal) -> None:
    for state in State:
        await journal.record(row(state))
    acknowledged = await journal.record(row(State.APPROVED, confirm_acknowledged=True))
    states = [found.state for found in await journal.unresolved()]
    assert states == [State.SENT, State.HELD, State.APPROVED, State.REVERSING, State.ACCEPTED, State.MANUAL]
    assert acknowledged.transaction_id not in {found.transaction_id for found in await journal.unresolved()}


async def test_pages_go_from_newest_to_oldest_without_self_tests(journal: Journal) -> None:
    rows = [await journal.record(row()) for _ in range(5)]
    await journal.record(row(self_test=True))
    first = await journal.newest(2, open_only=False)
    second = await journal.newest(9, open_only=False, before=first[-1].transaction_id)
    assert [*first, *second] == rows[::-1]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE event SET content=CAST(replace(content, 'SENT', 'SEND') AS BLOB) WHERE number=2",
        "UPDATE event SET head=zeroblob(32) WHERE number=2",
        "UPDATE event SET mac=zeroblob(32) WHERE number=3",
        "UPDATE event SET transaction_id='other' WHERE number=3",
        "DELETE FROM event WHERE number=2",
        "DELETE FROM event WHERE number=3",
        "UPDATE txn SET content=CAST(replace(content, 'SENT', 'DEBT') AS BLOB)",
        "DELETE FROM txn",
        "UPDATE txn SET open=0",
        "UPDATE txn SET state='REVERSED'",
        "UPDATE txn SET self_test=1",
        "UPDATE txn SET request_id=request_id || 'x'",
        "UPDATE txn SET order_no='x'",
        "UPDATE txn SET order_part='x'",
    ],
)
async def test_any_damage_breaks_the_chain(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    for _ in range(3):
        await journal.record(row())
    await journal.close()
    with apsw.Connection(str(path)) as connection:
        connection.execute(damage)
    connection.close()
    again = Journal(path)
    with pytest.raises(YikatongError) as caught:
        await again.prove()
    assert caught.value.reason is Reason.JOURNAL_UNAVAILABLE
    await again.close()


async def test_a_journal_is_proved_while_it_works(tmp_path: Path) -> None:
    """More events than a slice, and rows that appear and change between the slices."""
    journal = Journal(tmp_path / "journal.db")
    first = [await journal.record(row()) for _ in range(2)]
    await asyncio.gather(*(journal.record(row()) for _ in range(2 * SLICE)))
    proving = asyncio.create_task(journal.prove())
    while not proving.done():
        first = [await journal.record(replace(one, state=State.REVERSING)) for one in first]
        await journal.record(row())
    before = await journal.prove()
    assert 2 + 2 * SLICE < await proving <= before
    await journal.close()


async def test_a_journal_without_its_key_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    await journal.close()
    (tmp_path / "journal.key").unlink()
    with pytest.raises(YikatongError, match="key file"):
        Journal(tmp_path / "journal.db")


@pytest.mark.parametrize(("pragma", "says"), [("application_id=7", "another program"), ("user_version=9", "newer")])
async def test_a_foreign_or_newer_file_is_refused(tmp_path: Path, pragma: str, says: str) -> None:
    path = tmp_path / "journal.db"
    await Journal(path).close()
    with apsw.Connection(str(path)) as connection:
        connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(YikatongError, match=says) as caught:
        Journal(path)
    assert caught.value.reason is Reason.STORE_NOT_OURS, "the service leaves for good: starting again does not help"


async def test_two_daemons_never_share_a_journal(journal: Journal) -> None:
    await journal.record(row())
    with pytest.raises(YikatongError):
        Journal(journal.path)


async def test_a_sealed_payer_opens_only_for_its_transaction(journal: Journal) -> None:
    sealed = journal.vault.seal(PAYER, transaction_id="a")
    assert journal.vault.unseal(sealed, transaction_id="a") == PAYER
    assert PAYER.social_security_number.reveal() not in bytes.fromhex(sealed).decode("latin-1")
    with pytest.raises(YikatongError):
        journal.vault.unseal(sealed, transaction_id="b")


async def test_nothing_of_a_person_lies_in_the_file_in_clear(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    made = row()
    await journal.record(replace(made, payer_sealed=journal.vault.seal(PAYER, transaction_id=made.transaction_id)))
    await journal.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made.request_id.encode() in content
    assert PAYER.social_security_number.reveal().encode() not in content
    assert PAYER.card_number.reveal().encode() not in content


async def test_files_are_for_their_owner_alone(journal: Journal) -> None:
    await journal.record(row())
    for path in journal.path.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name


async def test_the_epoch_is_kept(journal: Journal) -> None:
    await journal.grant(7)
    assert (await journal.head()).epoch == 7


async def test_self_tests_are_kept_for_a_year(journal: Journal) -> None:
    await journal.keep_self_test("old", "2025-01-01T00:00:00+00:00", b"{}")
    await journal.keep_self_test("new", "2026-06-01T00:00:00+00:00", b'{"a":1}')
    assert list(await journal.self_tests(9)) == [b'{"a":1}']
    assert list(await journal.self_tests(9, "new")) == [b'{"a":1}']
    assert list(await journal.self_tests(9, "none")) == []
