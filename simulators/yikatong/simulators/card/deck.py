"""The deck: named test cards, what each is for, and the account that the sample directory holds for it.

Every person, number and card is invented: regions 99xxxx belong to nobody. The PIN is 123456 unless a card says
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from yikatong.core.reasons import Reason
from yikatong.simulators.card.card import SimulatedCard
from yikatong.simulators.card.issuer import personalise
from yikatong.simulators.card.manners import Answering, Mute, PulledAt, Slow, to_reads
from yikatong.simulators.card.numbers import card_number, social_security_number
from yikatong.simulators.card.personalisation import SM4, SSF33, CardData
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.card.security import WithoutPin

PIN_DEFAULT: Final = "123456"
INITIAL_PIN: Final = "888888"
"""What the sample province takes for a PIN that an issuer has given out."""


class CityState(Enum):
    OPEN = "OPEN"
    CLOSED_FOR_MAINTENANCE = "CLOSED_FOR_MAINTENANCE"
    NOT_OPEN = "NOT_OPEN"


@dataclass(frozen=True, slots=True)
class DeckCity:
    """A home city of the sample province. The names are the real divisions'; nothing else about them is."""

    region: str
    zh: str
    en: str
    state: CityState = CityState.OPEN


CITIES: Final = (
    DeckCity("370200", "青岛", "Qingdao"),
    DeckCity("370600", "烟台", "Yantai"),
    DeckCity("371000", "威海", "Weihai"),
    DeckCity("371100", "日照", "Rizhao", CityState.CLOSED_FOR_MAINTENANCE),
    DeckCity("371700", "菏泽", "Heze", CityState.NOT_OPEN),
)


@dataclass(frozen=True, slots=True)
class DeckAccount:
    """What the directory and the home city's ledger hold for a card, as plain data to seed samples with.

    `kind` is EMPLOYEE or RESIDENT (residents have no personal account, `balance_fen` 0); `status` is ACTIVE or FROZEN;
    `card_status` is ACTIVE or REPORTED_LOST.
    """

    social_security_number: str
    card_number: str
    name: str
    home_region: str
    kind: str = "EMPLOYEE"
    balance_fen: int = 100_000
    status: str = "ACTIVE"
    card_status: str = "ACTIVE"


@dataclass(frozen=True, slots=True)
class DeckCard:
    """One card of the deck. `expected` is the reason that a debit of 36.50 yuan meets, None where it is approved."""

    key: str
    zh: str
    en: str
    expected: Reason | None
    data: CardData
    account: DeckAccount | None
    pin: str = PIN_DEFAULT
    """What to type."""
    chip_pin: str = PIN_DEFAULT
    """What the chip compares with; differs from `pin` only on the card whose PIN is wrong."""
    manner: Callable[[PretendCard], PretendCard] = lambda card: card
    pin_tries_left: int | None = None
    """Fewer than a fresh card has; then it also tells them to a VERIFY without data."""
    forged: bool = False
    """It says what a genuine card says and takes whatever cryptogram it is given, but has no keys."""

    @property
    def authenticated(self) -> Reason | None:
        """What a debit meets at a terminal that authenticates cards through the centre."""
        if self.expected is not Reason.CARD_NEEDS_AUTHENTICATION:
            return self.expected
        if self.data.algorithm == SSF33:
            return Reason.CARD_ALGORITHM_UNSUPPORTED
        return Reason.CARD_NOT_GENUINE if self.forged else None

    def make(self) -> PretendCard:
        """A fresh card, as it comes from the issuer."""
        told = WithoutPin.REFUSES if self.pin_tries_left is None else WithoutPin.TELLS
        chip = SimulatedCard(self.data, pin=self.chip_pin, without_pin=told)
        if self.forged:
            chip.security.credulous = True
        else:
            personalise(chip)
        if self.pin_tries_left is not None:
            chip.security.tries_left = self.pin_tries_left
        return self.manner(chip)


_serials = iter(range(1, 100))


