"""What must hold once the faults have stopped: terminal = gateway = city = what each HIS was told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import apsw

from yikatong.core.credit_table import DECIDED, CreditState, credit_verdict
from yikatong.core.credit_transaction import Credit
from yikatong.core.terminal_table import State, Told, verdict
from yikatong.core.transaction import Transaction
from yikatong.gateway import clearing_book
from yikatong.ledger import report
from yikatong.simulation.books import credits_of, rows_of
from yikatong.simulation.his import His, Request

Rows = dict[str, Transaction]
Credits = dict[str, Credit]
_UNMOVED = frozenset({State.DECLINED, State.REVERSED, State.ABORTED})


@dataclass(frozen=True, slots=True)
class Files:
    """The stores, after the last process has gone. `forgot`: the gateway has lost rows.

    `journals` by terminal, without the doubtful ones; of these `doubtful` has the beginnings of their ids, and
    `confirmed` the debits that any of their journals knew to be confirmed.
    """

    journals: dict[str, apsw.Connection]
    doubtful: frozenset[str]
    confirmed: frozenset[str]
    gateway: apsw.Connection
    cities: list[apsw.Connection]
    forgot: bool


def compare(files: Files, his: His) -> list[str]:
    """Every broken invariant, in words. Empty where the promise was kept."""
    journal: Rows = {row.transaction_id: row for file in files.journals.values() for row in rows_of(file)}
    given_back: Credits = {row.transaction_id: row for file in files.journals.values() for row in credits_of(file)}
    ledgers = (files.gateway, *files.cities)
    findings = [finding for ledger in ledgers for finding in report.audit(ledger)]
    if not files.forgot:
        findings += clearing_book.audit(files.gateway)
    broken = [f"{finding.invariant} {finding.detail} ({finding.subject})" for finding in findings]
    state, net = _ledger(ledgers)
    certain = {txid: known for txid, known in state.items() if txid[:8] not in files.doubtful}
    broken += _journal_and_ledger(journal, given_back, certain, net)
    broken += _credits(given_back, state, net)
    rows = files.gateway.execute("SELECT transaction_id, state FROM route")
    routes = {txid: known for txid, known in rows if txid[:8] not in files.doubtful}
    paid = "SELECT order_no FROM route WHERE state IN ('POSTED', 'CONFIRMED') GROUP BY order_no HAVING count(*) > 1"
    broken += [f"I2 {order_no}: paid more than once" for (order_no,) in files.gateway.execute(paid)]
    broken += _routes(journal, routes, forgot=files.forgot)
    routed = dict(files.gateway.execute("SELECT transaction_id, state FROM credit_route"))
    broken += _credit_routes(given_back, routed, forgot=files.forgot)
    for terminal_id, file in files.journals.items():
        broken += _head(terminal_id, file, files.gateway)
    broken += _orders(journal)
    broken += [
        f"I3 {txid}: confirmed, and the ledger says {state.get(txid, 'NONE')}"
        for txid in files.confirmed
        if state.get(txid) not in ("CONFIRMED", "CANCELLED")
    ]
    for request in his.requests:
        if request.till.machine.doubtful:
            broken += _doubtful_told(request, net)
            continue
        broken += _credit_told(request, given_back) if request.gives_back else _told(request, journal)
    return broken


def _ledger(ledgers: tuple[apsw.Connection, ...]) -> tuple[dict[str, str], Counter[str]]:
    """State, and net change of the personal account, of each transaction in any ledger."""
    state: dict[str, str] = {}
    net: Counter[str] = Counter()
    for ledger in ledgers:
        state |= dict(
            ledger.execute("SELECT transaction_id, state FROM txn UNION ALL SELECT transaction_id, state FROM credit")
        )
        sql = "SELECT transaction_id, amount_fen FROM posting WHERE kind <> 'OPENING' AND account LIKE 'personal:%'"
        for transaction_id, amount_fen in ledger.execute(sql):
            net[transaction_id] += amount_fen
    return state, net


def _journal_and_ledger(journal: Rows, given_back: Credits, state: dict[str, str], net: Counter[str]) -> list[str]:
    broken = [
        f"R3 {txid}: in a ledger, in no journal" for txid in state if txid not in journal and txid not in given_back
    ]
    for txid, row in journal.items():
        in_ledger = state.get(txid, "NONE")
        if row.state is State.APPROVED:
            if net[txid] != -row.amount_fen:
                broken.append(f"I3 {txid}: APPROVED, net {net[txid]} of {-row.amount_fen}, ledger {in_ledger}")
            elif in_ledger not in ("CONFIRMED", "CANCELLED") or not row.confirm_acknowledged:
                broken.append(f"I6 {txid}: APPROVED, but the ledger says {in_ledger}")
        elif row.state in _UNMOVED:
            if net[txid]:
                broken.append(f"I4 {txid}: {row.state.value}, net {net[txid]}, ledger {in_ledger}")
        else:
            broken.append(f"I6 {txid}: still {row.state.value}, net {net[txid]}, ledger {in_ledger}")
    return broken


def _credits(given_back: Credits, state: dict[str, str], net: Counter[str]) -> list[str]:
    broken = []
    for txid, row in given_back.items():
        in_ledger, due_fen = state.get(txid, "NONE"), row.amount_fen if row.state is CreditState.APPROVED else 0
        if row.state not in DECIDED:
            broken.append(f"I6 {txid}: credit still {row.state.value}, ledger {in_ledger}")
        elif net[txid] != due_fen:
            broken.append(f"I3/I4 {txid}: credit {row.state.value}, net {net[txid]}, ledger {in_ledger}")
    return broken


def _credit_routes(given_back: Credits, routes: dict[str, str], *, forgot: bool) -> list[str]:
    broken = []
    for txid, row in given_back.items():
        state = routes.get(txid, "NONE")
        approved, credited = row.state is CreditState.APPROVED, state == "CREDITED"
        if state == "FWD" or (not forgot and approved is not credited):
            broken.append(f"I6 {txid}: credit {row.state.value} at the terminal, {state} at the gateway")
    return broken


def _routes(journal: Rows, routes: dict[str, str], *, forgot: bool) -> list[str]:
    broken = []
    for txid, state in routes.items():
        row = journal.get(txid)
        if state in ("FWD", "REV"):
            broken.append(f"I6 {txid}: the gateway still has {state}, the terminal {row.state.value if row else '-'}")
        elif row is not None and (row.state is State.APPROVED) is not (state in ("POSTED", "CONFIRMED")):
            broken.append(f"I4 {txid}: {row.state.value} at the terminal, {state} at the gateway")
    if not forgot:
        approved = [txid for txid, row in journal.items() if row.state is State.APPROVED]
        broken += [f"I3 {txid}: APPROVED, unknown to the gateway" for txid in approved if txid not in routes]
    return broken


def _head(terminal_id: str, journal: apsw.Connection, gateway: apsw.Connection) -> list[str]:
    """I8: the head that the gateway knows is in the journal's chain."""
    sql = "SELECT journal_row, journal_head FROM session WHERE terminal_id = ?"
    known = gateway.execute(sql, (terminal_id,)).fetchone()
    if known is None or known[0] == 0:
        return []
    found = journal.execute("SELECT head FROM event WHERE number = ?", (known[0],)).fetchone()
    return [] if found and found[0] == known[1] else [f"I8 {terminal_id}: the gateway's head is not in the chain"]


