"""Keys of the terminal: one chains the journal, one seals what a reversal needs of a person."""

from __future__ import annotations

import hmac
from pathlib import Path

import msgspec

from yikatong.core.orders import CardPayer, Credential, IdCardPayer, Payer, VoucherPayer
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import CardIdentificationCode, CardNumber, Region, SocialSecurityNumber
from yikatong.runtime.keyfile import Seal, load_or_create


class Vault:
    """HMAC-SM3 for the journal's chain and for tags of cards, SM4-GCM for the payer; one key in a 0600 file."""

    def __init__(self, key: bytes) -> None:
        self._mac_key, self._seal = hmac.digest(key, b"mac", "sm3"), Seal(key)

    @classmethod
    def open(cls, path: Path, *, may_create: bool) -> Vault:
        """Reads the key file, or makes it where `may_create`. Raises YikatongError JOURNAL_UNAVAILABLE."""
        if not may_create and not path.exists():
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "the journal's key file is missing", file=path.name)
        try:
            return cls(load_or_create(path))
        except (YikatongError, OSError) as error:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "the journal's key file can't be used") from error

    def mac(self, content: bytes) -> bytes:
        """HMAC-SM3, 32 bytes."""
        return hmac.digest(self._mac_key, content, "sm3")

    def card_tag(self, code: CardIdentificationCode) -> str:
        """The same for the same card, and useless without the key: 32 hexadecimal digits."""
        return self.mac(b"card" + code.reveal()).hex()[:32]

    def person_tag(self, number: SocialSecurityNumber) -> str:
        """As `card_tag`, for a person who pays without the card."""
        return self.mac(b"person" + number.reveal().encode()).hex()[:32]

    def seal(self, payer: Payer, *, transaction_id: str) -> str:
        """The payer (of a voucher no proof), readable only with our key and only for this transaction; hexadecimal."""
        return self._seal.close(msgspec.json.encode(payer.fields), subject=transaction_id).hex()

    def unseal(self, sealed: str, *, transaction_id: str) -> Payer:
        """Raises YikatongError JOURNAL_UNAVAILABLE where it was not sealed by this key for this transaction."""
        try:
            plain = self._seal.open(bytes.fromhex(sealed), subject=transaction_id)
        except YikatongError as error:
            raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "a sealed payer can't be opened") from error
        match msgspec.json.decode(plain, type=tuple[str, ...]):
            case (Credential.VOUCHER.value, number, region):
                return VoucherPayer(SocialSecurityNumber(number), Region(region) if region else None)
            case (Credential.RESIDENT_ID.value, number):
                return IdCardPayer(SocialSecurityNumber(number))
            case (number, card, code, region):
                return CardPayer(
                    SocialSecurityNumber(number),
                    CardNumber(card),
                    CardIdentificationCode(bytes.fromhex(code)),
                    Region(region),
                )
            case _:
                raise YikatongError(Reason.JOURNAL_UNAVAILABLE, "a sealed payer is none")