def _card(
    key: str,
    zh: str,
    en: str,
    expected: Reason | None,
    *,
    home: str | None = "371000",
    kind: str = "EMPLOYEE",
    balance_fen: int = 100_000,
    status: str = "ACTIVE",
    card_status: str = "ACTIVE",
    name: str = "测试人",
    pin: str = PIN_DEFAULT,
    chip_pin: str = PIN_DEFAULT,
    pin_tries_left: int | None = None,
    forged: bool = False,
    manner: Callable[[PretendCard], PretendCard] = lambda card: card,
    version: str = "2.00",
    algorithm: int | None = 1,
    gated: bool = False,
    expiry_date: str = "20350101",
    issuing_region: str | None = None,
    replaced: dict[tuple[int, int], bytes] | None = None,
    raw: dict[tuple[int, int], bytes] | None = None,
) -> DeckCard:
    serial = next(_serials)
    data = CardData(
        social_security_number=social_security_number(f"990001{1960 + serial % 40}0101{serial:03d}"),
        name=name,
        card_number=card_number(f"T{serial:07d}"),
        issuing_region=issuing_region or home or "990001",
        serial=serial.to_bytes(4, "big"),
        version=version,
        algorithm=algorithm,
        gated=gated,
        expiry_date=expiry_date,
        replaced=replaced or {},
        raw=raw or {},
    )
    account = (
        DeckAccount(data.social_security_number, data.card_number, name, home, kind, balance_fen, status, card_status)
        if home
        else None
    )
    return DeckCard(key, zh, en, expected, data, account, pin, chip_pin, manner, pin_tries_left, forged)


