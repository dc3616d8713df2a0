"""The PSAM in the terminal: what is said to it, and what becomes of one that is missing, wrong, dead or hostile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.authentication import GENUINENESS, by_psam, by_psam_of, direct, gated, read, refused
from tests.support.cards import AnswersLink, DirectLink, DirectReader
from yikatong.core.ports import CardLink
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card.psam import PsamAuthenticator, PsamKey
from yikatong.simulators.card import issuer
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import Answering, Mute, always
from yikatong.simulators.card.personalisation import TRIPLE_DES
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.card.security import KEY_TRIES_MAX


def psam_answering(answer: Callable[[bytes, bytes], bytes]) -> PsamAuthenticator:
    return by_psam(direct(Answering(issuer.psam(), answer)))


def to(instruction: int, answer: str) -> Callable[[bytes, bytes], bytes]:
    told = bytes.fromhex(answer)
    return lambda apdu, proper: told if apdu[1] == instruction else proper


class _Empty:
    def __call__(self) -> CardLink:
        raise YikatongError(self.reason, "as the reader says", device="reader")

    def __init__(self, reason: Reason) -> None:
        self.reason = reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Reason.NO_CARD, Reason.NO_PSAM),
        (Reason.NO_READER, Reason.NO_PSAM),
        (Reason.CARD_MUTE, Reason.PSAM_FAILED),
        (Reason.CARD_REMOVED, Reason.PSAM_FAILED),
        (Reason.READER_FAILED, Reason.PSAM_FAILED),
        (Reason.DEVICE_BUSY, Reason.DEVICE_BUSY),
        (Reason.PCSCD_NOT_RUNNING, Reason.PCSCD_NOT_RUNNING),
    ],
)
async def test_a_psam_that_is_not_there(said: Reason, reason: Reason) -> None:
    authenticator = by_psam(DirectReader(_Empty(said), "the PSAM's"))
    card = gated()
    error = await refused(DirectLink(card), authenticator)
    assert (error.reason, error.facts) == (reason, {"device": "reader", "reader": "the PSAM's"})
    assert error.detail.startswith("PSAM: ")
    assert card.security.key_tries == {}
    with pytest.raises(YikatongError, match=reason.value):
        await authenticator.check()


@pytest.mark.parametrize(
    ("psam", "reason"),
    [
        (lambda: Mute(issuer.psam()), Reason.PSAM_FAILED),
        (lambda: find("works").make(), Reason.PSAM_UNSUITABLE),
        (lambda: Answering(issuer.psam(), always(b"\x6d\x00")), Reason.PSAM_UNSUITABLE),
        (lambda: Answering(issuer.psam(), always(b"\x90")), Reason.PSAM_FAILED),
        (lambda: Answering(issuer.psam(), always(bytes(5000))), Reason.PSAM_FAILED),
        (lambda: Answering(issuer.psam(), to(0xDE, "6A88")), Reason.PSAM_UNSUITABLE),
        (lambda: Answering(issuer.psam(), to(0xDE, "6982")), Reason.PSAM_UNSUITABLE),
        (lambda: Answering(issuer.psam(), to(0xDE, "9527")), Reason.PSAM_UNSUITABLE),
        (lambda: Answering(issuer.psam(), to(0xFA, "6985")), Reason.PSAM_UNSUITABLE),
        (lambda: Answering(issuer.psam(), to(0xFA, "9000")), Reason.PSAM_FAILED),
        (lambda: Answering(issuer.psam(), to(0xC0, "11223344" + "9000")), Reason.PSAM_FAILED),
        (lambda: Answering(issuer.psam(), to(0xC0, "0000000000000000" + "6108")), Reason.PSAM_FAILED),
    ],
    ids=str,
)
async def test_a_psam_that_is_wrong_or_hostile(psam: Callable[[], PretendCard], reason: Reason) -> None:
    card = gated()
    error = await refused(DirectLink(card), by_psam(direct(psam())))
    assert error.reason is reason
    assert card.security.key_tries == {}


async def test_a_psam_that_waits_to_be_authorised_says_so() -> None:
    error = await refused(DirectLink(gated()), psam_answering(to(0xDE, "6982")))
    assert "authorised" in error.detail
    assert (error.facts["psam_key"], error.facts["sw"]) == (str(GENUINENESS), "6982")


async def test_a_psam_that_lies_costs_the_card_one_try() -> None:
    card = gated()
    authenticator = PsamAuthenticator(direct(Answering(issuer.psam(), to(0xC0, "1122334455667788" + "9000"))))
    error = await refused(DirectLink(card), authenticator)
    assert (error.reason, error.facts["tries_left"]) == (Reason.CARD_AUTHENTICATION_REFUSED, KEY_TRIES_MAX - 1)


@pytest.mark.parametrize("form", ["00A40400", "00A40400|00A40000"])
async def test_other_ways_to_select_the_application(form: str) -> None:
    refuse = tuple(map(bytes.fromhex, form.split("|")))
    authenticator = psam_answering(lambda apdu, proper: b"\x6a\x82" if apdu.startswith(refuse) else proper)
    assert await read(DirectLink(gated()), authenticator) == gated().data.card_number


async def test_the_psam_is_powered_for_each_use() -> None:
    powered: list[DirectLink] = []

    def link() -> CardLink:
        powered.append(DirectLink(issuer.psam()))
        return powered[-1]

    await read(DirectLink(gated()), by_psam(DirectReader(link)))
    assert [[command[1] for command in used.sent] for used in powered] == [[0xA4, 0xDE, 0xFA, 0xC0]] * 2


@pytest.mark.parametrize(
    ("key", "levels", "length"), [("2701", 1, 0x10), ("470A", 2, 0x18), ("480a", 2, 0x18), ("672D", 3, 0x20)]
)
async def test_the_levels_of_a_psams_key(key: str, levels: int, length: int) -> None:
    parsed = PsamKey.parse(key)
    assert (parsed.levels, str(parsed)) == (levels, key.upper())
    link = AnswersLink(b"\x90\x00", b"\x6a\x88")  # to the select, and to everything else
    authenticator = PsamAuthenticator(DirectReader(lambda: link), reading=parsed)
    assert (await refused(DirectLink(gated()), authenticator)).reason is Reason.PSAM_UNSUITABLE
    command = link.sent[-1]
    assert command[:5] == bytes((0xBF, 0xDE, parsed.usage, parsed.id, length))
    assert len(command) == 5 + length
    region, atr = gated().data.issuing_region, gated().data.atr
    parts = (atr[-8:], region.encode() + b"\x73\x78", region[:2].encode() + b"0000\x73\x68")
    assert command[5:-8] == b"".join(parts[:levels])


@pytest.mark.parametrize("text", ["", "470", "470A0", "070A", "870A", "47ZZ", "１70A"])
def test_what_is_no_key_of_a_psam(text: str) -> None:
    with pytest.raises(ValueError, match="levels"):
        PsamKey.parse(text)


async def test_the_psams_check() -> None:
    assert await by_psam_of(TRIPLE_DES).check() == "370000000001"
    assert await psam_answering(to(0xB0, "6A82")).check() == "", "its number is not needed"
    assert await psam_answering(to(0xB0, "3700000000FF9000")).check() == ""
    lacking = PsamAuthenticator(direct(issuer.psam()), reading=PsamKey.parse("470A"), genuineness=PsamKey.parse("4855"))
    with pytest.raises(YikatongError) as caught:
        await lacking.check()
    assert (caught.value.reason, caught.value.facts["psam_key"]) == (Reason.PSAM_UNSUITABLE, "4855")
