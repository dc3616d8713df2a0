"""The driver against the deck and against cards that mean harm."""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest

from tests.support.cards import AnswersLink, DirectLink, pin
from yikatong.core.card import CardAlgorithm
from yikatong.core.pin import PinAnswer, PinBlocked, PinRight, PinUnclear, PinWrong, refusal
from yikatong.core.ports import CardLink
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import SocialSecurityCard
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import CITIES, DECK, DeckCard, find
from yikatong.simulators.card.manners import Answering, always, to_reads
from yikatong.simulators.card.numbers import card_number, social_security_number
from yikatong.simulators.card.port import CardPulledError, PretendCard
from yikatong.simulators.card.security import WithoutPin

AT_THE_CARD = {
    Reason.CARD_NEEDS_AUTHENTICATION,
    Reason.CARD_MALFORMED,
    Reason.NOT_A_SOCIAL_SECURITY_CARD,
    Reason.CARD_MUTE,
}
AT_THE_PIN = {Reason.PIN_WRONG, Reason.PIN_BLOCKED}
ENTRY = (bytes.fromhex("6F1C840F7378312E73682EC9E7BBE1B1A3D5CFA5098801059F0C03860101") + b"\x90\x00",)


def _key(card: DeckCard) -> str:
    return card.key


def _reason(link: CardLink) -> Reason:
    with pytest.raises(YikatongError) as caught:
        SocialSecurityCard().read_identity(link)
    return caught.value.reason


@pytest.mark.parametrize("card", DECK, ids=_key)
def test_every_card_of_the_deck_reads_as_its_description_says(card: DeckCard) -> None:
    link = DirectLink(card.make())
    document = SocialSecurityCard()
    if card.expected is Reason.CARD_REMOVED:
        with pytest.raises(CardPulledError):
            document.read_identity(link)
        return
    if card.expected in AT_THE_CARD:
        assert _reason(link) is card.expected
        return
    identity = document.read_identity(link)
    assert identity.social_security_number.reveal() == card.data.social_security_number
    assert identity.card_number.reveal() == card.data.card_number
    assert identity.spec_version == card.data.version
    assert identity.issuing_region.code == card.data.issuing_region
    if card.key == "unreadable-name":
        assert (identity.name.reveal(), identity.unreadable_fields) == ("", ("name",))
    else:
        assert identity.name.reveal() == card.data.name
    with pin(card.pin) as typed:
        refused = refusal(document.verify_pin(link, typed))
    assert (refused and refused.reason) is (card.expected if card.expected in AT_THE_PIN else None)


def test_the_deck_is_whole() -> None:
    assert len({card.key for card in DECK}) == len(DECK)
    assert len({card.data.social_security_number for card in DECK}) == len(DECK)
    regions = {city.region for city in CITIES}
    assert {card.account.home_region for card in DECK if card.account} <= regions
    works = find("works").account
    assert works is not None
    assert (works.home_region, works.kind, works.balance_fen) == ("371000", "EMPLOYEE", 100_000)


def test_check_characters_against_published_samples() -> None:
    assert card_number("X0000001") == "X00000019"
    assert social_security_number("11010519491231002") == "11010519491231002X"


def test_the_algorithm_of_the_card() -> None:
    def algorithm(key: str) -> CardAlgorithm:
        return SocialSecurityCard().read_identity(DirectLink(find(key).make())).algorithm

    assert algorithm("third-generation") is CardAlgorithm.SM4
    assert algorithm("first-generation") is CardAlgorithm.TRIPLE_DES  # it does not say


def _chip() -> SimulatedCard:
    card = find("works").make()
    assert isinstance(card, SimulatedCard)
    return card


def _refusing(*forms: bytes) -> PretendCard:
    """A card that refuses commands which begin so."""
    refuse = lambda apdu, proper: b"\x6a\x86" if apdu.startswith(forms) else proper  # noqa: E731 - shorter so
    return Answering(_chip(), refuse)


@pytest.mark.parametrize(
    "forms",
    [(b"\x00\xa4\x00",), (b"\x00\xa4\x00", b"\x00\xa4\x02")],
    ids=["only 00A402", "only short file ids"],
)
def test_other_ways_to_a_file(forms: tuple[bytes, ...]) -> None:
    identity = SocialSecurityCard().read_identity(DirectLink(_refusing(*forms)))
    assert identity.card_number.reveal() == _chip().data.card_number


@pytest.mark.parametrize("status", [b"\x6a\x86", b"\x69\x81", b"\x6a\x83"])
def test_by_tag_where_numbers_are_refused(status: bytes) -> None:
    def answer(apdu: bytes, proper: bytes) -> bytes:
        return status if apdu[1] == 0xB2 and apdu[3] & 0b111 == 0b100 else proper

    identity = SocialSecurityCard().read_identity(DirectLink(Answering(_chip(), answer)))
    assert identity.social_security_number.reveal() == _chip().data.social_security_number


