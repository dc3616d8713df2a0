"""No code of PC/SC crosses the border untranslated."""

from __future__ import annotations

import pytest
from smartcard import scard

from yikatong.core.reasons import Reason, YikatongError
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
