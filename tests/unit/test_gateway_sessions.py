"""Epochs and copies of terminals."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import apsw
import pytest

from yikatong.core.reasons import Reason, YikatongError
from yikatong.gateway import route_log, sessions
from yikatong.gateway.sessions import Presented, note_debit, renew, replace, sign_in

HEAD = b"h" * 32


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    made = apsw.Connection(":memory:")
    made.execute(route_log.SCHEMA)
    yield made
    made.close()


def test_each_sign_in_is_granted_the_next_epoch(connection: apsw.Connection) -> None:
    assert sign_in(connection, "t", Presented(0, 0, 0, b"")) == 1
    note_debit(connection, "t", 1, 7)
    assert sign_in(connection, "t", Presented(1, 7, 3, HEAD)) == 2
    assert sign_in(connection, "t", Presented(2, 9, 5, HEAD)) == 3
    assert sign_in(connection, "other", Presented(0, 0, 0, b"")) == 1


def test_a_debit_grants_no_epoch(connection: apsw.Connection) -> None:
    note_debit(connection, "t", 7, 1)
    assert sessions.find(connection, "t").epoch == 0
    sign_in(connection, "t", Presented(0, 1, 1, HEAD))
    note_debit(connection, "t", 7, 2)
    known = sessions.find(connection, "t")
    assert (known.epoch, known.epoch_used, known.sequence) == (1, 1, 2), "nor does it fence the one that is granted"


def test_a_lost_grant_is_no_clone(connection: apsw.Connection) -> None:
    sign_in(connection, "t", Presented(0, 0, 0, b""))
    note_debit(connection, "t", 1, 1)
    assert sign_in(connection, "t", Presented(1, 1, 1, HEAD)) == 2
    assert sign_in(connection, "t", Presented(1, 1, 1, HEAD)) == 3, "the grant of 2 was lost on the way"


@pytest.mark.parametrize(
    ("behind", "presented"),
    [
        ("epoch", Presented(1, 9, 9, HEAD)),
        ("sequence", Presented(2, 4, 9, HEAD)),
        ("journal_row", Presented(2, 5, 2, HEAD)),
        ("journal_head", Presented(2, 5, 3, b"x" * 32)),
    ],
)
def test_a_journal_that_is_behind_is_refused(connection: apsw.Connection, behind: str, presented: Presented) -> None:
    sign_in(connection, "t", Presented(0, 0, 0, b""))
    sign_in(connection, "t", Presented(1, 3, 3, HEAD))
    note_debit(connection, "t", 2, 5)
    before = sessions.find(connection, "t")
    with pytest.raises(YikatongError) as caught:
        sign_in(connection, "t", presented)
    assert (caught.value.reason, caught.value.facts) == (Reason.TERMINAL_SUPERSEDED, {"behind": behind})
    assert sessions.find(connection, "t") == before
    assert sign_in(connection, "t", Presented(2, 5, 3, HEAD)) == 3, "the true one still gets in"


def test_a_terminal_that_is_ahead_of_a_restored_gateway_is_normal(connection: apsw.Connection) -> None:
    sign_in(connection, "t", Presented(0, 0, 0, b""))
    assert sign_in(connection, "t", Presented(8, 900, 900, HEAD)) == 9


def test_a_renewal_keeps_the_epoch_and_restores_a_record_that_was_lost(connection: apsw.Connection) -> None:
    epoch = sign_in(connection, "t", Presented(0, 0, 0, b""))
    note_debit(connection, "t", epoch, 5)
    assert renew(connection, "t", Presented(epoch, 5, 7, HEAD)) == epoch
    assert renew(connection, "lost", Presented(7, 9, 9, HEAD)) == 7
    assert sign_in(connection, "lost", Presented(7, 9, 9, HEAD)) == 8


def test_a_renewal_under_an_epoch_that_another_has_outdone_is_refused(connection: apsw.Connection) -> None:
    first = sign_in(connection, "t", Presented(0, 0, 0, b""))
    second = sign_in(connection, "t", Presented(first, 0, 0, b""))
    assert renew(connection, "t", Presented(first, 0, 0, b"")) == first, "the newer grant may have been lost on its way"
    note_debit(connection, "t", second, 1)
    assert refused(lambda: renew(connection, "t", Presented(first, 0, 0, b""))) == "epoch"


def test_a_renewal_finds_a_journal_that_was_restored(connection: apsw.Connection) -> None:
    epoch = sign_in(connection, "t", Presented(0, 0, 10, HEAD))
    assert renew(connection, "t", Presented(epoch, 3, 50, HEAD)) == epoch
    note_debit(connection, "t", epoch, 19)
    assert renew(connection, "t", Presented(epoch, 3, 51, HEAD)) == epoch, "debits may overtake it, a few at a time"
    note_debit(connection, "t", epoch, 20)
    assert refused(lambda: renew(connection, "t", Presented(epoch, 3, 52, HEAD))) == "sequence"
    assert refused(lambda: renew(connection, "t", Presented(epoch, 20, 50, HEAD))) == "journal_row"
    assert refused(lambda: renew(connection, "t", Presented(epoch, 20, 51, b"x" * 32))) == "journal_head"
    assert refused(lambda: sign_in(connection, "t", Presented(epoch, 20, 11, b"x" * 32))) == "journal_row"


@pytest.mark.parametrize("record", ["whole", "lost", "restored"])
def test_whoever_has_the_journal_of_a_replaced_terminal_is_shut_out(connection: apsw.Connection, record: str) -> None:
    for _ in range(5):
        old = sign_in(connection, "t", Presented(0, 0, 0, b""))
    if record == "whole":
        note_debit(connection, "t", old, 9)
    else:
        connection.execute("DELETE FROM session")
    if record == "restored":
        sign_in(connection, "t", Presented(0, 0, 0, b""))
        note_debit(connection, "t", 1, 3)
    replace(connection, "t")
    again = sessions.find(connection, "t")
    replace(connection, "t")
    assert sessions.find(connection, "t") == again, "before the new machine has debited once more changes nothing"
    old_one = Presented(old, 9, 99, HEAD)
    for way_in in (sign_in, renew):
        assert refused(lambda way_in=way_in: way_in(connection, "t", old_one)) == "epoch"  # type: ignore[misc]
    assert sessions.find(connection, "t").epoch_used > old, "nor do its debits pass"
    new = sign_in(connection, "t", Presented(0, 0, 2, HEAD))
    assert new > again.epoch
    assert sign_in(connection, "t", Presented(new, 0, 3, HEAD)) == new + 1
    note_debit(connection, "t", new + 1, 1)
    assert refused(lambda: sign_in(connection, "t", Presented(0, 0, 9, HEAD))) == "epoch", "it is not new any more"


def refused(call: Callable[[], int]) -> str:
    """In what the journal is behind, where it is refused."""
    with pytest.raises(YikatongError) as error:
        call()
    assert error.value.reason is Reason.TERMINAL_SUPERSEDED
    return str(error.value.facts["behind"])
