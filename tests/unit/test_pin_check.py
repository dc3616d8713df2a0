"""A PIN at a desk: shown once, to the card that was read, never for the last time unasked, and remembered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cards import pin
from tests.support.keypads import Cardholder, pin_check
from tests.support.runner_world import until
from yikatong.core.pin import WINDOW_MS, InitialPins
from yikatong.core.ports import CardLink, PinAttempt
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import CardIdentificationCode
from yikatong.drivers.card import SocialSecurityCard
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import Manner
from yikatong.simulators.card.port import CardPulledError
from yikatong.simulators.card.security import TRIES_MAX, WithoutPin
from yikatong.simulators.reader import SimulatedReader
from yikatong.terminal.desk import Desk
from yikatong.terminal.journal import Journal
from yikatong.terminal.pin_book import CARDS_MAX, PinBook
from yikatong.terminal.stages import Stage

T = TypeVar("T")

RIGHT, WRONG = "654321", "111111"
DAYS = int(os.environ.get("YIKATONG_PIN_DAYS", "40"))
"""How many days at a counter are made up, for each kind of card."""


class StillClock:
    """Stands until it is moved."""

    boot_id = "0" * 32

    def __init__(self) -> None:
        self.ms = 0

    def now(self) -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC)

    def boot_ms(self) -> int:
        return self.ms


class Watched(Manner):
    """Keeps every PIN that reaches the card, with the tries that were left before it."""

    def __init__(self, key: str, *, without_pin: WithoutPin = WithoutPin.REFUSES) -> None:
        self.chip = SimulatedCard(find(key).data, pin=RIGHT, without_pin=without_pin)
        super().__init__(self.chip)
        self.shown: list[tuple[str, int]] = []
        self.mishap = ""
        """At the next PIN: "before" or "after" the card has counted it, it is pulled out; "held": it takes its time."""
        self.reached, self.released = threading.Event(), threading.Event()

    def execute(self, apdu: bytes) -> bytes:
        if apdu[1] != 0x20 or len(apdu) == 4:
            return super().execute(apdu)
        mishap, self.mishap = self.mishap, ""
        if mishap == "before":
            raise CardPulledError
        self.shown.append((apdu[5:].hex(), self.chip.security.tries_left))
        answer = super().execute(apdu)
        if mishap == "after":
            raise CardPulledError
        if mishap == "held":
            self.reached.set()
            self.released.wait()
        return answer


@dataclass
class Counter:
    """A desk at which cards are put in and PINs typed. `start` begins anew, with what is on the disk."""

    folder: Path
    rules: dict[str, Any] = field(default_factory=dict)
    holder: Cardholder = field(default_factory=Cardholder)
    clock: StillClock = field(default_factory=StillClock)

    async def start(self) -> None:
        self.reader, self.journal = SimulatedReader(), Journal(self.folder / "journal.db")
        document = SocialSecurityCard()
        self.check = pin_check(self.holder, self.journal, document=document, clock=self.clock, **self.rules)
        self.desk = Desk(self.reader, document, self.clock, pin=self.check)

    async def stop(self) -> None:
        for task in set(self.check._under_way):  # as a process that ends leaves its tasks
            task.cancel()
        await self.reader.close()
        await self.journal.close()

    async def debit(self, card: Manner, typed: str = RIGHT, *, acknowledged: bool = False) -> bool:
        """Returns whether the PIN is an initial one. Raises as the desk does."""
        self.holder.pins = [typed]
        self.reader.insert(card)
        stages: list[Stage] = []
        async with self.desk.identify(wait_ms=0, stage=stages.append, last_try_acknowledged=acknowledged) as shown:
            await shown.demand_same_card()
            assert Stage.WAITING_FOR_PIN in stages
            return shown.initial_pin

    async def refused(self, card: Manner, typed: str = WRONG, *, acknowledged: bool = False) -> tuple[Reason, Any]:
        entered = self.holder.entered
        with pytest.raises(YikatongError) as caught:
            await self.debit(card, typed, acknowledged=acknowledged)
        facts = caught.value.facts
        asked = self.holder.entered > entered
        return caught.value.reason, facts.get("tries_left", facts.get("cause", facts.get("wait_s", ""))) or asked


@contextlib.asynccontextmanager
async def counter(folder: Path, **rules: Any) -> AsyncIterator[Counter]:
    made = Counter(folder, rules)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Counter]:
    async with counter(tmp_path) as made:
        yield made


def pause(at: Counter) -> None:
    """Until what has failed is out of the window."""
    at.clock.ms += WINDOW_MS


async def test_wrong_pins_count_down_and_the_last_one_needs_a_persons_word(at: Counter) -> None:
    card = Watched("works")
    for left in range(TRIES_MAX - 1, 0, -1):
        assert await at.refused(card) == (Reason.PIN_WRONG, left)
        pause(at)
    assert await at.refused(card) == (Reason.PIN_LAST_TRY, 1)
    assert len(card.shown) == at.holder.entered == TRIES_MAX - 1, "no PIN was even asked for"
    assert not await at.debit(card, acknowledged=True)
    assert card.chip.security.tries_left == TRIES_MAX
    assert not await at.debit(card), "a right PIN ends it"


async def test_a_blocked_card_is_not_asked_for_again_at_once(at: Counter) -> None:
    card = Watched("works")
    card.chip.security.tries_left = 1
    assert await at.refused(card, WRONG) == (Reason.PIN_BLOCKED, True), "nobody could know"
    assert await at.refused(card) == (Reason.PIN_BLOCKED, False)
    assert len(card.shown) == 1
    card.chip.security.tries_left = TRIES_MAX  # by its issuer
    pause(at)
    assert not await at.debit(card)


async def test_what_a_card_tells_is_asked_for_and_costs_nothing(tmp_path: Path) -> None:
    async with counter(tmp_path, card_tells_tries=True) as at:
        card = Watched("works", without_pin=WithoutPin.TELLS)
        card.chip.security.tries_left = 1
        assert await at.refused(card) == (Reason.PIN_LAST_TRY, 1), "it was used elsewhere"
        assert await at.refused(card, acknowledged=True) == (Reason.PIN_BLOCKED, True)
        assert len(card.shown) == 1
        card.chip.security.tries_left = TRIES_MAX
        assert not await at.debit(card), "the card itself knows best"
        assert not await at.debit(Watched("works-qingdao")), "one that refuses the question"
        card.chip.security.tries_left = 0
        assert await at.refused(card) == (Reason.PIN_BLOCKED, False)


async def test_what_was_seen_outlives_a_restart(at: Counter) -> None:
    card = Watched("works")
    card.chip.security.tries_left = 2
    assert await at.refused(card) == (Reason.PIN_WRONG, 1)
    await at.stop()
    await at.start()
    assert await at.refused(card) == (Reason.PIN_LAST_TRY, 1)
    assert not await at.debit(Watched("works-qingdao")), "another card is another matter"


async def test_too_many_failures_of_a_card(at: Counter) -> None:
    card, other = Watched("works"), Watched("works-qingdao")
    for left in (5, 4, 3):
        assert await at.refused(card) == (Reason.PIN_WRONG, left)
    assert await at.refused(card, RIGHT) == (Reason.PIN_TOO_OFTEN, WINDOW_MS // 1000)
    assert len(card.shown) == 3
    assert not await at.debit(other)
    pause(at)
    assert not await at.debit(card)


@pytest.mark.parametrize(("mishap", "counted"), [("before", 0), ("after", 1)])
async def test_a_card_that_leaves_with_the_pin_is_told_as_unclear(at: Counter, mishap: str, counted: int) -> None:
    card = Watched("works")
    card.mishap = mishap
    assert await at.refused(card) == (Reason.PIN_TRY_UNCLEAR, "CARD_REMOVED")
    assert card.chip.security.tries_left == TRIES_MAX - counted
    assert len(card.shown) == counted, "not repeated by anybody"
    assert await at.refused(card) == (Reason.PIN_LAST_TRY, 1), "of a card of which nothing is known"
    assert not await at.debit(card, acknowledged=True)


async def test_an_unclear_try_is_taken_as_counted(at: Counter) -> None:
    card = Watched("works")
    card.chip.security.tries_left = 4
    assert await at.refused(card) == (Reason.PIN_WRONG, 3)
    card.mishap = "before"
    assert await at.refused(card) == (Reason.PIN_TRY_UNCLEAR, "CARD_REMOVED")
    assert await at.journal.pins.tries_left(_tag(at, card)) == 2


def _tag(at: Counter, card: Watched) -> str:
    return at.journal.vault.card_tag(CardIdentificationCode(card.chip.data.identification_code))


async def test_who_leaves_while_the_pin_is_out_leaves_it_whole_and_heard(at: Counter) -> None:
    """The buffer is wiped after the card has had it, never under it; what the card says is kept all the same."""
    card = Watched("works")
    card.mishap = "held"
    paying = asyncio.create_task(at.debit(card, WRONG))
    await until(card.reached.is_set)
    paying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait([paying], timeout=0.05)
    card.released.set()
    await asyncio.wait([paying])
    assert paying.cancelled()
    assert card.shown == [(WRONG, TRIES_MAX)]
    assert at.check._under_way
    await asyncio.wait(at.check._under_way)
    assert await at.journal.pins.tries_left(_tag(at, card)) == TRIES_MAX - 1


async def test_power_that_fails_with_the_pin_is_taken_as_counted(at: Counter) -> None:
    card = Watched("works")
    card.chip.security.tries_left = 3
    assert await at.refused(card) == (Reason.PIN_WRONG, 2)
    await _debit(at, card, Step(0, right=False, acknowledged=False, mishap="power fails"))
    assert card.shown[1:] == [(WRONG, 2)]
    assert await at.refused(card) == (Reason.PIN_LAST_TRY, 1)


async def test_a_pin_that_never_went_out_costs_nothing_in_memory(at: Counter) -> None:
    card = Watched("works")
    assert await at.refused(card) == (Reason.PIN_WRONG, 5)
    at.holder.first = at.reader.remove
    assert await at.refused(card) == (Reason.CARD_REMOVED, True)
    assert len(card.shown) == 1
    assert await at.journal.pins.tries_left(_tag(at, card)) == 5


async def test_the_next_debit_waits_until_the_card_of_the_one_before_is_heard(at: Counter) -> None:
    card = Watched("works")
    at.reader.insert(card)
    heard, prompts = asyncio.Event(), list[str]()
    async with at.reader.visit() as visit:
        identity = await visit.run(SocialSecurityCard().read_identity)

        class Late:
            async def run(self, job: Callable[[CardLink], T]) -> T:
                await heard.wait()
                return await visit.run(job)

        def verify(number: str) -> asyncio.Task[bool]:
            asked = at.check.verify(
                Late(), identity, last_try_acknowledged=False, prompt=lambda: prompts.append(number)
            )
            return asyncio.create_task(asked)

        at.holder.pins = [WRONG, RIGHT]
        first = verify("first")
        await until(lambda: bool(at.check._under_way))
        first.cancel()
        second = verify("second")
        await asyncio.wait([first, second], timeout=0.05)
        assert prompts == ["first"]
        heard.set()
        assert not await second
    assert prompts == ["first", "second"]
    assert [block for block, _ in card.shown] == [RIGHT], "the first one's turn came after it had left"


class Slow:
    """A keypad whose PIN comes when it is told to; then those who asked may be gone."""

    def __init__(self) -> None:
        self.typed = pin(WRONG)

    async def enter(self, attempt: PinAttempt, *, timeout_ms: int) -> None:
        await attempt.present(self.typed)


async def test_a_pin_whose_turn_has_not_come_is_not_shown_to_a_card_that_nobody_wants_to_use(at: Counter) -> None:
    card, slow = Watched("works"), Slow()
    at.check.entry = slow  # type: ignore[assignment]  # only `enter` is used
    blocking, go_on = threading.Event(), threading.Event()
    at.reader.insert(card)

    def block() -> None:
        blocking.set()
        go_on.wait()

    async with at.reader.visit() as visit:
        document = SocialSecurityCard()
        identity = await visit.run(document.read_identity)
        first = asyncio.create_task(visit.run(lambda link: block()))
        await until(blocking.is_set)
        verifying = asyncio.create_task(
            at.check.verify(visit, identity, last_try_acknowledged=False, prompt=lambda: None)
        )
        await until(lambda: bool(at.check._under_way))
        verifying.cancel()
        await asyncio.wait([verifying])
        left = bytes(slow.typed.digits)
        go_on.set()
        await first
        if at.check._under_way:
            await asyncio.wait(at.check._under_way)
    assert left == bytes(len(WRONG)), "wiped at once"
    assert card.shown == []
    assert card.chip.security.tries_left == TRIES_MAX


@pytest.mark.parametrize(
    ("heard", "reason"), [(True, Reason.PIN_WRONG), (False, Reason.PIN_TRY_UNCLEAR)], ids=["heard", "not heard"]
)
async def test_a_reader_that_fails_with_the_pin(at: Counter, heard: bool, reason: Reason) -> None:
    """What the card said counts, whatever came after it; a driver that hangs is given up while it has the PIN."""
    card = Watched("works")
    at.reader.insert(card)
    at.holder.pins = [WRONG]
    card.mishap = "" if heard else "held"
    async with at.reader.visit() as visit:
        identity = await visit.run(SocialSecurityCard().read_identity)

        class Failing:
            async def run(self, job: Callable[[CardLink], T]) -> T:
                running = asyncio.ensure_future(visit.run(job))
                await until(lambda: running.done() or card.reached.is_set())
                card.released.set()
                raise YikatongError(Reason.READER_FAILED, "the reader's driver did not come back")

        with pytest.raises(YikatongError) as caught:
            await at.check.verify(Failing(), identity, last_try_acknowledged=False, prompt=lambda: None)
    assert caught.value.reason is reason
    assert caught.value.facts == ({"tries_left": 5} if heard else {"cause": "READER_FAILED"})
    assert len(card.shown) == 1


async def test_a_right_pin_and_a_card_that_has_left_is_a_card_that_has_left(at: Counter) -> None:
    card = Watched("works")
    card.mishap = "held"
    paying = asyncio.create_task(at.debit(card))
    await until(card.reached.is_set)
    at.reader.remove()
    card.released.set()
    with pytest.raises(YikatongError) as caught:
        await paying
    assert caught.value.reason in {Reason.CARD_REMOVED, Reason.PIN_TRY_UNCLEAR}


@pytest.mark.parametrize("refused", [False, True])
async def test_an_initial_pin_is_told_or_refused(tmp_path: Path, refused: bool) -> None:
    async with counter(tmp_path, initial=InitialPins((RIGHT,)), initial_refused=refused) as at:
        card = Watched("works")
        if refused:
            assert await at.refused(card, RIGHT) == (Reason.PIN_INITIAL, True)
        else:
            assert await at.debit(card)
        assert await at.refused(card, WRONG) == (Reason.PIN_WRONG, 5), "of a wrong one nothing is said"


async def test_the_book_is_bounded(at: Counter) -> None:
    book: PinBook = at.journal.pins
    for number in range(CARDS_MAX + 5):
        await book.note(str(number), 2)
    await book.note("5", 1)
    await book.note("new", 3)
    assert [await book.tries_left(str(number)) for number in (0, 4, 6, 7)] == [None, None, None, 2]
    assert (await book.tries_left("5"), await book.tries_left("new")) == (1, 3)
    await book.note("new", None)
    assert await book.tries_left("new") is None


async def test_without_a_journal_no_pin_is_asked_for(at: Counter) -> None:
    card = Watched("works")
    await at.journal.close()
    at.journal._store._failure = OSError()  # type: ignore[attr-defined]  # as after a commit that failed
    assert await at.refused(card) == (Reason.JOURNAL_UNAVAILABLE, False)
    assert card.shown == []


# --- whatever people and readers do ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A debit with card `card`, or what happens between two."""

    card: int
    right: bool
    acknowledged: bool
    mishap: str


