"""A terminal that only asks whether it is still the terminal: nothing of what it says is kept."""

from __future__ import annotations

import apsw
import pytest

from yikatong.core.reasons import Reason, YikatongError
from yikatong.gateway import route_log, sessions
from yikatong.gateway.sessions import Presented

TERMINAL = "terminal-1"


@pytest.fixture
def gateway() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(route_log.SCHEMA)
    return connection


def test_a_record_that_was_never_acknowledged_does_not_shut_the_terminal_out(gateway: apsw.Connection) -> None:
    """A sync fails, the kernel shows row 11 from its cache; after the repair the disk has 10."""
    epoch = sessions.sign_in(gateway, TERMINAL, Presented(0, 0, 9, b"nine"))
    assert sessions.look(gateway, TERMINAL, Presented(epoch, 3, 11, b"eleven")) == epoch
    assert sessions.sign_in(gateway, TERMINAL, Presented(epoch, 3, 10, b"ten")) > epoch  # the ordinary start


def test_a_machine_that_is_behind_hears_it(gateway: apsw.Connection) -> None:
    epoch = sessions.sign_in(gateway, TERMINAL, Presented(0, 0, 9, b"nine"))
    sessions.note_debit(gateway, TERMINAL, epoch, 1)
    with pytest.raises(YikatongError) as refused:
        sessions.look(gateway, TERMINAL, Presented(0, 0, 9, b"nine"))
    assert refused.value.reason is Reason.TERMINAL_SUPERSEDED
    assert sessions.find(gateway, TERMINAL).epoch == epoch
