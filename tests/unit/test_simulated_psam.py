"""The simulated PSAM: its commands, its levels of keys, and the gated cards that it opens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import ciphers
from yikatong.simulators.card import issuer
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.cryptography import diversified, encrypt, session_key
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.personalisation import SM4, TRIPLE_DES
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.card.psam import SimulatedPsam, by_region_and_card
from yikatong.simulators.card.security import KEY_RKSSSE

MASTER = bytes(range(0x40, 0x50))
APPLICATION = "00A4040006D15600000590"
FACTORS = "9999250101000001" + "3939303030317378"
CHALLENGE = "A1A2A3A4A5A6A7A8"
KEY = "BFDE470A18" + FACTORS + CHALLENGE
ENCIPHER = "80FA000008B1B2B3B4B5B6B7B8"


def _ask(chip: PretendCard, *commands: str) -> str:
    """The answer to the last command."""
    answer = b""
    for command in commands:
        answer = chip.execute(bytes.fromhex(command))
    return answer.hex().upper()


@pytest.fixture
def psam() -> SimulatedPsam:
    """Keys of one, two and three levels, and one that makes MACs alone."""
    keys = {(0x27, 0x01): MASTER, (0x47, 0x0A): MASTER, (0x67, 0x2D): MASTER, (0x46, 0x0A): MASTER}
    chip = SimulatedPsam(keys=keys, derivation=by_region_and_card)
    chip.power_on()
    return chip


def test_the_atr_has_the_shape_of_a_card(psam: SimulatedPsam) -> None:
    assert psam.atr[:4] == bytes.fromhex("3B6D0000")
    assert len(psam.atr) == 17


@pytest.mark.parametrize("select", [APPLICATION, "00A4000002DF01", "00A4020002DF01"])
def test_forms_of_select(psam: SimulatedPsam, select: str) -> None:
    assert _ask(psam, select) == "610F"
    assert _ask(psam, "00C000000F") == "6F0D8406D15600000590A5038801059000"
    assert _ask(psam, KEY) == "9000"


@pytest.mark.parametrize(
    ("commands", "answer"),
    [
        (("00B0960006",), "3700000000019000"),
        ((APPLICATION, "00B0960006"), "3700000000019000"),
        (("00A40200020015", "00B095010A"), "990001000000000000019000"),
        (("00A40200020015", "00B000010A"), "990001000000000000019000"),
        (("00B0960000",), "6C06"),
        (("00B0960601",), "6B00"),
        (("00B0970006",), "6A82"),
        (("00B0000006",), "6986"),
        (("00A4000002EF05",), "6A82"),
        (("00A404000F7378312E73682EC9E7BBE1B1A3D5CF",), "6A82"),
        (("00A40400020015",), "6A82"),
        (("00A4010002DF01",), "6A86"),
        ((KEY,), "6985"),
        ((APPLICATION, "BFDE470B18" + FACTORS + CHALLENGE), "6A88"),
        ((APPLICATION, "BFDE480A18" + FACTORS + CHALLENGE), "6A88"),
        ((APPLICATION, "BFDE470A10" + FACTORS), "6700"),
        ((APPLICATION, "BFDE672D18" + FACTORS + CHALLENGE), "6700"),
        ((APPLICATION, ENCIPHER), "6985"),
        ((APPLICATION, KEY, ENCIPHER), "6108"),
        ((APPLICATION, KEY, "80FA000007" + "00" * 7), "6700"),
        ((APPLICATION, KEY, "80FA010008" + "00" * 8), "6A86"),
        ((APPLICATION, KEY, ENCIPHER, "00B0960006", "00C0000008"), "6985"),
        ((APPLICATION, KEY, "BFDE470B18" + FACTORS + CHALLENGE, ENCIPHER), "6985"),
        ((APPLICATION, KEY, APPLICATION, ENCIPHER), "6985"),
        ((APPLICATION, KEY, "00A40200020015", ENCIPHER), "6985"),
        ((APPLICATION, "BFDE460A18" + FACTORS + CHALLENGE, ENCIPHER), "6985"),
        (("0084000008",), "6D00"),
        (("FF00000000",), "6E00"),
    ],
)
def test_answers(psam: SimulatedPsam, commands: tuple[str, ...], answer: str) -> None:
    assert _ask(psam, *commands) == answer


def test_power_and_reset_take_the_application_and_the_key(psam: SimulatedPsam) -> None:
    _ask(psam, APPLICATION, KEY)
    psam.reset()
    assert _ask(psam, ENCIPHER) == "6985"
    assert _ask(psam, KEY) == "6985"
    psam.power_off()
    assert _ask(psam, APPLICATION) == ""


def test_a_diversified_key_against_the_written_vector() -> None:
    """Card-facts §10.6, under the facts' own assumption."""
    card_key = diversified(MASTER, bytes.fromhex("9999250101000001"))
    assert card_key.hex().upper() == "DB840D83EF7AA015E808674476482CAD"


