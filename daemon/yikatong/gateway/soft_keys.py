"""Master keys in a file, for the security module of software (soft_hsm.py).

The file has a line for each key: name (IRK, RKSSSE), algorithm (3DES, SM4), the first digits of the issuing regions for
which it is (`*`: all), levels (0 to 3: none, card, city and card, province and city and card, of which a card's own key
is made), and 32 hexadecimal digits. Lines that begin with `#` are passed over.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import CardKey
from yikatong.core.reasons import Reason, YikatongError

_KEY_LENGTH: Final = 16
_FILE_MAX: Final = 64 * 1024
_FIELDS: Final = 5
_NAMES: Final = {key.value.encode(): key for key in CardKey}
_ALGORITHMS: Final = {algorithm.value.encode(): algorithm for algorithm in CardAlgorithm}
_LEVELS: Final = {b"0": 0, b"1": 1, b"2": 2, b"3": 3}
_REGIONS: Final = re.compile(rb"\*|[0-9]{1,6}")
_DIGITS: Final = b"0123456789abcdef"


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A master key, and of which cards; `regions`: how their issuers' codes begin. Whoever has it wipes `value`."""

    key: CardKey
    algorithm: CardAlgorithm
    regions: str
    levels: int
    value: bytearray

    def __repr__(self) -> str:
        return f"MasterKey({self.key.value}, {self.algorithm.value}, {self.regions or '*'})"


def load(path: Path) -> list[MasterKey]:
    """Raises CONFIGURATION_INVALID: the file can't be read, others may read it, or a line is wrong (which one)."""
    content = _content(path)
    lines = content.split(b"\n")
    keys: list[MasterKey] = []
    try:
        for number, line in enumerate(lines, start=1):
            if (made := _parsed(line, number, path)) is not None:
                keys.append(made)
                _demand_once(keys, number, path)
    except YikatongError:
        wipe(key.value for key in keys)
        raise
    finally:
        wipe([content, *lines])
    return keys


def wipe(buffers: Iterable[bytearray]) -> None:
    for buffer in buffers:
        for i in range(len(buffer)):
            buffer[i] = 0


def _content(path: Path) -> bytearray:
    """Only its owner may be able to read it, and that is us."""
    try:
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise _wrong(path, "the key file must be the service's own, and nobody else may read it (chmod 600)")
            if status.st_size > _FILE_MAX:
                raise _wrong(path, "the key file is too long")
            content = bytearray(status.st_size)
            file.readinto(content)
            return content
    except OSError as error:
        raise _wrong(path, f"the key file can't be read ({os.strerror(error.errno or 0)})") from error


def _parsed(line: bytearray, number: int, path: Path) -> MasterKey | None:
    """None where the line holds no key."""
    fields = line.split()
    try:
        if not fields or fields[0].startswith(b"#"):
            return None
        if len(fields) != _FIELDS:
            raise _wrong(path, "a line has five parts: name, algorithm, regions, levels, key", line=number)
        key, algorithm = _NAMES.get(bytes(fields[0])), _ALGORITHMS.get(bytes(fields[1]))
        levels, value = _LEVELS.get(bytes(fields[3])), _unhexed(fields[4])
        if key is None or algorithm is None or levels is None or value is None or not _REGIONS.fullmatch(fields[2]):
            raise _wrong(path, "a part of this line is not what it should be", line=number)
        if algorithm is CardAlgorithm.SSF33:
            raise _wrong(path, "SSF33 is not public: there is no use for its keys", line=number)
        return MasterKey(key, algorithm, fields[2].decode("ascii").removeprefix("*"), levels, value)
    finally:
        wipe(fields)


def _unhexed(digits: bytearray) -> bytearray | None:
    """Digit by digit, because what else turns them into bytes leaves a copy behind."""
    values = [_DIGITS.find(digit | 0x20 if digit >= ord("A") else digit) for digit in digits]
    if len(values) != 2 * _KEY_LENGTH or min(values) < 0:
        return None
    return bytearray(high << 4 | low for high, low in zip(values[::2], values[1::2], strict=True))


def _demand_once(keys: list[MasterKey], number: int, path: Path) -> None:
    *before, last = ((master.key, master.algorithm, master.regions) for master in keys)
    if last in before:
        raise _wrong(path, "this key is there twice", line=number)


def _wrong(path: Path, detail: str, **facts: int) -> YikatongError:
    """Never with anything of the content."""
    return YikatongError(Reason.CONFIGURATION_INVALID, detail, file=path.name, **facts)
