"""The receipt (凭条) of a cancellation or a refund. Chinese first, as wide as every receipt."""

from __future__ import annotations

from typing import Final

from yikatong.core.credit_orders import CreditKind
from yikatong.core.credit_table import credit_verdict
from yikatong.core.credit_transaction import Credit
from yikatong.core.receipt import Issuer, Line, china_time
from yikatong.core.terminal_table import Told
from yikatong.core.values import Fen
from yikatong.core.words import advice

_TITLES: Final = {CreditKind.CANCELLATION: ("撤销凭条", "Cancellation"), CreditKind.REFUND: ("退费凭条", "Refund")}
_RESULTS: Final = {
    Told.APPROVED: ("已退回", "Credited"),
    Told.DECLINED: ("未退回", "Declined"),
    Told.PENDING: ("处理中，以参保地结果为准", "Being settled; the home city decides"),
}


_NOTHING: Final = ("未退回证明", "No money was given back")


def credit_receipt(row: Credit, issuer: Issuer) -> tuple[Line, ...]:
    """The receipt of `row` as data, with the debit that it takes back and what is left of that."""
    told = credit_verdict(row.state).told
    title = _NOTHING if told is Told.DECLINED else _TITLES[row.kind]
    result = _RESULTS[told]
    lines = [
        Line("", "", f"{title[0]} / {title[1]}"),
        Line("机构", "Institution", issuer.institution_name or row.institution),
        Line("终端", "Terminal", issuer.terminal_id),
        Line("单据号", "Order", row.order_no + (f" ({row.order_part})" if row.order_part else "")),
        Line("交易号", "Transaction", row.transaction_id),
        Line("原交易号", "Original", row.original),
        Line("北京时间", "Time (UTC+8)", china_time(row.created_at)),
        Line("卡号", "Card", row.card_number_masked),
        Line("姓名", "Name", row.cardholder_masked),
        Line("参保地", "Home city", f"{row.home_city_zh} {row.home_city_en} ({row.home_region})"),
        Line("原扣款", "Debit", f"{Fen(row.original_amount_fen)} 元"),
        Line(*(("退回金额", "Given back") if told is Told.APPROVED else ("申请金额", "Requested")), f"{row.amount} 元"),
        Line("结果", "Result", f"{result[0]} / {result[1]}"),
    ]
    if row.why is not None:
        lines.append(Line("原因", "Reason", row.reason))
    if told is not Told.APPROVED:
        said = advice(row)
        lines += [Line("", "", said.zh), Line("", "", said.en), Line("", "", said.next_zh), Line("", "", said.next_en)]
    if told is Told.APPROVED:
        lines.append(Line("尚可退", "Still refundable", f"{Fen(row.refundable_fen)} 元"))
        if row.balance_fen is None:
            lines.append(Line("", "", "账户已注销，款项暂存参保地，请联系参保地经办机构。"))
            lines.append(Line("", "", "The account is closed: the home city's agency keeps the money for you."))
        else:
            lines.append(Line("账户余额", "Balance", f"{Fen(row.balance_fen)} 元"))
        lines.append(Line("参考号", "Reference", row.reference))
        lines.append(Line("记账日", "Accounting date", row.accounting_date))
    if told is not Told.PENDING:
        lines.append(Line("结论时间", "Decided", china_time(row.decided_at)))
    lines += [
        Line("政策热线", "Policy hotline", issuer.policy_hotline),
        Line("故障热线", "Fault hotline", issuer.fault_hotline),
    ]
    return tuple(lines)
