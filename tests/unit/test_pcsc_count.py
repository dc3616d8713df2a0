"""pcscd shows a card a moment before it has powered and counted it: until then there is none."""

from __future__ import annotations

import pytest
from smartcard import scard

from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.pcsc import context
from yikatong.drivers.pcsc.context import Context, Events
from yikatong.drivers.pcsc.session import Session

PRESENT = scard.SCARD_STATE_PRESENT | scard.SCARD_STATE_CHANGED
EMPTY = scard.SCARD_STATE_EMPTY | scard.SCARD_STATE_CHANGED


class Service:
    """pcscd, with what it says of each reader, and what it says `later`, when it is asked once more."""

    def __init__(self) -> None:
        self.says: dict[str, int] = {}
        self.later: dict[str, int] = {}

    def status(self, handle: object, wait_ms: int, states: list[tuple[str, int]]) -> tuple[int, list[object]]:
        ((reader, _),) = states
        word = self.says[reader]
        self.says[reader] = self.later.pop(reader, word)
        return scard.SCARD_S_SUCCESS, [(reader, word, [])]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()
    monkeypatch.setattr(context, "_establish", lambda: 1)
    monkeypatch.setattr(scard, "SCardGetStatusChange", made.status)
    return made


@pytest.mark.parametrize("count", [0, 4, 0xFFFE])
def test_a_card_is_there_once_it_is_counted(service: Service, count: int) -> None:
    at = Context()
    service.says["a"] = count << 16 | EMPTY
    assert not at.events("a").card_present
    service.says["a"], service.later["a"] = count << 16 | PRESENT, (count + 1) << 16 | PRESENT
    assert at.events("a") == Events((count + 1) << 16 | PRESENT)
    assert not service.later


def test_one_that_leaves_before_it_is_counted(service: Service) -> None:
    at = Context()
    service.says["a"] = 4 << 16 | EMPTY
    at.events("a")
    service.says["a"], service.later["a"] = 4 << 16 | PRESENT, 6 << 16 | EMPTY
    assert at.events("a") == Events(6 << 16 | EMPTY)


def test_one_that_is_never_counted_lies_in_a_reader_that_came_with_it(service: Service) -> None:
    """Unplugged while nobody looked, and plugged in again with a card in it: its count begins anew."""
    at = Context()
    service.says["a"] = EMPTY
    at.events("a")
    service.says["a"] = PRESENT
    assert at.events("a").card_present
    service.later["a"] = EMPTY  # it would be looked at again
    assert at.events("a").card_present


def test_a_card_that_lay_there_before_pcscd_counts_nothing(service: Service) -> None:
    at = Context()
    service.says["a"] = PRESENT
    assert at.events("a").card_present


def test_each_reader_by_itself(service: Service) -> None:
    at = Context()
    service.says |= {"a": 7 << 16 | EMPTY, "b": 7 << 16 | PRESENT}
    assert not at.events("a").card_present
    service.later["b"] = 7 << 16 | EMPTY
    assert at.events("b").card_present


def test_a_card_that_comes_just_after_the_look_is_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting would succeed, and the count, taken before, would say that the card has left since."""
    monkeypatch.setattr(scard, "SCardListReaders", lambda *_: (scard.SCARD_S_SUCCESS, ["a"]))
    monkeypatch.setattr(scard, "SCardConnect", lambda *_: (scard.SCARD_S_SUCCESS, 9, scard.SCARD_PROTOCOL_T1))
    monkeypatch.setattr(scard, "SCardStatus", lambda *_: (scard.SCARD_S_SUCCESS, "a", 0, 2, [0x3B]))
    at = Session("a")
    service.says["a"] = 4 << 16 | EMPTY
    with pytest.raises(YikatongError) as caught:
        at.open_card()
    assert caught.value.reason is Reason.NO_CARD
    service.says["a"] = 5 << 16 | PRESENT
    at.open_card().demand_presence()
