"""A terminal's session: epochs, sequences, journal heads; and how a copy of a terminal is found out.

The gateway grants a new epoch at each sign-in. A terminal whose journal is behind the gateway's copy has been rolled
back or cloned. One whose last grant was lost on the way is no clone: its epoch is behind, but nothing was ever done
under the newer one. Where an operator says that a terminal was replaced, its machine and its copies are behind from
then on, and a journal that begins anew is admitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from yikatong.core.reasons import Reason, YikatongError


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
        return self.epoch_used > 0 and self.sequence == 0


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
    behind = ""
    if known.awaits_a_new_journal and presented == Presented(0, 0, presented.journal_row, presented.journal_head):
        pass  # it is the one
    elif presented.epoch < known.epoch_used:
        behind = "epoch"
    elif presented.sequence < known.sequence:
        behind = "sequence"
    elif presented.journal_row < known.journal_row:
        behind = "journal_row"
    elif presented.journal_row == known.journal_row and known.journal_head not in (b"", presented.journal_head):
        behind = "journal_head"
    if behind:
        raise YikatongError(Reason.TERMINAL_SUPERSEDED, "another copy of this terminal was here", behind=behind)
    epoch = max(known.epoch, presented.epoch) + 1
    sql = """INSERT INTO session VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE
             SET epoch = ?2, sequence = ?4, journal_row = ?5, journal_head = ?6"""
    values = (terminal_id, epoch, known.epoch_used, presented.sequence, presented.journal_row, presented.journal_head)
    connection.execute(sql, values)
    return epoch


def renew(connection: apsw.Connection, terminal_id: str, epoch: int) -> int:
    """The same epoch again, also where the record of it was lost. Raises YikatongError TERMINAL_SUPERSEDED."""
    known = find(connection, terminal_id)
    if epoch < known.epoch_used:
        raise YikatongError(Reason.TERMINAL_SUPERSEDED, "another copy of this terminal was here", behind="epoch")
    sql = "INSERT INTO session VALUES (?1, ?2, 0, 0, 0, x'') ON CONFLICT DO UPDATE SET epoch = max(epoch, ?2)"
    connection.execute(sql, (terminal_id, epoch))
    return epoch


def replace(connection: apsw.Connection, terminal_id: str) -> None:
    """The terminal's machine or disk is gone: whoever still has its journal neither debits nor signs in any more."""
    sql = """UPDATE session SET epoch = epoch + 1, epoch_used = epoch + 1, sequence = 0, journal_row = 0,
                                journal_head = x'' WHERE terminal_id = ?"""
    connection.execute(sql, (terminal_id,))


def note_debit(connection: apsw.Connection, terminal_id: str, epoch: int, sequence: int) -> None:
    """A debit came under this epoch and with this sequence. An epoch that was never granted is not used by that."""
    sql = """INSERT INTO session VALUES (?1, 0, 0, ?3, 0, x'') ON CONFLICT DO UPDATE
             SET epoch_used = max(epoch_used, min(?2, epoch)), sequence = max(sequence, ?3)"""
    connection.execute(sql, (terminal_id, epoch, sequence))
