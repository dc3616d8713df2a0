"""What passes on serial lines, in words. Which bytes it was is told of no device: they print, scan and type people.

Of a PIN keypad is told what it is sent, and of what it sends only that it is there: no key, no number of keys, no time.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

from yikatong.core.reasons import YikatongError
from yikatong.core.trace import Direction, LineFrame
from yikatong.drivers.card.dictionary import Named
from yikatong.drivers.serial import display_protocol as display
from yikatong.drivers.serial import id_card_protocol as module
from yikatong.drivers.serial import pin_pad_protocol as pad
from yikatong.drivers.serial import receipt_status as printer
from yikatong.drivers.trace.trace import Trace


class Words(Protocol):
    """A kind of device: what is said of a command or a piece of an answer, and of how many bytes; None for nothing."""

    def sent(self, command: bytes) -> tuple[Named, int]: ...

    def received(self, piece: memoryview) -> tuple[Named, int] | None: ...


class LineTrace:
    """Implements `drivers.serial.port.LineObserver`."""

    def __init__(self, trace: Trace, device: str, words: Words) -> None:
        self._trace, self._device, self._words = trace, device, words

    def sent(self, command: bytes) -> None:
        if self._trace.watchers:
            with self._trace.telling():
                self._tell(Direction.SENT, self._words.sent(command))

    def received(self, piece: memoryview) -> None:
        if self._trace.watchers:
            with self._trace.telling():
                self._tell(Direction.RECEIVED, self._words.received(piece))

    def _tell(self, direction: Direction, said: tuple[Named, int] | None) -> None:
        if said is None:
            return
        words, length = said
        now = time.monotonic_ns()
        for watcher in self._trace.watchers:
            watcher.tell(LineFrame(self._device, watcher.at_us(now), direction, words.zh, words.en, length))


class PinPadWords:
    """The serial PIN pad. Between two queries it is deaf, so that no key can reach a watcher."""

    _COMMANDS: Final = {
        pad.ASK: Named("提示输入密码", "asks for the PIN"),
        pad.ASK_AGAIN: Named("提示重新输入密码", "asks for the PIN again"),
        pad.OPEN: Named("打开按键（按键不跟踪）", "keys on (no key is traced)"),
        pad.CLOSE: Named("关闭按键", "keys off"),
        pad.QUERY: Named("查询键盘", "are you there"),
    }
    _HERE: Final = Named("键盘应答 OK", "here I am")

    def __init__(self) -> None:
        self._matched: int | None = None

    def sent(self, command: bytes) -> tuple[Named, int]:
        self._matched = 0 if command == pad.QUERY else None
        known = [self._COMMANDS.get(bytes((byte,))) for byte in command]
        named = [words for words in known if words is not None]
        if len(named) < len(known):
            return Named("其他命令", "another command"), len(command)
        return Named("，".join(words.zh for words in named), ", ".join(words.en for words in named)), len(command)

    def received(self, piece: memoryview) -> tuple[Named, int] | None:
        """Compares with the one answer that is no key, byte by byte, and keeps how far it has come."""
        if self._matched is None:
            return None
        for byte in piece:
            goes_on = byte == pad.ALIVE[self._matched]
            self._matched = self._matched + 1 if goes_on else int(byte == pad.ALIVE[0])
            if self._matched == len(pad.ALIVE):
                self._matched = None
                return self._HERE, len(pad.ALIVE)
        return None


class ScannerWords:
    """A code scanner: it is sent nothing, and what it sends pays."""

    def sent(self, command: bytes) -> tuple[Named, int]:
        return Named("命令", "a command"), len(command)

    def received(self, piece: memoryview) -> tuple[Named, int]:
        return Named("扫码内容（不显示）", "what was scanned (not shown)"), len(piece)


class IdCardWords:
    """The module that reads resident identity cards: commands and statuses; of the record only how long it is."""

    _REQUESTS: Final = {
        module.FIND: Named("寻卡", "looks for a card"),
        module.SELECT: Named("选卡", "selects it"),
        module.READ: Named("读卡（文字和照片）", "reads it (text and photo)"),
        module.STATUS: Named("查询状态", "are you well"),
    }
    _STATUSES: Final = {
        module.FOUND: Named("有卡", "a card is there"),
        module.DONE: Named("成功", "done"),
        module.NOT_FOUND: Named("无卡", "no card"),
    }
    _PREAMBLE: Final = module.FIND[:5]
    _HEAD: Final = 10
    """Preamble, length, status: no byte of it is a person's."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0

    def sent(self, command: bytes) -> tuple[Named, int]:
        self._head.clear()
        return self._REQUESTS.get(command, Named("其他命令", "another command")), len(command)

    def received(self, piece: memoryview) -> tuple[Named, int] | None:
        """Told when the answer's head is complete. Behind it nothing is looked at until the next command."""
        for byte in piece:
            if len(self._head) == self._HEAD:
                break
            self._head.append(byte)
            if not self._PREAMBLE.startswith(self._head[: len(self._PREAMBLE)]):
                self._head.clear()
            if len(self._head) == self._HEAD:
                status = self._STATUSES.get(int.from_bytes(self._head[-3:]), Named("状态不明", "unknown status"))
                return status, int.from_bytes(self._head[5:7]) - 4
        return None


class PrinterWords:
    """An ESC/POS printer: questions and states; what is printed by its length."""

    _QUERIES: Final = {
        printer.PRINTER: Named("查询打印机状态", "asks for its state"),
        printer.CAUSE: Named("查询脱机原因", "asks why it is offline"),
        printer.PAPER: Named("查询纸张", "asks for paper"),
        printer.DONE: Named("询问是否打印完", "asks whether it is done"),
    }

    def __init__(self) -> None:
        self._asked = b""

    def sent(self, command: bytes) -> tuple[Named, int]:
        self._asked = command if command in self._QUERIES else b""
        return self._QUERIES.get(command, Named("打印内容（不显示）", "what is printed (not shown)")), len(command)

    def received(self, piece: memoryview) -> tuple[Named, int]:
        asked, self._asked = self._asked, b""
        answer = (printer.in_turn if asked == printer.DONE else printer.at_once)(piece) if asked else None
        if answer is None:
            return Named("其他应答", "another answer"), len(piece)
        well = 0
        try:
            match asked:
                case printer.DONE:
                    printer.judge_done(answer)
                case printer.PRINTER:
                    printer.judge(answer, well, well)
                case printer.CAUSE:
                    printer.judge(well, answer, well)
                case _:
                    printer.judge(well, well, answer)
        except YikatongError as error:
            return Named(error.meaning.zh, error.meaning.en), len(piece)
        return Named("正常", "well"), len(piece)


class DisplayWords:
    """A customer display of two lines."""

    def sent(self, command: bytes) -> tuple[Named, int]:
        if command == display.CLEAR:
            return Named("清屏", "clears"), len(command)
        return Named("显示两行（内容不显示）", "two lines (not shown)"), len(command)

    def received(self, piece: memoryview) -> tuple[Named, int]:
        return Named("应答", "an answer"), len(piece)
