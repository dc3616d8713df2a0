"""A recording is another card of the same kind: the driver reads an invented person from it, in the same commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.authentication import by_centre
from tests.support.cards import pin
from tests.support.personal import found_in, secrets_of
from tests.support.profiles import PROFILES
from tests.support.recordings import lines, recorded, written
from tests.support.tracing import exchanges, on_link, read
from yikatong.core.card import CardIdentity
from yikatong.core.ports import CardLink, CardVisit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.trace import CardPowered
from yikatong.drivers.card import SocialSecurityCard
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import DECK, find
from yikatong.simulators.card.manners import Answering, Mute, PulledAt
from yikatong.simulators.card.numbers import social_security_number
from yikatong.simulators.card.personalisation import CardData
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.card.recording import load
from yikatong.simulators.card.replay import ReplayedCard

GB_11714 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@on_link
def verify(link: CardLink) -> None:
    SocialSecurityCard().verify_pin(link, pin("123456"))


def outcome(given: Any) -> Any:
    """Of a job, but for who it was."""
    if isinstance(given, YikatongError):
        return given.reason, given.facts
    if isinstance(given, CardIdentity):
        return (
            given.spec_version,
            given.algorithm,
            given.unreadable_fields,
            given.issuing_region,
            len(given.name.reveal()),
        )
    return given


def sent(events: list[Any]) -> list[tuple[Any, ...]]:
    """The exchanges, but for their time and what they hold."""
    return [
        (event.header, event.recorded.command, event.answer_length, event.status, event.failure)
        for event in exchanges(events)
    ]


async def _once_more(tmp_path: Path, card: PretendCard) -> tuple[Any, Any, list[Any], list[Any], list[str]]:
    events, (given,) = await recorded([(card, [read, verify])])
    told: list[str] = []
    (only,) = load(written(tmp_path / "recording", lines(events))).cards
    again, (given_again,) = await recorded([(ReplayedCard(only, lambda zh, en: told.append(en)), [read, verify])])
    return given, given_again, events, again, told


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.key)
async def test_every_profile_is_read_as_another_person(tmp_path: Path, profile: Any) -> None:
    given, again, events, played, told = await _once_more(tmp_path, profile.make())
    assert [outcome(thing) for thing in again] == [outcome(thing) for thing in given]
    assert sent(played) == sent(events)
    assert told == []
    real, invented = given[0], again[0]
    for value in ("name", "card_number", "social_security_number", "identification_code"):
        assert getattr(invented, value).reveal() != getattr(real, value).reveal()
    assert len(invented.name.reveal().encode("gb18030")) == len(real.name.reveal().encode("gb18030"))
    number = invented.social_security_number
    assert number.check_ok
    assert number.reveal().startswith("990001")
    assert invented.atr[-4:] == invented.identification_code.reveal()[8:12]
    assert invented.atr[:11] == real.atr[:11]
    assert found_in([(tmp_path / "recording").read_bytes()], secrets_of(profile.data)) == set()


@pytest.mark.parametrize("card", DECK, ids=lambda card: card.key)
async def test_every_card_of_the_deck_fails_or_reads_as_it_did(tmp_path: Path, card: Any) -> None:
    given, again, events, played, told = await _once_more(tmp_path, card.make())
    assert [outcome(thing) for thing in again] == [outcome(thing) for thing in given]
    assert sent(played) == sent(events)
    assert told == []
    assert found_in([(tmp_path / "recording").read_bytes()], secrets_of(card.data)) == set()


def _with(**values: Any) -> PretendCard:
    return SimulatedCard(replace(find("works").data, **values))


def _named(end: bytes, extension: bytes) -> PretendCard:
    """A name of 30 bytes that ends so, and goes on so."""
    name = ("甲" * 14).encode("gb18030") + end
    return _with(replaced={(0xEF06, 0x09): name, (0xEF06, 0x4E): extension})


@pytest.mark.parametrize(
    "card",
    [
        _with(replaced={(0xEF06, 0x08): b"990001199001010010"}),
        _with(replaced={(0xEF06, 0x08): b"no number at all!!"}),
        _with(replaced={(0xEF06, 0x08): b"99000119700101"}),
        _with(replaced={(0xEF05, 0x07): b"T0000001X".ljust(25, b"0")}),
        _with(replaced={(0xEF05, 0x07): b"lower-case"}),
        _with(replaced={(0xEF05, 0x01): bytes(8)}),
        _with(replaced={(0xEF05, 0x01): b"\xab" * 16}),
        _with(replaced={(0xEF05, 0x03): b"x.yz"}),
        _with(replaced={(0xEF05, 0x05): bytes.fromhex("20251301")}),
        _with(replaced={(0xEF05, 0x06): b"\xff" * 4}),
        _with(replaced={(0xEF05, 0x06): bytes(4)}),
        _with(replaced={(0xEF05, 0x06): bytes(3)}),
        _with(replaced={(0xEF06, 0x09): b""}),
        _with(replaced={(0xEF06, 0x09): b"A"}),
        _named(b"A\xb2", b"\xe2".ljust(20, b"\0")),
        _named(b"A\xb2", b"\x07".ljust(20, b"\0")),
        _named(b"A\xb2", bytes(20)),
        _with(replaced={(0xEF06, 0x09): "甲\u200b乙".encode("gb18030").ljust(30, b"\0")}),
        _named(b"\x95\x32", b"\x82\x36AB".ljust(20, b"\xff")),
        _named(b"A\x95", b"\x32".ljust(20, b"\0")),
        _with(raw={(0xEF06, 0x08): b"\x08"}),
        _with(raw={(0xEF06, 0x08): b""}),
        _with(raw={(0xEF06, 0x08): b"\x09\x02AB"}),
        _with(missing=frozenset({(0xEF05, 0x06)})),
        Answering(_with(), lambda apdu, proper: b"\x6f\x05\x84\x10abc\x90\x00" if apdu[1] == 0xC0 else proper),
        Answering(_with(), lambda apdu, proper: b"\x6f\x04\x9f\x0c\x01\x07\x90\x00" if apdu[1] == 0xC0 else proper),
    ],
)  # fmt: skip
async def test_what_is_odd_stays_odd_in_the_same_way(tmp_path: Path, card: PretendCard) -> None:
    given, again, events, played, told = await _once_more(tmp_path, card)
    assert [outcome(thing) for thing in again] == [outcome(thing) for thing in given]
    assert sent(played) == sent(events)
    assert told == []


async def test_half_a_status_word_is_played_as_silence(tmp_path: Path) -> None:
    card = Answering(_with(), lambda apdu, proper: b"\x90" if apdu[1] == 0xB2 else proper)
    given, again, events, _, _ = await _once_more(tmp_path, card)
    assert [thing.reason for thing in (given[0], again[0])] == [Reason.CARD_MALFORMED, Reason.CARD_MUTE]
    assert exchanges(events)[-1].failure is None
    assert Reason.CARD_MALFORMED in {event.failure for event in exchanges(events)}


async def test_one_person_is_one_person_in_a_recording_and_another_in_the_next(tmp_path: Path) -> None:
    del tmp_path

    async def people() -> list[str]:
        cards = [find("works"), find("works-yantai"), find("works")]
        events, _ = await recorded([(card.make(), [read]) for card in cards])
        powered = [event.atr.hex() for event in events if isinstance(event, CardPowered)]
        held = "".join(event.recorded.answer.hex() for event in exchanges(events) if event.recorded)
        return [*powered, held]

    first, second, third, held = await people()
    assert first == third != second
    others = await people()
    assert others[0] != first
    assert others[3] != held


async def test_birth_date_and_number_agree_and_card_numbers_check(tmp_path: Path) -> None:
    del tmp_path
    every = [bytes.fromhex(f"00B2{tag:02X}28{length:02X}") for tag, length in ((1, 18), (2, 3), (4, 14), (7, 11))]
    holder = [(8, 20), (9, 32), (0x0A, 3), (0x0B, 3), (0x0C, 5), (0x0D, 6)]
    every += [bytes.fromhex(f"00B2{tag:02X}30{length:02X}") for tag, length in holder]

    @on_link
    def all_items(link: CardLink) -> None:
        link.transmit(bytes.fromhex("00A404000F7378312E73682EC9E7BBE1B1A3D5CF"))
        for command in every:
            assert link.transmit(command)[-2:] == b"\x90\x00"

    events, _ = await recorded([(find("works").make(), [all_items])])
    values = {
        event.recorded.answer[0]: event.recorded.answer[2:-2] for event in exchanges(events)[1:] if event.recorded
    }
    number = values[0x08].decode()
    assert values[0x0D].hex() == number[6:14]
    assert values[0x0C].hex() == number[:6]
    assert values[0x0A] == b"1"
    assert int(number[16]) % 2 == 1
    assert social_security_number(number[:17]) == number
    assert values[0x02] == b"3"
    assert values[0x04].hex()[16:] == "ffffffff"
    assert values[0x04] != bytes.fromhex("9900010000000000FFFFFFFF")
    card_number = values[0x07].decode()
    weighed = sum(
        weight * GB_11714.index(char) for weight, char in zip((3, 7, 9, 10, 5, 8, 4, 2), card_number, strict=False)
    )
    assert card_number[8] == {10: "X", 11: "0"}.get(11 - weighed % 11, str(11 - weighed % 11))


async def test_strangers_become_fill_and_it_is_said(tmp_path: Path) -> None:
    @on_link
    def strange(link: CardLink) -> None:
        link.transmit(bytes.fromhex("00A4040006D15600000503"))
        link.transmit(bytes.fromhex("00A4000002EF08"))
        assert link.transmit(bytes.fromhex("00B201441C"))[2] == 0x37
        link.transmit(bytes.fromhex("0084000008"))
        link.transmit(bytes.fromhex("0082000A10") + bytes(16))

    events, _ = await recorded([(find("works").make(), [strange])])
    log, challenge, authentication = exchanges(events)[2:]
    assert log.recorded is not None
    assert log.recorded.answer == b"\xff" * 28 + b"\x90\x00"
    assert log.recorded.left_out
    assert challenge.recorded is not None
    assert not challenge.recorded.left_out
    assert authentication.recorded is not None
    assert authentication.recorded.command == bytes.fromhex("0082000A")
    written_line = lines([authentication])[1]
    assert (written_line["command_length"], "command" in written_line) == (16, False)
    del tmp_path


async def test_a_bank_cards_atr_keeps_its_interface_bytes_and_its_check() -> None:
    bank = bytes.fromhex("3B F8 13 00 00 81 31 FE 45 4A 43 4F 50 76 32 34 31 B7".replace(" ", ""))

    class Bank(Mute):
        atr = bank

    events, _ = await recorded([(Bank(find("works").make()), [read])])
    (powered,) = [event for event in events if isinstance(event, CardPowered)]
    assert powered.atr[:9] == bank[:9]
    assert powered.atr[9:-1] != bank[9:-1]
    check = 0
    for byte in powered.atr[1:]:
        check ^= byte
    assert check == 0
    assert "4A 43" not in powered.zh


@pytest.mark.parametrize(
    "atr", [b"\x3b", b"\x3b\x6d", bytes.fromhex("3BFF"), bytes.fromhex("3B6D000011"), b"\x3b\x01" + bytes(20)]
)
async def test_an_atr_that_is_none_shows_two_bytes_of_itself(atr: bytes) -> None:
    class Odd(Mute):
        @property
        def atr(self) -> bytes:
            return atr

    events, _ = await recorded([(Odd(find("works").make()), [read])])
    (powered,) = [event for event in events if isinstance(event, CardPowered)]
    assert len(powered.atr) == len(atr)
    assert powered.atr[:2] == atr[:2]
    assert powered.zh.count("**") == max(len(atr) - 2, 0)


async def test_a_recorded_card_can_not_prove_that_it_is_genuine(tmp_path: Path) -> None:
    """Its cryptograms are invented: keys can't be guessed from a recording, nor a card be copied."""

    async def ask(visit: CardVisit) -> CardIdentity:
        return await SocialSecurityCard(authenticator=by_centre()).read(visit)

    events, ((genuine,),) = await recorded([(find("third-generation-gated").make(), [ask])])
    assert isinstance(genuine, CardIdentity)
    (card,) = load(written(tmp_path / "recording", lines(events))).cards
    _, ((refused,),) = await recorded([(ReplayedCard(card), [ask])])
    assert refused.reason is Reason.CARD_NOT_GENUINE


