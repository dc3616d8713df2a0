"""After a debit and a reversal, nothing of the person stands in clear in any file of daemon, gateway and city."""

from __future__ import annotations

from pathlib import Path

import grpc.aio
import pytest

from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.cli.province import Province
from yikatong.simulators.card.deck import find


def _request(number: int, purpose: money.Purpose.ValueType = money.PURPOSE_PHARMACY_PURCHASE) -> api.DebitRequest:
    return api.DebitRequest(request_id=f"r{number}", order_no=f"o{number}", amount_fen=3650, purpose=purpose)


async def test_no_file_holds_the_person_in_clear(tmp_path: Path) -> None:
    account = find("works").account
    assert account is not None
    with Province(tmp_path, card="works", in_process=True) as province:
        async with grpc.aio.insecure_channel(f"unix:{province.his_socket}") as channel:
            his = TerminalServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await his.ReadCard(api.ReadCardRequest(full=True))
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            paid = (await his.Debit(_request(1), timeout=30)).transaction
            assert paid.state == api.TRANSACTION_STATE_APPROVED
            province.lose_answers()
            undone = (await his.Debit(_request(2), timeout=3)).transaction
            assert undone.state in {api.TRANSACTION_STATE_PENDING, api.TRANSACTION_STATE_REVERSED}
            told = (
                str(paid)
                + str(undone)
                + str(await his.GetReceipt(api.GetReceiptRequest(transaction_id=paid.transaction_id)))
            )
    assert account.social_security_number not in told
    assert account.card_number not in told
    secrets = (account.social_security_number, account.card_number, account.name)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "seed.json"]
    content = {path: path.read_bytes() for path in files}
    assert any(paid.transaction_id.encode() in raw for raw in content.values()), "the search reads what was written"
    found = [
        (path.name, secret)
        for path, raw in content.items()
        for secret in secrets
        if secret.encode() in raw or secret.encode("gb18030") in raw
    ]
    assert found == []
