"""The e-voucher (医保电子凭证): whose code it is, and what the gateway gives a terminal in exchange for one."""

from __future__ import annotations

from dataclasses import dataclass, field

from yikatong.core.orders import VoucherPayer
from yikatong.core.values import PersonName, Region, SocialSecurityNumber


@dataclass(frozen=True, slots=True)
class VoucherHolder:
    """Whom the service names. `region`: where it says that the person is insured, None where it does not."""

    number: SocialSecurityNumber
    name: PersonName
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class ResolvedVoucher:
    """Who pays, for one debit at one terminal and a short while: see `VoucherPayer.proof`."""

    holder: VoucherHolder
    proof: bytes = field(repr=False)

    @property
    def payer(self) -> VoucherPayer:
        return VoucherPayer(self.holder.number, self.holder.region, self.proof)
