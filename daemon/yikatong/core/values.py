"""Values that cannot be wrong: money, divisions, numbers on cards. Those that name a person hide themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Final, NewType

_YUAN: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,2}))?")
_REGION: Final = re.compile(r"[0-9]{6}")
_INSTITUTION: Final = re.compile(r"[HP][0-9]{11}")
_PERSON: Final = re.compile(r"[0-9]{17}[0-9X]")
_CARD: Final = re.compile(r"[0-9A-Z]{1,27}")

TransactionId = NewType("TransactionId", str)
"""UUID in lower case, 36 characters (txid in the design)."""

RequestId = NewType("RequestId", str)
"""The HIS's idempotency key, 1–64 printable ASCII characters."""

TerminalId = NewType("TerminalId", str)
"""The common name of the terminal's certificate, 1–32 characters."""

ReaderName = NewType("ReaderName", str)
"""A reader's stable name, as PC/SC or udev gives it."""


@dataclass(frozen=True, slots=True, order=True)
class Fen:
    """Money: a whole number of fen, the smallest coin, so that nothing is ever rounded."""

    count: int

    def __post_init__(self) -> None:
        if type(self.count) is not int:  # refuses True and 1.5 alike
            raise TypeError(f"fen are whole: {self.count!r}")

    def __add__(self, other: Fen) -> Fen:
        return Fen(self.count + other.count)

    def __str__(self) -> str:
        """Yuan with two decimals, as a person reads it."""
        whole, part = divmod(abs(self.count), 100)
        return f"{'-' if self.count < 0 else ''}{whole}.{part:02d}"

    @classmethod
    def from_yuan(cls, text: str) -> Fen:
        """Reads `36.5`, `36.50` or `36`; raises ValueError for anything else, as for more than two decimals."""
        match = _YUAN.fullmatch(text)
        if match is None:
            raise ValueError("an amount in yuan looks like 36.50")
        return cls(int(match[1]) * 100 + int((match[2] or "0").ljust(2, "0")))


@dataclass(frozen=True, slots=True, order=True)
class Region:
    """Administrative division (行政区划代码), six digits as in GB/T 2260."""

    code: str

    def __post_init__(self) -> None:
        if not _REGION.fullmatch(self.code):
            raise ValueError("a region is six digits")

    def __str__(self) -> str:
        return self.code


@dataclass(frozen=True, slots=True)
class Institution:
    """Designated institution (定点医药机构): H (hospital) or P (pharmacy) and eleven digits."""

    code: str

    def __post_init__(self) -> None:
        if not _INSTITUTION.fullmatch(self.code):
            raise ValueError("an institution is H or P and eleven digits")

    def __str__(self) -> str:
        return self.code


@dataclass(frozen=True, slots=True)
class SocialSecurityNumber:
    """Social security number (社会保障号码): the citizen's 18-character identity number (GB 11643)."""

    _digits: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _PERSON.fullmatch(self._digits):
            raise ValueError("a social security number is 17 digits and a digit or X")

    def reveal(self) -> str:
        return self._digits

    @property
    def check_ok(self) -> bool:
        """Whether the last character is the MOD 11-2 check character (ISO 7064, GB 11643)."""
        weight = (pow(2, 17 - i, 11) * int(digit) for i, digit in enumerate(self._digits[:17]))
        return "10X98765432"[sum(weight) % 11] == self._digits[17]

    def __str__(self) -> str:
        return f"{self._digits[:4]}**********{self._digits[-4:]}"

    def __repr__(self) -> str:
        return f"SocialSecurityNumber({self})"


@dataclass(frozen=True, slots=True)
class CardNumber:
    """Number printed on the card (卡号): nine characters, on some cards up to 27 (card-facts §3.2)."""

    _digits: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _CARD.fullmatch(self._digits):
            raise ValueError("a card number is digits and capital letters")

    def reveal(self) -> str:
        return self._digits

    def __str__(self) -> str:
        return f"{self._digits[:1]}{'*' * max(len(self._digits) - 4, 1)}{self._digits[-3:]}"

    def __repr__(self) -> str:
        return f"CardNumber({self})"


@dataclass(frozen=True, slots=True)
class PersonName:
    """A cardholder's name; shown as its first character and stars."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return self._text[:1] + "*" * max(len(self._text) - 1, 1) if self._text else ""

    def __repr__(self) -> str:
        return f"PersonName({self})"


@dataclass(frozen=True, slots=True)
class CardIdentificationCode:
    """Card identification code (卡识别码), 16 bytes: region 3, RID 5, serial 4, MAC 4 (card-facts §3.5)."""

    _code: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self._code) != 16:
            raise ValueError("a card identification code is 16 bytes")

    def reveal(self) -> bytes:
        return self._code

    @property
    def issuing_region(self) -> Region:
        """Who issued the card: a hint, never the home region. Raises ValueError where there are no digits."""
        return Region(self._code[:3].hex())

    def __str__(self) -> str:
        return f"{self._code[:3].hex()}…"

    def __repr__(self) -> str:
        return f"CardIdentificationCode({self})"


@dataclass(frozen=True, slots=True)
class VoucherCode:
    """What the code of an e-voucher (医保电子凭证) says: opaque, short-lived, and whoever has it pays with it.

    Printable ASCII without spaces (assumption; card-facts §9.3 has no layout). Shown as its length.
    """

    LENGTH_MAX: ClassVar[int] = 512
    _text: str = field(repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[!-~]+", self._text) or len(self._text) > self.LENGTH_MAX:
            raise ValueError("an e-voucher's code is 1 to 512 printable characters")

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return f"{len(self._text)} characters"

    def __repr__(self) -> str:
        return f"VoucherCode({self})"


class Pin:
    """A PIN in a buffer that is wiped. It is in no message, no string and no exception (quality, PIN).

    Use it as a context manager; leaving the block wipes it. `digits` is the buffer itself, ASCII digits, never a copy.
    """

    __slots__ = ("digits",)

    def __init__(self, digits: bytearray) -> None:
        if not 4 <= len(digits) <= 16 or not all(0x30 <= digit <= 0x39 for digit in digits):
            self.digits = digits
            self.wipe()
            raise ValueError("a PIN is 4 to 16 digits")
        self.digits = digits

    def wipe(self) -> None:
        for i in range(len(self.digits)):
            self.digits[i] = 0

    def __enter__(self) -> Pin:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return "Pin(hidden)"

    __str__ = __repr__