STEPS = st.lists(
    st.one_of(
        st.builds(
            Step,
            st.sampled_from([0, 1]),
            st.sampled_from([False, False, False, True]),
            st.booleans(),
            st.sampled_from(["", "", "before", "after", "caller leaves", "power fails"]),
        ),
        st.sampled_from(["restart", "pause", "pause"]),
    ),
    min_size=5,
    max_size=40,
)


@pytest.mark.parametrize("without_pin", WithoutPin)
@settings(max_examples=DAYS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_no_card_sees_more_pins_than_people_enter_nor_its_last_one_unasked(
    without_pin: WithoutPin, steps: list[Step | str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_day(Path(folder), without_pin, steps))


async def _day(folder: Path, without_pin: WithoutPin, steps: list[Step | str]) -> None:
    rules = {"card_tells_tries": without_pin is WithoutPin.TELLS}
    async with counter(folder, **rules) as at:
        cards = [Watched(key, without_pin=without_pin) for key in ("works", "works-qingdao")]
        lost = [0, 0]
        """PINs in a row that power took away together with what the terminal would have learned."""
        for step in steps:
            if step == "restart":
                await at.stop()
                await at.start()
            elif step == "pause":
                pause(at)
            else:
                assert isinstance(step, Step)
                card = cards[step.card]
                before = len(card.shown)
                noted = await at.journal.pins.tries_left(_tag(at, card))
                await _debit(at, card, step)
                shown = card.shown[before:]
                assert len(shown) <= 1, "VERIFY is never repeated"
                for block, left in shown:
                    assert block == (RIGHT if step.right else WRONG), "what the person has typed, and nothing else"
                    assert left != 1 or step.acknowledged or lost[step.card] >= TRIES_MAX - 1
                if shown and step.mishap == "power fails" and noted is None and not step.right:
                    lost[step.card] += 1
                elif shown:
                    lost[step.card] = 0
            assert sum(len(card.shown) for card in cards) <= at.holder.entered


async def _debit(at: Counter, card: Watched, step: Step) -> None:
    """Until it has ended, however it ends."""
    held = step.mishap in {"caller leaves", "power fails"}
    card.mishap = "held" if held else step.mishap
    card.reached.clear()
    card.released.clear()
    paying = asyncio.create_task(
        at.debit(card, RIGHT if step.right else WRONG, acknowledged=step.acknowledged), name="paying"
    )
    await until(lambda: paying.done() or card.reached.is_set())
    if card.reached.is_set():
        paying.cancel()
        if step.mishap == "power fails":
            for task in set(at.check._under_way):
                task.cancel()
        card.released.set()
    await asyncio.wait([paying])
    card.mishap = ""
    if not paying.cancelled() and (error := paying.exception()) is not None:
        assert isinstance(error, YikatongError)
    if step.mishap == "power fails":
        await at.stop()
        await at.start()
