"""Slips (凭条) of transactions: composed from the journal, for the HIS and for paper."""

from __future__ import annotations

from yikatong.core.credit_receipt import credit_receipt
from yikatong.core.credit_transaction import Credit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.receipt import Issuer, Line, as_text, receipt
from yikatong.core.transaction import Transaction
from yikatong.terminal.terminal import Terminal


async def compose(terminal: Terminal, row: Transaction | Credit) -> tuple[Line, ...]:
    """The receipt of `row`, or the slip that proves that no money was taken."""
    granted, session = terminal.session.granted, terminal.session
    issuer = Issuer(granted.institution_name if granted else "", session.terminal_id, *terminal.hotlines)
    if isinstance(row, Credit):
        return credit_receipt(row, issuer)
    return receipt(row, await terminal.journal.bill(row.transaction_id), issuer)


async def put_on_paper(terminal: Terminal, row: Transaction | Credit) -> None:
    """Raises what the printer raises, NO_PRINTER where the terminal has none. No transaction depends on it."""
    if terminal.printer is None:
        raise YikatongError(Reason.NO_PRINTER, "no printer is configured")
    await terminal.printer.print_receipt(as_text(await compose(terminal, row)))
