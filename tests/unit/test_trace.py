"""What watchers are told of a card: in words, masked; nothing where nobody watches; never late for the card."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.cards import Replay, damaged, recorded
from tests.support.cards import pin
from tests.support.personal import found_in, pin_of, secrets_of, spread
from tests.support.profiles import PROFILES
from tests.support.tracing import NAME, bench, exchanges, missed, on_link, read, watched
from yikatong.core.ports import CardLink, CardVisit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.trace import CardExchange, CardPowered, Missed
from yikatong.drivers.card import SocialSecurityCard, records
from yikatong.drivers.trace import trace as trace_module
from yikatong.drivers.trace.card_notes import CardNotes
from yikatong.drivers.trace.card_trace import CardTrace
from yikatong.drivers.trace.conversation import Act, Conversation
from yikatong.drivers.trace.invention import Inventor
from yikatong.drivers.trace.observed import _Seen
from yikatong.drivers.trace.trace import WATCHERS_MAX
from yikatong.drivers.trace.wording import of_exchange
from yikatong.simulators.card import issuer
from yikatong.simulators.card.deck import DECK, find
from yikatong.simulators.card.manners import Mute, PulledAt

SELECT = bytes.fromhex("00A404000F") + records.SSSE_AID
VERIFY = bytes.fromhex("0020000003")


@on_link
def verify(link: CardLink) -> None:
    SocialSecurityCard().verify_pin(link, pin("123456"))


@on_link
def select(link: CardLink) -> bytes:
    return link.transmit(SELECT)


async def test_a_read_in_words() -> None:
    async with bench() as made, watched(made.trace) as watching:
        await made.visit(find("works").make(), read, verify)
        powered, *events = await watching.rest(made.trace)
    assert isinstance(powered, CardPowered)
    assert powered.zh == "卡上电，复位应答 3B 6D 00 00 00 81 54 43 30 86 99 ** ** ** ** ** **"
    assert powered.atr == b""
    said = {event.header.hex().upper(): (event.zh, event.en) for event in exchanges(events)}
    assert said["00A40400"] == (
        "选择 社会保障系统环境 SSSE → 还有 30 字节待取",
        "select the social security environment SSSE → 30 bytes are waiting",
    )
    assert said["00C00000"][0] == "取应答 社会保障系统环境 SSSE：控制信息 30 字节，算法 3DES → 成功"
    texts = [event.zh for event in exchanges(events)]
    assert "读记录 发卡文件 EF05 第 3 条：规范版本 2.00 → 成功" in texts
    assert "读记录 发卡文件 EF05 第 1 条：卡识别码 371000… → 成功" in texts
    assert "读记录 发卡文件 EF05 第 7 条：卡号 T*****01X → 成功" in texts
    assert "读记录 发卡文件 EF05 第 6 条：卡有效期 2035-**-** → 成功" in texts
    assert "读记录 持卡人文件 EF06 第 1 条：社会保障号码 9900**********0017 → 成功" in texts
    assert "读记录 持卡人文件 EF06 第 2 条：姓名 测** → 成功" in texts
    last = exchanges(events)[-1]
    assert (last.header, last.command_length, last.answer_length, last.status) == (
        bytes.fromhex("00200000"),
        0,
        0,
        0x9000,
    )
    assert last.secret
    assert last.took_us == 0
    assert any(event.took_us for event in exchanges(events))
    assert last.en == "a PIN or key command: neither content nor length is shown → done"


async def test_what_a_card_refuses_and_how_it_ends_is_said() -> None:
    async with bench() as made, watched(made.trace) as watching:
        await made.visit(
            find("third-generation-gated").make(), on_link(lambda link: SocialSecurityCard().read_identity(link))
        )
        await made.visit(find("wrong-pin").make(), verify)
        await made.visit(PulledAt(find("works").make(), command=3), read)
        await made.visit(Mute(find("works").make()), read)
        events = exchanges(await watching.rest(made.trace))
    texts = [event.zh for event in events]
    assert "读记录 发卡文件 EF05 第 7 条 → 安全状态不满足：须先认证" in texts
    assert "密码或密钥指令：内容和长度都不显示 → 不正确，还剩 5 次" in texts
    assert "选择 发卡文件 EF05 → 读卡过程中卡被取出。" in texts
    assert texts[-1] == "选择 社会保障系统环境 SSSE → 卡无应答。"
    assert [event.failure for event in events if event.failure] == [Reason.CARD_REMOVED, Reason.CARD_MUTE]
    assert all((event.status is None) == (event.failure is not None) for event in events)


async def test_a_psam_is_told_without_what_it_is_asked_to_encipher() -> None:
    commands = ("00A4040006D15600000590", "BFDE470A18" + "11" * 24, "80FA000008" + "22" * 8, "00B0960006")

    async with bench() as made, watched(made.trace) as watching:
        jobs = [on_link(lambda link, command=command: link.transmit(bytes.fromhex(command))) for command in commands]
        await made.visit(issuer.psam(), *jobs)
        powered, *events = await watching.rest(made.trace)
    assert isinstance(powered, CardPowered)
    assert powered.en.endswith("** ** ** ** ** **")
    texts = [(event.en.split(" → ")[0], event.command_length) for event in exchanges(events)]
    assert texts == [
        ("select the PSAM's application", 6),
        ("another command", 24),
        ("another command", 8),
        ("read binary: 6 bytes, not shown", 0),
    ]


async def test_a_dead_card_is_told_too() -> None:
    class Dead(Mute):
        @property
        def atr(self) -> bytes:
            return b""

    async with bench() as made, watched(made.trace) as watching:
        (error,) = await made.visit(Dead(find("works").make()), read)
        events = await watching.rest(made.trace)
    assert isinstance(error, YikatongError)
    assert [(event.failure, event.zh) for event in events if isinstance(event, CardPowered)] == [
        (Reason.CARD_MUTE, "卡上电 → 卡无应答。")
    ]


@pytest.mark.parametrize("recording", [False, True], ids=["live", "recorded"])
async def test_no_person_and_no_pin_gets_out(recording: bool) -> None:
    """Of the whole deck and of every profile, in every form; the control finds them in what really passed."""
    typed = "8642097531864209"
    cards = [(card.make(), card.data) for card in [*DECK, *PROFILES]]
    secrets = [secrets_of(data) | pin_of(typed) for _, data in cards]
    heard: list[list[bytes]] = []

    async def read_and_hear(visit: CardVisit) -> None:
        class Heard:
            def over(self, link: CardLink) -> CardLink:
                self.link, self.atr = link, link.atr
                return self

            def transmit(self, apdu: bytes | bytearray) -> bytes:
                heard[-1].append(bytes(apdu))
                heard[-1].append(answer := self.link.transmit(apdu))
                return answer

            async def run(self, job: Callable[[CardLink], object]) -> object:
                return await visit.run(lambda link: job(self.over(link)))

        hearing = Heard()
        await read(hearing)
        await hearing.run(lambda link: SocialSecurityCard().verify_pin(link, pin(typed)))

    async with bench() as made:
        for (card, _), secret in zip(cards, secrets, strict=True):
            heard.append([card.atr])
            async with watched(made.trace, recording=recording) as watching:
                await made.visit(card, read_and_hear)
                told = await watching.take(1 + sum(len(piece) > 0 for piece in heard[-1][1::2]))
            assert missed(told) == 0
            assert found_in(itertools.chain(*map(spread, told)), secret) == set()
    # what really passed holds all of them, somewhere in deck and profiles
    found = set().union(*(found_in(said, secret) for said, secret in zip(heard, secrets, strict=True)))
    assert found == set(secrets[0])


async def test_nobody_watches_and_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_now(*_: object) -> None:
        raise AssertionError("nobody watches")

    monkeypatch.setattr(CardTrace, "exchanged", not_now)
    monkeypatch.setattr(CardTrace, "powered", not_now)
    async with bench() as made:
        assert made.trace.watchers == ()
        given = await made.visit(find("works").make(), read, verify)
    assert [error for error in given if isinstance(error, Exception)] == []


async def test_who_comes_in_the_middle_is_not_told_what_nobody_knows() -> None:
    """The file was chosen while nobody looked: what is read from it is a stranger."""
    async with bench() as made:
        made.simulated.insert(find("works").make())
        async with made.reader.visit() as visit:
            async with watched(made.trace):
                await visit.run(lambda link: link.transmit(SELECT))
                await visit.run(lambda link: link.transmit(bytes.fromhex("00A4000002EF05")))
            await visit.run(lambda link: link.transmit(bytes.fromhex("00A4000002EF06")))  # unseen
            async with watched(made.trace) as watching:
                answer = await visit.run(lambda link: link.transmit(bytes.fromhex("00B2020420")))
                (event,) = await watching.take(1)
    assert isinstance(event, CardExchange)
    assert answer[2:4] == "测".encode("gb18030")
    assert event.zh == "读记录 第 2 条：32 字节，不显示 → 成功"


async def test_a_slow_watcher_loses_events_and_is_told_how_many() -> None:
    async with bench(backlog_max=10) as made, watched(made.trace) as slow, watched(made.trace) as quick:
        quick_events = []
        for _ in range(30):
            await made.visit(find("works").make(), select)
            quick_events += await quick.take(2)
        slow_events = await slow.take(11)
        assert missed(quick_events) == 0
        assert missed(slow_events) == 2 * 30 - 10
        assert isinstance(slow_events[-1], Missed)
        await made.visit(find("works").make(), select)
        assert missed(await slow.take(2)) == 0


async def test_the_gap_is_told_where_it_was() -> None:
    async with bench(backlog_max=2) as made, watched(made.trace) as watching:
        await made.visit(find("works").make(), *[select] * 5)
        first = await watching.take(1)
        await made.visit(find("works").make(), select)
        rest = await watching.rest(made.trace)
    assert missed(first) == 0
    kinds = [event.count if isinstance(event, Missed) else type(event) for event in rest]
    assert kinds == [CardExchange, 4, CardPowered, 1]


async def test_watchers_are_few_and_leave_no_trace() -> None:
    async with bench() as made:
        many = [watched(made.trace) for _ in range(WATCHERS_MAX)]
        for one in many:
            await one.__aenter__()
        with pytest.raises(YikatongError) as refused:
            await anext(made.trace.watch(recording=False))
        assert refused.value.reason is Reason.DEVICE_BUSY
        for one in many:
            await one.__aexit__(None, None, None)
        assert made.trace.watchers == ()


async def test_a_closed_trace_ends_those_who_watch_and_who_come() -> None:
    async with bench() as made, watched(made.trace) as watching:
        made.trace.close()
        assert await watching.rest(made.trace) == []
        async with watched(made.trace) as late:
            assert await late.rest(made.trace) == []


async def test_a_defect_costs_an_event_and_not_the_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("99000119700101001X")

    monkeypatch.setattr(Conversation, "hear", broken)
    async with bench() as made, watched(made.trace) as watching:
        given = await made.visit(find("works").make(), read)
        events = await watching.rest(made.trace)
    assert [error for error in given if isinstance(error, Exception)] == []
    assert (len(exchanges(events)), missed(events)) == (0, 12)
    said = capsys.readouterr()
    assert "trace_failed" in said.out + said.err
    assert "9900011970" not in said.out + said.err


# --- the PIN --------------------------------------------------------------------------------------------------------


class Forbidding(bytearray):
    """A buffer that shows whether anybody looks behind the header, or copies any of it."""

    def __getitem__(self, at: object) -> object:  # type: ignore[override]
        assert isinstance(at, int), "a slice is a copy"
        assert at < 4, "behind the header stands the PIN, and its length"
        return super().__getitem__(at)

    def __bytes__(self) -> bytes:
        raise AssertionError("a copy of all of it")

    def __iter__(self) -> object:  # type: ignore[override]
        raise AssertionError("a copy of all of it")


def test_of_a_buffer_that_will_be_wiped_only_the_header_is_looked_at() -> None:
    """Whatever it asks for: who gives a buffer to be wiped has a secret in it."""
    for header in (VERIFY[:4], b"\x00\xa4\x00\x00", b"\xff\xff\x01\x02"):
        heard = Conversation().hear(Forbidding(header + b"\x03\x12\x34\x56"), b"\x90\x00")
        assert (heard.act, heard.header, heard.command_length, heard.data) == (Act.SECRET, header, 0, b"")


@pytest.mark.parametrize(
    "command",
    [
        "0020000003123456",
        "805E010007123456FF654321",
        "842400010CD4B27BEB5115AA047542A73E",
        "84D4010008112233445566778899",
    ],
)
def test_pin_and_key_commands_have_neither_content_nor_length(command: str) -> None:
    for length in (0, 1, 8):
        apdu = bytes.fromhex(command) + bytes(length)
        heard = Conversation().hear(apdu, b"\x63\xc5")
        assert (heard.act, heard.command, heard.command_length, heard.data) == (Act.SECRET, apdu[:4], 0, b"")
        assert Inventor().card().answer(heard).data == b""


# --- whatever a card says -------------------------------------------------------------------------------------------

CANARY = bytes(range(0xB0, 0xF0, 7)) * 2


@settings(max_examples=400)
@given(
    st.sampled_from([0xEF05, 0xEF06, 0xEF07]),
    st.integers(0, 255),
    st.sampled_from([b"", b"\x01", b"\x08\x12", b"\x09\x1e", b"\x07\x09", b"\x03\x04", b"\x6f\x1c\x84", b"\x02\x01"]),
    st.binary(max_size=20),
    st.sampled_from([b"\x90\x00", b"\x61\x10", b"\x62\x82", b""]),
    st.sampled_from([0x04, 0x00, 0x2C, 0x30]),
)
def test_no_answer_shows_what_it_holds(file: int, p1: int, head: bytes, tail: bytes, status: bytes, p2: int) -> None:
    """A card may put anything anywhere: a stranger's bytes stand in no text and in no recording."""
    talk, inventor = Conversation(), Inventor()
    card = inventor.card()
    commands = [
        (SELECT, b"\x61\x1e"),
        (bytes.fromhex("00C000001E"), head + CANARY + tail + status),
        (bytes.fromhex("00A4000002") + file.to_bytes(2), status if status == b"\x90\x00" else head + CANARY + status),
        (bytes((0x00, 0xB2, p1, p2, 0x20)), head + CANARY + tail + status),
        (bytes((0x00, 0xB2, p1, p2, 0x20)), head + bytes((len(CANARY + tail),)) + CANARY + tail + status),
        (bytes((0x00, 0xB0, p1, p2, 0x20)), head + CANARY + tail + status),
        (bytes((0xB0, 0x26, 0x00, 0x01, 0x04)), CANARY + status),
        (bytes.fromhex("00840000") + b"\x10", CANARY + status),
    ]
    for apdu, answer in commands:
        heard = talk.hear(apdu, answer)
        words, invented = of_exchange(heard), card.answer(heard)
        assert len(invented.data) == len(heard.data)
        for told in (words.zh.encode(), words.en.encode(), invented.data):
            assert not _shares(told, CANARY, 5)
        assert re.fullmatch(r"[^\x00-\x1f\x7f]*", words.zh + words.en)


