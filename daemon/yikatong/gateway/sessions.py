"""A terminal's session: epochs, sequences, journal heads; and how a copy of a terminal is found out.

The gateway grants a new epoch at each sign-in. A terminal whose journal is behind the gateway's copy has been rolled
back or cloned. One whose last grant was lost on the way is no clone: its epoch is behind, but nothing was ever done
under the newer one. Where an operator says that a terminal was replaced, its machine and its copies are behind from
then on, and a journal that begins anew is admitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import apsw

from yikatong.core.reasons import Reason, YikatongError

_LEAP: Final = 1_000_000
SEQUENCES_BEHIND_MAX: Final = 16
"""So far a terminal's debits may overtake each other, or its sign-in, on their way."""


@dataclass(frozen=True, slots=True)
class Session:
    """What the gateway knows of a terminal. `epoch_used` is the newest epoch under which a debit came."""

    epoch: int = 0
    epoch_used: int = 0
    sequence: int = 0
    journal_row: int = 0
    journal_head: bytes = b""

    @property
    def awaits_a_new_journal(self) -> bool:
        """Whether the terminal was replaced and has debited nothing since: every debit has a sequence of its own."""
        return self.epoch_used >= _LEAP and self.sequence == 0


@dataclass(frozen=True, slots=True)
class Presented:
    """What the terminal says of its own journal."""

    epoch: int
    sequence: int
    journal_row: int
    journal_head: bytes


def find(connection: apsw.Connection, terminal_id: str) -> Session:
    sql = "SELECT epoch, epoch_used, sequence, journal_row, journal_head FROM session WHERE terminal_id = ?"
    row = connection.execute(sql, (terminal_id,)).fetchone()
    return Session(*row) if row else Session()


def sign_in(connection: apsw.Connection, terminal_id: str, presented: Presented) -> int:
    """The epoch granted. Raises YikatongError TERMINAL_SUPERSEDED for a clone or a journal that was rolled back."""
    known = find(connection, terminal_id)
    the_new_one = known.awaits_a_new_journal and (presented.epoch, presented.sequence) == (0, 0)
    behind = "" if the_new_one else _behind(known, presented)
    if behind:
        raise YikatongError(Reason.TERMINAL_SUPERSEDED, "another copy of this terminal was here", behind=behind)
    epoch = max(known.epoch, presented.epoch) + 1
    sql = """INSERT INTO session VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE
             SET epoch = ?2, sequence = ?4, journal_row = ?5, journal_head = ?6"""
    values = (terminal_id, epoch, known.epoch_used, presented.sequence, presented.journal_row, presented.journal_head)
    connection.execute(sql, values)
    return epoch


def look(connection: apsw.Connection, terminal_id: str, presented: Presented) -> int:
    """The epoch that it has, as for a renewal; keeps nothing. Raises YikatongError TERMINAL_SUPERSEDED."""
    if behind := _behind(find(connection, terminal_id), presented, overtaking=SEQUENCES_BEHIND_MAX):
        raise YikatongError(Reason.TERMINAL_SUPERSEDED, "another copy of this terminal was here", behind=behind)
    return presented.epoch


def renew(connection: apsw.Connection, terminal_id: str, presented: Presented) -> int:
    """The same epoch again, also where the record of it was lost. Raises YikatongError TERMINAL_SUPERSEDED.

    A journal only grows, so one that is behind was restored. Its debits may overtake it on their way, a few at a time.
    """
    known = find(connection, terminal_id)
    behind = _behind(known, presented, overtaking=SEQUENCES_BEHIND_MAX)
    if behind:
        raise YikatongError(Reason.TERMINAL_SUPERSEDED, "another copy of this terminal was here", behind=behind)
    sql = """INSERT INTO session VALUES (?1, ?2, 0, ?3, ?4, ?5) ON CONFLICT DO UPDATE
             SET epoch = max(epoch, ?2), sequence = max(sequence, ?3), journal_row = ?4, journal_head = ?5"""
    values = (terminal_id, presented.epoch, presented.sequence, presented.journal_row, presented.journal_head)
    connection.execute(sql, values)
    return presented.epoch


def _behind(known: Session, presented: Presented, *, overtaking: int = 0) -> str:
    """In what the journal is behind what is known of it; empty where it is not. `overtaking`: sequences that may be."""
    if presented.epoch < known.epoch_used:
        return "epoch"
    if presented.sequence < known.sequence - overtaking:
        return "sequence"
    if presented.journal_row < known.journal_row:
        return "journal_row"
    if presented.journal_row == known.journal_row and known.journal_head not in (b"", presented.journal_head):
        return "journal_head"
    return ""


def replace(connection: apsw.Connection, terminal_id: str) -> None:
    """The terminal's machine or disk is gone: whoever still has its journal neither debits nor signs in any more.

    Epochs leap, because this gateway may have lost or restored its record, and does not know how far the old ones were.
    Once more, before the new machine has debited, changes nothing.
    """
    known = find(connection, terminal_id)
    if not known.awaits_a_new_journal:
        sql = """INSERT INTO session VALUES (?1, ?2, ?2, 0, 0, x'') ON CONFLICT DO UPDATE
                 SET epoch = ?2, epoch_used = ?2, sequence = 0, journal_row = 0, journal_head = x''"""
        connection.execute(sql, (terminal_id, known.epoch + _LEAP))


def note_debit(connection: apsw.Connection, terminal_id: str, epoch: int, sequence: int) -> None:
    """A debit came under this epoch and with this sequence. An epoch that was never granted is not used by that."""
    sql = """INSERT INTO session VALUES (?1, 0, 0, ?3, 0, x'') ON CONFLICT DO UPDATE
             SET epoch_used = max(epoch_used, min(?2, epoch)), sequence = max(sequence, ?3)"""
    connection.execute(sql, (terminal_id, epoch, sequence))
