"""`yikatong simulate`: a simulator on its own, for whoever integrates without the device."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yikatong.cli import output
from yikatong.cli.faults import faults
from yikatong.core.reasons import YikatongError

if TYPE_CHECKING:
    from yikatong.simulators.card.deck import DeckCard


@click.group()
def simulate() -> None:
    """单独运行模拟器 / Run a simulator on its own."""


simulate.add_command(faults)


@simulate.command()
@click.argument("name", required=False, default="works")
@click.option("--list", "list_deck", is_flag=True, help="列出全部测试卡 / list the deck of test cards")
@click.option("--port", type=click.IntRange(1, 65535), help="虚拟读卡器端口 / the virtual reader's port (35963)")
@output.with_json
@output.with_language
def card(name: str, list_deck: bool, port: int | None) -> None:
    """把测试卡插入本机 pcscd 的虚拟读卡器 / Put a test card into the virtual reader of this machine's pcscd.

    按 Ctrl-C 拔卡。虚拟读卡器监听所有网络地址，仅供开发使用。
    Ctrl-C takes it out. The virtual reader listens on every address: for development only.

    退出码：0 已拔出，1 没有虚拟读卡器。 / Exit status: 0 taken out, 1 there is no virtual reader.
    """
    from yikatong.simulators.card.deck import DECK, find

    if list_deck:
        _list(DECK)
        return
    try:
        chosen = find(name)
    except KeyError as error:
        message = f"没有这张测试卡（--list 列出全部）/ no such test card (--list shows them): {name}"
        raise click.BadParameter(message) from error
    _hold(chosen, port)


@simulate.command()
@click.option(
    "--config",
    "-c",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="配置文件 / configuration file",
)
def city(file: Path) -> None:
    """运行一座参保地城市的核心系统 / Run a home city's core, with its own ledger; faults on demand.

    故障写在 faults_file 中，每行一个 / The faults stand in `faults_file`, one a line.

    退出码：0 按命令停止，1 出错。 / Exit status: 0 stopped as told, 1 failed.
    """
    from yikatong.simulators.city import run

    try:
        sys.exit(run(file))
    except YikatongError as error:
        click.echo(f"✗ {error.meaning.zh} {error.meaning.en} [{error.reason.value}] {error.detail}", err=True)
        sys.exit(1)


def _list(deck: tuple[DeckCard, ...]) -> None:
    if output.wants_json():
        output.echo_json([_row(item) for item in deck])
        return
    for item in deck:
        outcome = output.choose("扣款成功", "approved") if item.expected is None else item.expected.value
        click.echo(f"{item.key:24}{item.pin:8}{outcome:30}{output.choose(item.zh, item.en)}")


def _row(item: DeckCard) -> dict[str, Any]:
    return {
        "name": item.key,
        "zh": item.zh,
        "en": item.en,
        "pin": item.pin,
        "expected": item.expected.value if item.expected else "APPROVED",
        "home_region": item.account.home_region if item.account else None,
        "balance_fen": item.account.balance_fen if item.account else None,
    }


def _hold(chosen: DeckCard, port: int | None) -> None:
    """Until Ctrl-C or SIGTERM. Exit status 1 where no virtual reader is there."""
    from yikatong.simulators.vpcd import PORT_DEFAULT, VirtualSlot

    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with VirtualSlot(port or PORT_DEFAULT) as slot:
        try:
            slot.insert(chosen.make(), wait_s=2.0)
        except YikatongError as error:
            output.say(
                f"✗ 找不到虚拟读卡器（端口 {port or PORT_DEFAULT}）[{error.reason.value}]\n"
                "  请安装 pcscd 和 vsmartcard-vpcd，并启动 pcscd。",
                f"✗ No virtual reader on port {port or PORT_DEFAULT} [{error.reason.value}]\n"
                "  Install pcscd and vsmartcard-vpcd, and start pcscd.",
                error=True,
            )
            sys.exit(1)
        if output.wants_json():
            output.echo_json(_row(chosen))
        else:
            output.say(
                f"✓ 已插入 {chosen.key}：{chosen.zh}。密码 {chosen.pin}。按 Ctrl-C 拔卡。",
                f"✓ {chosen.key} is in: {chosen.en}. PIN {chosen.pin}. Ctrl-C takes it out.",
            )
        while not stop.wait(0.2):
            if not slot.occupied:
                output.say("卡已被拔出。", "The card has pulled itself out.")
                return
