"""Fuzzing what cards say, by hand: `python -m tests.fuzz.cards --count 1000000`.

Each parser gets so many inputs: random bytes, and sound ones that were damaged. It may answer or raise YikatongError,
anything else ends the run and shows the input. Told is the slowest input by the thread's processor time, so that other
work on the machine does not count. The seed decides every input.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.support.authentication import GENUINENESS, gated
from tests.support.cards import AnswersLink, DirectLink, DirectReader, DirectVisit, at_once
from tests.support.profiles import BY_VERSION, document
from yikatong.core.ports import CardLink
from yikatong.core.reasons import YikatongError
from yikatong.drivers.card import SocialSecurityCard, text, tlv
from yikatong.drivers.card.atr import historical_bytes
from yikatong.drivers.card.chain import Budget, Limited
from yikatong.drivers.card.psam import PsamAuthenticator
from yikatong.simulators.card import issuer

LIMIT_MS: Final = 50
_CONTROL_INFORMATION: Final = bytes.fromhex("6F1C840F7378312E73682EC9E7BBE1B1A3D5CFA5098801059F0C03860101")
_TAGS: Final = (0x6F, 0x84, 0xA5, 0x88, 0x9F0C, 0x7F1F, 0x1F, 0x30, 0x04)
_LENGTHS: Final = (b"\x00", b"\x01", b"\x7f", b"\x80", b"\x81\x80", b"\x82\xff\xff", b"\x83\x00\x00\x01", b"\xff", b"")


class Replay:
    """Answers that were recorded, in their order whatever is asked, with some of them damaged; then silence."""

    def __init__(self, answers: Iterable[bytes], atr: bytes) -> None:
        self._answers, self.atr = iter(answers), atr

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        del apdu
        return next(self._answers, b"")


def recorded() -> list[list[bytes]]:
    """What each profile's card answers while it is read."""
    reads = []
    for profile in BY_VERSION:
        link = _Recording(DirectLink(profile.make()))
        at_once(document(profile, "psam").read(DirectVisit(link)))
        reads.append(link.answers)
    return reads


class _Recording:
    """Keeps what the card answers; `together` too, with what others answer in between."""

    def __init__(self, link: CardLink, together: list[bytes] | None = None) -> None:
        self._link, self.atr = link, link.atr
        self.answers: list[bytes] = []
        self._together = [] if together is None else together

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        answer = self._link.transmit(apdu)
        self.answers.append(answer)
        self._together.append(answer)
        return answer


def damaged(dice: random.Random, sound: bytes) -> bytes:
    """One to three things happen to it: bytes change, go, come, are repeated, or are replaced by an awkward length."""
    data = bytearray(sound)
    for _ in range(dice.randint(1, 3)):
        at = dice.randint(0, len(data))
        match dice.randrange(6):
            case 0 if data:
                data[at % len(data)] = dice.randrange(256)
            case 1:
                del data[at:]
            case 2:
                del data[at : at + dice.randint(1, 4)]
            case 3:
                data[at:at] = dice.randbytes(dice.randint(1, 8))
            case 4:
                data[at:at] = data[: dice.randint(0, len(data))]
            case _:
                data[at : at + 1] = dice.choice(_LENGTHS)
    return bytes(data[:512])


def tree(dice: random.Random, depth: int = 0) -> bytes:
    """TLV as a hostile card might nest it: deeper and wider than allowed, with lengths that are not theirs."""
    made = b""
    for _ in range(dice.randint(0, 3)):
        tag = dice.choice(_TAGS)
        value = tree(dice, depth + 1) if depth < 10 and dice.random() < 0.7 else dice.randbytes(dice.randint(0, 6))
        length = dice.choice(_LENGTHS) if dice.random() < 0.1 else bytes((len(value) & 0x7F,))
        made += tag.to_bytes(2 if tag > 0xFF else 1, "big") + length + value
    return made


def _bytes(dice: random.Random, sound: tuple[bytes, ...], longest: int) -> bytes:
    return damaged(dice, dice.choice(sound)) if dice.random() < 0.7 else dice.randbytes(dice.randint(0, longest))


def _tlv(dice: random.Random) -> Callable[[], object]:
    data = tree(dice) if dice.random() < 0.4 else _bytes(dice, (_CONTROL_INFORMATION,), 300)
    return lambda: tlv.single(tlv.parse_ber(data), 0x9F0C)


RECORDS: Final = {
    0x01: (text.identification_code, bytes.fromhex("0110990001D156000005010000014E8CE1CA")),
    0x03: (text.spec_version, b"\x03\x042.00"),
    0x06: (text.calendar_date, bytes.fromhex("060420350101")),
    0x07: (text.card_number, b"\x07\x09T0000001X"),
    0x08: (text.social_security_number, b"\x08\x12110101190001010014"),
    0x09: (lambda value: text.person_name(value, b""), b"\x09\x1e" + "测试人".encode("gb18030").ljust(30, b"\0")),
    0x4E: (lambda value: text.person_name(b"A" * 29 + b"\xb2", value), b"\x4e\x14\xe2" + bytes(19)),
}


