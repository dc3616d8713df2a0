"""`yikatong simulate card --replay`: a recorded card in the virtual reader."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from yikatong.cli import output
from yikatong.cli.simulate import hold
from yikatong.simulators.card.recording import Recording, RecordingRefused, load
from yikatong.simulators.card.replay import ReplayedCard
from yikatong.simulators.vpcd import PORT_DEFAULT


def hold_recorded(file: Path, number: int | None, port: int | None) -> None:
    """Until Ctrl-C or SIGTERM. Exit status 1 where the file is no recording, or has no such card."""
    recording = _load(file)
    count, number = len(recording.cards), number or recording.usual
    if number > count:
        output.say(
            f"✗ {file} 中的卡编号为 1 至 {count}，没有 {number}。",
            f"✗ The cards in {file} are numbered 1 to {count}; there is no {number}.",
            error=True,
        )
        sys.exit(1)
    card = recording.cards[number - 1]
    if recording.missed:
        zh, en = f"录制时缺少 {recording.missed} 条", f"{recording.missed} events are missing in the recording"
        output.say(f"！{zh}。", f"! {en}.", error=True)
    english = output.language() == "en"  # asked here: the card's thread knows nothing of the command's options

    def tell(zh: str, en: str) -> None:
        click.echo(f"! {en}" if english else f"！{zh}", err=True)

    told = {"file": str(file), "card": number, "cards": count, "stays": len(card.stays), "device": card.device}
    hold(
        ReplayedCard(card, tell),
        port or PORT_DEFAULT,
        told,
        (
            f"已插入录制的第 {number} 张卡（共 {count} 张），回放 {len(card.stays)} 次上电。",
            f"card {number} of {count} recorded is in, as it was each of {len(card.stays)} times.",
        ),
    )


def _load(file: Path) -> Recording:
    try:
        return load(file)
    except RecordingRefused as error:
        place = f"{file}:{error.line}" if error.line else str(file)
        output.say(f"✗ {place}：{error.zh}", f"✗ {place}: {error.en}", error=True)
    except OSError as error:
        output.say(f"✗ 无法读取 {file}：{error.strerror}", f"✗ {file} can't be read: {error.strerror}", error=True)
    sys.exit(1)
