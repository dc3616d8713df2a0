"""The simulated card's own manners: files, forms of addressing, rights, counters."""

from __future__ import annotations

import pytest

from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.cryptography import encrypt, session_key
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.security import RKSSSE

SSSE = "00A404000F7378312E73682EC9E7BBE1B1A3D5CF"


@pytest.fixture
def card() -> SimulatedCard:
    chip = find("works").make()
    assert isinstance(chip, SimulatedCard)
    chip.power_on()
    return chip


def _ask(card: SimulatedCard, *commands: str) -> str:
    """The answer to the last command."""
    answer = b""
    for command in commands:
        answer = card.execute(bytes.fromhex(command))
    return answer.hex().upper()


@pytest.mark.parametrize(
    ("commands", "answer"),
    [
        (("00A4000002EF05",), "6A82"),
        (("00A4040007A0000000031010",), "6A82"),
        (("00A4000002DDF1",), "611E"),
        ((SSSE + "00",), "611E"),
        ((SSSE, "00C0000020"), "6C1E"),
        ((SSSE, "00C0000000"), "6C1E"),
        ((SSSE, "00A4000002EF05", "00C000001E"), "6985"),
        ((SSSE, "00A4020002EF06"), "9000"),
        ((SSSE, "00A4010002EF06"), "6A86"),
        ((SSSE, "00A4000002EF09"), "6A82"),
        ((SSSE, "00B2010412"), "6986"),
        ((SSSE, "00B2012C00"), "6C12"),
        ((SSSE, "00B2032806"), "0304322E30309000"),
        ((SSSE, "00B2083400"), "6A83"),
        ((SSSE, "00B2012F00"), "6A86"),
        ((SSSE, "00B2013C00"), "6981"),
        ((SSSE, "00B0870010"), "6982"),
        ((SSSE, "00A4040006D15600000500", "00B0960004"), "000000009000"),
        ((SSSE, "00A4040006D15600000500", "00A4000002EF16", "00B0020000"), "6B00"),
        ((SSSE, "00A4040006D15600000503", "00A4000002EF05", "00B201040A"), "6982"),
        ((SSSE, "00A4000002" + "3F00", "00A4000002EF05"), "6A82"),
        (("00CA000000",), "6D00"),
        (("FF00000000",), "6E00"),
        (("00A404000F7378",), "6700"),
        (("00",), "6700"),
        (("0082000A10" + "00" * 16,), "6984"),
        (("0082007710" + "00" * 16,), "6A88"),
        (("0084000008", "0082000A10" + "00" * 16), "63C5"),
        (("0084000005",), "6700"),
    ],
)
def test_answers(card: SimulatedCard, commands: tuple[str, ...], answer: str) -> None:
    assert _ask(card, *commands) == answer


def test_power_and_reset_take_selection_and_rights(card: SimulatedCard) -> None:
    _ask(card, SSSE, "00A4000002EF05")
    card.reset()
    assert _ask(card, "00B2010412") == "6986"
    card.power_off()
    assert card.execute(bytes.fromhex(SSSE)) == b""


def test_a_challenge_serves_once() -> None:
    card = SimulatedCard(find("third-generation-gated").data)
    card.power_on()
    challenge = bytes.fromhex(_ask(card, SSSE, "0084000008"))[:8]
    proof = encrypt(session_key(RKSSSE, challenge), bytes(8)).hex()
    assert _ask(card, "00B2012C12")[-4:] == "9000"
    assert _ask(card, "00B2072C0B") == "6982"
    assert _ask(card, "0082000A10" + proof + "00" * 8) == "9000"
    assert _ask(card, "00B2072C0B")[-4:] == "9000"
    assert _ask(card, "0082000A10" + proof + "00" * 8) == "6984"


def test_the_pin_counter_outlives_a_reset_and_a_right_pin_fills_it(card: SimulatedCard) -> None:
    assert _ask(card, "0020000003000000") == "63C5"
    card.reset()
    assert _ask(card, "0020000003000000") == "63C4"
    assert _ask(card, "0020000003123456") == "9000"
    assert _ask(card, "0020000003000000") == "63C5"


def test_a_changed_pin(card: SimulatedCard) -> None:
    assert _ask(card, "805E010007123456FF654321") == "9000"
    assert _ask(card, "0020000003123456") == "63C5"
    assert _ask(card, "0020000003654321") == "9000"
    assert _ask(card, "805E010006123456654321") == "6A80"


def test_the_first_generation_has_no_name_extension() -> None:
    card = SimulatedCard(find("first-generation").data)
    card.power_on()
    assert _ask(card, SSSE, "00B2033403") == "0A01319000"  # version 2.0 keeps sex in record 4
    assert _ask(card, "00B24E3016") == "6A83"
