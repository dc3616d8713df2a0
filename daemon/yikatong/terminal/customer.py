"""What the customer sees, and takes along: the display beside the window, and a slip for each bill that is settled.

Both follow what happens; no transaction waits for either, and a device that fails is told of once, in the log, and in
`doctor`. The display shows an amount and what to do now, never a name, a number or a balance: others can read it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import structlog

from yikatong.core.credit_transaction import Credit
from yikatong.core.orders import Credential
from yikatong.core.ports import CustomerDisplay
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.words import Word, word
from yikatong.terminal import slips
from yikatong.terminal.events import Happening, Hub
from yikatong.terminal.stages import Stage, StageReached
from yikatong.terminal.terminal import Terminal

_log = structlog.get_logger(__name__)

STAYS_S = 15.0
"""How long the last word of a transaction stays on the display."""

SHORT: Final = {
    Stage.WAITING_FOR_CARD: "请插入社会保障卡",
    Stage.READING_CARD: "正在读卡 请勿取卡",
    Stage.WAITING_FOR_PIN: "请输入社保卡密码",
    Stage.WAITING_FOR_CODE: "请出示医保电子凭证",
    Stage.RESOLVING_CODE: "正在核验 请稍候",
    Stage.WAITING_FOR_ID_CARD: "请放置居民身份证",
    Stage.ASKING_CITY: "正在扣款 请稍候",
    Stage.WAITING_FOR_CONFIRMATION: "已扣款 请取卡",
    Stage.REVERSING: "正在冲正 最终不扣款",
    Stage.REVERSAL_PROMISED: "正在冲正 最终不扣款",
    Stage.WAITING_FOR_OPERATOR: "正在人工核实",
    Stage.GIVING_BACK: "正在退款 请稍候",
}
"""At most 20 columns: ten characters."""

_PRINTED_KEPT: Final = 256


class _Trouble:
    """Why a device fails now; told once, and again only when that changes."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._reason: Reason | None = None

    def note(self, error: YikatongError | None) -> None:
        if error is not None and error.reason is not self._reason:
            _log.warning("a device fails", device=self._device, reason=error.reason.value, detail=error.detail)
        self._reason = error.reason if error is not None else None


async def show(hub: Hub, display: CustomerDisplay) -> None:
    """Until cancelled: each stage of a transaction, its last word, and after `STAYS_S` nothing."""
    trouble = _Trouble("customer-display")
    with hub.watching() as queue:
        until: float | None = None
        while True:
            happening = await _next(queue, until)
            if isinstance(happening, StageReached):
                upper, lower = lines_of(happening)
                until = asyncio.get_running_loop().time() + STAYS_S if happening.stage is Stage.DONE else None
            elif happening is None:
                upper, lower, until = "", "", None
            else:
                continue
            try:
                await (display.show(upper, lower) if upper else display.clear())
                trouble.note(None)
            except YikatongError as error:
                trouble.note(error)


def lines_of(reached: StageReached) -> tuple[str, str]:
    row = reached.row
    upper = f"{'退款' if isinstance(row, Credit) else '扣款'} {row.amount} 元"
    by_card = isinstance(row, Transaction) and row.credential is Credential.CARD
    if reached.stage is Stage.DONE:
        return upper, f"{word(row).value[0]} 请取卡" if by_card else word(row).value[0]
    if reached.stage is Stage.WAITING_FOR_CONFIRMATION and not by_card:
        return upper, "已扣款 请稍候"
    return upper, SHORT[reached.stage]


async def print_each(terminal: Terminal) -> None:
    """Until cancelled: a slip for each transaction that is settled, once. One of before a restart is asked for."""
    trouble, printed = _Trouble("printer"), deque[str](maxlen=_PRINTED_KEPT)
    with terminal.hub.watching() as queue:
        while True:
            row = await queue.get()
            if not isinstance(row, Transaction | Credit) or not _wants_a_slip(row) or row.transaction_id in printed:
                continue
            printed.append(row.transaction_id)
            try:
                await slips.put_on_paper(terminal, row)
                trouble.note(None)
            except YikatongError as error:
                trouble.note(error)


def _wants_a_slip(row: Transaction | Credit) -> bool:
    """Paid, given back, or undone: then the slip proves that nothing was taken. A mere refusal needs none."""
    return not row.recovered and (word(row) in {Word.PAID, Word.GIVEN_BACK} or row.state is State.REVERSED)


async def _next(queue: asyncio.Queue[Happening], until: float | None) -> Happening | None:
    """None when that time has come."""
    try:
        async with asyncio.timeout_at(until):
            return await queue.get()
    except TimeoutError:
        return None
