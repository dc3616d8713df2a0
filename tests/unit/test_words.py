"""The one word for a bill, and what the cashier is told to do: never PAID for what may still be undone."""

from __future__ import annotations

import re

import pytest

from tests.support.rows import row
from yikatong.core.credit_orders import CreditKind
from yikatong.core.credit_table import CreditState, credit_verdict
from yikatong.core.credit_transaction import Credit
from yikatong.core.reasons import MEANING, Reason
from yikatong.core.terminal_table import State, Told, verdict
from yikatong.core.values import RequestId, TransactionId
from yikatong.core.words import Word, advice, word

CASH = re.compile(r"收现金|take cash|cash may be taken")


def credit(state: CreditState, reason: str = "") -> Credit:
    return Credit(
        kind=CreditKind.REFUND,
        transaction_id=TransactionId("t"),
        request_id=RequestId("r"),
        original=TransactionId("o"),
        amount_fen=1,
        state=state,
        reason=reason,
    )


@pytest.mark.parametrize("state", list(State))
def test_paid_is_said_of_an_approval_that_stays_and_not_paid_only_of_what_never_will_be(state: State) -> None:
    assert (word(row(state)) is Word.PAID) == (state is State.APPROVED)
    assert (word(row(state)) is Word.NOT_PAID) == (state in {State.DECLINED, State.REVERSED, State.ABORTED})


@pytest.mark.parametrize("state", list(CreditState))
def test_a_credit_has_words_of_its_own(state: CreditState) -> None:
    expected = {
        Told.APPROVED: Word.GIVEN_BACK,
        Told.DECLINED: Word.NOT_GIVEN_BACK,
        Told.PENDING: Word.BEING_SETTLED,
    }
    assert word(credit(state)) is expected[credit_verdict(state).told]


@pytest.mark.parametrize("made", [*map(row, State), *map(credit, CreditState)], ids=lambda made: str(made.state))
def test_there_is_always_a_sentence_and_a_next_step_in_both_languages(made: Credit) -> None:
    said = advice(made)
    for zh in (said.zh, said.next_zh):
        assert re.search(r"[一-鿿]", zh)
        assert zh.endswith("。")
    for en in (said.en, said.next_en):
        assert en.endswith(".")


@pytest.mark.parametrize("state", list(State))
def test_cash_is_offered_only_where_the_card_pays_nothing_in_the_end(state: State) -> None:
    said = advice(row(state))
    unpaid = verdict(state).told in {Told.DECLINED, Told.REFUSED, Told.REVERSED}
    ends_unpaid = unpaid or verdict(state).resolves_to is Told.REVERSED
    assert bool(CASH.search(said.next_zh)) == bool(CASH.search(said.next_en)) == ends_unpaid


@pytest.mark.parametrize("state", list(CreditState))
def test_nobody_is_told_to_pay_out_cash_for_a_credit_that_is_not_declined(state: CreditState) -> None:
    if state is not CreditState.DECLINED:
        assert "请勿另付现金" in advice(credit(state)).next_zh


def test_a_known_reason_speaks_for_itself() -> None:
    meaning = MEANING[Reason.INSUFFICIENT_BALANCE]
    said = advice(row(State.DECLINED, reason=Reason.INSUFFICIENT_BALANCE.value))
    assert (said.zh, said.next_en) == (meaning.zh, meaning.next_en)
    declined = advice(credit(CreditState.DECLINED, Reason.NOT_CANCELLABLE.value))
    assert declined.zh == MEANING[Reason.NOT_CANCELLABLE].zh
