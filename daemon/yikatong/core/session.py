"""What a sign-in (签到) grants a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Granted:
    """The gateway's answer to a sign-in. `accounting_date` is YYYY-MM-DD, `gateway_time` UTC.

    `authenticates_cards`: it has a security module for that. `resolves_vouchers`: an e-voucher service.
    """

    epoch: int
    gateway_time: datetime
    institution: str
    institution_name: str
    treatment_region: str
    policy_hotline: str
    fault_hotline: str
    accounting_date: str
    authenticates_cards: bool = False
    resolves_vouchers: bool = False