@pytest.mark.parametrize(
    ("command", "factors"),
    [
        ("BFDE270110", ["9999250101000001"]),
        ("BFDE470A18", ["9999250101000001", "3939303030317378"]),
        ("BFDE672D20", ["9999250101000001", "3939303030317378", "3939303030307368"]),
    ],
    ids=["one level", "two levels", "three levels"],
)
def test_levels(psam: SimulatedPsam, command: str, factors: list[str]) -> None:
    key = MASTER
    for factor in factors[::-1]:
        key = diversified(key, bytes.fromhex(factor))
    expected = encrypt(session_key(key, bytes.fromhex(CHALLENGE)), bytes.fromhex("B1B2B3B4B5B6B7B8"))
    assert _ask(psam, APPLICATION, command + "".join(factors) + CHALLENGE) == "9000"
    assert _ask(psam, ENCIPHER, "00C0000008") == expected.hex().upper() + "9000"


def _gated() -> SimulatedCard:
    card = find("third-generation-gated").make()
    assert isinstance(card, SimulatedCard)
    return card


def test_a_psam_that_waits_to_be_authorised() -> None:
    psam = SimulatedPsam(authorised=False)
    psam.power_on()
    assert _ask(psam, APPLICATION, KEY) == "6982"
    assert _ask(psam, "00B0960006") == "3700000000019000"


@pytest.mark.parametrize(("name", "number"), [("3DES", TRIPLE_DES), ("SM4", SM4)])
def test_the_test_issuers_psam_and_cards_fit_each_other(name: str, number: int) -> None:
    """Computed once more without a library (tests/support/ciphers.py)."""
    masters, data = issuer.MASTERS[number], replace(_gated().data, algorithm=number)
    card, psam = SimulatedCard(data), issuer.psam(number)
    issuer.personalise(card)
    psam.power_on()
    for master, own in ((masters.irk, card.security.irk), (masters.rkssse, card.security.keys[KEY_RKSSSE])):
        assert own == ciphers.card_key(name, master, data.atr[4:], data.issuing_region, 2)
    factors = (data.atr[-8:] + data.issuing_region.encode() + b"sx").hex()
    challenge, block = bytes.fromhex(CHALLENGE), bytes.fromhex("B1B2B3B4B5B6B7B8")
    told = _ask(psam, APPLICATION, "BFDE470A18" + factors + CHALLENGE, ENCIPHER, "00C0000008")
    own = card.security.keys[KEY_RKSSSE]
    assert told == ciphers.cryptogram(name, own, challenge, block).hex().upper() + "9000"


def test_the_unblocking_key_opens_the_reload_of_a_pin() -> None:
    """Usage 48, id 10 and the card's key 06 (card-facts §2.7); §10.5 goes on from here."""
    psam, card = SimulatedPsam(), _gated()
    psam.power_on()
    card.power_on()
    card.security.tries_left = 0
    assert _ask(card, "842400000400000000") == "6982"
    challenge = _ask(card, "0084000008")[:16]
    cryptogram = _ask(psam, APPLICATION, "BFDE481018" + FACTORS + challenge, ENCIPHER, "00C0000008")[:16]
    assert _ask(card, "0082000610" + cryptogram + "B1B2B3B4B5B6B7B8") == "9000"
    assert _ask(card, "842400000400000000") == "6984"