def _orders(journal: Rows) -> list[str]:
    paid = Counter(row.order_no for row in journal.values() if row.state is State.APPROVED)
    return [f"I2 {order_no}: paid {count} times" for order_no, count in paid.items() if count > 1]


def _credit_told(request: Request, given_back: Credits) -> list[str]:
    broken = list(request.broken)
    rows = [row for row in given_back.values() if row.request_id == request.request_id]
    if len(rows) > 1:
        broken.append(f"I2 {request.request_id}: {len(rows)} credits")
    told = credit_verdict(rows[0].state).told if rows else None
    if request.final is not None and told is not request.final:
        broken.append(f"I3/I4 {request.request_id}: told {request.final.value}, the journal says {told}")
    if request.transaction_id and (not rows or rows[0].transaction_id != request.transaction_id):
        broken.append(f"I5 {request.request_id}: told of a credit that the journal does not have")
    if told is Told.APPROVED and request.refused >= request.debits:
        broken.append(f"I4 {request.request_id}: every call was told REFUSED, and it is credited")
    return broken


def _doubtful_told(request: Request, net: Counter[str]) -> list[str]:
    """What is told as not moved has not moved. An approval that was not confirmed yet a copy may have undone."""
    return request.broken + [
        f"I4 {request.request_id}: told {told.value} of {txid}, net {net[txid]}"
        for txid, told in request.told_of.items()
        if told in (Told.DECLINED, Told.REVERSED) and net[txid]
    ]


def _told(request: Request, journal: Rows) -> list[str]:
    broken = list(request.broken)
    rows = [row for row in journal.values() if row.request_id == request.request_id]
    if len(rows) > 1:
        broken.append(f"I2 {request.request_id}: {len(rows)} transactions")
    row = rows[0] if rows else None
    told = verdict(row.state).told if row else None
    if request.final is not None and told is not request.final:
        broken.append(f"I3/I4 {request.request_id}: told {request.final.value}, the journal says {told}")
    if request.transaction_id and (row is None or row.transaction_id != request.transaction_id):
        broken.append(f"I5 {request.request_id}: told of a transaction that the journal does not have")
    if told is Told.APPROVED and request.bill.confirm_within_ms and not request.booked:
        broken.append(f"I3 {request.request_id}: paid, and the HIS never booked it")
    if told is Told.APPROVED and request.refused >= request.debits:
        broken.append(f"I4 {request.request_id}: every call was told REFUSED, and it is paid")
    return broken
