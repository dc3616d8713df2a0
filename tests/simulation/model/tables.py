"""The code's own tables for the model checker: so it judges what runs, not a copy of it.

names.h numbers every state, event, effect and reply under its name in the code; tables.c holds the moves. Both lie
beside the model for people to read, and `python -m tests.simulation.model.tables` writes them anew. The tests hand in
broken tables, which must be refuted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from yikatong.core import ledger_table, router_table, terminal_table
from yikatong.core.orders import (
    Accepted,
    AlreadyReversed,
    City,
    Confirmed,
    ConfirmedTooLate,
    Conflict,
    Declined,
    Denied,
    Fenced,
    NotFound,
    Posted,
    Reversed,
    Tombstoned,
    Undecided,
    Unfit,
    WasDeclined,
)
from yikatong.core.reasons import Reason
from yikatong.core.tables import IllegalEvent
from yikatong.core.terminal_table import Effect, State
from yikatong.core.values import Fen, Region

FOLDER: Final = Path(__file__).parent

_POSTED = Posted("R", Fen(1), b"", Fen(0), City(Region("990001"), "甲市", "City A"), "2026-03-02", False)
_T = terminal_table
EVENTS: Final[dict[str, terminal_table.Event]] = {
    "GO": _T.Go(),
    "GAVE_UP": _T.GaveUp(Reason.NO_CARD),
    "COMMIT_FAILED": _T.CommitFailed(),
    "ANSWERED_POSTED": _T.Answered(_POSTED),
    "ANSWERED_POSTED_HOLD": _T.Answered(_POSTED, hold=True),
    "ANSWERED_DECLINED": _T.Answered(Declined(Reason.INSUFFICIENT_BALANCE)),
    "ANSWERED_ALREADY_REVERSED": _T.Answered(AlreadyReversed()),
    "ANSWERED_UNDECIDED": _T.Answered(Undecided()),
    "ANSWERED_NOT_FOUND": _T.Answered(NotFound()),
    "ANSWERED_FENCED": _T.Answered(Fenced()),
    "ANSWERED_CONFLICT": _T.Answered(Conflict()),
    "ANSWERED_UNFIT": _T.Answered(Unfit()),
    "LINK_FAILED": _T.LinkFailed(),
    "TIME_UP": _T.TimeUp(),
    "CALLER_LEFT": _T.CallerLeft(),
    "CARD_LEFT": _T.CardLeft(),
    "RESTARTED": _T.Restarted(),
    "RESTARTED_YOUNG": _T.Restarted(young=True),
    "HIS_CONFIRMED": _T.HisConfirmed(),
    "HIS_CANCELLED": _T.HisCancelled(),
    "CONFIRM_TIME_UP": _T.ConfirmTimeUp(),
    "REVERSAL_ANSWERED_REVERSED": _T.ReversalAnswered(Reversed("R")),
    "REVERSAL_ANSWERED_TOMBSTONED": _T.ReversalAnswered(Tombstoned("R")),
    "REVERSAL_ANSWERED_WAS_DECLINED": _T.ReversalAnswered(WasDeclined()),
    "REVERSAL_ANSWERED_ACCEPTED": _T.ReversalAnswered(Accepted()),
    "REVERSAL_ANSWERED_DENIED": _T.ReversalAnswered(Denied(Reason.NEEDS_OPERATOR)),
    "REVERSAL_ANSWERED_UNDECIDED": _T.ReversalAnswered(Undecided()),
    "REVERSAL_UNANSWERED": _T.ReversalUnanswered(),
    "REVERSAL_FORGOTTEN": _T.ReversalForgotten(),
    "CONFIRM_ANSWERED_CONFIRMED": _T.ConfirmAnswered(Confirmed()),
    "CONFIRM_ANSWERED_TOO_LATE": _T.ConfirmAnswered(ConfirmedTooLate()),
    "CONFIRM_ANSWERED_UNDECIDED": _T.ConfirmAnswered(Undecided()),
    "OPERATOR_DECIDED_APPROVED": _T.OperatorDecided(State.APPROVED),
    "OPERATOR_DECIDED_REVERSED": _T.OperatorDecided(State.REVERSED),
}
"""Every event of the terminal, with every answer that it can carry."""

TerminalMoves = Mapping[tuple[State, str], terminal_table.Step]


def terminal_moves() -> dict[tuple[State, str], terminal_table.Step]:
    """The terminal's table as plain data, as the other two are."""
    moves = {}
    for state in State:
        for name, event in EVENTS.items():
            try:
                moves[state, name] = terminal_table.step(state, event)
            except IllegalEvent:
                continue
    return moves


