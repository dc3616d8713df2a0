"""`yikatong pin`, and the prompt of `yikatong pay`: a PIN typed on this terminal, for a daemon that allows it.

The PIN is in no string: one key at a time goes from the terminal into a buffer that is wiped, and from there, over the
daemon's own socket for it, into another one.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from yikatong.cli import client, output
from yikatong.drivers.keyboard import frames
from yikatong.drivers.serial import pin_pad_protocol as pad
from yikatong.runtime.secrecy import hide_memory

_TERMINAL: Final = "/dev/tty"
_AGAIN_S: Final = 2.0
_BACKSPACES: Final = frozenset({0x08, 0x7F})
_ENTERS: Final = frozenset({0x0A, 0x0D})
_CANCELS: Final = frozenset({0x1B, 0x03, 0x04})


@dataclass(frozen=True, slots=True)
class Texts:
    """What the terminal shows, in the person's language."""

    ask: str
    again: str
    over: str

    @classmethod
    def chosen(cls) -> Texts:
        return cls(
            output.choose(
                "请输入社会保障卡密码（不是银行卡密码），回车确认，Esc 取消：",
                "Social security PIN (not the bank's), Enter to confirm, Esc to cancel: ",
            ),
            output.choose("应为 4 至 16 位数字，请重新输入：", "4 to 16 digits, please again: "),
            output.choose("（已结束）", " (over)"),
        )


class Gone(Exception):
    """The daemon has hung up; `taken`: because another prompt is connected."""

    def __init__(self, *, taken: bool) -> None:
        super().__init__("taken" if taken else "gone")
        self.taken = taken


