"""Resolved e-vouchers, between protobuf and the core's types."""

from __future__ import annotations

from yikatong.api.gateway.v1 import gateway_pb2 as gateway
from yikatong.core.values import PersonName, Region, SocialSecurityNumber
from yikatong.core.voucher import ResolvedVoucher, VoucherHolder


def resolved_to_wire(resolved: ResolvedVoucher) -> gateway.ResolveVoucherResponse:
    holder = resolved.holder
    return gateway.ResolveVoucherResponse(
        social_security_number=holder.number.reveal(),
        name=holder.name.reveal(),
        insured_region=holder.region.code if holder.region else "",
        proof=resolved.proof,
    )


def resolved_from_wire(wire: gateway.ResolveVoucherResponse) -> ResolvedVoucher:
    """Raises ValueError where a field breaks its pattern, or nothing proves it."""
    if not wire.proof:
        raise ValueError("without a proof nobody pays by voucher")
    holder = VoucherHolder(
        SocialSecurityNumber(wire.social_security_number),
        PersonName(wire.name),
        Region(wire.insured_region) if wire.insured_region else None,
    )
    return ResolvedVoucher(holder, wire.proof)
