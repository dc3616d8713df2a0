"""No code of PC/SC crosses the border untranslated."""

from __future__ import annotations

import pytest
from smartcard import scard

from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.pcsc.context import Context
from yikatong.drivers.pcsc.errors import REASONS, check, translate

NAMES = sorted(name for name in dir(scard) if name.startswith(("SCARD_E_", "SCARD_W_", "SCARD_F_", "SCARD_P_SHUTDOWN")))


def test_pyscard_has_names_at_all() -> None:
    assert len(NAMES) > 40


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_its_reason(name: str) -> None:
    error = translate(getattr(scard, name), "test")
    assert name in REASONS
    assert error.reason is REASONS[name]


def test_no_reason_for_a_name_that_nobody_has() -> None:
    assert set(REASONS) <= set(NAMES)


def test_success_is_no_error() -> None:
    check(scard.SCARD_S_SUCCESS, "test")


def test_an_unknown_code_is_a_failure_of_the_reader() -> None:
    with pytest.raises(YikatongError) as caught:
        check(-0x7FEF0001, "test")
    assert (caught.value.reason, caught.value.facts) == (Reason.READER_FAILED, {"pcsc": "8010FFFF"})


def test_a_missing_service_is_named() -> None:
    error = translate(scard.SCARD_E_NO_SERVICE, "test")
    assert error.reason is Reason.PCSCD_NOT_RUNNING
    assert error.facts["service"] == "pcscd"


@pytest.mark.parametrize("name", ["W_REMOVED_CARD", "W_RESET_CARD", "W_UNPOWERED_CARD", "E_COMM_DATA_LOST"])
def test_a_torn_card_has_left(name: str) -> None:
    assert translate(getattr(scard, f"SCARD_{name}"), "test").reason is Reason.CARD_REMOVED


def test_polkits_refusal_is_named() -> None:
    error = translate(scard.SCARD_W_SECURITY_VIOLATION, "connect to the card")
    assert error.reason is Reason.PCSCD_REFUSED
    assert "polkit" in error.detail
    assert "polkit" in error.meaning.zh


def test_who_holds_the_reader_is_another_program() -> None:
    error = translate(scard.SCARD_E_SHARING_VIOLATION, "connect to the card")
    assert (error.reason, error.facts) == (Reason.DEVICE_BUSY, {"pcsc": "SCARD_E_SHARING_VIOLATION"})
    assert "another program" in error.detail


def test_the_names_that_readers_give_themselves_reach_no_screen_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["Reader A\x1b[2J 00 00", "Reader A\u202e 00 01"]
    monkeypatch.setattr(scard, "SCardEstablishContext", lambda scope: (0, 1))
    monkeypatch.setattr(scard, "SCardListReaders", lambda context, groups: (0, names))
    with pytest.raises(YikatongError) as caught:
        Context().find_reader("Reader A")
    assert caught.value.facts["readers"] == "Reader A[2J 00 00; Reader A 00 01"
    assert "\x1b" not in caught.value.detail
