"""Coverage-guided fuzzing of one parser, by hand: `python -m tests.fuzz.guided tlv --seconds 3600`.

libFuzzer, through atheris, grows inputs towards code that none has reached yet. The parser may answer or raise
YikatongError; anything else, or an input that takes over 50 ms of the thread's processor time, ends the run and is kept
in the corpus's folder. Atheris is no part of the development lock:
`.venv/bin/pip install --no-deps --require-hashes -r deploy/lock/fuzzing.txt`.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["yikatong.drivers", "yikatong.core"]):
    from tests.fuzz import cards, devices
    from yikatong.core.reasons import YikatongError
    from yikatong.drivers.card import SocialSecurityCard, tlv
    from yikatong.drivers.card.atr import historical_bytes
    from yikatong.drivers.card.chain import Budget, Limited

LIMIT_S: Final = 0.05
_ATR: Final = bytes.fromhex("3B6D000000815443508699250100000001")


def _tlv(data: bytes) -> None:
    tlv.single(tlv.parse_ber(data), 0x9F0C)


def _records(data: bytes) -> None:
    """The first byte chooses the item, the second whether the envelope is the fuzzer's too."""
    if len(data) < 2:
        return
    tags = tuple(cards.RECORDS)
    tag = tags[data[0] % len(tags)]
    value = data[2:]
    record = value if data[1] & 1 else bytes((tag, len(value) & 0xFF)) + value
    cards.RECORDS[tag][0](tlv.record_value(record, tag))


def _atr(data: bytes) -> None:
    link = cards.Replay([], data)
    historical_bytes(Limited(link, Budget(), lambda: 0.0).atr)


def _answers(data: bytes) -> Iterator[bytes]:
    """Each is a byte of length and so many bytes."""
    at = 0
    while at < len(data):
        yield data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]


def _whole(answers: Iterable[bytes]) -> bytes:
    return b"".join(bytes((len(answer),)) + answer for answer in answers)


def _reads(data: bytes) -> None:
    SocialSecurityCard().read_identity(cards.Replay(_answers(data), _ATR))


def _authentication(data: bytes) -> None:
    """The card and the PSAM that opens it take their answers from one line."""
    both = _answers(data)
    cards.open_by_psam(cards.Replay(both, _ATR), lambda: cards.Replay(both, _ATR))


PARSERS: Final[dict[str, Callable[[bytes], object]]] = {
    "tlv": _tlv,
    "records": _records,
    "atr": _atr,
    "reads": _reads,
    "authentication": _authentication,
    **{re.sub("'s|:", "", name).replace(" ", "-"): parser for name, (parser, _) in devices.PARSERS.items()},
}


def seeds(name: str) -> list[bytes]:
    """Sound inputs to begin with: a fuzzer would need long to find them."""
    match name:
        case "reads":
            return [_whole(read) for read in cards.recorded()]
        case "authentication":
            return [_whole(cards.opened().together)]
        case "records":
            return [bytes((index, 0)) + sound[2:] for index, (_, sound) in enumerate(cards.RECORDS.values())]
        case "atr":
            return [_ATR]
        case "identity-card-frame":
            return [devices.READ, *devices.SHORT]
        case "identity-card-record":
            return [devices.RECORD]
        case _:
            return []


def guarded(parser: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def one(data: bytes) -> None:
        begun = time.thread_time()
        with contextlib.suppress(YikatongError):
            parser(data)
        took_s = time.thread_time() - begun
        if took_s > LIMIT_S:
            raise RuntimeError(f"{took_s:.3f} s for one input")

    return one


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("parser", choices=PARSERS)
    options.add_argument("--seconds", type=int, default=3600)
    options.add_argument("--corpus", type=Path, default=Path("build/fuzz"))
    chosen = options.parse_args()
    folder = chosen.corpus / chosen.parser
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(chosen.parser)):
        (folder / f"sound-{number}").write_bytes(seed)
    limits = [f"-max_total_time={chosen.seconds}", "-max_len=4096", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(folder)], guarded(PARSERS[chosen.parser]))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
