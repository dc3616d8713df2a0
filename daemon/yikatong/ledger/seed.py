"""Sample persons and accounts from a JSON file; only what is missing is made, so loading twice changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import apsw
import msgspec

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, Region, SocialSecurityNumber
from yikatong.ledger.book import Book


class SeedPerson(msgspec.Struct, forbid_unknown_fields=True):
    """A row of the directory of insured persons (参保登记). Several rows for one person are normal."""

    social_security_number: str
    home_region: str
    insured: bool = True
    lost_cards: list[str] = []


class SeedAccount(msgspec.Struct, forbid_unknown_fields=True):
    """A personal account in its home city's ledger."""

    social_security_number: str
    home_region: str
    kind: Literal["EMPLOYEE", "RESIDENT"] = "EMPLOYEE"
    balance_fen: int = 0
    status: Literal["ACTIVE", "FROZEN", "CLOSED"] = "ACTIVE"
    floor_fen: int = 0


class Seed(msgspec.Struct, forbid_unknown_fields=True):
    """The file."""

    persons: list[SeedPerson] = []
    accounts: list[SeedAccount] = []


def load(path: Path) -> Seed:
    """Raises YikatongError CONFIGURATION_INVALID; its text names the field, never a value."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Seed)
    except (OSError, msgspec.DecodeError) as error:
        detail = str(error) if isinstance(error, msgspec.DecodeError) else "the file can't be read"
        raise YikatongError(Reason.CONFIGURATION_INVALID, detail, file=path.name) from error


def open_accounts(connection: apsw.Connection, book: Book, accounts: list[SeedAccount], *, date: str) -> int:
    """Opens the accounts of the book's own cities that are not there yet; returns how many."""
    opened = 0
    for account in accounts:
        region = Region(account.home_region)
        if region in book.cities:
            opened += book.open_account(
                connection,
                SocialSecurityNumber(account.social_security_number),
                region,
                kind=account.kind,
                status=account.status,
                opening=Fen(account.balance_fen),
                floor=Fen(account.floor_fen),
                date=date,
            )
    return opened