DECK: Final = (
    _card("works", "职工卡，威海参保", "employee's card, home city Weihai", None),
    _card(
        "works-qingdao", "职工卡，青岛参保", "employee's card, home city Qingdao", None, home="370200", name="测试乙"
    ),
    _card("works-yantai", "职工卡，烟台参保", "employee's card, home city Yantai", None, home="370600", name="测试丙"),
    _card(
        "foreign-city",
        "卡由青岛发行，人在烟台参保：发卡地不等于参保地",
        "issued in Qingdao, insured in Yantai: who issued the card is not who pays",
        None,
        home="370600",
        issuing_region="370200",
    ),
    _card("first-generation", "规范 1.00 版卡", "card of specification 1.00", None, version="1.00", algorithm=None),
    _card("version-2-01", "规范 2.01 版卡", "card of specification 2.01", None, version="2.01"),
    _card(
        "third-generation",
        "第三代卡（3.00），可自由读取",
        "third-generation card (3.00) that reads freely",
        None,
        version="3.00",
        algorithm=3,
    ),
    _card(
        "third-generation-gated",
        "第三代卡（3.00），认证后才能读取",
        "third-generation card (3.00) that must be authenticated first",
        Reason.CARD_NEEDS_AUTHENTICATION,
        version="3.00",
        gated=True,
    ),
    _card(
        "long-name",
        "长姓名，延伸到姓名扩展",
        "a long name that goes on in the name extension",
        None,
        name="测试买买提·吐尔逊·阿卜杜拉·艾合买提·玉素甫",
    ),
    _card(
        "unreadable-name",
        "姓名编码损坏，号码完好：照常扣款",
        "the name is broken, the numbers are sound: the debit passes",
        None,
        replaced={(0xEF06, 0x09): b"\xff\x41\x81".ljust(30, b"\x81")},
    ),
    _card("slow", "慢卡，9600 bit/s", "a slow card, 9,600 bit/s", None, manner=Slow),
    _card(
        "insufficient-balance",
        "余额只有 10.00 元",
        "the balance is 10.00 yuan",
        Reason.INSUFFICIENT_BALANCE,
        balance_fen=1_000,
    ),
    _card(
        "resident-no-account",
        "居民医保，没有个人账户",
        "residents' insurance, no personal account",
        Reason.NO_PERSONAL_ACCOUNT,
        kind="RESIDENT",
        balance_fen=0,
    ),
    _card("frozen", "个人账户已冻结", "the account is frozen", Reason.ACCOUNT_FROZEN, status="FROZEN"),
    _card(
        "reported-lost",
        "卡已挂失",
        "the card has been reported lost",
        Reason.CARD_REPORTED_LOST,
        card_status="REPORTED_LOST",
    ),
    _card("not-insured", "查不到参保信息", "nobody insures this person", Reason.PERSON_NOT_INSURED, home=None),
    _card(
        "city-closed",
        "参保地系统维护",
        "the home city is closed for maintenance",
        Reason.CITY_CLOSED_FOR_MAINTENANCE,
        home="371100",
    ),
    _card("city-not-open", "参保地尚未开通", "the home city has not joined", Reason.CITY_NOT_OPEN, home="371700"),
    _card("expired", "卡已过有效期", "expired at the end of 2020", Reason.CARD_EXPIRED, expiry_date="20201231"),
    _card(
        "wrong-pin",
        "芯片密码不是 123456：每试一次少一次机会",
        "its PIN is not 123456: every try costs one",
        Reason.PIN_WRONG,
        chip_pin="654321",
    ),
    _card("pin-blocked", "密码已锁定", "the PIN is blocked", Reason.PIN_BLOCKED, pin_tries_left=0),
    _card(
        "pulled-out",
        "读第 8 条指令时被拔出（一次）",
        "leaves the reader at its eighth command (once)",
        Reason.CARD_REMOVED,
        manner=lambda card: PulledAt(card, command=8),
    ),
    _card("mute", "复位后不再应答", "resets, then stays mute", Reason.CARD_MUTE, manner=Mute),
    _card(
        "not-social-security",
        "不是社会保障卡",
        "another kind of card",
        Reason.NOT_A_SOCIAL_SECURITY_CARD,
        home=None,
        manner=lambda card: Answering(card, lambda apdu, proper: b"\x6a\x82" if apdu[1:2] == b"\xa4" else proper),
    ),
    _card(
        "bad-check-digit",
        "社会保障号码校验位错误",
        "the check digit of the social security number is wrong",
        Reason.CARD_MALFORMED,
        replaced={(0xEF06, 0x08): b"990001199001010010"},
    ),
    _card(
        "overlong-record",
        "记录长度与内容不符",
        "a record that says it is longer than it is",
        Reason.CARD_MALFORMED,
        raw={(0xEF06, 0x08): bytes.fromhex("087F") + b"990001"},
    ),
    _card(
        "nonsense",
        "对每次读取都回答乱码",
        "answers every read with nonsense",
        Reason.CARD_MALFORMED,
        manner=lambda card: Answering(card, to_reads(bytes.fromhex("DEADBEEF9000"))),
    ),
    _card(
        "endless",
        "永远回答“还有数据”",
        "says for ever that there is more",
        Reason.CARD_MALFORMED,
        manner=lambda card: Answering(
            card, lambda apdu, proper: b"\x00" * 8 + b"\x61\x08" if apdu[1:2] == b"\xc0" else proper
        ),
    ),
    _card(
        "gated-sm4",
        "第三代卡（3.00，SM4），认证后才能读取",
        "third-generation card (3.00, SM4) that must be authenticated first",
        Reason.CARD_NEEDS_AUTHENTICATION,
        version="3.00",
        algorithm=SM4,
        gated=True,
    ),
    _card(
        "gated-ssf33",
        "第三代卡（3.00，SSF33），认证后才能读取；算法不公开",
        "third-generation card (3.00, SSF33) that must be authenticated first, with a cipher that is not public",
        Reason.CARD_NEEDS_AUTHENTICATION,
        version="3.00",
        algorithm=SSF33,
        gated=True,
    ),
    _card(
        "forged",
        "第三代卡的仿制品：内容相同，没有密钥",
        "a forged third-generation card: the same contents, and no keys",
        Reason.CARD_NEEDS_AUTHENTICATION,
        version="3.00",
        gated=True,
        forged=True,
    ),
    _card(
        "last-pin-try",
        "密码只剩最后一次机会：先问收费员",
        "one try is left at its PIN: the cashier is asked first",
        Reason.PIN_LAST_TRY,
        pin_tries_left=1,
    ),
    _card(
        "initial-pin",
        "密码仍是初始密码：照常扣款，并有提示",
        "its PIN is still the issuer's: the debit passes, with a notice",
        None,
        pin=INITIAL_PIN,
        chip_pin=INITIAL_PIN,
    ),
)


def find(key: str) -> DeckCard:
    """Raises KeyError for a name that the deck does not have."""
    return {card.key: card for card in DECK}[key]
