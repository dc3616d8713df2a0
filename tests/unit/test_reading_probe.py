"""Bad card or bad reader: what counts mean, and that few cards mean nothing."""

from __future__ import annotations

import math
import random

import pytest

from tests.support.reads import BATCH, OTHER, Window
from yikatong.core.card import CardBatch
from yikatong.core.reasons import Reason
from yikatong.terminal.probes import Severity
from yikatong.terminal.reading_probe import (
    CARDS_MIN,
    NORMAL_SHARE,
    SUSPECT_FAILURES,
    SUSPECT_OTHERS,
    Verdict,
    fails,
    judge,
    probe,
)
from yikatong.terminal.reading_window import Record, Suspect, Tally
from yikatong.terminal.reading_window import Window as Counted


def record(*batches: tuple[CardBatch | None, int, int]) -> Record:
    """Of each batch (None: cards that said nothing of themselves) so many cards, and how many failed."""
    counted = Counted("2026-11-20")
    for batch, cards, failed in batches:
        counted.all = counted.all.plus(Tally(cards, failed))
        if batch is not None:
            key = f"{batch.issuing_region}/{batch.spec_version}/{batch.chip}"
            counted.batches[key] = counted.batches.get(key, Tally()).plus(Tally(cards, failed))
    return Record(counted)


@pytest.mark.parametrize(
    ("cards", "failed", "guilty"),
    [
        (3, 3, True),
        (30, 3, False),
        (30, 4, True),
        (50, 4, False),
        (50, 5, True),
        (100, 6, False),
        (100, 7, True),
        (200, 9, False),
        (200, 10, True),
        (2000, 79, False),
        (2000, 80, True),
        (1_000_000, 39_999, False),
        (1_000_000, 40_000, True),
        (1_000_000_000, 1_000_000_000, True),
        (0, 0, False),
    ],
)
def test_how_many_failures_are_more_than_chance(cards: int, failed: int, guilty: bool) -> None:
    assert fails(Tally(cards, failed)) is guilty


def test_sound_readers_are_rarely_accused_and_bad_ones_mostly() -> None:
    """Ten thousand windows of a hundred cards: what one in a hundred means, played."""
    dice = random.Random(1)

    def accused(share: float) -> int:
        return sum(fails(Tally(100, sum(dice.random() < share for _ in range(100)))) for _ in range(10_000))

    assert accused(NORMAL_SHARE) < 100
    assert accused(0.15) > 9_500


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [
        (record((BATCH, CARDS_MIN - 1, CARDS_MIN - 1)), Verdict.TOO_FEW),
        (record((BATCH, CARDS_MIN, 0)), Verdict.WELL),
        (record((BATCH, 100, 6)), Verdict.WELL),
        (record((BATCH, 100, 7)), Verdict.READER),
        (record((BATCH, 93, 0), (None, 7, 7)), Verdict.READER),
        (record((BATCH, 20, 8), (OTHER, 100, 1)), Verdict.BATCH),
        (record((BATCH, 20, 8), (OTHER, 100, 8)), Verdict.READER),  # the others fail as well
        (record((BATCH, 20, 8), (OTHER, 29, 0)), Verdict.READER),  # too few others to clear the reader
        (record((BATCH, 9, 6), (OTHER, 100, 1)), Verdict.READER),  # too few of the batch to accuse it
        (record((BATCH, 500, 25), (OTHER, 500, 9)), Verdict.WELL),  # neither thrice as bad nor enough in all
    ],
)
def test_who_is_to_blame(counted: Record, verdict: Verdict) -> None:
    assert judge(counted).verdict is verdict


def test_a_chip_is_blamed_where_its_cards_fail_before_they_say_who_issued_them() -> None:
    early = CardBatch("", "", OTHER.chip)
    judged = judge(record((BATCH, 100, 1), (OTHER, 15, 0), (early, 10, 10)))
    assert (judged.verdict, judged.batch, judged.tally) == (Verdict.BATCH, CardBatch(chip=OTHER.chip), Tally(25, 10))
    judged = judge(record((BATCH, 100, 1), (OTHER, 15, 8), (early, 1, 1)))
    assert judged.batch == OTHER, "the narrower one comes first"


