"""Where a person is insured (参保地): asked of a directory, never taken from the card, whose region is a hint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from yikatong.core.orders import CardPayer, IdCardPayer, Payer, VoucherPayer
from yikatong.core.reasons import Reason
from yikatong.core.values import Region
from yikatong.ledger.seed import SeedPerson


class Directory(Protocol):
    """The directory of insured persons and of lost cards."""

    def home_of(self, payer: Payer) -> Region | Reason:
        """The home city, or why there is none: PERSON_NOT_INSURED, CARD_REPORTED_LOST."""

    def last_home_of(self, payer: Payer) -> Region | None:
        """Where a debit of this person could have gone, whatever holds for new ones; for reversals."""


class SampleDirectory:
    """A directory in memory, from a seed file. A person may have several rows; the insured one counts.

    Where several are insured, the region that card or voucher names chooses among them, and the first listed one where
    it doesn't fit. A lost card is no hindrance to who pays in another way.
    """

    def __init__(self, persons: Iterable[SeedPerson]) -> None:
        self._rows: dict[str, list[tuple[Region, bool]]] = {}
        self._lost: set[str] = set()
        for person in persons:
            rows = self._rows.setdefault(person.social_security_number, [])
            rows.append((Region(person.home_region), person.insured))
            self._lost.update(person.lost_cards)

    def home_of(self, payer: Payer) -> Region | Reason:
        if isinstance(payer, CardPayer) and payer.card_number.reveal() in self._lost:
            return Reason.CARD_REPORTED_LOST
        rows = self._rows.get(payer.social_security_number.reveal(), ())
        homes = [region for region, insured in rows if insured]
        if not homes:
            return Reason.PERSON_NOT_INSURED
        return next((region for region in homes if region == _hint(payer)), homes[0])

    def last_home_of(self, payer: Payer) -> Region | None:
        rows = self._rows.get(payer.social_security_number.reveal(), ())
        homes = [region for region, insured in rows if insured] or [region for region, _ in rows]
        if not homes:
            return None
        return next((region for region in homes if region == _hint(payer)), homes[0])

    def __repr__(self) -> str:
        return f"SampleDirectory({len(self._rows)} persons)"


def _hint(payer: Payer) -> Region | None:
    match payer:
        case CardPayer():
            return payer.card_region
        case VoucherPayer():
            return payer.region
        case IdCardPayer():
            return None


class OneCity:
    """Everybody is insured in one city: the self-test's directory."""

    def __init__(self, region: Region) -> None:
        self._region = region

    def home_of(self, payer: Payer) -> Region | Reason:  # the Directory's shape; here nobody is asked who
        return self._region

    def last_home_of(self, payer: Payer) -> Region | None:
        return self._region
