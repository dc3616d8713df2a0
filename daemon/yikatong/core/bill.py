"""The bill that a debit pays: its lines with both their codes, and who bears which share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from yikatong.core.reasons import Reason, YikatongError


class Fund(Enum):
    """Who bears a share (一站式结算), in the order of a receipt; the value is (zh, en)."""

    BASIC_INSURANCE = ("基本医保", "Basic insurance")
    SERIOUS_ILLNESS = ("大病保险", "Serious-illness insurance")
    MEDICAL_AID = ("医疗救助", "Medical aid")
    SUPPLEMENTARY = ("补充保险", "Supplementary insurance")
    INSTITUTION_RELIEF = ("机构减免", "Institution relief")
    CASH = ("现金", "Cash")


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the bill, with its national and its local code. `quantity_milli` is in thousandths of a unit."""

    name: str
    national_code: str
    local_code: str
    quantity_milli: int
    amount_fen: int


@dataclass(frozen=True, slots=True)
class Share:
    fund: str
    amount_fen: int


@dataclass(frozen=True, slots=True)
class Bill:
    """What is paid. `total_fen` 0: the HIS did not say, and then there are no shares either."""

    items: tuple[Item, ...] = ()
    shares: tuple[Share, ...] = ()
    total_fen: int = 0
    operator_id: str = ""

    def check(self, debit_fen: int) -> None:
        """Raises YikatongError INVALID_FIELD where the shares and the debit do not add up to the total."""
        shares = sum(share.amount_fen for share in self.shares)
        if self.shares and not self.total_fen:
            raise YikatongError(Reason.INVALID_FIELD, "shares need a total", field="bill_total_fen")
        if self.total_fen and shares + debit_fen != self.total_fen:
            raise YikatongError(
                Reason.INVALID_FIELD,
                "the shares and the debit do not add up to the bill",
                field="shares",
                sum_fen=shares + debit_fen,
                total_fen=self.total_fen,
            )
