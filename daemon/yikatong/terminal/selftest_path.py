"""The part of the self-test that walks the way of a debit: a pretend card, a runner of its own, the test accounts."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from yikatong.core.bill import Bill
from yikatong.core.card import CardIdentity
from yikatong.core.orders import DebitOrder, Purpose, ReversalCause, Tombstoned
from yikatong.core.ports import CardDocument, CardReader, PinEntry
from yikatong.core.reasons import MEANING, Reason
from yikatong.core.terminal_table import State
from yikatong.core.transaction import Transaction
from yikatong.core.values import Fen, Institution, Region, RequestId, TerminalId, TransactionId
from yikatong.runtime.leg import DebitLink, Patience
from yikatong.terminal.desk import Desk, payer_of
from yikatong.terminal.events import Happening, Hub
from yikatong.terminal.live import Limits
from yikatong.terminal.pin_check import PinCheck, PinRules
from yikatong.terminal.runner import Runner
from yikatong.terminal.terminal import Terminal
from yikatong.terminal.who_pays import WhoPays

CONFIRMED_FEN: Final = 3
REVERSED_FEN: Final = 2

_PATIENCE: Final = Patience(total_s=12.0, call_s=6.0, resend_s=0.5, enquire_s=1.0)
_LISTEN_S: Final = 15.0
_AFTERWARDS_S: Final = 10.0
_CONFIRM_WITHIN_MS: Final = 60_000
_NEVER_CONFIRMED_MS: Final = 1
_PIN_TIMEOUT_MS: Final = 5_000


class Failed(Exception):
    """A step did not pass: the reason, and what was found (Chinese, English)."""

    def __init__(self, reason: Reason, zh: str, en: str) -> None:
        super().__init__(en)
        self.reason, self.finding = reason, (zh, en)


@dataclass(frozen=True, slots=True)
class Bench:
    """What the wiring lends the self-test.

    `make_reader` gives a fresh reader with the test card in it; the self-test closes it. `expected` is what that card
    says of itself, taken from its description and not from our own reading of it. `link` leads to the test accounts
    (SelfTestService), never to real ones. `pin_entry` types the test card's PIN, None where no PIN is asked.
    """

    make_reader: Callable[[], CardReader]
    document: CardDocument
    expected: CardIdentity
    link: DebitLink
    pin_entry: PinEntry | None = None


class TestPath:
    """The steps share one reader and one runner, which `close` ends. What is still open then is taken up next time."""

    __test__ = False  # pytest: this is no test case

    def __init__(self, terminal: Terminal, bench: Bench, *, leave: Callable[[Reason], None]) -> None:
        self._terminal, self._bench = terminal, bench
        self._reader = bench.make_reader()
        self._told = _Told()
        desk = Desk(self._reader, bench.document, terminal.clock, pin=self._pin_check(terminal, bench))
        self._runner = Runner(
            terminal.journal,
            bench.link,
            terminal.session,
            WhoPays(desk),
            self._told,
            terminal.clock,
            leave=leave,
            limits=Limits(_PATIENCE, backoff=lambda attempt: 0.5),
            self_test=True,
        )
        self._recovered = False

    @staticmethod
    def _pin_check(terminal: Terminal, bench: Bench) -> PinCheck | None:
        if bench.pin_entry is None:
            return None
        rules = PinRules(timeout_ms=_PIN_TIMEOUT_MS)
        return PinCheck(bench.pin_entry, bench.document, terminal.journal, terminal.clock, rules)

    async def close(self) -> None:
        await self._runner.close()
        await self._reader.close()

    async def enquire(self) -> tuple[str, str]:
        """The test account answers."""
        account = await self._bench.link.account(payer_of(self._bench.expected), None)
        if account.reason is not None:
            meaning = MEANING[account.reason]
            raise Failed(
                account.reason, f"测试账户不可用：{meaning.zh}", f"The test account can't be used: {meaning.en}"
            )
        return (
            f"网关应答，测试账户余额 {account.balance} 元（{account.city.name_zh}）。",
            f"The gateway answers; the test account holds {account.balance} yuan ({account.city.name_en}).",
        )

    async def read_card(self) -> tuple[str, str]:
        """Every field of the pretend card is read exactly as it was written."""
        async with self._reader.visit() as visit:
            read = await self._bench.document.read(visit)
        if wrong := _differing(read, self._bench.expected):
            names = ", ".join(wrong)
            raise Failed(
                Reason.CARD_MALFORMED, f"模拟卡读出的内容不符：{names}。", f"The test card was misread: {names}."
            )
        return "模拟卡逐项读取正确。", "Every field of the test card was read as it was written."

    async def debit_and_confirm(self) -> tuple[str, str]:
        row = await self._debit(CONFIRMED_FEN, confirm_within_ms=_CONFIRM_WITHIN_MS)
        await self._runner.confirm(row.transaction_id)
        row = await self._until(row.transaction_id, lambda row: row.confirm_acknowledged, "confirmed", "确认")
        return (
            f"测试扣款 {row.amount} 元：已批准并确认（{row.home_city_zh}，{row.reference}）。",
            f"A test debit of {row.amount} yuan was approved and confirmed ({row.home_city_en}, {row.reference}).",
        )

    async def debit_and_reverse(self) -> tuple[str, str]:
        """A debit that is posted and never confirmed must end REVERSED, with the ledger's proof."""
        row = await self._debit(REVERSED_FEN, confirm_within_ms=_NEVER_CONFIRMED_MS)
        row = await self._until(row.transaction_id, lambda row: row.state is State.REVERSED, "reversed", "冲正")
        return (
            f"测试扣款 {row.amount} 元未确认，已自动冲正（{row.reference}）。",
            f"A test debit of {row.amount} yuan was left unconfirmed and is reversed ({row.reference}).",
        )

    async def reverse_unknown(self) -> tuple[str, str]:
        """A reversal that arrives before its debit must shut the door on it."""
        granted = self._terminal.session.require()
        order = DebitOrder(
            TransactionId(str(uuid.uuid4())),
            Institution(granted.institution),
            TerminalId(self._terminal.session.terminal_id),
            Region(granted.treatment_region),
            RequestId(_fresh_name()),
            _fresh_name(),
            "",
            Fen(REVERSED_FEN),
            Purpose.PHARMACY_PURCHASE,
            payer_of(self._bench.expected),
            granted.epoch,
            0,
        )
        answer = await self._bench.link.reverse(order, ReversalCause.RECOVERY)
        if not isinstance(answer, Tombstoned):
            name = type(answer).__name__
            raise Failed(
                Reason.ANSWER_DOES_NOT_FIT,
                f"对未知交易的冲正应答为 {name}，应为 Tombstoned。",
                f"The reversal of an unknown transaction was answered with {name}, not Tombstoned.",
            )
        return "对未知交易的冲正已被记住。", "The reversal of an unknown transaction is remembered."

    async def _debit(self, amount_fen: int, *, confirm_within_ms: int) -> Transaction:
        """A debit that is posted. Raises Failed where it was declined or got no answer."""
        if not self._recovered:
            await self._runner.recover()
            self._recovered = True
        request = Transaction(
            transaction_id=TransactionId(""),
            request_id=RequestId(_fresh_name()),
            order_no=_fresh_name(),
            order_part="",
            amount_fen=amount_fen,
            purpose=Purpose.PHARMACY_PURCHASE,
            state=State.PREPARED,
            confirm_within_ms=confirm_within_ms,
        )
        row = await self._runner.debit(request, Bill(), wait_ms=0, patience_s=_LISTEN_S)
        if row.state is State.HELD or row.cause == ReversalCause.UNCONFIRMED.name:  # it was posted, either way
            return row
        reason = row.why or Reason.OUTCOME_PENDING
        meaning = MEANING[reason]
        raise Failed(reason, f"测试扣款未成功：{meaning.zh}", f"The test debit was not approved: {meaning.en}")

    async def _until(
        self, transaction_id: TransactionId, done: Callable[[Transaction], bool], en: str, zh: str
    ) -> Transaction:
        """The row as the journal holds it, once `done` says so."""
        row: Transaction | None = None
        try:
            async with asyncio.timeout(_AFTERWARDS_S):
                while True:
                    changed = self._told.changed
                    row = await self._terminal.journal.by_id(transaction_id)
                    if row is not None and done(row):
                        return row
                    await changed.wait()
        except TimeoutError:
            state = row.state.value if row else "?"
            raise Failed(
                Reason.OUTCOME_PENDING, f"测试扣款未能{zh}，状态 {state}。", f"The test debit was not {en}: {state}."
            ) from None


class _Told(Hub):
    """Hears the test runner, in place of those who watch the customers' transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()

    def tell(self, happening: Happening) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


def _differing(read: CardIdentity, expected: CardIdentity) -> list[str]:
    """Names of the fields that differ; never their values."""
    return [
        field.name
        for field in dataclasses.fields(CardIdentity)
        if getattr(read, field.name) != getattr(expected, field.name)
    ]


def _fresh_name() -> str:
    return f"selftest-{uuid.uuid4()}"