def _records(dice: random.Random) -> Callable[[], object]:
    tag = dice.choice(tuple(RECORDS))
    parse, sound = RECORDS[tag]
    if dice.random() < 0.5:  # the envelope is sound, the value is not
        value = damaged(dice, sound[2:])
        return lambda: parse(tlv.record_value(bytes((tag, len(value) & 0xFF)) + value, tag))
    record = _bytes(dice, (sound,), 260)
    return lambda: parse(tlv.record_value(record, tag))


def _atr(dice: random.Random) -> Callable[[], object]:
    link = AnswersLink(b"\x90\x00")
    link.atr = _bytes(dice, (bytes.fromhex("3B6D0000008154433086992501") + b"\0\0\0\1",), 64)
    return lambda: historical_bytes(Limited(link, Budget(), lambda: 0.0).atr)


def _some_damaged(dice: random.Random, sound: list[bytes]) -> list[bytes]:
    answers = list(sound)
    for _ in range(dice.randint(1, 2)):
        at = dice.randrange(len(answers))
        answers[at] = (
            damaged(dice, answers[at]) if dice.random() < 0.6 else dice.randbytes(dice.choice((0, 1, 2, 2, 20)))
        )
    return answers


def _reads(dice: random.Random, sound: list[list[bytes]]) -> Callable[[], object]:
    link = Replay(_some_damaged(dice, dice.choice(sound)), bytes(17))
    return lambda: SocialSecurityCard().read_identity(link)


@dataclass(frozen=True)
class Opened:
    """What a gated card answered while a PSAM opened it, what the PSAM at each of its uses, and both in their order."""

    card: list[bytes]
    psam: list[list[bytes]]
    together: list[bytes]
    atr: bytes


def opened() -> Opened:
    together: list[bytes] = []
    card, uses = _Recording(DirectLink(gated()), together), list[_Recording]()

    def psam() -> CardLink:
        uses.append(_Recording(DirectLink(issuer.psam()), together))
        return uses[-1]

    open_by_psam(card, psam)
    return Opened(card.answers, [use.answers for use in uses], together, card.atr)


def open_by_psam(card: CardLink, psam: Callable[[], CardLink]) -> object:
    """With the same bytes said to the card each time, so that recorded answers are right again."""
    said = itertools.count(1)
    authenticator = PsamAuthenticator(
        DirectReader(psam), genuineness=GENUINENESS, random=lambda size: bytes((next(said) & 0xFF,)) * size
    )
    return at_once(SocialSecurityCard(authenticator=authenticator).read(DirectVisit(card)))


def _authentication(dice: random.Random, sound: Opened) -> Callable[[], object]:
    """Either the card or the PSAM is hostile."""
    card, uses = sound.card, list(sound.psam)
    if dice.random() < 0.5:
        card = _some_damaged(dice, card)
    else:
        which = dice.randrange(len(uses))
        uses[which] = _some_damaged(dice, uses[which])
    powered = iter(uses)
    return lambda: open_by_psam(Replay(card, sound.atr), lambda: Replay(next(powered), bytes(17)))


def parsers() -> dict[str, Callable[[random.Random], Callable[[], object]]]:
    sound, authenticated = recorded(), opened()
    return {
        "tlv": _tlv,
        "records": _records,
        "atr": _atr,
        "reads": lambda dice: _reads(dice, sound),
        "authentication": lambda dice: _authentication(dice, authenticated),
    }


@dataclass
class Tally:
    """What one parser made of its inputs."""

    inputs: int = 0
    values: int = 0
    slowest_ms: float = 0.0


def run(make: Callable[[random.Random], Callable[[], object]], count: int, seed: int) -> Tally:
    """Raises whatever is not YikatongError, with the number of the input."""
    dice, tally = random.Random(seed), Tally()
    for _ in range(count):
        parse = make(dice)
        began = time.thread_time_ns()
        try:
            with contextlib.suppress(YikatongError):
                parse()
                tally.values += 1
        except Exception as error:
            error.add_note(f"input {tally.inputs} of seed {seed}")
            raise
        tally.slowest_ms = max(tally.slowest_ms, (time.thread_time_ns() - began) / 1e6)
        tally.inputs += 1
    return tally


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--count", type=int, default=1_000_000)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--parser", action="append", choices=("tlv", "records", "atr", "reads", "authentication"))
    chosen = asked.parse_args()
    for name, tally in _all(chosen.parser, chosen.count, chosen.seed):
        print(
            f"{name}: {tally.inputs} inputs, {tally.values} taken, {tally.inputs - tally.values} refused,"
            f" slowest {tally.slowest_ms:.2f} ms",
            flush=True,
        )
        if tally.slowest_ms > LIMIT_MS:
            raise SystemExit(f"{name}: slower than {LIMIT_MS} ms")


def _all(names: list[str] | None, count: int, seed: int) -> Iterator[tuple[str, Tally]]:
    for name, make in parsers().items():
        if not names or name in names:
            yield name, run(make, count, seed)


if __name__ == "__main__":
    main()