# --- playing ---------------------------------------------------------------------------------------------------------


async def test_cards_and_stays_are_kept_apart(tmp_path: Path) -> None:
    visits = [(find(key).make(), [read]) for key in ("works", "expired", "works", "mute")]
    events, given = await recorded(visits)
    recording = load(written(tmp_path / "r", lines(events)))
    assert [len(card.stays) for card in recording.cards] == [2, 1, 1]
    expired = ReplayedCard(recording.cards[1])
    _, ((identity, again),) = await recorded([(expired, [read, read])])
    assert identity.expiry_date[:4] == given[1][0].expiry_date[:4] == "2020"
    assert again.card_number.reveal() == identity.card_number.reveal()


async def test_what_was_not_recorded_is_refused_and_told(tmp_path: Path) -> None:
    events, _ = await recorded([(find("works").make(), [read])])
    told: list[tuple[str, str]] = []
    card = ReplayedCard(load(written(tmp_path / "r", lines(events))).cards[0], lambda zh, en: told.append((zh, en)))
    assert card.execute(bytes.fromhex("0084000008")) == b""  # no power
    card.power_on()
    assert card.execute(bytes.fromhex("0084000008")) == b"\x6d\x00"
    assert card.execute(bytes.fromhex("00A4040006D15600000503")) == b"\x6a\x82"
    assert [en for _, en in told] == [
        "a command that was not recorded: 00 84 00 00",
        "a command that was not recorded: 00 A4 04 00",
    ]
    assert card.execute(bytes.fromhex("00B207040B"))[-2:] == b"\x90\x00"
    assert told[2][1].startswith("in another order than recorded: answered by line ")
    assert told[2][0].startswith("次序与录制不同：按第 ")
    card.power_off()
    assert card.execute(bytes.fromhex("00B207040B")) == b""


async def test_a_card_that_left_leaves_again_and_a_mute_one_is_mute(tmp_path: Path) -> None:
    events, _ = await recorded([(PulledAt(find("works").make(), command=5), [read])])
    (card,) = load(written(tmp_path / "pulled", lines(events))).cards
    _, ((error,),) = await recorded([(ReplayedCard(card), [read])])
    assert error.reason is Reason.CARD_REMOVED
    events, _ = await recorded([(Mute(find("works").make()), [read])])
    (card,) = load(written(tmp_path / "mute", lines(events))).cards
    _, ((error,),) = await recorded([(ReplayedCard(card), [read])])
    assert error.reason is Reason.CARD_MUTE


def test_the_profiles_reach_what_is_hard() -> None:
    """Names split in the middle of a character are among them."""
    assert any("split" in profile.key for profile in PROFILES)
    assert isinstance(PROFILES[0].data, CardData)
