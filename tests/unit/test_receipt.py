"""What is printed and shown of a debit: no reversal before it is proven, no "charge again" while it is open."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.rows import row
from yikatong.core.bill import Bill, Fund, Item, Share
from yikatong.core.orders import Credential, ReversalCause
from yikatong.core.reasons import MEANING, Reason
from yikatong.core.receipt import WIDTH, Issuer, Line, as_text, china_time, columns, receipt
from yikatong.core.terminal_table import State, verdict
from yikatong.core.words import explanation

ID = "01a20214-35ca-7dda-95d8-3f49c4b28b4d"
ISSUER = Issuer("测试药店", "P99000200001-01", "12393", "0531-0000000")
REASONS = [cause.value for cause in ReversalCause]


NO_BILL = Bill()
BILL = Bill(
    items=(
        Item(
            "阿莫西林胶囊 0.25g×24，每日三次，饭后服用，名称长得一行放不下", "XJ01CAA040E001010100001", "", 2_000, 2_960
        ),
        Item("挂号", "", "QD-1", 1_500, 690),
        Item("口罩", "", "", 1, 0),
    ),
    shares=tuple(Share(fund.name, 100 + number) for number, fund in enumerate(Fund)),
    total_fen=4_265,
)


def text(state: State, reason: Reason | None = None, bill: Bill = NO_BILL, **changes: Any) -> str:
    made = row(state, reason=reason.value if reason else "", created_at="2026-01-02T03:04:05+00:00", **changes)
    return as_text(receipt(made, bill, ISSUER))


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("state", [State.REVERSING, State.ACCEPTED])
def test_what_is_being_reversed_is_not_called_reversed(state: State, reason: Reason) -> None:
    printed, meaning = text(state, reason), MEANING[reason]
    flat = printed.replace("\n  ", "")
    for claim in (meaning.zh, meaning.en, meaning.next_zh, meaning.next_en):
        assert claim not in flat
    assert "可改收现金" in flat
    assert reason.value in flat
    said = explanation(verdict(state), reason)
    assert said is not None
    for claim in ("已自动冲正", "未扣款", "重新收费"):
        assert claim not in said.zh + said.next_zh


@pytest.mark.parametrize("reason", REASONS)
def test_what_is_reversed_says_why(reason: Reason) -> None:
    printed = text(State.REVERSED, reason).replace("\n  ", "")
    assert MEANING[reason].zh in printed
    assert "冲正凭条" in printed


@pytest.mark.parametrize("state", [State.SENT, State.MANUAL])
def test_what_is_open_says_not_to_charge_again(state: State) -> None:
    printed = text(state, Reason.NEEDS_OPERATOR if state is State.MANUAL else None)
    assert "不要重复收费" in printed or "请勿重复收费" in printed
    assert "未扣款" not in printed


@pytest.mark.parametrize("state", list(State))
def test_every_state_fits_on_paper(state: State) -> None:
    assert all(columns(line) <= WIDTH for line in text(state, Reason.NO_ANSWER_IN_TIME).splitlines())
    assert (explanation(verdict(state), None) is None) == (
        state in {State.APPROVED, State.HELD, State.DECLINED, State.REVERSED, State.ABORTED}
    )


def test_the_window_s_clock_is_eight_hours_ahead() -> None:
    assert "2026-01-02 11:04:05" in text(State.APPROVED)
    assert china_time("") == ""


def test_a_bill_is_shown_item_by_item_and_share_by_share() -> None:
    flat = text(State.APPROVED, bill=BILL).replace("\n  ", "")
    for shown in (
        "放不下 × 2  29.60", "National XJ01CAA040E001010100001", "挂号 × 1.5  6.90", "Local QD-1", "口罩 × 0.001  0.00",
        "总金额 Bill total: 42.65 元",
        *(f"{fund.value[0]} {fund.value[1]}: 1.0{number} 元" for number, fund in enumerate(Fund)),
    ):  # fmt: skip
        assert shown in flat
    assert flat.count("National —") == flat.count("Local —") == 2
    assert "Bill total" not in text(State.APPROVED)


def test_an_approval_says_where_and_what_is_left() -> None:
    known = {"balance_fen": 96_350, "reference": "371000-1", "accounting_date": "2026-01-02"}
    city = {"home_region": "371000", "home_city_zh": "威海", "home_city_en": "Weihai"}
    flat = text(State.APPROVED, **known, **city, order_part="2", order_no="RX-1")
    for shown in (
        "单据号 Order: RX-1 (2)", "参保地 Home city: 威海 Weihai (371000)", "个人账户扣款 Personal account: 36.50 元",
        "账户余额 Balance: 963.50 元", "参考号 Reference: 371000-1", "记账日 Accounting date: 2026-01-02",
    ):  # fmt: skip
        assert shown in flat
    without = text(State.APPROVED)
    assert "Balance" not in without
    assert "Home city" not in without


@pytest.mark.parametrize("state", list(State))
def test_only_a_reversal_is_proven_by_the_reversal_s_reference(state: State) -> None:
    assert ("冲正参考号 Proof: 371000-2" in text(state, reference="371000-2")) == (state is State.REVERSED)
    assert "Proof" not in text(state)


@pytest.mark.parametrize("state", [State.DECLINED, State.REVERSED, State.ABORTED])
def test_a_slip_proves_that_no_money_was_taken(state: State) -> None:
    known = {"transaction_id": ID, "order_no": "RX-20260102-000123456789", "decided_at": "2026-01-02T03:04:09+00:00"}
    printed = text(state, Reason.NO_ANSWER_IN_TIME, **known)
    for shown in (
        ID, "RX-20260102-000123456789", "未扣款 / No money was taken", "申请金额 Requested: 36.50 元", "12393",
        "结论时间 Decided: 2026-01-02 11:04:09", "NO_ANSWER_IN_TIME", "0531-0000000",
    ):  # fmt: skip
        assert shown in printed, "and unbroken"
    assert "已扣款" not in printed


@pytest.mark.parametrize(
    ("state", "reason", "reference", "proof"),
    [
        (State.REVERSED, Reason.NO_ANSWER_IN_TIME, "371000-2", "冲正参考号 Proof: 371000-2"),
        (State.REVERSED, Reason.NO_ANSWER_IN_TIME, "", "已记为拒绝"),
        (State.DECLINED, Reason.INSUFFICIENT_BALANCE, "", "已记为拒绝"),
        (State.ABORTED, Reason.NO_CARD, "", "没有发出"),
    ],
)
def test_the_proof_is_the_ledger_s_or_says_what_is_on_record(
    state: State, reason: Reason, reference: str, proof: str
) -> None:
    assert proof in text(state, reason, reference=reference)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.DECLINED, Reason.ORDER_IN_PROGRESS),
        (State.DECLINED, Reason.ORDER_ALREADY_PAID),
        (State.REVERSED, Reason.REVERSED_BY_OPERATORS),
    ],
)
def test_nothing_is_claimed_of_a_ledger_that_said_nothing(state: State, reason: Reason) -> None:
    printed = text(state, reason)
    assert "已记为拒绝" not in printed
    assert "结论时间" in printed


@pytest.mark.parametrize("state", [State.REVERSING, State.ACCEPTED])
def test_what_is_being_reversed_gets_a_slip_that_says_so(state: State) -> None:
    printed = text(state, Reason.NO_ANSWER_IN_TIME)
    assert "冲正通知：本笔最终不扣款" in printed
    assert "正在冲正 / Being reversed" in printed
    assert "请勿重复收费" not in printed, "that would contradict the cash"
    assert "结论时间" not in printed


def test_a_debit_that_waits_for_its_confirmation_says_until_when() -> None:
    printed = text(State.HELD, confirm_by="2026-01-02T03:05:05+00:00")
    assert "最迟确认 Confirm by: 2026-01-02 11:05:05" in printed
    assert "自动冲正" in printed
    assert "Confirm by" not in text(State.APPROVED)


@pytest.mark.parametrize("state", list(State))
def test_a_transaction_s_id_stands_on_one_line(state: State) -> None:
    assert ID in [line.strip() for line in text(state, transaction_id=ID).splitlines()]


def test_only_what_is_longer_than_a_line_is_broken() -> None:
    wrapped = as_text((Line("", "", "x"), Line("标", "L", "word " * 12 + "9" * 60))).splitlines()[3:-1]
    assert all(columns(line) <= WIDTH for line in wrapped)
    assert "".join("".join(wrapped).split()) == "标L:" + "word" * 12 + "9" * 60
    assert not any(line.endswith((" ", "w", "wo", "wor")) for line in wrapped)


def test_a_card_that_was_never_read_is_not_shown() -> None:
    assert "卡号" not in text(State.ABORTED, Reason.NO_CARD)
    assert "卡号 Card: T*1\n姓名 Name: 测**" in text(State.DECLINED, card_number_masked="T*1", cardholder_masked="测**")


def test_titles_are_centred_and_a_long_one_takes_two_lines() -> None:
    rule = "-" * WIDTH
    assert (
        as_text((Line("", "", "短 / Short"), Line("", "", "x"))) == f"{rule}\n{' ' * 19}短 / Short\n{rule}\nx\n{rule}\n"
    )
    two = as_text((Line("", "", "很长很长很长很长很长的标题 / A very long title of a slip"),))
    assert (
        two == f"{rule}\n{' ' * 11}很长很长很长很长很长的标题\n{' ' * 10}A very long title of a slip\n{rule}\n{rule}\n"
    )


@pytest.mark.parametrize("state", [State.APPROVED, State.DECLINED])
def test_an_initial_pin_is_to_be_changed_and_the_slip_does_not_say_why(state: State) -> None:
    asked = "请尽快修改社会保障卡密码"
    assert asked not in text(state)
    printed = text(state, initial_pin=True)
    assert asked in printed
    assert "初始" not in printed
    assert "initial" not in printed


@pytest.mark.parametrize(
    ("credential", "number", "way"),
    [
        (Credential.CARD, "卡号 Card", ""),
        (Credential.VOUCHER, "社会保障号码 Person", "支付方式 Paid with: 医保电子凭证 / E-voucher"),
        (Credential.RESIDENT_ID, "社会保障号码 Person", "支付方式 Paid with: 居民身份证 / Resident"),
    ],
)
def test_a_receipt_says_by_what_it_was_paid(credential: Credential, number: str, way: str) -> None:
    printed = text(State.APPROVED, credential=credential, card_number_masked="3***1").replace("\n  ", "")
    assert f"{number}: " in printed
    assert way in printed
    assert ("支付方式" in printed) is bool(way)
    assert ("社会保障卡 异地扣款凭条" in printed) is (credential is Credential.CARD)
    assert "异地扣款凭条" in printed
