"""What each observation means: every probe, on both sides of each limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.rows import request
from yikatong.core.card import ReaderState
from yikatong.core.credit_orders import CreditKind
from yikatong.core.credit_table import CreditState
from yikatong.core.credit_transaction import Credit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.selftest import Report, SelfTestStep
from yikatong.core.session import Granted
from yikatong.core.terminal_table import State
from yikatong.core.values import ReaderName, RequestId, TransactionId
from yikatong.simulators.card import self_test as sample
from yikatong.terminal import probes
from yikatong.terminal.probes import (
    AuthenticationSeen,
    KeypadSeen,
    LinkSeen,
    OpenRow,
    Probe,
    Severity,
    SocketSeen,
    Validity,
)

NOW = datetime(2026, 3, 10, 8, 0, tzinfo=UTC)
MINUTE_MS = 60_000
GRANTED = Granted(3, NOW, "P37010000001", "测试药店", "370100", "12393", "0531-1234567", "2026-03-10")


def is_fine(probe: Probe) -> bool:
    return (probe.severity, probe.reason, probe.next_zh, probe.next_en) == (Severity.OK, None, "", "")


def says(probe: Probe, severity: Severity, reason: Reason, *facts: str) -> None:
    """The judgement, and its facts in both languages; a probe that is not fine always has a next step."""
    assert (probe.severity, probe.reason) == (severity, reason)
    for fact in facts:
        assert fact in probe.finding_zh
        assert fact in probe.finding_en
    assert probe.next_zh
    assert probe.next_en


def state(*, present: bool = True, card: bool = False, detail: str = "", explanation: str = "") -> ReaderState:
    return ReaderState(
        ReaderName("Reader 00"), present=present, card_present=card, detail=detail, explanation=explanation
    )


# --- devices ----------------------------------------------------------------------------------------------------


def test_reader() -> None:
    assert is_fine(probes.reader(state()))
    says(probes.reader(state(present=False)), Severity.FAILED, Reason.NO_READER, "Reader 00")
    two = state(present=False, detail="NO_READER", explanation="several readers: A; B")
    says(probes.reader(two), Severity.FAILED, Reason.NO_READER, "Reader 00", "A; B")
    stuck = state(present=False, detail="READER_FAILED", explanation="the driver did not come back")
    says(probes.reader(stuck), Severity.FAILED, Reason.READER_FAILED, "did not come back")
    says(probes.reader(None), Severity.FAILED, Reason.READER_FAILED)
    says(probes.reader(YikatongError(Reason.PCSCD_NOT_RUNNING)), Severity.FAILED, Reason.PCSCD_NOT_RUNNING)


def test_pcscd() -> None:
    assert is_fine(probes.pcscd(None))
    assert is_fine(probes.pcscd(SocketSeen("/run/pcscd/pcscd.comm")))
    refused = probes.pcscd(SocketSeen("/run/pcscd/pcscd.comm", "Connection refused"))
    says(refused, Severity.FAILED, Reason.PCSCD_NOT_RUNNING, "/run/pcscd/pcscd.comm", "Connection refused")


def test_card_authentication() -> None:
    assert is_fine(probes.card_authentication(None))
    psam = AuthenticationSeen("psam", needed=False, told="370000000001")
    assert is_fine(probes.card_authentication(psam))
    assert "370000000001" in probes.card_authentication(psam).finding_zh
    assert is_fine(probes.card_authentication(replace(psam, told="")))
    assert is_fine(probes.card_authentication(AuthenticationSeen("gateway", needed=True)))
    assert is_fine(probes.card_authentication(replace(psam, error=YikatongError(Reason.DEVICE_BUSY))))
    held = replace(psam, error=YikatongError(Reason.DEVICE_BUSY, "held", pcsc="SCARD_E_SHARING_VIOLATION"))
    says(probes.card_authentication(held), Severity.DEGRADED, Reason.DEVICE_BUSY, "held")
    gone = replace(psam, error=YikatongError(Reason.NO_PSAM, "PSAM: there is no card"))
    says(probes.card_authentication(gone), Severity.DEGRADED, Reason.NO_PSAM, "PSAM: there is no card")
    says(probes.card_authentication(replace(gone, needed=True)), Severity.FAILED, Reason.NO_PSAM)
    silent = replace(psam, answered=False)
    says(probes.card_authentication(silent), Severity.DEGRADED, Reason.PSAM_FAILED, "no answer in time")
    without = AuthenticationSeen("gateway", needed=False, error=YikatongError(Reason.HSM_UNAVAILABLE))
    says(probes.card_authentication(without), Severity.DEGRADED, Reason.HSM_UNAVAILABLE)


def test_card() -> None:
    with_card = state(card=True)
    assert is_fine(probes.card(None, None))
    assert is_fine(probes.card(state(), None))
    assert is_fine(probes.card(with_card, sample.IDENTITY))
    assert is_fine(probes.card(with_card, YikatongError(Reason.NO_CARD)))
    assert is_fine(probes.card(with_card, YikatongError(Reason.DEVICE_BUSY)))
    assert is_fine(probes.card_in_use())
    held = YikatongError(Reason.DEVICE_BUSY, "another program holds the reader", pcsc="SCARD_E_SHARING_VIOLATION")
    says(probes.card(with_card, held), Severity.DEGRADED, Reason.DEVICE_BUSY, "another program")
    says(probes.card(with_card, None), Severity.DEGRADED, Reason.CARD_MUTE)
    says(probes.card(with_card, YikatongError(Reason.CARD_MALFORMED)), Severity.DEGRADED, Reason.CARD_MALFORMED)


def test_a_readable_card_is_shown_masked() -> None:
    shown = probes.card(state(card=True), sample.IDENTITY)
    whole = sample.IDENTITY.card_number.reveal()
    assert whole not in shown.finding_zh + shown.finding_en


def test_pin_keypad() -> None:
    device = "/dev/yikatong/pinpad0"
    assert is_fine(probes.pin_keypad("", None))
    assert is_fine(probes.pin_keypad(device, KeypadSeen(answered=True)))
    says(probes.pin_keypad(device, KeypadSeen(answered=False)), Severity.FAILED, Reason.PIN_KEYPAD_FAILED, device)
    gone = KeypadSeen(answered=True, error=YikatongError(Reason.NO_PIN_KEYPAD))
    says(probes.pin_keypad(device, gone), Severity.FAILED, Reason.NO_PIN_KEYPAD, device)


# --- the link ---------------------------------------------------------------------------------------------------

LINK = LinkSeen("gateway.example:8443", GRANTED, None, fenced=False, reachable=True)


def test_gateway() -> None:
    assert is_fine(probes.gateway(LINK))
    down = replace(LINK, reachable=False)
    says(probes.gateway(down), Severity.FAILED, Reason.GATEWAY_UNREACHABLE, "gateway.example:8443")
    says(probes.gateway(replace(LINK, granted=None)), Severity.FAILED, Reason.NOT_SIGNED_IN, "gateway.example:8443")
    refused = replace(LINK, granted=None, refusal=Reason.TERMINAL_UNKNOWN)
    says(probes.gateway(refused), Severity.FAILED, Reason.TERMINAL_UNKNOWN)
    fenced = replace(LINK, fenced=True, reachable=False)
    says(probes.gateway(fenced), Severity.FAILED, Reason.TERMINAL_SUPERSEDED)


def certificate(begin: timedelta, end: timedelta) -> Probe:
    return probes.certificate(Validity(NOW + begin, NOW + end), NOW)


def test_certificate() -> None:
    day = timedelta(days=1)
    assert is_fine(certificate(-day, 14 * day))
    says(certificate(-day, 14 * day - timedelta(seconds=1)), Severity.DEGRADED, Reason.CERTIFICATE_INVALID, "13")
    says(certificate(-day, timedelta()), Severity.FAILED, Reason.CERTIFICATE_INVALID, "2026-03-10")
    says(certificate(day, 90 * day), Severity.FAILED, Reason.CLOCK_WRONG, "2026-03-11", "2026-03-10")
    unreadable = probes.certificate(YikatongError(Reason.CERTIFICATE_INVALID, "no file"), NOW)
    says(unreadable, Severity.FAILED, Reason.CERTIFICATE_INVALID, "no file")


@pytest.mark.parametrize("sign", [1, -1])
def test_clock(sign: int) -> None:
    assert is_fine(probes.clock(None))
    assert is_fine(probes.clock(sign * timedelta(seconds=2)))
    says(probes.clock(sign * timedelta(seconds=2.1)), Severity.DEGRADED, Reason.CLOCK_WRONG, "2.1")


def test_clock_says_which_way() -> None:
    assert "ahead" in probes.clock(timedelta(minutes=1)).finding_en
    assert "behind" in probes.clock(-timedelta(minutes=1)).finding_en


# --- the journal and what it says -------------------------------------------------------------------------------


def test_journal() -> None:
    assert is_fine(probes.journal(None))
    says(probes.journal("disk full"), Severity.FAILED, Reason.JOURNAL_UNAVAILABLE, "disk full")


def test_disk() -> None:
    mib = 2**20
    assert is_fine(probes.disk(64 * mib, 1024 * mib))
    says(probes.disk(64 * mib - 1, 1024 * mib), Severity.FAILED, Reason.JOURNAL_UNAVAILABLE)
    assert is_fine(probes.disk(200 * mib, 10_000 * mib))
    says(probes.disk(200 * mib - 1, 10_000 * mib), Severity.DEGRADED, Reason.JOURNAL_UNAVAILABLE)


def open_rows(*rows: tuple[State, int]) -> list[OpenRow]:
    return [OpenRow(replace(request(order_no=f"order-{n}"), state=row[0]), row[1]) for n, row in enumerate(rows)]


def judged(*rows: tuple[State, int]) -> Probe:
    return probes.open_transactions(open_rows(*rows), limit=20, limit_ms=1440 * MINUTE_MS)


def test_open_transactions() -> None:
    assert is_fine(judged())
    assert is_fine(judged((State.SENT, 5 * MINUTE_MS)))
    oldest = judged((State.SENT, MINUTE_MS), (State.REVERSING, 5 * MINUTE_MS + 1))
    says(oldest, Severity.DEGRADED, Reason.OUTCOME_PENDING, "order-1", "2")
    alarm = judged((State.REVERSING, 30 * MINUTE_MS + 1))
    says(alarm, Severity.DEGRADED, Reason.OUTCOME_PENDING, "order-0")
    assert "警报" in alarm.finding_zh
    assert "警报" not in oldest.finding_zh
    says(judged((State.MANUAL, MINUTE_MS)), Severity.DEGRADED, Reason.NEEDS_OPERATOR)


def test_what_waits_for_others_is_not_overdue() -> None:
    assert is_fine(judged((State.ACCEPTED, 600 * MINUTE_MS), (State.HELD, 600 * MINUTE_MS)))


def test_too_many_open_transactions_stop_the_terminal() -> None:
    assert judged(*[(State.SENT, 1)] * 20).severity is Severity.OK
    says(judged(*[(State.SENT, 1)] * 21), Severity.FAILED, Reason.TOO_MANY_UNRESOLVED, "21")
    assert judged(*[(State.MANUAL, 1)] * 21).severity is Severity.DEGRADED, "those wait for people"


def test_one_that_is_open_for_a_day_stops_the_terminal() -> None:
    assert judged((State.REVERSING, 1440 * MINUTE_MS)).severity is Severity.DEGRADED
    says(judged((State.REVERSING, 1440 * MINUTE_MS + 1)), Severity.FAILED, Reason.TOO_MANY_UNRESOLVED)
    assert is_fine(judged((State.ACCEPTED, 2000 * MINUTE_MS)))


def test_an_open_credit_is_counted_by_its_age_and_never_stops_debits() -> None:
    def seen(state: CreditState, age_ms: int) -> Probe:
        row = OpenRow(replace(CREDIT, state=state), age_ms)
        return probes.open_transactions([row], limit=20, limit_ms=1440 * MINUTE_MS)

    says(seen(CreditState.SENT, 2000 * MINUTE_MS), Severity.DEGRADED, Reason.OUTCOME_PENDING, "refunded")
    assert is_fine(seen(CreditState.ACCEPTED, 2000 * MINUTE_MS))


CREDIT = Credit(
    kind=CreditKind.REFUND,
    transaction_id=TransactionId("c"),
    request_id=RequestId("c"),
    original=TransactionId("d"),
    amount_fen=1,
    state=CreditState.SENT,
    order_no="refunded",
)


def report(age: timedelta, *, passed: bool = True) -> Report:
    steps = (
        SelfTestStep("journal", True, "", "", "", 1),
        SelfTestStep("path", passed, "" if passed else "NO_ANSWER_IN_TIME", "", "", 1),
    )
    return Report("5f0d1b6e-8f2b-4a38-9c1c-3a6b9f0c2d11", (NOW - age).isoformat(), steps)


def test_self_test() -> None:
    assert is_fine(probes.self_test(report(timedelta(days=8)), NOW, 8))
    says(probes.self_test(None, NOW, 8), Severity.DEGRADED, Reason.SELF_TEST_OVERDUE)
    late = probes.self_test(report(timedelta(days=8, seconds=1)), NOW, 8)
    says(late, Severity.DEGRADED, Reason.SELF_TEST_OVERDUE, "8")
    red = probes.self_test(report(timedelta(days=1), passed=False), NOW, 8)
    says(red, Severity.DEGRADED, Reason.SELF_TEST_FAILED, "path")
    assert "journal" not in red.finding_en


@pytest.mark.parametrize(
    ("step", "reason", "stops"),
    [
        ("tombstone", Reason.ANSWER_DOES_NOT_FIT, True),
        ("journal", Reason.JOURNAL_UNAVAILABLE, True),
        ("path", Reason.GATEWAY_UNREACHABLE, False),
        ("reversal", Reason.OUTCOME_PENDING, False),
        ("reader", Reason.INTERNAL, False),
    ],
)
def test_a_self_test_that_disproves_the_way_of_the_money_stops_the_terminal(
    step: str, reason: Reason, stops: bool
) -> None:
    last = replace(report(timedelta()), steps=(SelfTestStep(step, False, reason.value, "", "", 1),))
    severity = Severity.FAILED if stops else Severity.DEGRADED
    says(probes.self_test(last, NOW, 8), severity, Reason.SELF_TEST_FAILED, step)


def test_configuration() -> None:
    assert is_fine(probes.configuration(development=False, simulated_reader=False))
    simulated = probes.configuration(development=True, simulated_reader=True)
    assert is_fine(simulated)
    assert "simulated" in simulated.finding_en


@pytest.mark.parametrize(("policy", "fault"), [("", "1"), ("1", ""), ("12393", probes.HOTLINE_PLACEHOLDER)])
def test_hotlines_must_be_set(policy: str, fault: str) -> None:
    says(probes.hotlines(policy, fault), Severity.DEGRADED, Reason.CONFIGURATION_INVALID)


def test_hotlines() -> None:
    assert is_fine(probes.hotlines("12393", "0531-1234567"))