class Prompt:
    """One connection to the daemon and one terminal. `run` in one thread; `stop` from any."""

    def __init__(self, path: str, terminal: int, texts: Texts) -> None:
        """Connects. `terminal`: an open file descriptor. Raises OSError."""
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._line.connect(path)
        except OSError:
            self._line.close()
            raise
        self._terminal, self._texts = terminal, texts
        self._stop_out, self._stop_in = os.pipe2(os.O_CLOEXEC)

    def stop(self) -> None:
        os.write(self._stop_in, b"s")

    def close(self) -> None:
        self._line.close()
        os.close(self._stop_out)
        os.close(self._stop_in)

    def run(self) -> None:
        """Answers the daemon until `stop`. Raises Gone, OSError."""
        while self._stop_out not in self._wait(self._line):
            if (wanted := self._heard()).seconds:
                self._answer(wanted)

    def _heard(self) -> frames.Wanted:
        packet = self._line.recv(frames.WORD_MAX)
        try:
            wanted = frames.wanted(packet)
        except ValueError as error:  # nothing at all: it has hung up
            raise Gone(taken=False) from error
        if wanted is None:
            raise Gone(taken=True)
        return wanted

    def _answer(self, wanted: frames.Wanted) -> None:
        entry = pad.PinEntryBuffer()
        try:
            with _without_echo(self._terminal):
                self._show(self._texts.ask)
                ended = self._collect(entry)
                self._show("\n" if ended is not None else f"{self._texts.over}\n")
            if ended is pad.Entry.ENTERED:
                self._send(wanted.number, entry.take())
            elif ended is pad.Entry.CANCELLED:
                self._line.send(frames.cancelled(wanted.number))
        finally:
            entry.wipe()

    def _collect(self, entry: pad.PinEntryBuffer) -> pad.Entry | None:
        """How the entry ended; None where nobody wants it any more. Every key goes through one wiped byte."""
        key, shown = bytearray(1), 0
        while True:
            ready = self._wait(self._line, self._terminal)
            if self._stop_out in ready or (self._line in ready and not self._heard().seconds):
                return None
            if self._terminal not in ready or os.readv(self._terminal, [key]) != 1:
                continue
            known = _known(key)
            with memoryview(key) as view:
                ended = entry.feed(view) if known else None
            shown = self._star(key[0], shown)
            key[0] = 0
            if ended is pad.Entry.LENGTH_REFUSED:
                entry.start()
                shown = 0
                self._show(f"\n{self._texts.again}")
            elif ended is not None:
                return ended

    def _star(self, key: int, shown: int) -> int:
        """Shows that a key was taken, never which. Returns how many stars stand there."""
        if key == pad.KEY_BACKSPACE and shown:
            self._show("\b \b")
            return shown - 1
        if ord("0") <= key <= ord("9"):
            self._show("*")
            return shown + 1
        return shown

    def _send(self, number: int, digits: bytearray) -> None:
        packet = frames.entered(number, digits)
        try:
            self._line.send(packet)
        finally:
            for buffer in (packet, digits):
                for i in range(len(buffer)):
                    buffer[i] = 0

    def _show(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _wait(self, *ends: socket.socket | int) -> list[socket.socket | int]:
        ready, _, _ = select.select([self._stop_out, *ends], [], [])
        return ready


def _known(key: bytearray) -> bool:
    """Turns the terminal's byte in `key` into the keypad's; false where it means nothing."""
    if key[0] in _BACKSPACES:
        key[0] = pad.KEY_BACKSPACE
    elif key[0] in _ENTERS:
        key[0] = pad.KEY_ENTER
    elif key[0] in _CANCELS:
        key[0] = pad.KEY_CANCEL
    return ord("0") <= key[0] <= ord("9") or key[0] in {pad.KEY_BACKSPACE, pad.KEY_ENTER, pad.KEY_CANCEL}


@contextlib.contextmanager
def _without_echo(terminal: int) -> Iterator[None]:
    """Key by key and unseen; what was typed before is thrown away, and what is left over afterwards too."""
    before = termios.tcgetattr(terminal)
    unseen = [*before[:3], before[3] & ~(termios.ECHO | termios.ICANON | termios.ISIG), *before[4:]]
    termios.tcsetattr(terminal, termios.TCSAFLUSH, unseen)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


@contextlib.contextmanager
def offered(path: str) -> Iterator[None]:
    """Answers the daemon's prompts on this terminal meanwhile, where it wants PINs from one and nobody does yet."""
    if not path or not Path(path).is_socket():
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            terminal = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            stack.callback(os.close, terminal)
            prompt = Prompt(path, terminal, Texts.chosen())
        except OSError:  # no terminal, or no daemon: the debit itself tells
            yield
            return
        hide_memory()
        stack.callback(prompt.close)
        thread = threading.Thread(target=_until_gone, args=(prompt.run,), name="pin-prompt", daemon=True)
        thread.start()
        stack.callback(thread.join)  # the terminal gets its echo back before we go on
        stack.callback(prompt.stop)
        yield


def _until_gone(run: Callable[[], None]) -> None:
    with contextlib.suppress(Gone, OSError):  # the debit itself tells why no PIN came
        run()


@click.command()
@client.with_config
@output.with_language
@output.with_debug
def pin(config: Path | None) -> None:
    """在本终端输入持卡人密码 / Let cardholders type their PINs on this terminal.

    仅当配置允许（pin_keypad.device = "software"）。一直运行，按 Ctrl-C 结束；守护进程重启后自动重连。
    Only where the configuration allows it. Runs until Ctrl-C, and connects again when the daemon was restarted.

    退出码：0 按 Ctrl-C 结束，1 已有另一个在运行，2 无法使用（没有终端，或守护进程不要）。
    Exit status: 0 ended by Ctrl-C, 1 another one is running, 2 there is no terminal, or no daemon that wants it.
    """
    at = client.found_place(config)
    try:
        terminal = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        output.say(
            "✗ 无法在此输入密码：这里没有终端。请在终端窗口中运行 yikatong pin。",
            "✗ No PIN can be typed here: there is no terminal. Run yikatong pin in a terminal window.",
            error=True,
        )
        sys.exit(client.EXIT_NOT_ASKED)
    try:
        prompt = Prompt(at.pin, terminal, Texts.chosen())
    except OSError as error:
        why = error.strerror or type(error).__name__
        output.say(
            f"✗ 守护进程不从电脑接收密码：{why}（{at.pin}）。"
            "请核对 pin_keypad 的 device 和 allow_software，然后重启守护进程。",
            f"✗ The daemon takes no PIN from a computer: {why} ({at.pin}). Look at device and allow_software of"
            " pin_keypad, then restart the daemon.",
            error=True,
        )
        sys.exit(client.EXIT_NOT_ASKED)
    hide_memory()
    output.say(
        "等待守护进程要求输入密码；按 Ctrl-C 结束。", "Waiting until a PIN is wanted; Ctrl-C ends it.", error=True
    )
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                prompt.run()
            except Gone as gone:
                if gone.taken:
                    output.say("✗ 已有另一个终端在输入密码。", "✗ another terminal types PINs already.", error=True)
                    sys.exit(client.EXIT_FAILED)
            finally:
                prompt.close()
            prompt = _connected_again(at.pin, terminal)
    os.close(terminal)


def _connected_again(path: str, terminal: int) -> Prompt:
    """Once the daemon is there again."""
    while True:
        time.sleep(_AGAIN_S)
        with contextlib.suppress(OSError):
            return Prompt(path, terminal, Texts.chosen())
