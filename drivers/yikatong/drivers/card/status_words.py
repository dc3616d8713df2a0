"""Status words in words (card-facts §8)."""

from __future__ import annotations

from typing import Final

from yikatong.drivers.card.dictionary import Named

_EXACT: Final = {
    0x9000: Named("成功", "done"),
    0x6281: Named("返回的数据可能有误", "the data may be corrupt"),
    0x6282: Named("文件比所要的短", "the file is shorter than was asked for"),
    0x6283: Named("文件或应用已失效", "the file or application is invalidated"),
    0x6284: Named("控制信息格式不支持", "the control information has no known format"),
    0x6300: Named("认证失败", "authentication failed"),
    0x6400: Named("未改变，执行出错", "nothing was changed, it failed"),
    0x6581: Named("存储器故障", "memory failure"),
    0x6700: Named("长度错误", "wrong length"),
    0x6882: Named("不支持安全报文", "no secure messaging"),
    0x6901: Named("当前状态不接受此命令", "not accepted in this state"),
    0x6981: Named("文件结构不符", "wrong file structure"),
    0x6982: Named("安全状态不满足：须先认证", "security status not satisfied: it wants authentication"),
    0x6983: Named("密码或密钥已锁定", "the PIN or key is blocked"),
    0x6984: Named("随机数无效", "the challenge is not valid"),
    0x6985: Named("使用条件不满足", "conditions not met"),
    0x6986: Named("没有当前文件", "no file is selected"),
    0x6987: Named("缺少安全报文数据", "a secure messaging object is missing"),
    0x6988: Named("安全报文校验错误", "the secure messaging MAC is wrong"),
    0x6A80: Named("数据域错误", "bad data field"),
    0x6A81: Named("不支持此功能，或卡、应用已锁定", "not supported, or card or application locked"),
    0x6A82: Named("找不到文件", "file not found"),
    0x6A83: Named("找不到记录", "record not found"),
    0x6A84: Named("空间不足", "no room"),
    0x6A86: Named("参数 P1 P2 错误", "bad P1 P2"),
    0x6A88: Named("找不到密钥或数据", "key or data not found"),
    0x6B00: Named("偏移超出文件", "behind the end of the file"),
    0x6D00: Named("不支持此指令", "instruction not supported"),
    0x6E00: Named("不支持此类别", "class not supported"),
    0x6F00: Named("原因不明的错误", "no precise diagnosis"),
    0x9301: Named("资金不足", "insufficient funds"),
    0x9302: Named("MAC 无效", "the MAC is not valid"),
    0x9303: Named("应用永久锁定", "the application is locked for good"),
    0x9401: Named("资金不足", "insufficient funds"),
    0x9402: Named("交易计数器到顶", "the counter is exhausted"),
    0x9403: Named("不支持此密钥索引", "key index not supported"),
    0x9406: Named("没有 MAC 或 TAC", "no MAC or TAC"),
}
_STRANGE: Final = Named("含义不明", "meaning unknown")


def meaning(status: int) -> Named:
    """What a status word says, in both languages."""
    low = status & 0xFF
    match status >> 8:
        case 0x61:
            return Named(f"还有 {low or 256} 字节待取", f"{low or 256} bytes are waiting")
        case 0x6C:
            return Named(f"长度不对，应为 {low or 256}", f"wrong length, {low or 256} is right")
        case 0x63 if low & 0xF0 == 0xC0:
            return Named(f"不正确，还剩 {low & 0x0F} 次", f"wrong, {low & 0x0F} tries left")
    return _EXACT.get(status, _STRANGE)
