"""Who pays, and by what that was shown, between protobuf and the core's types."""

from __future__ import annotations

from typing import Final

from yikatong.api.money.v1 import money_pb2 as money
from yikatong.core.orders import CardPayer, Credential, IdCardPayer, Payer, VoucherPayer
from yikatong.core.values import CardIdentificationCode, CardNumber, Region, SocialSecurityNumber

_CREDENTIALS: Final = {
    credential: money.Credential.Value(f"CREDENTIAL_{credential.value}") for credential in Credential
}
_CREDENTIALS_BACK: Final = {value: credential for credential, value in _CREDENTIALS.items()}


def credential_to_wire(credential: Credential) -> money.Credential.ValueType:
    return _CREDENTIALS[credential]


def credential_from_wire(value: int) -> Credential:
    """CARD where it was left unspecified: senders from before there was another one do not know the field."""
    return _CREDENTIALS_BACK.get(money.Credential.ValueType(value), Credential.CARD)


def payer_to_wire(payer: Payer) -> money.Payer:
    wire = money.Payer(
        social_security_number=payer.social_security_number.reveal(), credential=_CREDENTIALS[payer.credential]
    )
    match payer:
        case CardPayer():
            wire.card_number = payer.card_number.reveal()
            wire.card_identification_code = payer.identification_code.reveal().hex().upper()
            wire.card_region = payer.card_region.code
        case VoucherPayer():
            wire.insured_region = payer.region.code if payer.region else ""
            wire.proof = payer.proof
        case IdCardPayer():
            pass
    return wire


def payer_from_wire(wire: money.Payer) -> Payer:
    """Raises ValueError where a field breaks its pattern, or belongs to another credential than this one."""
    number = SocialSecurityNumber(wire.social_security_number)
    card = (wire.card_number, wire.card_identification_code, wire.card_region)
    voucher = (wire.insured_region, wire.proof)
    credential = credential_from_wire(wire.credential)
    if (credential is not Credential.CARD and any(card)) or (credential is not Credential.VOUCHER and any(voucher)):
        raise ValueError("a field belongs to another credential")
    match credential:
        case Credential.CARD:
            return CardPayer(
                number,
                CardNumber(wire.card_number),
                CardIdentificationCode(bytes.fromhex(wire.card_identification_code)),
                Region(wire.card_region),
            )
        case Credential.VOUCHER:
            return VoucherPayer(number, Region(wire.insured_region) if wire.insured_region else None, wire.proof)
        case Credential.RESIDENT_ID:
            return IdCardPayer(number)