def test_the_present_window_is_judged_alone_as_soon_as_it_has_enough() -> None:
    """A reader that was cleaned is soon forgiven, and a window that has just begun does not forgive it."""
    before = record((BATCH, 100, 20)).current
    assert judge(Record(record((BATCH, CARDS_MIN - 1, 0)).current, before)).verdict is Verdict.READER
    assert judge(Record(record((BATCH, CARDS_MIN, 0)).current, before)).verdict is Verdict.WELL


# --- what doctor says -----------------------------------------------------------------------------------------------


def test_nothing_yet() -> None:
    told = probe("reader", None, None)
    assert (told.severity, told.finding_en) == (Severity.OK, "No card has been read yet.")


def test_a_reader_that_fails() -> None:
    window = Window()
    window.day(100, 7)
    told = probe("槽位 2", window.record, None)
    assert (told.severity, told.reason) == (Severity.DEGRADED, Reason.READER_FAILS_OFTEN)
    assert told.finding_zh == (
        "读卡器 槽位 2 读卡失败偏多：自 2026-11-22 读 100 张卡，7 张失败（7 %：无应答 7），半数在 500 ms 内读完。"
    )
    assert told.finding_en == (
        "Reader 槽位 2 fails too often: 100 cards since 2026-11-22, 7 failed (7 %: no answer 7),"
        " half of them read within 500 ms."
    )
    assert told.next_zh == "请确认插卡方向有标示，并清洁读卡槽和触点；仍然偏多时更换读卡器。"


def test_a_batch_that_fails() -> None:
    told = probe("reader", record((BATCH, 20, 8), (OTHER, 100, 1)), None)
    assert (told.severity, told.reason) == (Severity.DEGRADED, Reason.CARD_BATCH_FAILS_OFTEN)
    assert "发卡地 371000 规范 2.00 芯片 00815443308699: 8 / 20" in told.finding_zh
    assert "issued in 371000 specification 2.00 chip 00815443308699: 8 / 20" in told.finding_en
    assert "keep the reader" in told.next_en


def test_too_few_cards_are_shown_and_not_judged() -> None:
    told = probe("reader", record((BATCH, 12, 6)), None)
    assert (told.severity, told.reason) == (Severity.OK, None)
    assert told.finding_zh == "自 2026-11-20 读 12 张卡，6 张失败（50 %）。不足 30 张，不判断读卡器。"


@pytest.mark.parametrize(
    ("suspect", "told_of"),
    [(Suspect(3, 5), True), (Suspect(2, 50), False), (Suspect(3, 4), False), (Suspect(9, 60), True), (None, False)],
)
def test_only_this_card(suspect: Suspect | None, told_of: bool) -> None:
    told = probe("reader", record((BATCH, 60, 1)), suspect)
    assert told.severity is Severity.OK
    assert ("是这张卡的问题" in told.finding_zh) is told_of
    assert ("it is that card" in told.finding_en) is told_of
    guilty = probe("reader", record((BATCH, 100, 20)), suspect)
    assert "it is that card" not in guilty.finding_en, "a reader that fails is to be cleaned first"


def test_a_record_that_was_damaged_is_told() -> None:
    told = probe("reader", None, None, set_aside="/var/lib/yikatong/reading.json.damaged")
    assert "/var/lib/yikatong/reading.json.damaged" in told.finding_zh
    for counted in (record((BATCH, 100, 20)), record((BATCH, 20, 8), (OTHER, 100, 1)), record((BATCH, 40, 0))):
        assert "counting began anew" in probe("reader", counted, None, set_aside="there").finding_en


def test_the_reasons_for_three_failures_and_five_others_hold() -> None:
    assert math.isclose(NORMAL_SHARE**SUSPECT_FAILURES, 8e-6)
    assert math.isclose(0.5**SUSPECT_OTHERS, 1 / 32)