def names() -> list[str]:
    """Every name of the three tables, once."""
    enums: list[type[Enum]] = [
        State,
        terminal_table.Told,
        *(router_table.State, router_table.Event, router_table.Effect, router_table.Reply),
        *(ledger_table.State, ledger_table.Event, ledger_table.Reply),
    ]
    return list(dict.fromkeys([*(member.name for enum in enums for member in enum), *EVENTS]))


_MADE = "/* Made from yikatong.core by tables.py: python -m tests.simulation.model.tables */"


def names_h() -> str:
    lines = [
        _MADE,
        "",
        *(f"#define {name} {number}" for name, number in numbers().items()),
        "",
        *(f"#define DO_{effect.name} {1 << number}" for number, effect in enumerate(Effect)),
        "",
    ]
    return "\n".join(lines)


def tables_c(
    terminal: TerminalMoves | None = None,
    router: Mapping[tuple[router_table.State, router_table.Event], router_table.Step] = router_table.TABLE,
    ledger: Mapping[tuple[ledger_table.State, ledger_table.Event], ledger_table.Step] = ledger_table.TABLE,
) -> str:
    """The three tables, those of the code or broken ones, and what a caller of the terminal hears."""
    lines = [
        _MADE,
        "",
        '#include "names.h"',
        '#include "move.h"',
        "",
        *_table("terminal_table", _terminal_move, terminal_moves() if terminal is None else terminal),
        *_table("router_table", _router_move, {(s, e.name): move for (s, e), move in router.items()}),
        *_table("ledger_table", _ledger_move, {(s, e.name): move for (s, e), move in ledger.items()}),
        "const unsigned char verdicts[256] = {",
        *(f"    [{state.name}] = {terminal_table.verdict(state).told.name}," for state in State),
        "};",
        "",
    ]
    return "\n".join(lines)


def numbers() -> dict[str, int]:
    """What stands for each name; 0 is nothing."""
    return {name: number for number, name in enumerate(names(), start=1)}


def _table(name: str, write: Callable[[Any], str], moves: Mapping[tuple[Any, str], Any]) -> Iterator[str]:
    yield f"const struct move {name}[256][256] = {{"
    for (state, event), move in moves.items():
        yield f"    [{state.name}][{event}] = {{ .listed = 1, .next = {move.next.name}{write(move)} }},"
    yield "};"
    yield ""


def _terminal_move(move: terminal_table.Step) -> str:
    effects = " | ".join(f"DO_{effect.name}" for effect in move.effects)
    return (", .recorded = 1" if move.record else "") + (f", .effects = {effects}" if effects else "")


def _router_move(move: router_table.Step) -> str:
    reply = f", .reply = {move.reply.name}" if move.reply else ""
    return reply + (f", .effect = {move.effect.name}" if move.effect else "")


def _ledger_move(move: ledger_table.Step) -> str:
    entries = {
        ledger_table.Entries.NOTHING: "",
        ledger_table.Entries.DEBIT: ", .debits = 1",
        ledger_table.Entries.CONTRA: ", .contras = 1",
    }
    return f", .reply = {move.reply.name}{entries[move.entries]}"


if __name__ == "__main__":
    (FOLDER / "names.h").write_text(names_h(), encoding="utf-8")
    (FOLDER / "tables.c").write_text(tables_c(), encoding="utf-8")