def test_by_tag_where_the_numbers_are_others() -> None:
    """A 2.00 card whose issuer numbered EF06 in its own way: the number leads to another item, the tag to the right."""

    def answer(apdu: bytes, proper: bytes) -> bytes:
        return b"\x0a\x01\x31\x90\x00" if apdu[1:2] == b"\xb2" and apdu[3] == 0x04 and apdu[4] > 0x12 else proper

    identity = SocialSecurityCard().read_identity(DirectLink(Answering(_chip(), answer)))
    assert identity.social_security_number.reveal() == _chip().data.social_security_number
    assert identity.name.reveal() == _chip().data.name


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (always(b""), Reason.CARD_MUTE),
        (always(b"\x90"), Reason.CARD_MALFORMED),
        (always(b"\x6c\x10"), Reason.CARD_MALFORMED),
        (always(b"\x61\x10"), Reason.CARD_MALFORMED),
        (always(b"\x90\x00"), Reason.CARD_MALFORMED),
        (always(b"\x6d\x00"), Reason.NOT_A_SOCIAL_SECURITY_CARD),
        (always(b"\x6e\x00"), Reason.NOT_A_SOCIAL_SECURITY_CARD),
        (always(b"\x12\x34"), Reason.CARD_MALFORMED),
        (always(bytes(65_000)), Reason.CARD_MALFORMED),
        (to_reads(b""), Reason.CARD_MUTE),
        (to_reads(b"\x6f\x00"), Reason.CARD_MALFORMED),
        (to_reads(b"\x00\x90\x00"), Reason.CARD_MALFORMED),
        (to_reads(b"\x03\x04.2.0\x90\x00"), Reason.CARD_MALFORMED),
    ],
)
def test_hostile_answers(answer: object, reason: Reason) -> None:
    assert _reason(DirectLink(Answering(_chip(), answer))) is reason  # type: ignore[arg-type] # the table's functions


def _with(file: int, tag: int, value: bytes) -> DirectLink:
    return DirectLink(SimulatedCard(replace(_chip().data, replaced={(file, tag): value})))


@pytest.mark.parametrize(
    ("file", "tag", "value"),
    [
        (0xEF05, 0x01, bytes.fromhex("99000AD15600000501000001FFFFFFFF")),
        (0xEF05, 0x01, bytes(8)),
        (0xEF05, 0x03, b"two!"),
        (0xEF05, 0x03, b"2.0"),
        (0xEF05, 0x06, bytes.fromhex("20351301")),
        (0xEF05, 0x06, bytes.fromhex("2035010A")),
        (0xEF05, 0x07, b"T000-0001"),
        (0xEF05, 0x07, b"\xb2\xe2\xca\xd4\x00\x00\x00\x00\x00"),
        (0xEF05, 0x07, b"\x00" * 9),
        (0xEF06, 0x08, b"99000119600101001x"),
        (0xEF06, 0x08, b"990001196001010\x00\x00\x00"),
        (0xEF06, 0x08, b"\xff" * 18),
    ],
)
def test_numbers_that_are_none(file: int, tag: int, value: bytes) -> None:
    assert _reason(_with(file, tag, value)) is Reason.CARD_MALFORMED


def test_an_issue_date_that_is_none_is_noted() -> None:
    identity = SocialSecurityCard().read_identity(_with(0xEF05, 0x05, bytes.fromhex("20251301")))
    assert (identity.issue_date, identity.unreadable_fields) == ("", ("issue_date",))


def test_blank_dates_and_a_longer_card_number_pass() -> None:
    assert SocialSecurityCard().read_identity(_with(0xEF05, 0x06, b"\xff" * 4)).expiry_date == ""
    longer = SocialSecurityCard().read_identity(_with(0xEF05, 0x07, b"T0000001X".ljust(25, b"0")))
    assert longer.card_number.reveal() == "T0000001X" + "0" * 16


def test_a_card_number_with_a_wrong_check_character_passes() -> None:
    assert SocialSecurityCard().read_identity(_with(0xEF05, 0x07, b"T00000010")).card_number.reveal() == "T00000010"


@pytest.mark.parametrize(
    "name", [b"\xff\x41" * 15, b"\x00" * 30, b"\x1b" * 30], ids=["broken", "blank", "control characters alone"]
)
def test_a_bad_name_is_noted_and_stops_nothing(name: bytes) -> None:
    identity = SocialSecurityCard().read_identity(_with(0xEF06, 0x09, name))
    assert (identity.name.reveal(), identity.unreadable_fields) == ("", ("name",))
    assert identity.social_security_number.reveal() == _chip().data.social_security_number


