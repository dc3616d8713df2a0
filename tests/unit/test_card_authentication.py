"""Authentication of cards, both ways: what is said to the card and to whoever has keys, and what each answer means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support import ciphers
from tests.support.authentication import Centre, by_centre, by_psam_of, direct, gated, read, refused
from tests.support.cards import AnswersLink, DirectLink, DirectVisit, pin
from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import CardQuestion
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import Authenticator, CardAtHand, SocialSecurityCard
from yikatong.drivers.card.centre import CentreAuthenticator
from yikatong.drivers.card.psam import PsamAuthenticator
from yikatong.simulators.card import issuer
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import Answering
from yikatong.simulators.card.personalisation import SM4, SSF33, TRIPLE_DES
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.card.security import KEY_RKSSSE, KEY_TRIES_MAX, Remembers

WAYS: dict[str, Callable[[], Authenticator]] = {"psam": lambda: by_psam_of(TRIPLE_DES), "centre": by_centre}


def sent(link: DirectLink | AnswersLink, *instructions: int) -> list[int]:
    """Which of these instructions were sent, in their order."""
    return [command[1] for command in link.sent if command[1] in instructions]


def answering(status: str, instruction: int, card: PretendCard | None = None) -> DirectLink:
    """A card that answers so to one instruction."""
    told = bytes.fromhex(status)
    return DirectLink(Answering(card or gated(), lambda apdu, proper: told if apdu[1] == instruction else proper))


# --- what is read with authentication, and what without -------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_gated_card_is_proved_opened_and_read_in_one_session(way: str) -> None:
    link = DirectLink(gated())
    assert await read(link, WAYS[way]()) == gated().data.card_number
    challenges = 1 if way == "psam" else 2
    assert sent(link, 0x88, 0x84, 0x82) == [0x88, *[0x84] * challenges, 0x82]
    assert [command[2:4] for command in link.sent if command[1] == 0xA4].count(b"\x04\x00") == 1, "entered once"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", ["works", "third-generation"])
async def test_a_card_that_reads_freely_is_not_authenticated(way: str, key: str) -> None:
    link = DirectLink(find(key).make())
    assert await read(link, WAYS[way]()) == find(key).data.card_number
    assert sent(link, 0x88, 0x84, 0x82) == []


@pytest.mark.parametrize("way", WAYS)
async def test_where_every_card_must_prove_itself_none_is_asked_to_open(way: str) -> None:
    link = DirectLink(find("works").make())
    assert await read(link, WAYS[way](), every_card=True) == find("works").data.card_number
    assert sent(link, 0x88, 0x84, 0x82) == [0x88]
    copy = SimulatedCard(find("works").data)
    assert (await refused(DirectLink(copy), WAYS[way](), every_card=True)).reason is Reason.CARD_NOT_GENUINE


async def test_without_an_authenticator_a_gated_card_is_refused_by_name() -> None:
    error = await refused(DirectLink(gated()), None)
    assert (error.reason, error.facts) == (
        Reason.CARD_NEEDS_AUTHENTICATION,
        {"item": "card_number", "sw": "6982"},
    )


async def test_authentication_is_tried_once() -> None:
    class Useless:
        times = 0

        async def authenticate(self, card: CardAtHand, *, opening: bool) -> None:
            self.times += 1

    useless = Useless()
    assert (await refused(DirectLink(gated()), useless)).reason is Reason.CARD_NEEDS_AUTHENTICATION
    assert useless.times == 1


async def test_the_pin_takes_no_right_away_and_a_card_that_lost_its_rights_is_not_recognised() -> None:
    document, card = SocialSecurityCard(authenticator=by_centre()), gated()
    link = DirectLink(card)
    identity = await document.read(DirectVisit(link))
    document.recognise(link, identity)
    with pin() as typed:
        document.verify_pin(link, typed)
    document.recognise(link, identity)
    link.transmit(bytes.fromhex("00A404000F7378312E73682EC9E7BBE1B1A3D5CF"))
    with pytest.raises(YikatongError) as caught:
        document.recognise(link, identity)
    assert caught.value.reason is Reason.CARD_REMOVED


# --- the two challenges ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remembers", Remembers)
@pytest.mark.parametrize("last", [True, False])
async def test_either_order_of_the_challenges(remembers: Remembers, last: bool) -> None:
    card = gated()
    card.security.remembers = remembers
    if last is (remembers is Remembers.LAST):
        assert await read(DirectLink(card), by_centre(last=last)) == card.data.card_number
    else:
        error = await refused(DirectLink(card), by_centre(last=last))
        assert (error.reason, error.facts["tries_left"]) == (Reason.CARD_AUTHENTICATION_REFUSED, KEY_TRIES_MAX - 1)


# --- genuine or not -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_forged_card_is_found_out_before_anything_is_given_to_it(way: str) -> None:
    link = DirectLink(find("forged").make())
    assert (await refused(link, WAYS[way]())).reason is Reason.CARD_NOT_GENUINE
    assert sent(link, 0x82) == []


async def test_a_psam_without_a_key_for_it_finds_no_forged_card_out() -> None:
    """No source names that key: without it a card is taken that takes everything. The manual says so."""
    link = DirectLink(find("forged").make())
    assert await read(link, PsamAuthenticator(direct(issuer.psam()))) == find("forged").data.card_number
    assert sent(link, 0x88) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", ["6985", "6A88", "6D00", "6300"])
async def test_a_card_that_proves_nothing_is_not_genuine(way: str, status: str) -> None:
    error = await refused(answering(status, 0x88), WAYS[way]())
    assert (error.reason, error.facts) == (Reason.CARD_NOT_GENUINE, {"sw": status})


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("status", "reason", "facts"),
    [
        ("63C2", Reason.CARD_AUTHENTICATION_REFUSED, {"sw": "63C2", "tries_left": 2}),
        ("63C0", Reason.CARD_AUTHENTICATION_BLOCKED, {"sw": "63C0", "tries_left": 0}),
        ("6983", Reason.CARD_AUTHENTICATION_BLOCKED, {"sw": "6983", "tries_left": 0}),
        ("6300", Reason.CARD_AUTHENTICATION_REFUSED, {"sw": "6300"}),
        ("6984", Reason.CARD_AUTHENTICATION_REFUSED, {"sw": "6984"}),
        ("6A88", Reason.CARD_AUTHENTICATION_REFUSED, {"sw": "6A88"}),
        ("6C10", Reason.CARD_AUTHENTICATION_REFUSED, {"sw": "6C10"}),
        ("6110", Reason.CARD_AUTHENTICATION_REFUSED, {"sw": "6110"}),
        ("9527", Reason.CARD_AUTHENTICATION_REFUSED, {"sw": "9527"}),
    ],
)
async def test_the_cryptogram_goes_to_the_card_once(
    way: str, status: str, reason: Reason, facts: dict[str, object]
) -> None:
    link = answering(status, 0x82)
    error = await refused(link, WAYS[way]())
    assert (error.reason, error.facts) == (reason, facts)
    assert sent(link, 0x82) == [0x82]


@pytest.mark.parametrize("way", WAYS)
async def test_a_card_that_has_refused_is_not_tried_again(way: str) -> None:
    """Wrong keys cost each card one try, however often it is inserted; other cards are not held up by that."""
    document = SocialSecurityCard(authenticator=WAYS[way]())
    card = gated()
    card.security.keys[KEY_RKSSSE] = bytes(16)
    told = []
    for _ in range(3):
        card.reset()
        with pytest.raises(YikatongError) as caught:
            await document.read(DirectVisit(DirectLink(card)))
        told.append((caught.value.reason, caught.value.facts.get("tries_left")))
    once, again = (Reason.CARD_AUTHENTICATION_REFUSED, KEY_TRIES_MAX - 1), (Reason.CARD_AUTHENTICATION_REFUSED, None)
    assert told == [once, again, again]
    assert card.security.key_tries == {KEY_RKSSSE: KEY_TRIES_MAX - 1}
    other = SimulatedCard(replace(card.data, serial=bytes.fromhex("00000777")))
    issuer.personalise(other)
    assert (await document.read(DirectVisit(DirectLink(other)))).card_number.reveal() == other.data.card_number


async def test_what_is_not_the_cards_refusal_may_be_tried_again() -> None:
    document, card = SocialSecurityCard(authenticator=by_centre()), find("forged").make()
    for _ in range(2):
        with pytest.raises(YikatongError) as caught:
            await document.read(DirectVisit(DirectLink(card)))
        assert caught.value.reason is Reason.CARD_NOT_GENUINE


# --- algorithms -----------------------------------------------------------------------------------------------------


async def test_sm4_as_it_is_assumed() -> None:
    assert await read(DirectLink(gated(SM4)), by_centre()) == gated(SM4).data.card_number
    assert await read(DirectLink(gated(SM4)), by_psam_of(SM4)) == gated(SM4).data.card_number


@pytest.mark.parametrize("way", WAYS)
async def test_ssf33_is_refused_by_name_before_anything_is_asked(way: str) -> None:
    assert find("gated-ssf33").data.algorithm == SSF33
    link = DirectLink(find("gated-ssf33").make())
    error = await refused(link, WAYS[way]())
    assert (error.reason, error.facts) == (Reason.CARD_ALGORITHM_UNSUPPORTED, {"algorithm": "SSF33"})
    assert sent(link, 0x88, 0x84, 0x82) == []


async def test_a_card_of_an_algorithm_that_the_psam_has_not_keeps_its_tries() -> None:
    psam = direct(issuer.psam())
    authenticator = PsamAuthenticator(psam, algorithms=frozenset({CardAlgorithm.TRIPLE_DES}))
    link = DirectLink(gated(SM4))
    assert (await refused(link, authenticator)).reason is Reason.PSAM_UNSUITABLE
    assert sent(link, 0x84, 0x82) == []


# --- what is asked of the centre ------------------------------------------------------------------------------------


async def test_what_the_centre_is_told() -> None:
    centre, card = Centre(), gated()
    link = DirectLink(card)
    await read(link, CentreAuthenticator(centre))
    (question,) = centre.asked
    assert question.algorithm is CardAlgorithm.TRIPLE_DES
    assert question.historical_bytes == card.data.atr[4:]
    assert question.identification_code.reveal() == card.data.identification_code
    own = ciphers.card_key("3DES", issuer.MASTERS[TRIPLE_DES].irk, card.data.atr[4:], card.data.issuing_region, 2)
    proof = question.proof
    assert proof.answer == ciphers.cryptogram("3DES", own, proof.factor, proof.data)
    assert proof.factor != proof.data
    assert question.challenge is not None
    assert link.sent[link.sent.index(next(c for c in link.sent if c[1] == 0x82))][-8:] == question.challenge.data


@pytest.mark.parametrize(
    "reason", [Reason.GATEWAY_UNREACHABLE, Reason.NO_CARD_KEY, Reason.HSM_UNAVAILABLE, Reason.TOO_MANY_AUTHENTICATIONS]
)
async def test_where_the_centre_does_not_answer_the_card_is_left_as_it_is(reason: Reason) -> None:
    class Refusing:
        async def authenticate(self, question: CardQuestion) -> bytes:
            raise YikatongError(reason, "no")

        async def check(self) -> None:
            raise YikatongError(reason, "no")

    card = gated()
    link = DirectLink(card)
    authenticator = CentreAuthenticator(Refusing())
    assert (await refused(link, authenticator)).reason is reason
    assert sent(link, 0x82) == []
    assert card.security.key_tries == {}
    with pytest.raises(YikatongError, match=reason.value):
        await authenticator.check()
    assert await read(DirectLink(card), by_centre()) == card.data.card_number


async def test_the_centres_check_tells_nothing_where_all_is_well() -> None:
    assert await by_centre().check() == ""


# --- answers that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("answer", "instruction"),
    [
        (
            "1122334455667790" + "9000",
            0xC0,
        ),  # as the answer to GET RESPONSE it would be right, but it stands for the FCI
        ("9000", 0x84),
        ("112233445566779000", 0x84),
        ("6985", 0x84),
        ("6D00", 0x84),
        ("9000", 0x88),
        ("11223344556677" + "9000", 0x88),
        ("112233445566778899" + "9000", 0x88),
    ],
)
async def test_hostile_cards(way: str, answer: str, instruction: int) -> None:
    assert (await refused(answering(answer, instruction), WAYS[way]())).reason is Reason.CARD_MALFORMED


async def test_a_card_that_repeats_its_challenge() -> None:
    link = answering("A1A2A3A4A5A6A7A8" + "9000", 0x84)
    assert (await refused(link, by_centre())).reason is Reason.CARD_MALFORMED
    assert sent(link, 0x82) == []


@pytest.mark.parametrize("way", WAYS)
async def test_an_atr_of_which_no_key_can_be_made(way: str) -> None:
    link = DirectLink(gated())
    link.atr = bytes.fromhex("3B6400008132DF66")
    assert (await refused(link, WAYS[way]())).reason is Reason.CARD_MALFORMED
    link = DirectLink(gated())
    link.atr = bytes.fromhex("3B6D0000")
    assert (await refused(link, WAYS[way]())).reason is Reason.CARD_MALFORMED
