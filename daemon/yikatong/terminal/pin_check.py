"""Has a cardholder's PIN verified: asks the guard (core.pin) first, presents it once, and keeps what the card said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from yikatong.core.card import CardIdentity
from yikatong.core.pin import (
    InitialPins,
    Lately,
    PinAnswer,
    PinRight,
    PinUnclear,
    at_risk,
    demand_a_try,
    refusal,
    remembered,
)
from yikatong.core.ports import CardDocument, CardLink, CardVisit, PinEntry
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin
from yikatong.runtime.clock import Clock
from yikatong.runtime.handover import PinHandover
from yikatong.terminal.journal import Journal


@dataclass(frozen=True, slots=True)
class PinRules:
    """What differs from place to place.

    `card_tells_tries`: the cards here answer a VERIFY without data with what is left, and it costs no try (assumption).
    `initial`: PINs that issuers give out; `initial_refused`: with one of them nothing is debited.
    """

    timeout_ms: int = 60_000
    card_tells_tries: bool = False
    initial: InitialPins = field(default_factory=lambda: InitialPins(()))
    initial_refused: bool = False


class PinCheck:
    """One keypad, and what is known of the cards whose PINs were typed on it."""

    def __init__(
        self,
        entry: PinEntry,
        document: CardDocument,
        journal: Journal,
        clock: Clock,
        rules: PinRules,
    ) -> None:
        self.entry, self.document, self.rules = entry, document, rules
        self._book, self._vault, self._clock = journal.pins, journal.vault, clock
        self._lately = Lately()
        self._under_way: set[asyncio.Task[None]] = set()

    async def verify(
        self, visit: CardVisit, identity: CardIdentity, *, last_try_acknowledged: bool, prompt: Callable[[], None]
    ) -> bool:
        """Returns once the card has accepted the PIN: whether that is an initial one, as far as it was seen.

        `prompt` is called when the cardholder is to type. Raises what the guard says (PIN_BLOCKED, PIN_TOO_OFTEN,
        PIN_LAST_TRY), the keypad, and the card (PIN_WRONG, PIN_BLOCKED, PIN_TRY_UNCLEAR); PIN_INITIAL where so ruled.
        """
        if self._under_way:  # of one who did not wait for it; it may be about this card
            await asyncio.wait(self._under_way)
        tag = self._vault.card_tag(identity.identification_code)
        noted = await self._book.tries_left(tag)
        told = await visit.run(lambda link: self._ask_card(link, identity)) if self.rules.card_tells_tries else None
        now_ms, left = self._clock.boot_ms(), noted if told is None else told
        demand_a_try(
            left,
            blocked_lately=self._lately.blocked(tag, now_ms),
            wait_ms=self._lately.wait_ms(tag, now_ms),
            last_try_acknowledged=last_try_acknowledged,
        )
        prompt()
        attempt = _Attempt(self, visit, identity, _Known(tag, noted, left))
        await self.entry.enter(attempt, timeout_ms=self.rules.timeout_ms)
        return attempt.initial

    def _ask_card(self, link: CardLink, identity: CardIdentity) -> int | None:
        self.document.recognise(link, identity)
        return self.document.pin_tries_left(link)

    async def carry_through(self, work: Coroutine[Any, Any, None]) -> None:
        """Cancelling stops the waiting alone."""
        task = asyncio.create_task(work, name="pin")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # told, if anybody still listens
        await asyncio.shield(task)

    async def expect(self, known: _Known) -> None:
        """A PIN is about to go out: what is known of the card must not look better than it may be afterwards."""
        if known.noted is not None:
            await self._book.note(known.tag, at_risk(known.left))

    async def forget_expectation(self, known: _Known) -> None:
        """No PIN has gone out."""
        if known.noted is not None:
            await self._book.note(known.tag, known.noted)

    async def keep(self, known: _Known, answer: PinAnswer) -> None:
        self._lately = self._lately.after(answer, known.tag, self._clock.boot_ms())
        left = remembered(answer, known.left)
        if left is not None or known.noted is not None:
            await self._book.note(known.tag, left)


@dataclass(frozen=True, slots=True)
class _Known:
    """Of one card before the try: its tag, what the book has (`noted`), and how many tries are left at most."""

    tag: str
    noted: int | None
    left: int | None


class _Attempt:
    """Implements `core.ports.PinAttempt`."""

    def __init__(self, check: PinCheck, visit: CardVisit, identity: CardIdentity, known: _Known) -> None:
        self._check, self._visit, self._identity, self._known = check, visit, identity, known
        self._answer: PinAnswer | None = None
        """None as long as no PIN has gone out. Set in the reader's thread: the visit's own end may hide it."""
        self.initial = False

    async def present(self, pin: Pin) -> None:
        handed = PinHandover(pin)
        try:
            await self._check.carry_through(
                self._carried_through(lambda: self._visit.run(lambda link: self._show(link, handed)))
            )
        finally:
            handed.abandon()

    async def leave_to(self, keys: Callable[[bytes], Awaitable[bytes]]) -> None:
        header = await self._visit.run(self._enter_environment)
        await self._check.carry_through(self._carried_through(lambda: self._typed_at(keys, header)))

    async def _carried_through(self, work: Callable[[], Awaitable[None]]) -> None:
        await self._check.expect(self._known)
        failure: Exception | None = None
        try:
            await work()
        except Exception as error:
            if self._answer is None:
                await self._check.forget_expectation(self._known)
                raise
            failure = error
        answer = self._answer
        assert answer is not None, "whoever returns has heard the card"
        if isinstance(answer, PinUnclear) and isinstance(failure, YikatongError):
            answer = PinUnclear(failure.reason)
        await self._check.keep(self._known, answer)
        if (refused := refusal(answer)) is not None:
            raise refused from failure
        if failure is not None:
            raise failure
        if self.initial and self._check.rules.initial_refused:
            raise YikatongError(Reason.PIN_INITIAL, "an initial PIN may not pay here")

    def _show(self, link: CardLink, handed: PinHandover) -> None:
        """In the reader's thread. The PIN goes to the card that was read: another one would learn it, or lose a try."""
        document = self._check.document
        document.recognise(link, self._identity)
        with handed.take() as pin:
            self._answer = PinUnclear(Reason.READER_FAILED)  # until the card is heard
            try:
                self._answer = document.verify_pin(link, pin)
            except YikatongError:
                self._answer = None
                raise
            if isinstance(self._answer, PinRight):
                self.initial = self._check.rules.initial.include(pin, self._identity.social_security_number)

    def _enter_environment(self, link: CardLink) -> bytes:
        self._check.document.recognise(link, self._identity)
        return self._check.document.pin_command(link)

    async def _typed_at(self, keys: Callable[[bytes], Awaitable[bytes]], header: bytes) -> None:
        self._answer = PinUnclear(Reason.READER_FAILED)  # until the card is heard
        try:
            answer = await keys(header)
        except YikatongError:
            self._answer = None
            raise
        self._answer = self._check.document.pin_answer(answer)
