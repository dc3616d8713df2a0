"""Reconciliation on the wire, to and from the core's types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from yikatong.api.money.v1 import reconciliation_pb2 as wire
from yikatong.core.reconciliation import Class, Difference, Kind, Row, Standing, Total, Totals

_KINDS: Final = {kind: wire.TransactionKind.Value(f"TRANSACTION_KIND_{kind.value}") for kind in Kind}
_KINDS_BACK: Final = {value: kind for kind, value in _KINDS.items()}
_STANDINGS: Final = {standing: wire.Standing.Value(f"STANDING_{standing.value}") for standing in Standing}
_STANDINGS_BACK: Final = {value: standing for standing, value in _STANDINGS.items()}
_CLASSES: Final = {found: wire.DifferenceClass.Value(f"DIFFERENCE_CLASS_{found.name}") for found in Class}
_CLASSES_BACK: Final = {value: found for found, value in _CLASSES.items()}


def record_of(row: Row) -> wire.Record:
    return wire.Record(
        transaction_id=row.transaction_id,
        kind=_KINDS[row.kind],
        standing=_STANDINGS[row.standing],
        amount_fen=row.amount_fen,
        accounting_date=row.accounting_date,
        order_no=row.order_no,
        order_part=row.order_part,
        fingerprint=bytes.fromhex(row.fingerprint),
        state=row.state,
        since=row.since,
    )


def unknown(transaction_id: str) -> wire.Record:
    """Says that this side has no such transaction."""
    return wire.Record(transaction_id=transaction_id, standing=wire.STANDING_UNKNOWN)


def row_of(record: wire.Record) -> Row | None:
    """None where the record says that its side has none; a record without a kind is of a debit."""
    standing = _STANDINGS_BACK.get(record.standing)
    if standing is None:
        return None
    return Row(
        record.transaction_id,
        _KINDS_BACK.get(record.kind, Kind.DEBIT),
        standing,
        record.amount_fen,
        record.accounting_date,
        record.order_no,
        record.order_part,
        record.fingerprint.hex(),
        record.state,
        record.since,
    )


def day_of(totals: Totals) -> wire.DayTotals:
    return wire.DayTotals(
        kinds=[
            wire.KindTotal(kind=_KINDS[kind], count=total.count, amount_fen=total.amount_fen)
            for kind, total in totals.kinds.items()
        ],
        hash_total=totals.hash_total,
    )


def totals_of(day: wire.DayTotals) -> Totals:
    """A kind of which nothing is said, or nothing moved, is left out."""
    said = {_KINDS_BACK[total.kind]: Total(total.count, total.amount_fen) for total in day.kinds if total.count}
    return Totals({kind: said[kind] for kind in Kind if kind in said}, day.hash_total)


def difference_to_wire(difference: Difference) -> wire.Difference:
    return wire.Difference(
        difference_class=_CLASSES[difference.found],
        transaction_id=difference.transaction_id,
        told=record_of(difference.told) if difference.told else None,
        booked=record_of(difference.booked) if difference.booked else None,
        other_transaction_id=difference.other_transaction,
    )


def difference_from_wire(difference: wire.Difference) -> Difference:
    return Difference(
        _CLASSES_BACK[difference.difference_class],
        difference.transaction_id,
        (
            row_of(difference.told) if difference.HasField("told") else None,
            row_of(difference.booked) if difference.HasField("booked") else None,
        ),
        difference.other_transaction_id,
    )


def differences_to_wire(differences: Iterable[Difference]) -> list[wire.Difference]:
    return [difference_to_wire(difference) for difference in differences]