@pytest.mark.parametrize("status", [b"\x69\x81", b"\x6a\x83", b"\x6f\x00"])
def test_a_name_that_is_refused_stops_nothing(status: bytes) -> None:
    def answer(apdu: bytes, proper: bytes) -> bytes:
        return status if apdu[1] == 0xB2 and (proper[:1] == b"\x09" or apdu[2] == 0x09 or apdu[4] == 0x20) else proper

    identity = SocialSecurityCard().read_identity(DirectLink(Answering(_chip(), answer)))
    assert identity.unreadable_fields == ("name",)


@pytest.mark.parametrize(
    ("version", "status", "reason"),
    [
        ("2.00", b"\x69\x82", Reason.CARD_NEEDS_AUTHENTICATION),
        ("2.00", b"\x69\x81", Reason.CARD_MALFORMED),
        ("2.00", b"\x6a\x83", Reason.CARD_MALFORMED),
        ("3.00", b"\x69\x85", Reason.CARD_NEEDS_AUTHENTICATION),
        ("3.00", b"\x69\x88", Reason.CARD_NEEDS_AUTHENTICATION),
        ("3.00", b"\x6a\x83", Reason.CARD_NEEDS_AUTHENTICATION),
        ("3.00", b"\x6f\x00", Reason.CARD_MALFORMED),
    ],
)
def test_how_a_refused_number_is_understood(version: str, status: bytes, reason: Reason) -> None:
    def answer(apdu: bytes, proper: bytes) -> bytes:
        return status if apdu[1] == 0xB2 and apdu[2] in {0x07, 0x08} else proper

    chip = SimulatedCard(replace(_chip().data, version=version))
    assert _reason(DirectLink(Answering(chip, answer))) is reason


@pytest.mark.parametrize("status", [b"\x6a\x82", b"\x6d\x00", b"\x6e\x00", b"\x6a\x86"])
def test_other_cards(status: bytes) -> None:
    assert _reason(AnswersLink(status)) is Reason.NOT_A_SOCIAL_SECURITY_CARD


def test_an_unknown_status_word_is_told() -> None:
    with pytest.raises(YikatongError) as caught:
        SocialSecurityCard().read_identity(AnswersLink(b"\x95\x27"))
    assert (caught.value.reason, caught.value.facts) == (Reason.CARD_MALFORMED, {"sw": "9527"})


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (b"\x90\x00", PinRight()),
        (b"\x63\xc2", PinWrong(2)),
        (b"\x63\xc0", PinBlocked()),
        (b"\x69\x83", PinBlocked()),
        (b"\x6c\x03", PinUnclear(Reason.CARD_MALFORMED, "6C03")),
        (b"\x61\x03", PinUnclear(Reason.CARD_MALFORMED, "6103")),
        (b"\x6f\x00", PinUnclear(Reason.CARD_MALFORMED, "6F00")),
        (b"", PinUnclear(Reason.CARD_MUTE)),
        (b"\x90", PinUnclear(Reason.CARD_MALFORMED)),
    ],
)
def test_the_pin_goes_to_the_card_once(status: bytes, expected: PinAnswer) -> None:
    link = AnswersLink(*ENTRY, status)
    with pin("123456") as typed:
        assert SocialSecurityCard().verify_pin(link, typed) == expected
    assert [apdu for apdu in link.sent if apdu[1] == 0x20] == [bytes.fromhex("0020000003123456")]


@pytest.mark.parametrize("reason", [Reason.CARD_REMOVED, Reason.READER_FAILED, Reason.PCSCD_NOT_RUNNING])
def test_a_pin_that_is_out_when_the_link_fails_is_unclear(reason: Reason) -> None:
    class Failing(AnswersLink):
        def transmit(self, apdu: bytes | bytearray) -> bytes:
            answer = super().transmit(apdu)
            if apdu[1] == 0x20:
                raise YikatongError(reason)
            return answer

    link = Failing(*ENTRY)
    with pin() as typed:
        assert SocialSecurityCard().verify_pin(link, typed) == PinUnclear(reason)
    assert [apdu[1] for apdu in link.sent].count(0x20) == 1


def test_a_link_that_fails_before_the_pin_is_out_raises() -> None:
    with pytest.raises(YikatongError, match="CARD_REMOVED"), pin() as typed:
        SocialSecurityCard().verify_pin(AnswersLink(), typed)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"\x90\x00", PinRight()),
        (b"\x63\xc1", PinWrong(1)),
        (b"\x69\x83", PinBlocked()),
        (b"", PinUnclear(Reason.CARD_MUTE)),
    ],
)
def test_what_keys_of_a_reader_bring_back(answer: bytes, expected: PinAnswer) -> None:
    document, link = SocialSecurityCard(), AnswersLink(*ENTRY)
    assert document.pin_command(link) == bytes.fromhex("00200000")
    assert [apdu[1] for apdu in link.sent] == [0xA4], "it has entered the environment, and no more"
    assert document.pin_answer(answer) == expected


