"""E-vouchers for terminals: who may ask, how often, and what the service says of a code."""

from __future__ import annotations

from typing import Final

import structlog

from yikatong.core.ports import VoucherService
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import VoucherCode
from yikatong.core.voucher import ResolvedVoucher
from yikatong.gateway.card_authentication import Budget
from yikatong.gateway.registry import Registry
from yikatong.gateway.voucher_proofs import VoucherProofs
from yikatong.runtime.clock import Clock

_log = structlog.get_logger(__name__)

PER_MINUTE: Final = 60


class Vouchers:
    """Answers ResolveVoucher. Codes, proofs and persons are in no log."""

    def __init__(
        self,
        service: VoucherService | None,
        registry: Registry,
        proofs: VoucherProofs,
        clock: Clock,
        *,
        per_minute: int = PER_MINUTE,
    ) -> None:
        """`per_minute`: how many codes a terminal may ask about in a minute, and at once after a pause."""
        self._service, self._registry, self.proofs = service, registry, proofs
        self._budget = Budget(clock, per_minute, Reason.TOO_MANY_VOUCHERS)

    @property
    def available(self) -> bool:
        return self._service is not None

    async def resolve(self, terminal_id: str, code: VoucherCode) -> ResolvedVoucher:
        """Raises TERMINAL_UNKNOWN, INSTITUTION_UNKNOWN, INSTITUTION_SUSPENDED, INSTITUTION_TERMINATED: a code names a
        person, for whom the agreement lets ask. TOO_MANY_VOUCHERS, VOUCHER_NOT_ACCEPTED, and what the service raises.
        """
        try:
            self._registry.demand_agreement(terminal_id)
            self._budget.spend(terminal_id)
            if self._service is None:
                raise YikatongError(Reason.VOUCHER_NOT_ACCEPTED, "this gateway has no e-voucher service")
            holder = await self._service.holder_of(code, self._registry.member_of(terminal_id).institution)
        except YikatongError as error:
            _log.info("voucher", terminal_id=terminal_id, outcome=error.reason.value)
            raise
        _log.info("voucher", terminal_id=terminal_id, outcome="RESOLVED")
        return self.proofs.made(code, holder, terminal_id)
