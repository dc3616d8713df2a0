"""Stages in words: whom we wait for, since when, what is usual here, and nothing invented."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.rows import row
from yikatong.core.credit_orders import CreditKind
from yikatong.core.credit_table import CreditState
from yikatong.core.credit_transaction import Credit
from yikatong.core.terminal_table import FINAL, Go, HisConfirmed, State, Told, step, verdict
from yikatong.core.transaction import Transaction
from yikatong.core.values import RequestId, TransactionId
from yikatong.terminal.events import Hub
from yikatong.terminal.stages import PARTIES, Party, Stage, StageReached, Times, Waiting, stage_of, waits_for
from yikatong.terminal.usual import Usual

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WEIHAI = {"home_region": "371000", "home_city_zh": "威海", "home_city_en": "Weihai"}


def reached(made: Transaction, stage: Stage, at_ms: int) -> StageReached:
    return StageReached(made, stage, NOW, at_ms)


def credit(state: CreditState) -> Credit:
    return Credit(
        kind=CreditKind.REFUND,
        transaction_id=TransactionId("t"),
        request_id=RequestId("r"),
        original=TransactionId("o"),
        amount_fen=1,
        state=state,
    )


@pytest.mark.parametrize("state", [state for state in State if state is not State.PREPARED])
def test_whatever_is_open_waits_for_somebody_and_what_is_final_for_nobody(state: State) -> None:
    stage = stage_of(row(state))
    assert (stage is Stage.DONE) == (state in FINAL)
    assert (waits_for(stage, reachable=True) is None) == (state in FINAL)


@pytest.mark.parametrize("state", list(CreditState))
def test_a_credit_waits_until_it_is_decided(state: CreditState) -> None:
    decided = state in {CreditState.APPROVED, CreditState.DECLINED}
    assert stage_of(credit(state)) is (Stage.DONE if decided else Stage.GIVING_BACK)


def test_without_the_link_it_is_the_gateway_that_we_wait_for() -> None:
    assert waits_for(Stage.ASKING_CITY, reachable=False) is Party.GATEWAY
    assert waits_for(Stage.REVERSING, reachable=False) is Party.GATEWAY
    assert waits_for(Stage.GIVING_BACK, reachable=False) is Party.GATEWAY
    assert waits_for(Stage.WAITING_FOR_PIN, reachable=False) is Party.KEYPAD
    assert set(PARTIES) == set(Stage) - {Stage.DONE}


WAITING = Waiting(Party.HOME_CITY, "威海", "Weihai", 12_900, Times(800, 1_400, 50), 1, ends_unpaid=False)


@pytest.mark.parametrize(
    ("waiting", "zh", "en"),
    [
        (
            WAITING,
            "正在等待参保地威海答复，已 12 秒，通常 2 秒内。",
            "Waiting for the home city Weihai for 12 s, usually within 2 s.",
        ),
        (
            replace(WAITING, usual=None, city_zh="", city_en="", attempts=3),
            "正在等待参保地答复，已 12 秒，通常用时尚不清楚，第 3 次询问。",
            "Waiting for the home city for 12 s, how long is usual is not known yet, asked 3 times.",
        ),
        (
            replace(WAITING, elapsed_ms=185_000, ends_unpaid=True),
            "正在等待参保地威海答复，已 3 分 5 秒，通常 2 秒内；本笔最终不扣款，可改收现金。",
            "Waiting for the home city Weihai for 3 min 5 s, usually within 2 s; in the end nothing is taken,"
            " cash may be taken.",
        ),
        (
            replace(WAITING, party=Party.GATEWAY, elapsed_ms=7_380_000),
            "正在等待网关答复，已 2 小时 3 分，通常 2 秒内。",
            "Waiting for the gateway for 2 h 3 min, usually within 2 s.",
        ),
        (
            replace(WAITING, party=Party.CARD_HOLDER, elapsed_ms=0, usual=Times(10, 10, 5)),
            "正在等待持卡人插卡，已 0 秒，通常 1 秒内。",
            "Waiting for the cardholder to insert the card for 0 s, usually within 1 s.",
        ),
    ],
)
def test_a_stage_in_one_sentence(waiting: Waiting, zh: str, en: str) -> None:
    assert waiting.sentence_zh() == zh
    assert waiting.sentence_en() == en


# --- what is usual ----------------------------------------------------------------------------------------------


def passed(usual: Usual, milliseconds: int, *, ends: Stage = Stage.DONE, **changes: Any) -> None:
    made = row(State.SENT)
    usual.passed(reached(made, Stage.ASKING_CITY, 100), reached(replace(made, **changes), ends, 100 + milliseconds))


def test_nothing_is_usual_before_enough_is_known() -> None:
    usual = Usual()
    for _ in range(4):
        passed(usual, 900, **WEIHAI)
    assert usual.of(Stage.ASKING_CITY, "371000") is None
    passed(usual, 900, **WEIHAI)
    assert usual.of(Stage.ASKING_CITY, "371000") == Times(900, 900, 5)


def test_half_and_ninety_five_of_a_hundred_of_the_last_fifty() -> None:
    usual = Usual()
    for milliseconds in [60_000] * 10 + list(range(1, 51)):
        passed(usual, milliseconds, **WEIHAI)
    assert usual.of(Stage.ASKING_CITY, "371000") == Times(25, 48, 50)


def test_a_city_has_its_own_times_and_an_unknown_one_those_of_all() -> None:
    usual = Usual()
    for _ in range(5):
        passed(usual, 2_000, **WEIHAI)
        passed(usual, 100, home_region="370200")
    far, near, other = (usual.of(Stage.ASKING_CITY, region) for region in ("371000", "370200", "370600"))
    assert far is not None
    assert near is not None
    assert other is not None
    assert (far.median_ms, near.median_ms, other.count) == (2_000, 100, 10)


def test_what_was_given_up_or_never_reached_the_city_is_not_usual() -> None:
    usual = Usual()
    made = row(State.PREPARED)
    for _ in range(9):
        passed(usual, 30_000, ends=Stage.REVERSING, **WEIHAI)
        passed(usual, 5)  # refused by the gateway itself
        usual.passed(reached(made, Stage.WAITING_FOR_CARD, 0), reached(made, Stage.DONE, 60_000))
        usual.passed(reached(made, Stage.REVERSING, 0), reached(made, Stage.REVERSAL_PROMISED, 60_000))
    assert [usual.of(stage) for stage in Stage] == [None] * len(Stage)
    for _ in range(5):
        usual.passed(reached(made, Stage.WAITING_FOR_CARD, 0), reached(made, Stage.READING_CARD, 3_000))
        usual.passed(reached(made, Stage.REVERSING, 0), reached(made, Stage.DONE, 4_000))
    assert usual.of(Stage.WAITING_FOR_CARD) == Times(3_000, 3_000, 5)
    assert usual.of(Stage.REVERSING) == Times(4_000, 4_000, 5)


def test_the_journal_s_rows_teach_what_is_usual_and_where_cards_are_insured() -> None:
    usual = Usual()
    rows = [row(State.APPROVED, card_tag="tag", answered_after_ms=700 + number, **WEIHAI) for number in range(5)]
    usual.seed([*rows, row(State.REVERSED, card_tag="other"), row(State.DECLINED, answered_after_ms=3)])
    assert usual.of(Stage.ASKING_CITY, "371000") == Times(702, 704, 5)
    home = usual.home_of(row(State.SENT, card_tag="tag"))
    assert home is not None
    assert home.name_zh == "威海"
    assert usual.home_of(row(State.SENT, card_tag="other")) is None


def test_a_row_knows_how_long_the_far_end_took() -> None:
    sent = row(State.PREPARED).moved(step(State.PREPARED, Go()), at="t", at_boot_ms=1_000)
    assert (sent.sent_boot_ms, sent.answered_after_ms) == (1_000, 0)
    for state in State:
        moved = sent.moved(replace(step(State.PREPARED, Go()), next=state), at="t", at_boot_ms=1_800)
        decided = verdict(state).told in {Told.APPROVED, Told.DECLINED}
        assert moved.answered_after_ms == (800 if decided else 0), state
    held = replace(sent, state=State.HELD, answered_after_ms=800)
    confirmed = held.moved(step(State.HELD, HisConfirmed()), at="t", at_boot_ms=50_000)
    assert confirmed.answered_after_ms == 800, "the HIS's time is not the city's"


# --- the hub keeps what is the case now -------------------------------------------------------------------------


async def test_a_stage_is_told_once_and_kept_with_its_beginning_until_it_is_over() -> None:
    hub, made = Hub(), row(State.SENT)
    with hub.watching() as queue:
        hub.tell(reached(made, Stage.ASKING_CITY, 100))
        hub.tell(reached(made, Stage.ASKING_CITY, 900))
        assert queue.qsize() == 1
        assert [stage.since_boot_ms for stage in hub.present()] == [100]
        hub.tell(reached(made, Stage.REVERSING, 1_000))
        assert [stage.stage for stage in hub.present()] == [Stage.REVERSING]
        hub.tell(reached(made, Stage.DONE, 2_000))
        assert hub.present() == []
        assert [queue.get_nowait().stage for _ in range(queue.qsize())] == [  # type: ignore[union-attr]  # all stages
            Stage.ASKING_CITY,
            Stage.REVERSING,
            Stage.DONE,
        ]