@pytest.mark.parametrize(
    ("status", "left"), [("63C5", 5), ("63C0", 0), ("6983", 0), ("9000", None), ("6700", None), ("6A86", None)]
)
def test_what_a_card_says_without_a_pin(status: str, left: int | None) -> None:
    link = AnswersLink(*ENTRY, bytes.fromhex(status))
    assert SocialSecurityCard().pin_tries_left(link) == left
    assert link.sent[-1] == bytes.fromhex("00200000")


@pytest.mark.parametrize(
    ("without_pin", "told", "left"),
    [(WithoutPin.REFUSES, None, 6), (WithoutPin.TELLS, 6, 6), (WithoutPin.COUNTS, 5, 5)],
)
def test_what_simulated_cards_do_without_a_pin(without_pin: WithoutPin, told: int | None, left: int) -> None:
    chip = SimulatedCard(find("works").data, without_pin=without_pin)
    document = SocialSecurityCard()
    assert document.pin_tries_left(DirectLink(chip)) == told
    assert chip.security.tries_left == left
    chip.security.tries_left = 0
    assert document.pin_tries_left(DirectLink(chip)) == (None if without_pin is WithoutPin.REFUSES else 0)


@pytest.mark.parametrize(
    ("digits", "body"), [("1234", "021234"), ("12345", "0312345F"), ("1234567890123456", "081234567890123456")]
)
def test_pins_of_other_lengths(digits: str, body: str) -> None:
    link = AnswersLink(*ENTRY, b"\x90\x00")
    with pin(digits) as typed:
        SocialSecurityCard().verify_pin(link, typed)
    assert link.sent[-1].hex().upper() == "00200000" + body


def test_the_command_with_the_pin_is_wiped() -> None:
    kept: list[bytes | bytearray] = []

    class Keeping(AnswersLink):
        def transmit(self, apdu: bytes | bytearray) -> bytes:
            kept.append(apdu)
            return super().transmit(apdu)

    with pin("123456") as typed:
        SocialSecurityCard().verify_pin(Keeping(*ENTRY, b"\x90\x00"), typed)
    assert kept[-1] == bytes(8)


def test_the_budget_of_a_link_holds_over_all_that_is_done_with_it() -> None:
    link = DirectLink(_chip())
    document = SocialSecurityCard()
    document.read_identity(link)
    for _ in range(400 // len(link.sent) - 1):
        document.read_identity(link)
    with pytest.raises(YikatongError) as caught:
        document.read_identity(link)
    assert (caught.value.reason, caught.value.facts) == (Reason.CARD_MALFORMED, {"commands": 400})
    assert len(link.sent) == 400
    document.read_identity(DirectLink(_chip()))


def test_a_link_is_not_kept_alive() -> None:
    link = DirectLink(_chip())
    document = SocialSecurityCard()
    document.read_identity(link)
    gone = weakref.ref(link)
    del link
    assert gone() is None


class _Turned:
    """A link behind which the card can be changed without anybody noticing."""

    def __init__(self, card: PretendCard) -> None:
        self.link: CardLink = DirectLink(card)
        self.atr = self.link.atr

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        return self.link.transmit(apdu)


@pytest.mark.parametrize("key", ["works", "first-generation", "third-generation"])
def test_the_card_that_was_read_is_recognised_in_its_session_alone(key: str) -> None:
    document, card = SocialSecurityCard(), find(key).make()
    link = DirectLink(card)
    identity = document.read_identity(link)
    document.recognise(link, identity)
    with pin() as typed:
        document.verify_pin(link, typed)
    document.recognise(link, identity)
    card.reset()
    with pytest.raises(YikatongError) as caught:
        document.recognise(link, identity)
    assert caught.value.reason is Reason.CARD_REMOVED
    card.power_off()
    with pytest.raises(YikatongError) as caught:
        document.recognise(link, identity)
    assert caught.value.reason is Reason.CARD_REMOVED


def test_another_card_in_the_same_state_is_another_card() -> None:
    document, link = SocialSecurityCard(), _Turned(find("works").make())
    identity = document.read_identity(link)
    link.link = DirectLink(find("works-qingdao").make())
    document.read_identity(link)
    with pytest.raises(YikatongError) as caught:
        document.recognise(link, identity)
    assert caught.value.reason is Reason.CARD_CHANGED
