"""What applications, files and items are called, and which form the items have: for people who look at exchanges.

The tables of card-facts §2.1, §2.4, §3.2, §3.3. An item that is not in them is a stranger: nothing of it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from yikatong.drivers.card import records
from yikatong.drivers.card.records import Item


class Form(Enum):
    """What a value looks like (card-facts §3.1, §3.5). Only VERSION and KIND are nobody's and shown as they are."""

    VERSION = auto()
    KIND = auto()
    CODE = auto()
    """Region, RID, the card's serial, MAC."""
    DIGITS = auto()
    """BCD, padded with F."""
    DATE = auto()
    CARD_NUMBER = auto()
    PERSON_NUMBER = auto()
    NAME = auto()
    NAME_EXTENSION = auto()
    SEX = auto()
    BIRTH = auto()
    BIRTHPLACE = auto()
    ETHNIC_GROUP = auto()


@dataclass(frozen=True, slots=True)
class Named:
    """A thing's name in both languages."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An item's name and form."""

    name: Named
    form: Form


ISSUER_FILE: Final = 0xEF05
HOLDER_FILE: Final = 0xEF06
SSSE_FID: Final = 0xDDF1
MASTER_FILE: Final = 0x3F00

_RID: Final = bytes.fromhex("D156000005")

SSSE: Final = Named("社会保障系统环境 SSSE", "the social security environment SSSE")
APPLICATIONS: Final = {
    records.SSSE_AID: SSSE,
    _RID + b"\x00": Named("公共应用 DF01", "the common application DF01"),
    _RID + b"\x01": Named("就业与失业应用 DF02", "the employment application DF02"),
    _RID + b"\x02": Named("社会保险应用 DF03", "the social insurance application DF03"),
    _RID + b"\x03": Named("医疗保险应用 DF04", "the medical insurance application DF04"),
    _RID + b"\x04": Named("人事人才应用 DF05", "the personnel application DF05"),
    _RID + b"\x90": Named("PSAM 应用", "the PSAM's application"),
    bytes.fromhex("A000000333010101"): Named("银行借记应用", "the bank's debit application"),
}

SSSE_FILES: Final = {
    ISSUER_FILE: Named("发卡文件 EF05", "issuer file EF05"),
    HOLDER_FILE: Named("持卡人文件 EF06", "holder file EF06"),
    0xEF07: Named("指纹文件 EF07", "fingerprint file EF07"),
    0xEF08: Named("照片文件 EF08", "photograph file EF08"),
}


def _known(item: Item, zh: str, en: str, form: Form) -> tuple[tuple[int, int], Entry]:
    return (item.file, item.tag), Entry(Named(zh, en), form)


SSSE_ITEMS: Final = dict(
    (
        _known(records.IDENTIFICATION_CODE, "卡识别码", "card identification code", Form.CODE),
        ((ISSUER_FILE, 0x02), Entry(Named("卡的类别", "card kind"), Form.KIND)),
        _known(records.SPEC_VERSION, "规范版本", "specification version", Form.VERSION),
        ((ISSUER_FILE, 0x04), Entry(Named("初始化机构编号", "initialising body"), Form.DIGITS)),
        _known(records.ISSUE_DATE, "发卡日期", "issue date", Form.DATE),
        _known(records.EXPIRY_DATE, "卡有效期", "expiry date", Form.DATE),
        _known(records.CARD_NUMBER, "卡号", "card number", Form.CARD_NUMBER),
        _known(records.SOCIAL_SECURITY_NUMBER, "社会保障号码", "social security number", Form.PERSON_NUMBER),
        _known(records.NAME, "姓名", "name", Form.NAME),
        _known(records.NAME_EXTENSION, "姓名扩展", "name extension", Form.NAME_EXTENSION),
        ((HOLDER_FILE, 0x0A), Entry(Named("性别", "sex"), Form.SEX)),
        ((HOLDER_FILE, 0x0B), Entry(Named("民族", "ethnic group"), Form.ETHNIC_GROUP)),
        ((HOLDER_FILE, 0x0C), Entry(Named("出生地", "birthplace"), Form.BIRTHPLACE)),
        ((HOLDER_FILE, 0x0D), Entry(Named("出生日期", "birth date"), Form.BIRTH)),
    )
)
"""(file, tag) → what it is, in the social security environment alone: tags mean other things elsewhere."""
