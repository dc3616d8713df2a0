"""`yikatong trace`: what passes between terminal and devices, live, and as a recording."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from yikatong.cli import client, output
from yikatong.core.reasons import Reason, YikatongError

if TYPE_CHECKING:
    from yikatong.api.diagnostics.v1 import diagnostics_pb2 as api

FORMAT: Final = "yikatong-trace"
VERSION: Final = 1
"""docs/trace-format.md"""


@click.command()
@client.with_config
@click.option(
    "--record",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="录制到新文件，用虚构身份代替真实身份 / record to a new file, with an invented person in the real one's place",
)
@output.with_json
@output.with_language
@output.with_debug
def trace(config: Path | None, file: Path | None) -> None:
    """实时显示终端与各设备之间的往来，个人信息不显示 / What passes between terminal and devices, masked.

    按 Ctrl-C 结束。录制的文件可用 yikatong simulate card --replay 回放。
    Ctrl-C ends it. yikatong simulate card --replay plays what was recorded.

    退出码 / exit status: 0 按 Ctrl-C 结束 ended by Ctrl-C, 1 无法录制 can't record, 2 守护进程没有应答 no daemon.
    """
    at = client.found_place(config)
    with contextlib.ExitStack() as stack:
        recording = stack.enter_context(_new(file)) if file else None
        screen = Screen(recording)
        client.run(_watch(at, screen), at)
    screen.conclude(file)


def _new(file: Path) -> TextIO:
    """Never over another file. Ends the command where it can't be made."""
    try:
        return file.open("x", encoding="utf-8")
    except OSError as error:
        why = error.strerror or type(error).__name__
        output.say(
            f"✗ 无法新建 {file}：{why}。\n  请换一个文件名或文件夹。",
            f"✗ {file} can't be made: {why}.\n  Take another name or folder.",
            error=True,
        )
        sys.exit(client.EXIT_FAILED)


async def _watch(at: client.Place, screen: Screen) -> None:
    """Until Ctrl-C. Raises YikatongError where the daemon does not answer or leaves."""
    import grpc.aio

    from yikatong.api.diagnostics.v1 import diagnostics_pb2 as api
    from yikatong.api.diagnostics.v1 import diagnostics_pb2_grpc

    async with client.channel(at.technician) as channel:
        stub = diagnostics_pb2_grpc.DiagnosticsServiceStub(channel)
        call = stub.TraceApdus(api.TraceApdusRequest(record=screen.records), metadata=client.metadata())
        loop, ended = asyncio.get_running_loop(), False

        def end() -> None:
            nonlocal ended
            ended = True
            call.cancel()

        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, end)
        try:
            async for message in call:
                screen.show(message)
        except asyncio.CancelledError:
            if not ended:
                raise
        except grpc.aio.AioRpcError as error:
            raise client.failure_of(error) from error
        if not ended:
            raise YikatongError(Reason.DAEMON_UNREACHABLE, "the daemon has ended")


class Screen:
    """What is shown and written of each event, as it comes."""

    def __init__(self, recording: TextIO | None) -> None:
        self._recording = recording
        self._cards = self._missed = 0
        self._began = False

    @property
    def records(self) -> bool:
        return self._recording is not None

    def show(self, message: api.TraceApdusResponse) -> None:
        line = as_json(message)
        self._cards += message.HasField("card")
        self._missed += message.missed
        if self._recording is not None and self._belongs(message):
            _write(self._recording, line)
        if output.wants_json():
            click.echo(json.dumps(line, ensure_ascii=False))
        else:
            _print(message, recording=self.records)

    def conclude(self, file: Path | None) -> None:
        if output.wants_json():
            return
        if self._missed:
            output.say(f"缺少 {self._missed} 条。", f"{self._missed} events are missing.")
        if file is not None:
            output.say(
                f"已录制 {self._cards} 次插卡：{file}。其中的身份是虚构的。",
                f"{self._cards} cards recorded in {file}. The persons in it are invented.",
            )

    def _belongs(self, message: api.TraceApdusResponse) -> bool:
        """A card that was in use when the recording began can't be played: its beginning is missing."""
        self._began = self._began or message.HasField("card")
        return self._began or not message.HasField("exchange")


def _write(recording: TextIO, line: dict[str, Any]) -> None:
    """Ends the command where the disk takes no more: half a recording is none."""
    try:
        recording.write(json.dumps(line, ensure_ascii=False) + "\n")
        recording.flush()
    except OSError as error:
        output.say(f"✗ 写入失败：{error.strerror}。", f"✗ It can't be written: {error.strerror}.", error=True)
        sys.exit(client.EXIT_FAILED)


def as_json(message: api.TraceApdusResponse) -> dict[str, Any]:
    """One line of the format."""
    kind = message.WhichOneof("event")
    match kind:
        case "begun":
            return {
                "event": kind,
                "format": FORMAT,
                "version": VERSION,
                "program": message.begun.version,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "identity": "invented" if message.begun.record else "masked",
            }
        case "missed":
            return {"event": kind, "count": message.missed}
    line = {"event": kind, "device": message.device, "at_ms": message.at_us / 1000}
    line |= {"zh": message.text_zh, "en": message.text_en}
    match kind:
        case "card":
            return line | _said(atr=_hex(message.card.atr), failure=message.card.failure)
        case "frame":
            return line | {"sent": message.frame.sent, "length": message.frame.length}
    exchange = message.exchange
    line |= {"took_ms": exchange.took_us / 1000, "header": _hex(exchange.header)}
    if not exchange.hidden:
        line |= {"command_length": exchange.command_length, "answer_length": exchange.answer_length}
    whole = len(exchange.command) > len(exchange.header) or exchange.command_length == 0
    return line | _said(
        status=_hex(exchange.status),
        failure=exchange.failure,
        command=_hex(exchange.command) if whole and not exchange.hidden else "",
        answer=_hex(exchange.answer),
        hidden=exchange.hidden,
        left_out=exchange.left_out,
    )


def _said(**values: str | bool) -> dict[str, str | bool]:
    """Those that say something."""
    return {name: value for name, value in values.items() if value}


def _hex(data: bytes) -> str:
    return data.hex().upper()


def _print(message: api.TraceApdusResponse, *, recording: bool) -> None:
    console = output.console()
    text = output.choose(message.text_zh, message.text_en)
    at = f"{message.at_us / 1_000_000:10.3f}"
    match message.WhichOneof("event"):
        case "begun":
            console.print(output.choose("正在跟踪，按 Ctrl-C 结束。", "Tracing; Ctrl-C ends it."), style="bold")
            if recording:
                said = "以下身份都是虚构的，可交给厂商。", "The persons below are invented: it may go to a vendor."
                console.print(output.choose(*said))
        case "card":
            console.print(f"{at}  {message.device}  {text}", style="bold")
        case "exchange":
            exchange = message.exchange
            status = f" [{_hex(exchange.status) or exchange.failure or '-'}]"
            well = exchange.status[:1] in {b"\x90", b"\x61", b"\x6c"}
            took = "" if exchange.hidden else f"  {exchange.took_us / 1000:.1f} ms"
            console.print(f"{at}  {_hex(exchange.header):8}  {text}{status}{took}", style=None if well else "yellow")
        case "frame":
            way = "→" if message.frame.sent else "←"
            length = output.choose(f"{message.frame.length} 字节", f"{message.frame.length} bytes")
            console.print(f"{at}  {message.device} {way} {text}  {length}")
        case "missed":
            missed = f"缺少 {message.missed} 条", f"{message.missed} events are missing"
            console.print(f"{'':10}  {output.choose(*missed)}", style="yellow")
