"""The fault points: every commit before which, and every message with which, something can go wrong.

A commit is named by the design's number (P terminal, G gateway, L ledger; C for credits), and by the code that makes
it; a message by the way it takes and its method. Those that `EVERY` lists are on the ways of a debit, its reversal, its
confirmation, and of credits: a campaign that never hits one of them has not shown much.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from yikatong.runtime.store import Job

_NUMBERS: Final = {
    "Journal.record SENT": "P1",
    "Journal.record HELD": "P2",
    "Journal.record APPROVED": "P2",
    "Journal.record DECLINED": "P2",
    "Journal.record REVERSING": "P3",
    "Journal.record ACCEPTED": "P3",
    "Journal.record REVERSED": "P4",
    "Journal.record APPROVED by the HIS": "P5",
    "Journal.record APPROVED acknowledged": "P6",
    "CreditJournal.record SENT": "CP1",
    "CreditJournal.record ACCEPTED": "CP2",
    "CreditJournal.record APPROVED": "CP3",
    "CreditJournal.record DECLINED": "CP3",
    "Router.debit": "G1",
    "Router._ask answered": "G2",
    "Router._enquired answered": "G2",
    "Router._enquire_until_heard answered": "G2",
    "Router.reverse": "G3",
    "Router._undone_in_time": "G3",
    "Router._undo answered": "G4",
    "Router.confirm": "G5",
    "Router._confirmed answered": "G6",
    "CreditRouter.credit": "CG1",
    "CreditRouter._deliver answered": "CG2",
    "CreditRouter._deliver": "CG2",
    "CreditRouter._decided_in_time": "CG2",
    "BookLink.debit": "L1",
    "BookLink.reverse": "L1",
    "BookLink.confirm": "L1",
    "BookLink.credit": "L1",
}
_PARTIES: Final = {"P": "terminal", "G": "gateway", "L": "city"}

TO_GATEWAY: Final = "terminal to gateway"
TO_CITY: Final = "gateway to city"
_METHODS: Final = ("Debit", "Reverse", "Confirm", "GetTransaction", "Cancel", "Refund")
_MISFORTUNES: Final = ("lost", "duplicated", "slow", "very late", "answer lost", "answer slow", "answer very late")


def commit_point(job: Job[Any]) -> str:
    """What a commit is for: its number, the method that asked for it, and what it writes where that is told apart."""
    if isinstance(job, partial):
        job = job.func
    made = job.__qualname__.split(".<locals>")[0]
    names = job.__code__.co_freevars
    if made.endswith("Journal.record") and job.__closure__ is not None:
        row = job.__closure__[names.index("row")].cell_contents
        made = f"{made} {row.state.value}"
        if made == "Journal.record APPROVED" and row.confirm_acknowledged:
            made += " acknowledged"
        elif made == "Journal.record APPROVED" and row.confirm_within_ms:
            made += " by the HIS"
    elif "answer" in names:
        made += " answered"
    number = _NUMBERS.get(made)
    return f"{number} {made}" if number else made


def message_point(way: str, method: str, misfortune: str) -> str:
    return f"{way}: {method} {misfortune}"


def every() -> Iterator[str]:
    """The points that a campaign must hit."""
    for made, number in _NUMBERS.items():
        party = _PARTIES[number[-2]]
        for what in ("dies before", "dies after", "fails to commit"):
            yield f"{party} {what} {number} {made}"
    for way in (TO_GATEWAY, TO_CITY):
        for method in _METHODS:
            for misfortune in _MISFORTUNES:
                yield message_point(way, method, misfortune)
