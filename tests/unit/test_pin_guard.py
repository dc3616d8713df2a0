"""The guard over a card's PIN: what a try leaves behind, when none may be asked for, what an initial PIN is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yikatong.core.pin import (
    FAILED_PER_CARD_MAX,
    FAILED_PER_READER_MAX,
    OF_THE_NUMBER,
    WINDOW_MS,
    InitialPins,
    Lately,
    PinAnswer,
    PinBlocked,
    PinRight,
    PinUnclear,
    PinWrong,
    at_risk,
    demand_a_try,
    refusal,
    remembered,
)
from yikatong.core.reasons import MEANING, Moved, Reason, YikatongError
from yikatong.core.values import Pin, SocialSecurityNumber

UNCLEAR = PinUnclear(Reason.CARD_REMOVED)
KNOWN = [None, *range(1, 16)]


@pytest.mark.parametrize(
    ("answer", "reason", "facts"),
    [
        (PinWrong(4), Reason.PIN_WRONG, {"tries_left": 4}),
        (PinBlocked(), Reason.PIN_BLOCKED, {"tries_left": 0}),
        (UNCLEAR, Reason.PIN_TRY_UNCLEAR, {"cause": "CARD_REMOVED"}),
        (
            PinUnclear(Reason.CARD_MALFORMED, "6F00"),
            Reason.PIN_TRY_UNCLEAR,
            {"cause": "CARD_MALFORMED", "sw": "6F00"},
        ),
    ],
)
def test_what_a_debit_is_refused_with(answer: PinAnswer, reason: Reason, facts: dict[str, object]) -> None:
    error = refusal(answer)
    assert error is not None
    assert (error.reason, error.facts) == (reason, facts)
    assert MEANING[reason].moved is Moved.NOT_MOVED


def test_a_right_pin_refuses_nothing() -> None:
    assert refusal(PinRight()) is None


@pytest.mark.parametrize("left", KNOWN)
def test_what_is_remembered(left: int | None) -> None:
    assert remembered(PinRight(), left) is None
    assert remembered(PinBlocked(), left) is None, "only the card itself says so, and it does"
    assert remembered(PinWrong(3), left) == 3
    expected = None if left is None else max(left - 1, 1)
    assert at_risk(left) == expected
    assert remembered(UNCLEAR, left) == expected or (left is None and remembered(UNCLEAR, left) == 1)


def _refused(
    tries_left: int | None, *, blocked_lately: bool = False, wait_ms: int = 0, acknowledged: bool = False
) -> tuple[Reason, dict[str, object]] | None:
    try:
        demand_a_try(tries_left, blocked_lately=blocked_lately, wait_ms=wait_ms, last_try_acknowledged=acknowledged)
    except YikatongError as error:
        return error.reason, dict(error.facts)
    return None


@pytest.mark.parametrize("acknowledged", [False, True])
def test_when_a_pin_may_be_asked_for(acknowledged: bool) -> None:
    for left in (None, *range(2, 16)):
        assert _refused(left, acknowledged=acknowledged) is None
        assert _refused(left, wait_ms=1_001, acknowledged=acknowledged) == (Reason.PIN_TOO_OFTEN, {"wait_s": 2})
    assert _refused(0, acknowledged=acknowledged) == (Reason.PIN_BLOCKED, {"tries_left": 0})
    assert _refused(None, blocked_lately=True, acknowledged=acknowledged) == (Reason.PIN_BLOCKED, {"tries_left": 0})
    assert _refused(5, blocked_lately=True, acknowledged=acknowledged) is None, "the issuer has reset it"
    last = _refused(1, acknowledged=acknowledged)
    assert last == (None if acknowledged else (Reason.PIN_LAST_TRY, {"tries_left": 1}))


def _failures(*entries: tuple[int, str], answer: PinAnswer = PinWrong(4)) -> Lately:  # noqa: B008 - a frozen value
    lately = Lately()
    for at, tag in entries:
        lately = lately.after(answer, tag, at)
    return lately


def test_failed_pins_of_one_card() -> None:
    lately = _failures(*((n, "a") for n in range(FAILED_PER_CARD_MAX)))
    assert lately.wait_ms("a", 100) == WINDOW_MS - 100, "until the first of them is out of the window"
    assert lately.wait_ms("b", 100) == 0
    assert lately.wait_ms("a", WINDOW_MS) == 0
    assert lately.after(PinRight(), "a", 100).wait_ms("a", 101) == 0


def test_failed_pins_of_all_cards() -> None:
    lately = _failures(*((n, str(n)) for n in range(FAILED_PER_READER_MAX)))
    assert lately.wait_ms("new", 50) == WINDOW_MS - 50
    assert lately.after(PinRight(), "3", 50).wait_ms("new", 51) == 0
    assert lately.wait_ms("new", WINDOW_MS) == 0


def test_a_blocked_card_is_known_for_a_while() -> None:
    lately = _failures((0, "a"), answer=PinBlocked())
    assert lately.blocked("a", WINDOW_MS - 1)
    assert not lately.blocked("a", WINDOW_MS)
    assert not lately.blocked("b", 1)
    assert not _failures((0, "a")).blocked("a", 1)


@given(st.lists(st.tuples(st.integers(0, 2_000), st.sampled_from("abcd"), st.booleans()), max_size=60))
def test_within_any_window_no_more_fail_than_allowed(steps: list[tuple[int, str, bool]]) -> None:
    """Whoever asks before each try, and leaves it where there is a wait, stays below both limits; and it is bounded."""
    lately, now, failed = Lately(), 0, list[tuple[int, str]]()
    for pause, tag, right in steps:
        now += pause * 1_000
        if lately.wait_ms(tag, now):
            continue
        lately = lately.after(PinRight() if right else PinWrong(5), tag, now)
        failed = [entry for entry in failed if not right or entry[1] != tag] + ([] if right else [(now, tag)])
        window = [entry for entry in failed if now - entry[0] < WINDOW_MS]
        assert len(window) <= FAILED_PER_READER_MAX
        assert sum(of == tag for _, of in window) <= FAILED_PER_CARD_MAX
        assert len(lately.failed) <= FAILED_PER_READER_MAX


NUMBER = SocialSecurityNumber("990001197001011234")
WITH_X = SocialSecurityNumber("99000119700101567X")
INITIAL = InitialPins(("123456", "8888", OF_THE_NUMBER))


@pytest.mark.parametrize(
    ("digits", "number", "initial"),
    [
        ("123456", NUMBER, True),
        ("8888", NUMBER, True),
        ("011234", NUMBER, True),
        ("101567", WITH_X, True),
        ("011234", WITH_X, False),
        ("123457", NUMBER, False),
        ("1234567", NUMBER, False),
        ("888888", NUMBER, False),
    ],
)
def test_initial_pins(digits: str, number: SocialSecurityNumber, initial: bool) -> None:
    with Pin(bytearray(digits.encode())) as pin:
        assert INITIAL.include(pin, number) is initial
        assert not InitialPins(()).include(pin, number)
        assert pin.digits == digits.encode(), "looked at, not touched"
