"""Bad card or bad reader? What the counts of reads mean, and when they mean nothing yet. Pure.

A sound reader fails now and then: on NORMAL_SHARE of its cards, say (assumption, until terminals have told). What a
reader did is held against it where a sound one would do so in fewer than one of a hundred windows: with thirty cards
that takes four that fail, with a hundred seven. Fewer than thirty cards convict nobody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from yikatong.core.card import CardBatch
from yikatong.core.reasons import Reason
from yikatong.terminal.probes import Probe, degraded, fine
from yikatong.terminal.reading_window import Failing, Record, Suspect, Tally, Window

NAME: Final = "card-reading"
NORMAL_SHARE: Final = 0.02
CHANCE_MAX: Final = 0.01
SHARE_MIN: Final = 0.04
"""With thousands of cards a trifle above normal is no chance any more, and yet nothing to go there for."""
CARDS_MIN: Final = 30
BATCH_CARDS_MIN: Final = 10
BATCH_TIMES: Final = 3.0
"""A batch is to blame where it fails so many times as often as all other cards at the same reader."""
SUSPECT_FAILURES: Final = 3
SUSPECT_OTHERS: Final = 5
"""A sound reader fails three times in a row on a good card eight times in a million; one that fails on every second
card reads five others in a row once in thirty-two times."""

_EXACT_MAX: Final = 2000
_SD_OF_ONE_IN_A_HUNDRED: Final = 2.33

_FAILING_ZH: Final = {
    Failing.MUTE: "无应答",
    Failing.REMOVED: "中途拔出",
    Failing.RESET: "断电",
    Failing.MALFORMED: "数据错误",
    Failing.READER: "读卡器故障",
}
_FAILING_EN: Final = {
    Failing.MUTE: "no answer",
    Failing.REMOVED: "pulled out in the middle",
    Failing.RESET: "power lost",
    Failing.MALFORMED: "bad data",
    Failing.READER: "reader failed",
}


class Verdict(Enum):
    TOO_FEW = auto()
    WELL = auto()
    READER = auto()
    BATCH = auto()


@dataclass(frozen=True, slots=True)
class Judged:
    """What the cards of `window` say. `batch` and `tally` are those to blame."""

    verdict: Verdict
    window: Window
    batch: CardBatch | None = None
    tally: Tally | None = None


def judge(record: Record) -> Judged:
    """By the present window where it has enough cards, else together with the one before."""
    window = record.current if record.current.all.cards >= CARDS_MIN else record.all()
    if window.all.cards < CARDS_MIN:
        return Judged(Verdict.TOO_FEW, window)
    for batch, tally in _batches(window):
        rest = window.all.minus(tally)
        worse = tally.share >= BATCH_TIMES * max(rest.share, NORMAL_SHARE)
        if tally.cards >= BATCH_CARDS_MIN and worse and fails(tally) and rest.cards >= CARDS_MIN and not fails(rest):
            return Judged(Verdict.BATCH, window, batch, tally)
    return Judged(Verdict.READER if fails(window.all) else Verdict.WELL, window)


def fails(tally: Tally) -> bool:
    """Whether so many failures are more than chance, and worth a visit."""
    if tally.share < SHARE_MIN:
        return False
    if tally.cards > _EXACT_MAX:
        mean = tally.cards * NORMAL_SHARE
        return tally.failed > mean + _SD_OF_ONE_IN_A_HUNDRED * math.sqrt(mean * (1 - NORMAL_SHARE))
    return 1 - sum(_chance(failed, tally.cards) for failed in range(tally.failed)) < CHANCE_MAX


def _chance(failed: int, cards: int) -> float:
    """That of so many cards exactly so many fail at a sound reader."""
    ways = math.lgamma(cards + 1) - math.lgamma(failed + 1) - math.lgamma(cards - failed + 1)
    return math.exp(ways + failed * math.log(NORMAL_SHARE) + (cards - failed) * math.log(1 - NORMAL_SHARE))


def probe(reader: str, record: Record | None, suspect: Suspect | None, *, set_aside: str = "") -> Probe:
    """The line of `doctor`. `set_aside`: where the damaged record of earlier reads lies, if it was damaged."""
    anew_zh = f"原读卡记录已损坏，移至 {set_aside}，重新开始计数。" if set_aside else ""
    anew_en = f" The record was damaged and lies in {set_aside}; counting began anew." if set_aside else ""
    if record is None:
        return fine(NAME, f"还没有读过卡。{anew_zh}", f"No card has been read yet.{anew_en}")
    judged = judge(record)
    zh, en = _counts(judged.window)
    match judged.verdict:
        case Verdict.READER:
            zh, en = f"读卡器 {reader} 读卡失败偏多：{zh}", f"Reader {reader} fails too often: {en}"
            return degraded(NAME, Reason.READER_FAILS_OFTEN, zh + anew_zh, en + anew_en)
        case Verdict.BATCH:
            zh = f"一批卡失败偏多（{_batch(judged, '发卡地', '规范', '芯片')}）；全部：{zh}"
            en = f"One batch fails too often ({_batch(judged, 'issued in', 'specification', 'chip')}); all: {en}"
            return degraded(NAME, Reason.CARD_BATCH_FAILS_OFTEN, zh + anew_zh, en + anew_en)
        case Verdict.TOO_FEW:
            zh += f"不足 {CARDS_MIN} 张，不判断读卡器。"
            en += f" Fewer than {CARDS_MIN}: too few to judge the reader."
    if suspect is not None and suspect.failures >= SUSPECT_FAILURES and suspect.others >= SUSPECT_OTHERS:
        zh += f"最近一张卡失败 {suspect.failures} 次，一天内另有 {suspect.others} 张读出："
        zh += "是这张卡的问题，不是读卡器。"
        en += (
            f" The last card failed {suspect.failures} times, while {suspect.others} others were read within a day:"
            " it is that card, and not the reader."
        )
    return fine(NAME, zh + anew_zh, en + anew_en)


def _counts(window: Window) -> tuple[str, str]:
    """One sentence each."""
    kinds = [(kind, count) for kind in Failing if (count := window.failing.get(kind, 0))]
    zh_kinds = "，".join(f"{_FAILING_ZH[kind]} {count}" for kind, count in kinds)
    en_kinds = ", ".join(f"{_FAILING_EN[kind]} {count}" for kind, count in kinds)
    tally, median = window.all, window.median_ms
    zh = f"自 {window.since} 读 {tally.cards} 张卡，{tally.failed} 张失败（{100 * tally.share:.0f} %"
    en = f"{tally.cards} cards since {window.since}, {tally.failed} failed ({100 * tally.share:.0f} %"
    zh += f"：{zh_kinds}）" if kinds else "）"
    en += f": {en_kinds})" if kinds else ")"
    if median:
        zh, en = f"{zh}，半数在 {median} ms 内读完", f"{en}, half of them read within {median} ms"
    return f"{zh}。", f"{en}."


def _batch(judged: Judged, region: str, version: str, chip: str) -> str:
    batch, tally = judged.batch, judged.tally
    assert batch is not None, "a verdict names its batch"
    assert tally is not None, "a verdict counts its batch"
    parts = [(region, batch.issuing_region), (version, batch.spec_version), (chip, batch.chip)]
    named = " ".join(f"{name} {value}" for name, value in parts if value)
    return f"{named}: {tally.failed} / {tally.cards}"


def _batches(window: Window) -> list[tuple[CardBatch, Tally]]:
    """Each batch, then each chip whoever issued it: a card that fails early has told no more."""
    batches = window.by_batch()
    chips: dict[str, Tally] = {}
    for batch, tally in batches:
        chips[batch.chip] = chips.get(batch.chip, Tally()).plus(tally)
    whole = [(batch, tally) for batch, tally in batches if batch.issuing_region]
    return whole + [(CardBatch(chip=chip), tally) for chip, tally in chips.items()]
