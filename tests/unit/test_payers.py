"""The three ways to show who pays: each travels whole, is sealed whole, and is told from the others."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import protovalidate
import pytest

from tests.support.rows import PAYER, order
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.core.orders import CardPayer, Credential, DebitOrder, IdCardPayer, Payer, VoucherPayer
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import PersonName, Region, VoucherCode
from yikatong.core.voucher import VoucherHolder
from yikatong.gateway.voucher_proofs import VoucherProofs
from yikatong.runtime import wire, wire_payer, wire_voucher
from yikatong.runtime.clock import SystemClock
from yikatong.terminal.vault import Vault

NUMBER = PAYER.social_security_number
VOUCHER = VoucherPayer(NUMBER, Region("371000"), b"proof")
PAYERS: list[Payer] = [PAYER, VOUCHER, VoucherPayer(NUMBER), IdCardPayer(NUMBER)]
EACH = pytest.mark.parametrize("payer", PAYERS, ids=["card", "voucher", "voucher without a region", "identity card"])
KEY = b"k" * 32


def paid_by(payer: Payer) -> DebitOrder:
    return replace(
        order(transaction_id="01890000-0000-7000-8000-000000000001", request_id="r", order_no="o"), payer=payer
    )


@EACH
def test_an_order_travels_whole(payer: Payer) -> None:
    there = wire.order_to_wire(paid_by(payer))
    protovalidate.validate(there)
    back = wire.order_from_wire(money.DebitOrder.FromString(there.SerializeToString()))
    assert back == paid_by(payer)
    assert isinstance(back.payer, type(payer))
    if isinstance(payer, VoucherPayer):
        assert isinstance(back.payer, VoucherPayer)
        assert back.payer.proof == payer.proof


def test_one_person_in_each_way_is_another_order() -> None:
    assert len({paid_by(payer).fingerprint for payer in PAYERS}) == len(PAYERS)


def test_the_proof_is_outside_the_fingerprint_and_taken_off() -> None:
    bare = paid_by(replace(VOUCHER, proof=b""))
    assert paid_by(VOUCHER).fingerprint == bare.fingerprint
    stripped = paid_by(VOUCHER).unproven
    assert isinstance(stripped.payer, VoucherPayer)
    assert stripped.payer.proof == b""
    for other in (bare, paid_by(PAYER), paid_by(IdCardPayer(NUMBER))):
        assert other.unproven is other


@EACH
def test_nobody_shows_a_number_or_a_proof(payer: Payer) -> None:
    for hidden in (NUMBER.reveal(), "proof", "T0000001X"):
        assert hidden not in repr(payer).replace("CardPayer", "").replace("VoucherPayer", "").replace("_proof", "")


def test_a_sender_from_before_means_the_card() -> None:
    old = wire_payer.payer_to_wire(PAYER)
    old.ClearField("credential")
    protovalidate.validate(old)
    assert wire_payer.payer_from_wire(old) == PAYER
    assert wire_payer.credential_from_wire(0) is Credential.CARD
    for credential in Credential:
        assert wire_payer.credential_from_wire(wire_payer.credential_to_wire(credential)) is credential


@pytest.mark.parametrize(
    "change",
    [
        {"credential": money.CREDENTIAL_VOUCHER},
        {"credential": money.CREDENTIAL_RESIDENT_ID},
        {"insured_region": "371000"},
        {"proof": b"proof"},
        {"card_number": ""},
        {"card_identification_code": ""},
        {"card_region": ""},
    ],
    ids=str,
)
def test_a_card_with_what_is_not_its_own_or_without_what_is(change: dict[str, object]) -> None:
    made = wire_payer.payer_to_wire(PAYER)
    for name, value in change.items():
        setattr(made, name, value)
    with pytest.raises(ValueError, match=r"belongs to another|card number is|16 bytes|six digits"):
        wire_payer.payer_from_wire(made)
    with pytest.raises(protovalidate.ValidationError):
        protovalidate.validate(made)


@pytest.mark.parametrize("name", ["card_number", "card_identification_code", "card_region"])
def test_a_voucher_has_nothing_of_a_card(name: str) -> None:
    made = wire_payer.payer_to_wire(VOUCHER)
    setattr(made, name, getattr(wire_payer.payer_to_wire(PAYER), name))
    with pytest.raises(ValueError, match="belongs to another"):
        wire_payer.payer_from_wire(made)
    with pytest.raises(protovalidate.ValidationError):
        protovalidate.validate(made)


@EACH
def test_what_is_sealed_is_who_pays(payer: Payer) -> None:
    vault = Vault(KEY)
    sealed = vault.seal(payer, transaction_id="t")
    opened = vault.unseal(sealed, transaction_id="t")
    assert (opened, type(opened)) == (payer, type(payer))
    if isinstance(opened, VoucherPayer):
        assert opened.proof == b"", "a reversal needs none"
    with pytest.raises(YikatongError) as caught:
        vault.unseal(sealed, transaction_id="another")
    assert caught.value.reason is Reason.JOURNAL_UNAVAILABLE


def test_what_was_sealed_and_is_no_payer() -> None:
    vault = Vault(KEY)
    sealed = vault._seal.close(msgspec.json.encode(["x"]), subject="t").hex()
    with pytest.raises(YikatongError) as caught:
        vault.unseal(sealed, transaction_id="t")
    assert caught.value.reason is Reason.JOURNAL_UNAVAILABLE


def test_a_person_without_a_card_has_a_tag_of_their_own() -> None:
    vault = Vault(KEY)
    assert vault.person_tag(NUMBER) == vault.person_tag(NUMBER) != vault.card_tag(PAYER.identification_code)
    assert isinstance(PAYER, CardPayer)
    assert vault.person_tag(NUMBER) != Vault(b"x" * 32).person_tag(NUMBER)


# --- the gateway's word --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", [None, Region("371000")])
def test_a_resolved_voucher_travels_whole(region: Region | None) -> None:
    made = VoucherProofs(KEY, SystemClock()).made(
        VoucherCode("code"), VoucherHolder(NUMBER, PersonName("测试甲"), region), "t"
    )
    back = wire_voucher.resolved_from_wire(wire_voucher.resolved_to_wire(made))
    assert back == made
    assert back.payer.proof == made.proof
    assert back.payer == VoucherPayer(NUMBER, region)


@pytest.mark.parametrize(
    ("name", "value"), [("proof", b""), ("social_security_number", "1"), ("insured_region", "x")], ids=str
)
def test_an_answer_that_names_nobody(name: str, value: object) -> None:
    holder = VoucherHolder(NUMBER, PersonName("测试甲"))
    made = wire_voucher.resolved_to_wire(VoucherProofs(KEY, SystemClock()).made(VoucherCode("code"), holder, "t"))
    setattr(made, name, value)
    with pytest.raises(ValueError, match=r"proof|digits"):
        wire_voucher.resolved_from_wire(made)


def test_every_proof_fits_its_field() -> None:
    holder = VoucherHolder(NUMBER, PersonName("测" * 100), Region("371000"))
    made = VoucherProofs(KEY, SystemClock()).made(VoucherCode("x" * VoucherCode.LENGTH_MAX), holder, "t" * 32)
    protovalidate.validate(wire_payer.payer_to_wire(made.payer))


def test_the_nonce_is_the_codes_and_the_keys() -> None:
    def nonce(key: bytes, code: str, terminal: str, at: str) -> str:
        proofs = VoucherProofs(key, SystemClock())
        payer = proofs.made(VoucherCode(code), VoucherHolder(NUMBER, PersonName("甲")), terminal).payer
        shown = proofs.judged(payer, at)
        return shown.nonce

    once = nonce(KEY, "code", "a", "a")
    assert len(once) == 64
    assert nonce(KEY, "code", "b", "b") == once, "whichever terminal scanned it"
    assert len({once, nonce(KEY, "other", "a", "a"), nonce(b"x" * 32, "code", "a", "a")}) == 3
    assert nonce(KEY, "code", "a", "b") == "", "a proof that is not this terminal's names no code"
