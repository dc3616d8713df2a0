"""Fuzzing what devices at a window send, by hand: `python -m tests.fuzz.devices --count 1000000`.

Each parser gets so many inputs: noise, and sound input that was damaged. It may answer or raise YikatongError; anything
else ends the run and shows the input, as does one that takes over 50 ms of the thread's processor time. The seed
decides every input.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable

from yikatong.core.reasons import YikatongError
from yikatong.drivers.keyboard import frames
from yikatong.drivers.pcsc.part10 import VERIFY_PIN_DIRECT, control_code
from yikatong.drivers.serial import id_card_protocol, receipt_status
from yikatong.drivers.serial.id_card_record import parse
from yikatong.drivers.serial.pin_pad_protocol import AliveAnswer, PinEntryBuffer
from yikatong.drivers.serial.scanned_code import ScannedCode
from yikatong.drivers.vendor.wire import REPLY, reply_header
from yikatong.simulators.id_card_module import IdCard

LIMIT_S = 0.05

_PREAMBLE = bytes.fromhex("AAAAAA9669")
RECORD = IdCard().text()


def _framed(content: bytes) -> bytes:
    body = (len(content) + 1).to_bytes(2) + content
    check = 0
    for byte in body:
        check ^= byte
    return _PREAMBLE + body + bytes([check])


READ = _framed(b"\x00\x00\x90\x01\x00\x04\x00" + RECORD + bytes(1024))
SHORT = (_framed(b"\x00\x00\x9f" + bytes(4)), _framed(b"\x00\x00\x80"), _PREAMBLE + b"\x0f\xff", _PREAMBLE)


def _damaged(dice: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(dice.randrange(4)):
        place = dice.randrange(len(data) + 1)
        data[place : place + dice.randrange(8)] = dice.randbytes(dice.randrange(8))
    return bytes(data)


def _mixed(dice: random.Random, *good: bytes) -> bytes:
    return b"".join(
        dice.randbytes(dice.randrange(40)) if dice.random() < 0.4 else _damaged(dice, dice.choice(good))
        for _ in range(dice.randrange(1, 4))
    )


def _scan(data: bytes) -> None:
    scanned = ScannedCode()
    scanned.feed(memoryview(data))
    scanned.take()


def _answer(data: bytes) -> None:
    frame = id_card_protocol.AnswerFrame()
    for start in range(0, len(data), 7):
        answer = frame.feed(memoryview(data[start : start + 7]))
        if answer is not None:
            id_card_protocol.text_of(answer.data)
            return


def _printer(data: bytes) -> None:
    answers = [receipt_status.at_once(memoryview(data[start:])) or 0x12 for start in range(3)]
    receipt_status.judge(*answers)
    receipt_status.judge_done(receipt_status.in_turn(memoryview(data)) or 0)


def _pin_pad(data: bytes) -> None:
    PinEntryBuffer().feed(memoryview(data))
    AliveAnswer().feed(memoryview(data))


def _library(data: bytes) -> None:
    try:
        reply_header(data[: REPLY.size].ljust(REPLY.size))
    except ValueError:
        return  # what its caller translates


def _prompt(data: bytes) -> None:
    packet = bytearray(data)
    for parse_it in (
        lambda: frames.wanted(data),
        lambda: frames.answered(packet, len(packet)),
        lambda: frames.answer(packet, len(packet)),
    ):
        try:
            parse_it()
        except ValueError:
            continue  # what its caller translates


PARSERS: dict[str, tuple[Callable[[bytes], None], Callable[[random.Random], bytes]]] = {
    "scanned code": (_scan, lambda dice: _mixed(dice, b"MADE-UP-28-CHARACTERS-000001\r\n", b"\r")),
    "identity card: frame": (_answer, lambda dice: _mixed(dice, *SHORT, *([READ] if dice.random() < 0.05 else []))),
    "identity card: record": (parse, lambda dice: _damaged(dice, RECORD)[:256].ljust(256, b"\x20")),
    "printer": (_printer, lambda dice: dice.randbytes(dice.randrange(12))),
    "PIN pad": (_pin_pad, lambda dice: _mixed(dice, b"123456\r", b"OK\r")),
    "keys of a PC/SC reader": (
        lambda data: control_code(data, VERIFY_PIN_DIRECT) and None,
        lambda dice: _mixed(dice, bytes.fromhex("060442330006"), bytes.fromhex("0704423300070A0442330012")),
    ),
    "prompt at a keyboard": (_prompt, lambda dice: _damaged(dice, b"\x01\x00\x00\x00\x07123456")[:22]),
    "vendor's library": (_library, lambda dice: dice.randbytes(REPLY.size)),
}


def worst_ms(name: str, count: int, seed: int) -> float:
    """Feeds one parser; the longest time that an input took. Raises AssertionError, and whatever is not ours."""
    parser, make = PARSERS[name]
    dice, worst = random.Random(f"{seed} {name}"), 0.0
    for _ in range(count):
        data = make(dice)
        begun = time.thread_time()
        try:
            parser(data)
        except YikatongError:
            pass
        except Exception as error:
            error.add_note(f"{name}: {data.hex()}")
            raise
        took = time.thread_time() - begun
        assert took < LIMIT_S, f"{name}: {took:.3f} s for {data.hex()}"
        worst = max(worst, took)
    return worst * 1000


def main() -> None:
    options = argparse.ArgumentParser(description="Fuzzing what devices send.")
    options.add_argument("--count", type=int, default=10_000, help="inputs for each parser")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    for name in PARSERS:
        begun = time.monotonic()
        worst = worst_ms(name, chosen.count, chosen.seed)
        print(
            f"{name}: {chosen.count:,} inputs, slowest {worst:.2f} ms, {time.monotonic() - begun:.0f} s in all",
            flush=True,
        )


if __name__ == "__main__":
    main()
