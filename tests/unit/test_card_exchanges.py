"""The written-down exchanges, against the simulated card, and against the driver."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import exchanges
from tests.support.cards import DirectLink, DirectReader, DirectVisit, WrittenLink, pin
from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import CardQuestion
from yikatong.core.pin import PinRight, PinWrong
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.card.centre import CentreAuthenticator
from yikatong.drivers.card.psam import PsamAuthenticator
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.cryptography import encrypt, session_key
from yikatong.simulators.card.personalisation import CardData
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.card.psam import SimulatedPsam
from yikatong.simulators.card.security import PUK

SAMPLE = CardData(
    social_security_number="110101190000010014",
    name="张测试",
    card_number="T0000001X",
    issuing_region="990001",
    serial=bytes.fromhex("01000001"),
    manufacturer=bytes.fromhex("9999"),
    identification_mac=bytes.fromhex("4E8CE1CA"),
    replaced={(0xEF06, 0x0C): bytes.fromhex("990001"), (0xEF06, 0x0D): bytes.fromhex("19000101")},
)
GATED = CardData(
    social_security_number="110101190000010014",
    name="张测试",
    card_number="T0000001X",
    issuing_region="990001",
    serial=bytes.fromhex("01000001"),
    manufacturer=bytes.fromhex("9999"),
    identification_mac=bytes.fromhex("4E8CE1CA"),
    version="3.00",
    gated=True,
)


def _replay(card: PretendCard, exchange: tuple[tuple[str, str | None], ...]) -> None:
    for command, expected in exchange:
        answer = card.execute(bytes.fromhex(command))
        assert expected is None or answer.hex().upper() == expected, command


def _card(data: CardData = SAMPLE, *, digits: str = "654321", challenges: tuple[str, ...] = ()) -> SimulatedCard:
    left = iter(challenges)
    card = SimulatedCard(data, pin=digits, random=lambda _count: bytes.fromhex(next(left)))
    card.power_on()
    return card


def test_the_atr() -> None:
    assert SAMPLE.atr.hex().upper() == "3B6D0000008154433099992501" + "01000001"


@pytest.mark.parametrize(
    "exchange",
    [exchanges.FREE_READ + exchanges.BY_SHORT_ID_AND_TAG, exchanges.PIN_BLOCKED, exchanges.PIN_CHANGE, exchanges.LOG],
    ids=["free read", "PIN blocked", "PIN change", "log"],
)
def test_the_simulated_card_replays(exchange: tuple[tuple[str, str | None], ...]) -> None:
    _replay(_card(), exchange)


def test_the_simulated_card_replays_authentication() -> None:
    _replay(_card(GATED, challenges=("B1B2B3B4B5B6B7B8", "A1A2A3A4A5A6A7A8")), exchanges.AUTHENTICATION)


def test_the_simulated_card_and_psam_replay_authentication_together() -> None:
    card, psam = _card(GATED, challenges=("A1A2A3A4A5A6A7A8",)), SimulatedPsam()
    psam.power_on()
    _replay(card, (*exchanges.ENTRY, ("00B2072C0B", "6982")))
    for chip, command, expected in exchanges.PSAM_AUTHENTICATION:
        _replay({"card": card, "PSAM": psam}[chip], ((command, expected),))
    _replay(card, (("00B2072C0B", "07095430303030303031589000"),))


def test_the_simulated_card_replays_a_pin_reload() -> None:
    card = _card(challenges=("0102030405060708", "A1A2A3A4A5A6A7A8"))
    _replay(card, exchanges.ENTRY)
    challenge = card.execute(bytes.fromhex("0084000008"))[:8]
    data = bytes.fromhex("1112131415161718")
    proof = encrypt(session_key(PUK, challenge), data)
    assert card.execute(bytes.fromhex("0082000610") + proof + data) == b"\x90\x00"
    _replay(card, (exchanges.PIN_RELOAD_CHALLENGE, exchanges.PIN_RELOAD))
    assert card.execute(bytes.fromhex("0020000003123456")) == b"\x90\x00"


def test_the_simulated_card_begins_a_load_after_the_pin() -> None:
    """§10.7: 16 bytes of balance 4, serial 2, key version, algorithm, random 4, MAC1 4."""
    card = _card(challenges=("0A0B0C0D",))
    command, _ = exchanges.LOAD
    _replay(card, (exchanges.LOAD_SELECT, (command, "6982"), ("0020000003654321", "9000"), exchanges.LOAD))
    assert card.execute(bytes.fromhex(exchanges.LOAD_RESPONSE)).hex().upper() == (
        "00002710" + "0001" + "01" + "01" + "0A0B0C0D" + "00000000" + "9000"
    )


def _with_sound_number(exchange: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    return [(command, answer.replace("31303031349000", "31303031329000")) for command, answer in exchange]


def test_the_driver_reads_the_written_card_by_number() -> None:
    link = WrittenLink(_with_sound_number(exchanges.FREE_READ))
    identity = SocialSecurityCard().read_identity(link)
    assert link.unknown == []
    assert identity.social_security_number.reveal() == "110101190000010012"
    assert identity.card_number.reveal() == "T0000001X"
    assert identity.name.reveal() == "张测试"
    assert identity.identification_code.reveal().hex() == "990001d156000005010000014e8ce1ca"
    assert (identity.spec_version, identity.algorithm) == ("2.00", CardAlgorithm.TRIPLE_DES)
    assert (identity.issue_date, identity.expiry_date) == ("2025-01-01", "2035-01-01")
    assert identity.unreadable_fields == ()
    assert identity.atr == link.atr


def test_the_driver_refuses_the_careless_number_of_the_written_card() -> None:
    with pytest.raises(YikatongError) as caught:
        SocialSecurityCard().read_identity(WrittenLink(exchanges.FREE_READ))
    assert caught.value.reason is Reason.CARD_MALFORMED
    assert "1101" not in str(caught.value)


def test_the_driver_meets_the_gate_of_the_written_card() -> None:
    before_the_gate = exchanges.AUTHENTICATION[: exchanges.AUTHENTICATION.index(("00B2070400", "6982"))]
    link = WrittenLink([*before_the_gate, ("00B207040B", "6982")])
    with pytest.raises(YikatongError) as caught:
        SocialSecurityCard().read_identity(link)
    assert caught.value.reason is Reason.CARD_NEEDS_AUTHENTICATION
    assert caught.value.facts == {"item": "card_number", "sw": "6982"}


SOUND = replace(GATED, social_security_number="110101190000010012")
"""The written number is careless: see FREE_READ."""


async def test_the_driver_reads_the_gated_card_with_a_psam_as_written() -> None:
    card = DirectLink(_card(SOUND, challenges=("A1A2A3A4A5A6A7A8",)))
    psam = DirectLink(SimulatedPsam())
    authenticator = PsamAuthenticator(DirectReader(lambda: psam), random=lambda _: bytes.fromhex("B1B2B3B4B5B6B7B8"))
    identity = await SocialSecurityCard(authenticator=authenticator).read(DirectVisit(card))
    assert identity.card_number.reveal() == "T0000001X"
    assert identity.name.reveal() == "张测试"
    written = {
        chip: [bytes.fromhex(command) for to, command, _ in exchanges.PSAM_AUTHENTICATION if to == chip]
        for chip in ("card", "PSAM")
    }
    by_name = bytes.fromhex("00A4040006D15600000590")  # §5.3 has it too; only a PSAM has this name
    assert psam.sent == [by_name, *written["PSAM"][1:]]
    assert [apdu for apdu in card.sent if apdu[1] in {0x84, 0x82}] == written["card"]


async def test_the_driver_reads_the_gated_card_through_the_centre_as_written() -> None:
    """§10.3: the centre's answer is written there too, and the card's to it."""

    class Centre:
        async def authenticate(self, question: CardQuestion) -> bytes:
            assert question.proof.answer.hex().upper() == "2BE2C2D96716C603"
            assert question.challenge is not None
            assert question.challenge.factor.hex().upper() == "A1A2A3A4A5A6A7A8", "the last challenge"
            assert question.challenge.data.hex().upper() == "B1B2B3B4B5B6B7B8"
            assert question.historical_bytes.hex().upper() == "00815443309999250101000001"
            assert question.holder.region.code == "990001"
            return bytes.fromhex("9650817D715E2C40")

        async def check(self) -> None: ...

    said = iter((bytes.fromhex("1122334455667788"), bytes.fromhex("8877665544332211")))
    authenticator = CentreAuthenticator(Centre(), random=lambda _: next(said))
    card = DirectLink(_card(SOUND, challenges=("B1B2B3B4B5B6B7B8", "A1A2A3A4A5A6A7A8")))
    identity = await SocialSecurityCard(authenticator=authenticator).read(DirectVisit(card))
    assert identity.card_number.reveal() == "T0000001X"
    written = [bytes.fromhex(command) for command, _ in exchanges.AUTHENTICATION]
    wanted = {0x88, 0x84, 0x82}
    assert [apdu for apdu in card.sent if apdu[1] in wanted] == [apdu for apdu in written if apdu[1] in wanted]


def test_the_driver_presents_the_pin_as_written() -> None:
    link = WrittenLink(exchanges.PIN)
    with pin("123456") as typed:
        assert SocialSecurityCard().verify_pin(link, typed) == PinWrong(5)
    with pin("654321") as typed:
        assert SocialSecurityCard().verify_pin(WrittenLink(exchanges.PIN_CHANGE), typed) == PinRight()
