"""`yikatong simulate voucher-service`, `voucher-code`, `scanner`, `id-card`: the other ways to show who pays."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yikatong.cli import output
from yikatong.core.reasons import YikatongError

if TYPE_CHECKING:
    from yikatong.simulators.voucher_service import Person

_DEVICE = click.argument("device", type=click.Path(path_type=Path))
_SERVICE = click.option(
    "--config",
    "-c",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="电子凭证服务的配置文件 / configuration of the e-voucher service",
)


@click.command("voucher-service")
@_SERVICE
@click.option(
    "--new",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="在此目录新建开发用证书和配置 / make certificates and a configuration for development there",
)
@click.option("--port", type=click.IntRange(1, 65535), default=7543, show_default=True, help="用于 --new / with --new")
@output.with_language
def voucher_service(file: Path | None, folder: Path | None, port: int) -> None:
    """运行模拟的医保电子凭证服务（HTTPS 双向证书）/ Run a simulated e-voucher service (HTTPS, client certificates).

    二维码 30 秒有效，只能用一次。故障写在 faults_file 中，每行一个。
    A code is good for 30 seconds and once. The faults stand in `faults_file`, one a line.

    退出码：0 按命令停止，1 出错。 / Exit status: 0 stopped as told, 1 failed.
    """
    from yikatong.simulators.voucher_service import run

    if (file is None) == (folder is None):
        raise click.UsageError("--config 或 --new，二者取一 / one of --config and --new")
    try:
        sys.exit(run(file if file is not None else _made(folder or Path(), port)))
    except YikatongError as error:
        click.echo(f"✗ {error.meaning.zh} {error.meaning.en} [{error.reason.value}] {error.detail}", err=True)
        sys.exit(1)


def _made(folder: Path, port: int) -> Path:
    """Authority, certificates and configuration, and what goes into gateway.toml."""
    import msgspec

    from yikatong.gateway.development_ca import DevelopmentCa

    folder = folder.resolve()
    ca = DevelopmentCa.create(folder)
    server, gateway = ca.server("voucher-service"), ca.client("gateway")
    file = folder / "voucher-service.toml"
    content = {
        "listen": f"localhost:{port}",
        "state_dir": str(folder / "state"),
        "authority": str(server.authority),
        "certificate": str(server.certificate),
        "key": str(server.key),
        "gateway_name": "gateway",
        "life_s": 30.0,
        "faults_file": str(folder / "faults"),
    }
    file.write_bytes(msgspec.toml.encode(content))
    tls = {"authority": str(gateway.authority), "certificate": str(gateway.certificate), "key": str(gateway.key)}
    section = {"voucher_service": {"url": f"https://localhost:{port}/ec", "tls": tls}}
    output.say("网关的 gateway.toml 须写：\n", "For the gateway's gateway.toml:\n")
    click.echo(msgspec.toml.encode(section).decode("utf-8"))
    output.say(
        f"新的二维码：yikatong simulate voucher-code -c {file}",
        f"A fresh code: yikatong simulate voucher-code -c {file}",
    )
    return file


@click.command("voucher-code")
@click.argument("name", required=False, default="works")
@_SERVICE
@output.with_json
@output.with_language
def voucher_code(name: str, file: Path | None) -> None:
    """显示测试卡 NAME 持卡人的新二维码内容 / Print a fresh code of the person who holds the test card NAME.

    退出码：0 已显示，1 出错。 / Exit status: 0 shown, 1 failed.
    """
    code = _phone(file)(_person(name))
    if output.wants_json():
        output.echo_json({"name": name, "code": code})
    else:
        click.echo(code)


@click.command()
@_DEVICE
@click.option("--person", "name", default="works", help="直接回车时出示谁的新码 / whose fresh code an empty line shows")
@_SERVICE
@output.with_language
def scanner(device: Path, name: str, file: Path | None) -> None:
    """在 DEVICE 模拟扫码器 / A code scanner at DEVICE, a path that it makes (a pseudo-terminal).

    每输入一行即扫一次；给出 --config 时直接回车扫一个新码。按 Ctrl-C 拔出。
    Each line that is typed is scanned; with --config an empty line is a fresh code. Ctrl-C unplugs it.

    退出码：0 已拔出，1 出错。 / Exit status: 0 unplugged, 1 failed.
    """
    from yikatong.simulators.scanner import Scanner

    fresh = None if file is None else (_phone(file), _person(name))
    with _at(device), contextlib.suppress(KeyboardInterrupt), Scanner(device) as plugged:
        output.say(f"✓ 扫码器 {device}。Ctrl-C 拔出。", f"✓ Scanner {device}. Ctrl-C unplugs it.", error=True)
        for line in sys.stdin:
            code = line.strip()
            if not code and fresh is not None:
                show, person = fresh
                code = show(person)
            if code:
                plugged.present(code)
        _until_stopped()


@click.command("id-card")
@_DEVICE
@click.argument("name", required=False, default="works")
@click.option("--valid-until", default="20991231", help="有效期至 / last day of its validity, YYYYMMDD")
@output.with_language
def id_card(device: Path, name: str, valid_until: str) -> None:
    """在 DEVICE 模拟身份证阅读器，放有持卡人 NAME 的居民身份证 / A reader of identity cards at DEVICE.

    On it lies the card of the person who holds the test card NAME. Ctrl-C unplugs it.

    退出码：0 已拔出，1 出错。 / Exit status: 0 unplugged, 1 failed.
    """
    from yikatong.simulators.id_card_module import IdCard, IdCardModule

    person = _person(name)
    card = IdCard(number=person.number, name=person.name, birth=person.number[6:14], valid_until=valid_until)
    with _at(device), contextlib.suppress(KeyboardInterrupt), IdCardModule(device, card):
        output.say(f"✓ 身份证阅读器 {device}。Ctrl-C 拔出。", f"✓ Reader {device}. Ctrl-C unplugs it.", error=True)
        _until_stopped()


def _until_stopped() -> None:
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    stop.wait()


@contextlib.contextmanager
def _at(device: Path) -> Iterator[None]:
    """Says so where the path can't be had; the device takes it away again."""
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    try:
        yield
    except OSError as error:
        output.say(f"✗ 无法建立 {device}：{error.strerror}", f"✗ {device} can't be made: {error.strerror}", error=True)
        sys.exit(1)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _phone(file: Path | None) -> Callable[[Person], str]:
    """Makes codes that the service of that configuration knows."""
    from yikatong.runtime.config import load
    from yikatong.simulators.voucher_service import Phones, VoucherServiceConfig

    if file is None:
        raise click.UsageError("缺少 --config / --config is missing")
    try:
        return Phones.of(load(file, VoucherServiceConfig)).show
    except YikatongError as error:
        click.echo(f"✗ {error.meaning.zh} {error.meaning.en} [{error.reason.value}] {error.detail}", err=True)
        sys.exit(1)


def _person(name: str) -> Person:
    from yikatong.simulators.card.deck import find
    from yikatong.simulators.voucher_service import Person

    try:
        chosen = find(name)
    except KeyError as error:
        message = f"没有这张测试卡（yikatong simulate card --list 列出全部）/ no such test card: {name}"
        raise click.BadParameter(message) from error
    return Person(
        chosen.data.social_security_number, chosen.data.name, chosen.account.home_region if chosen.account else ""
    )
