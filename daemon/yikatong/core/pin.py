"""The PIN guard: what a card said to a PIN, what that leaves behind, and whether a PIN may be asked for at all.

A card counts wrong PINs and blocks after a number of them that differs from city to city (card-facts §4): a blocked one
means a journey for the cardholder. So the number is learned and never assumed, and the last try is a person's decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin, SocialSecurityNumber

WINDOW_MS: Final = 600_000
FAILED_PER_CARD_MAX: Final = 3
FAILED_PER_READER_MAX: Final = 10
"""So many PINs may fail within the window, of one card and of all cards at a reader; then none is asked for."""


# --- what became of a try -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PinRight:
    """The card accepts the PIN, and counts from the beginning again."""


@dataclass(frozen=True, slots=True)
class PinWrong:
    """The card refuses it; `tries_left` is at least 1."""

    tries_left: int


@dataclass(frozen=True, slots=True)
class PinBlocked:
    """The card accepts no PIN any more, be it right."""


@dataclass(frozen=True, slots=True)
class PinUnclear:
    """The PIN went out and no clear answer came: whether the card has counted a try nobody knows.

    `cause` is what came instead, `status` the card's words where it said some that mean neither yes nor no.
    """

    cause: Reason
    status: str = ""


PinAnswer = PinRight | PinWrong | PinBlocked | PinUnclear


def refusal(answer: PinAnswer) -> YikatongError | None:
    """Why a debit does not go on after `answer`; None where it does."""
    match answer:
        case PinRight():
            return None
        case PinWrong(tries_left):
            return YikatongError(Reason.PIN_WRONG, "the card refused the PIN", tries_left=tries_left)
        case PinBlocked():
            return YikatongError(Reason.PIN_BLOCKED, "the card has blocked its PIN", tries_left=0)
        case PinUnclear(cause, status):
            facts = {"cause": cause.value} | ({"sw": status} if status else {})
            return YikatongError(Reason.PIN_TRY_UNCLEAR, "no clear answer came to the PIN", **facts)
        case never:
            assert_never(never)


# --- what this terminal remembers ---------------------------------------------------------------------------------


def at_risk(tries_left: int | None) -> int | None:
    """What is remembered while a PIN is on its way to a card: at most so many tries are left if we never hear of it.

    At least 1: a card is called blocked by itself alone.
    """
    return None if tries_left is None else max(tries_left - 1, 1)


def remembered(answer: PinAnswer, tries_left: int | None) -> int | None:
    """How many tries are left at most after `answer`, before which it was `tries_left` (None: not known).

    An unclear one of a card of which nothing is known is taken for its last but one.
    """
    match answer:
        case PinRight() | PinBlocked():
            return None
        case PinWrong(left):
            return left
        case PinUnclear():
            return at_risk(tries_left) or 1
        case never:
            assert_never(never)


@dataclass(frozen=True, slots=True)
class Lately:
    """PINs that failed here within `WINDOW_MS`, oldest first: (boot clock in ms, tag of the card, blocked)."""

    failed: tuple[tuple[int, str, bool], ...] = ()

    def after(self, answer: PinAnswer, tag: str, now_ms: int) -> Lately:
        """A right PIN ends what is held against its card."""
        kept = tuple(entry for entry in self.failed if now_ms - entry[0] < WINDOW_MS)
        if isinstance(answer, PinRight):
            return Lately(tuple(entry for entry in kept if entry[1] != tag))
        return Lately((*kept, (now_ms, tag, isinstance(answer, PinBlocked))))

    def blocked(self, tag: str, now_ms: int) -> bool:
        """Whether the card has said so. Not for ever: its issuer may have reset it since."""
        return any(blocked and of == tag for at, of, blocked in self.failed if now_ms - at < WINDOW_MS)

    def wait_ms(self, tag: str, now_ms: int) -> int:
        """How long nobody may be asked for this card's PIN; 0: now."""
        recent = [entry for entry in self.failed if now_ms - entry[0] < WINDOW_MS]
        of_card = [at for at, of, _ in recent if of == tag][-FAILED_PER_CARD_MAX:]
        at_reader = [at for at, _, _ in recent][-FAILED_PER_READER_MAX:]
        over = [of_card[0]] if len(of_card) == FAILED_PER_CARD_MAX else []
        over += [at_reader[0]] if len(at_reader) == FAILED_PER_READER_MAX else []
        return max((at + WINDOW_MS - now_ms for at in over), default=0)


# --- may a PIN be asked for? --------------------------------------------------------------------------------------


def demand_a_try(tries_left: int | None, *, blocked_lately: bool, wait_ms: int, last_try_acknowledged: bool) -> None:
    """Raises PIN_BLOCKED, PIN_TOO_OFTEN, PIN_LAST_TRY where the PIN must not be asked for now.

    `tries_left`: at most, as card or memory say; None where neither knows.
    """
    if tries_left == 0 or (tries_left is None and blocked_lately):
        raise YikatongError(Reason.PIN_BLOCKED, "the card has blocked its PIN; none was asked for", tries_left=0)
    if wait_ms:
        raise YikatongError(Reason.PIN_TOO_OFTEN, "too many PINs have failed here", wait_s=-(-wait_ms // 1000))
    if tries_left == 1 and not last_try_acknowledged:
        raise YikatongError(Reason.PIN_LAST_TRY, "the last try needs a person's word", tries_left=1)


# --- initial PINs -------------------------------------------------------------------------------------------------

OF_THE_NUMBER: Final = "id"
"""Among initial PINs: the last six digits of the social security number, an X left out (assumption)."""


@dataclass(frozen=True, slots=True)
class InitialPins:
    """PINs that issuers give out, and that everybody knows (card-facts §4)."""

    known: tuple[str, ...]

    def include(self, pin: Pin, number: SocialSecurityNumber) -> bool:
        """Whether `pin` is one. Looks at the buffer where it lies, at every digit of every candidate."""
        found = 0
        for candidate in self.known:
            of_number = candidate == OF_THE_NUMBER
            text = number.reveal() if of_number else candidate
            end = len(text) - text.endswith("X")
            found |= _same(pin.digits, text, end - 6 if of_number else 0, end)
        return bool(found)


def _same(digits: bytearray, text: str, start: int, end: int) -> int:
    """1 where `digits` are `text[start:end]`, else 0; copies neither, and does not end early."""
    if len(digits) != end - start:
        return 0
    difference = 0
    for i, digit in enumerate(digits):
        difference |= digit ^ ord(text[start + i])
    return int(difference == 0)