def _shares(told: bytes, secret: bytes, count: int) -> bool:
    pieces = {secret[at : at + count] for at in range(len(secret) - count + 1)}
    return any(piece in told or piece.hex().encode() in told.lower() for piece in pieces)


def test_the_search_finds_a_canary() -> None:
    assert _shares(b"12" + CANARY[3:9].hex().upper().encode(), CANARY, 5)
    assert not _shares(CANARY[:4], CANARY, 5)


async def test_damaged_answers_are_told_like_any_other() -> None:
    """Whatever a hostile card says: no event is lost over it, live or recorded, and each keeps its length."""
    dice, sound = random.Random(1), recorded()
    async with (
        bench(backlog_max=100_000) as made,
        watched(made.trace) as live,
        watched(made.trace, recording=True) as recording,
    ):
        for _ in range(300):
            answers = [damaged(dice, answer) if dice.random() < 0.2 else answer for answer in dice.choice(sound)]
            link = _Seen(NAME, made.trace, CardNotes(b"salt")).over(Replay(answers, dice.randbytes(17)))
            with contextlib.suppress(YikatongError):
                SocialSecurityCard().read_identity(link)
        told = [await live.rest(made.trace), await recording.rest(made.trace)]
    assert [missed(events) for events in told] == [0, 0]
    assert len(told[0]) == len(told[1]) > 1000
    for event in exchanges(told[1]):
        assert event.recorded is not None
        assert len(event.recorded.answer) == event.answer_length + 2 * (event.status is not None)


def test_limits_are_what_the_manual_says() -> None:
    assert (trace_module.BACKLOG_MAX, WATCHERS_MAX) == (1024, 4)
