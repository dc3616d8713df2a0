"""An exchange in words, Chinese and English, with what is a person's masked as everywhere else. Pure."""

from __future__ import annotations

import codecs
import re
from typing import Final

from yikatong.core.reasons import YikatongError
from yikatong.core.values import PersonName
from yikatong.drivers.card import text, tlv
from yikatong.drivers.card.dictionary import Entry, Form, Named
from yikatong.drivers.card.records import OK
from yikatong.drivers.characters import is_shown
from yikatong.drivers.trace.conversation import Act, Content, Understood

_VERSION: Final = re.compile(rb"[0-9]\.[0-9][0-9]")
_ALGORITHM_TAG: Final = 0x9F0C
_ALGORITHMS: Final = {b"\x86\x01\x01": "3DES", b"\x86\x01\x02": "SSF33", b"\x86\x01\x03": "SM4"}
_ACTS: Final = {
    Act.SELECT: Named("选择", "select"),
    Act.READ_RECORD: Named("读记录", "read record"),
    Act.READ_BINARY: Named("读文件", "read binary"),
    Act.GET_RESPONSE: Named("取应答", "get response"),
    Act.GET_CHALLENGE: Named("取随机数", "get challenge"),
    Act.INTERNAL_AUTHENTICATE: Named("内部认证", "internal authentication"),
    Act.EXTERNAL_AUTHENTICATE: Named("外部认证", "external authentication"),
    Act.SECRET: Named(
        "密码或密钥指令：内容和长度都不显示", "a PIN or key command: neither content nor length is shown"
    ),
    Act.OTHER: Named("其他指令", "another command"),
}


def of_exchange(exchange: Understood) -> Named:
    """What was asked, and what the answer holds. The status word has words of its own."""
    act = _ACTS[exchange.act]
    zh, en = act.zh, act.en
    if exchange.act is Act.SELECT and exchange.names is None:
        zh, en = f"{zh} 未知的应用或文件", f"{en} an unknown application or file"
    elif exchange.names is not None:
        of = "" if exchange.act is Act.SELECT else "of "
        zh, en = f"{zh} {exchange.names.zh}", f"{en} {of}{exchange.names.en}"
    if exchange.act is Act.READ_RECORD:
        which = exchange.command[2]
        zh += f" 第 {which} 条" if exchange.by_number else f" 标签 {which:02X}"
        en += f" number {which}" if exchange.by_number else f" tag {which:02X}"
    if (held := _held(exchange)) is not None:
        zh, en = f"{zh}：{held.zh}", f"{en}: {held.en}"
    return Named(zh, en)


def of_atr(atr: bytes, serial: int) -> Named:
    """The ATR without what is the card's own: its last `serial` bytes."""
    shown = atr[: len(atr) - serial].hex(" ").upper()
    stars = " **" * serial
    return Named(f"卡上电，复位应答 {shown}{stars}", f"card powered, ATR {shown}{stars}")


def _held(exchange: Understood) -> Named | None:
    """What the data are; None for none."""
    data = exchange.data
    if exchange.entry is not None:
        return _item(exchange.entry, data)
    if not data:
        return None
    if exchange.content is Content.CONTROL_INFORMATION and exchange.status == OK:
        return _control_information(data)
    return _length(len(data))


def _control_information(data: bytes) -> Named:
    try:
        named = tlv.single(tlv.parse_ber(data), _ALGORITHM_TAG)
    except YikatongError:
        return Named(f"{len(data)} 字节，不是控制信息", f"{len(data)} bytes that are no control information")
    algorithm = _ALGORITHMS.get(named or b"", "")
    zh = f"，算法 {algorithm}" if algorithm else ""
    en = f", algorithm {algorithm}" if algorithm else ""
    return Named(f"控制信息 {len(data)} 字节{zh}", f"control information, {len(data)} bytes{en}")


def _item(entry: Entry, record: bytes) -> Named:
    """The item that `record` holds, or that was asked for where it is empty."""
    zh, en = entry.name.zh, entry.name.en
    if not record:
        return Named(zh, en)
    if len(record) < tlv.RECORD_HEADER or record[1] != len(record) - tlv.RECORD_HEADER:
        return Named(f"{zh}，记录长度不符", f"{en}, and the record's length is not its length")
    value = record[tlv.RECORD_HEADER :]
    shown = _masked(entry.form, value)
    if shown is None:
        length = _length(len(value))
        return Named(f"{zh}（{length.zh}）", f"{en} ({length.en})")
    return Named(f"{zh} {shown}", f"{en} {shown}")


def _masked(form: Form, value: bytes) -> str | None:
    """As people may see it; None where it has not its form, or there is no way to mask it but by its length."""
    try:
        match form:
            case Form.VERSION:
                return value.decode("ascii") if _VERSION.fullmatch(value) else None
            case Form.KIND:
                return value.decode("ascii") if len(value) == 1 and value.isdigit() else None
            case Form.CODE:
                return str(text.identification_code(value))
            case Form.DATE:
                return f"{date[:4]}-**-**" if (date := text.calendar_date(value)) else "——"
            case Form.CARD_NUMBER:
                return str(text.card_number(value))
            case Form.PERSON_NUMBER:
                return str(text.social_security_number(value))
            case Form.NAME:
                return _name(value)
    except YikatongError:
        return None
    return None


def _name(value: bytes) -> str | None:
    """The first character and stars. It may end in half a character: the rest stands in the extension."""
    try:
        decoded = codecs.getincrementaldecoder("gb18030")("strict").decode(value.rstrip(b"\x00\xff"))
    except UnicodeDecodeError:
        return None
    return str(PersonName("".join(filter(is_shown, decoded)).strip())) or None


def _length(count: int) -> Named:
    return Named(f"{count} 字节，不显示", f"{count} byte{'' if count == 1 else 's'}, not shown")
