"""The ledger's tables, and the few statements that touch them."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = """
CREATE TABLE account (
    account INTEGER PRIMARY KEY,
    region TEXT NOT NULL,
    person BLOB NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ACTIVE', 'FROZEN', 'CLOSED')),
    floor_fen INTEGER NOT NULL,
    balance_fen INTEGER NOT NULL CHECK (balance_fen >= floor_fen),
    UNIQUE (region, person, kind)
) STRICT;
CREATE TABLE txn (
    transaction_id TEXT PRIMARY KEY,
    region TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('POSTED', 'CONFIRMED', 'DECLINED', 'REVERSED', 'TOMBSTONE', 'CANCELLED')),
    account INTEGER REFERENCES account,
    amount_fen INTEGER NOT NULL,
    balance_fen INTEGER NOT NULL,
    treatment_region TEXT NOT NULL,
    institution TEXT NOT NULL,
    accounting_date TEXT NOT NULL,
    reason TEXT NOT NULL,
    reference TEXT NOT NULL,
    undone_reference TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE credit (
    transaction_id TEXT PRIMARY KEY,
    region TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    original TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('CANCELLATION', 'REFUND')),
    state TEXT NOT NULL CHECK (state IN ('CREDITED', 'DECLINED')),
    account TEXT NOT NULL,
    amount_fen INTEGER NOT NULL,
    balance_fen INTEGER,
    refundable_fen INTEGER NOT NULL,
    accounting_date TEXT NOT NULL,
    reason TEXT NOT NULL,
    reference TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX credit_of_original ON credit (original);
CREATE TABLE posting (
    entry INTEGER PRIMARY KEY,
    transaction_id TEXT NOT NULL,
    region TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('OPENING', 'DEBIT', 'CONTRA', 'CREDIT')),
    account TEXT NOT NULL,
    amount_fen INTEGER NOT NULL,
    accounting_date TEXT NOT NULL
) STRICT;
CREATE TRIGGER posting_is_never_changed BEFORE UPDATE ON posting
BEGIN SELECT RAISE(ABORT, 'postings are only added'); END;
CREATE TRIGGER posting_is_never_deleted BEFORE DELETE ON posting
BEGIN SELECT RAISE(ABORT, 'postings are only added'); END;
"""

FIND_TXN: Final = """
SELECT fingerprint, state, account, amount_fen, balance_fen, treatment_region, accounting_date, reason, reference,
       undone_reference
  FROM txn WHERE transaction_id = ? AND region = ?"""

FIND_ACCOUNT: Final = """
SELECT account, status, floor_fen, balance_fen FROM account
 WHERE region = ? AND person = ? AND kind = 'EMPLOYEE'"""

ADD_TXN: Final = "INSERT INTO txn VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

SET_TXN: Final = "UPDATE txn SET state = ?, undone_reference = ? WHERE transaction_id = ?"

ADD_POSTINGS: Final = """
INSERT INTO posting (transaction_id, region, kind, account, amount_fen, accounting_date)
VALUES (?1, ?2, ?3, ?4, ?6, ?7), (?1, ?2, ?3, ?5, -?6, ?7)"""

MOVE_BALANCE: Final = "UPDATE account SET balance_fen = balance_fen + ? WHERE account = ?"

SUSPENSE: Final = "suspense"
"""Where a city keeps what is owed to people whose account is closed, until an operator decides."""

FIND_CREDIT: Final = """
SELECT fingerprint, state, account, amount_fen, balance_fen, refundable_fen, accounting_date, reason, reference
  FROM credit WHERE transaction_id = ? AND region = ?"""

CREDITED_FEN: Final = "SELECT coalesce(sum(amount_fen), 0) FROM credit WHERE original = ? AND state = 'CREDITED'"

ADD_CREDIT: Final = "INSERT INTO credit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
