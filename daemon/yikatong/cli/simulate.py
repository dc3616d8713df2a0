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
from yikatong.cli.simulate_payers import id_card, scanner, voucher_code, voucher_service
from yikatong.core.reasons import YikatongError

if TYPE_CHECKING:
    from yikatong.core.reasons import Reason
    from yikatong.simulators.card.deck import DeckCard
    from yikatong.simulators.card.port import PretendCard


@click.group()
def simulate() -> None:
    """单独运行模拟器 / Run a simulator on its own."""


for command in (faults, voucher_service, voucher_code, scanner, id_card):
    simulate.add_command(command)


@simulate.command()
@click.argument("name", required=False, default="works")
@click.option("--list", "list_deck", is_flag=True, help="列出全部测试卡 / list the deck of test cards")
@click.option(
    "--replay",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="回放 yikatong trace --record 录制的卡 / play a card that yikatong trace --record recorded",
)
@click.option(
    "--number",
    type=click.IntRange(min=1),
    help="录制中的第几张卡，默认第一张社会保障卡 / which card of the recording; the first social security card",
)
@click.option("--port", type=click.IntRange(1, 65535), help="虚拟读卡器端口 / the virtual reader's port (35963)")
@output.with_json
@output.with_language
@click.pass_context
def card(
    context: click.Context, name: str, list_deck: bool, file: Path | None, number: int | None, port: int | None
) -> None:
    """把测试卡插入本机 pcscd 的虚拟读卡器 / Put a test card into the virtual reader of this machine's pcscd.

    按 Ctrl-C 拔卡。虚拟读卡器监听所有网络地址，仅供开发使用。
    Ctrl-C takes it out. The virtual reader listens on every address: for development only.

    退出码：0 已拔出，1 没有虚拟读卡器，或录制文件有误。
    Exit status: 0 taken out, 1 there is no virtual reader, or something is wrong with the recording.
    """
    from yikatong.simulators.card.deck import DECK, find
    from yikatong.simulators.vpcd import PORT_DEFAULT

    if list_deck:
        _list(DECK)
        return
    if file is not None:
        if context.get_parameter_source("name") is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError("--replay 已指定了卡 / names the card already")
        from yikatong.cli.replay import hold_recorded

        hold_recorded(file, number, port)
        return
    try:
        chosen = find(name)
    except KeyError as error:
        message = f"没有这张测试卡（--list 列出全部）/ no such test card (--list shows them): {name}"
        raise click.BadParameter(message) from error
    told = (
        f"已插入 {chosen.key}：{chosen.zh}。密码 {chosen.pin}。",
        f"{chosen.key} is in: {chosen.en}. PIN {chosen.pin}.",
    )
    hold(chosen.make(), port or PORT_DEFAULT, _row(chosen), told)


@simulate.command()
@click.option("--sm4", is_flag=True, help="SM4 密钥，默认 3DES / keys for SM4 cards, else for 3DES")
@click.option("--port", type=click.IntRange(1, 65535), help="虚拟读卡器端口 / the virtual reader's port (35964)")
@output.with_json
@output.with_language
def psam(sm4: bool, port: int | None) -> None:
    """把测试 PSAM 插入虚拟读卡器的第二个卡座 / Put the test issuer's PSAM into the virtual reader's second slot.

    它能打开测试卡中须认证的卡（配置 card_authentication.kind = "psam"）。按 Ctrl-C 拔出。
    It opens the deck's cards that must be authenticated (card_authentication.kind = "psam"). Ctrl-C takes it out.

    退出码：0 已拔出，1 没有虚拟读卡器。 / Exit status: 0 taken out, 1 there is no virtual reader.
    """
    from yikatong.simulators.card import issuer
    from yikatong.simulators.card.personalisation import SM4, TRIPLE_DES
    from yikatong.simulators.vpcd import PORT_DEFAULT

    name = "SM4" if sm4 else "3DES"
    hold(
        issuer.psam(SM4 if sm4 else TRIPLE_DES),
        port or PORT_DEFAULT + 1,
        {"name": "psam", "algorithm": name},
        (f"已插入测试 PSAM（{name}）。", f"the test issuer's PSAM ({name}) is in."),
    )


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
        told = output.choose(item.zh, item.en)
        if item.authenticated is not item.expected:
            then = output.choose("经网关认证", "authenticated by the gateway")
            told += f" ({then}: {_outcome(item.authenticated)})"
        click.echo(f"{item.key:24}{item.pin:8}{outcome:30}{told}")


def _outcome(expected: Reason | None) -> str:
    return expected.value if expected else "APPROVED"


def _row(item: DeckCard) -> dict[str, Any]:
    return {
        "name": item.key,
        "zh": item.zh,
        "en": item.en,
        "pin": item.pin,
        "expected": _outcome(item.expected),
        "authenticated": _outcome(item.authenticated),
        "home_region": item.account.home_region if item.account else None,
        "balance_fen": item.account.balance_fen if item.account else None,
    }


def hold(chip: PretendCard, port: int, row: dict[str, Any], told: tuple[str, str]) -> None:
    """Until Ctrl-C or SIGTERM; `row` and `told` (zh, en) say what is in. Exit status 1 without a virtual reader."""
    from yikatong.simulators.vpcd import VirtualSlot

    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with VirtualSlot(port) as slot:
        try:
            slot.insert(chip, wait_s=2.0)
        except YikatongError as error:
            output.say(
                f"✗ 找不到虚拟读卡器（端口 {port}）[{error.reason.value}]\n"
                "  请安装 pcscd 和 vsmartcard-vpcd，并启动 pcscd。",
                f"✗ No virtual reader on port {port} [{error.reason.value}]\n"
                "  Install pcscd and vsmartcard-vpcd, and start pcscd.",
                error=True,
            )
            sys.exit(1)
        if output.wants_json():
            output.echo_json(row)
        else:
            output.say(f"✓ {told[0]}按 Ctrl-C 拔卡。", f"✓ {told[1]} Ctrl-C takes it out.")
        while not stop.wait(0.2):
            if not slot.occupied:
                output.say("卡已被拔出。", "The card has pulled itself out.")
                return
