"""The journal's disk is remounted read-only, as a kernel does after errors: what was promised is kept all the same."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import apsw
import grpc.aio
import pytest

from tests.crash.test_kill import AMOUNT_FEN, REVERSED, _call, _final, _posted, _prove, _ready, _request
from tests.support.his import his_of
from yikatong.api.citycore.v1 import citycore_pb2
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.cli.province import HOME, Province

_MOUNT = """mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" || exit 99
{
    while [ -e /proc/$$ ] && [ ! -e "$0.repaired" ]; do sleep 0.1; done
    mount -o remount,bind,rw "$0"
} < /dev/null > /dev/null 2>&1 &
exec "$@" """
"""The folder is read-only until a file of its name, `.repaired`, lies beside it."""


def _may_mount() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _may_mount(), reason="a disk is mounted read-only by root alone")


def _start_on_a_read_only_disk(province: Province) -> None:
    """In a mount namespace of its own in which the journal's folder can't be written."""
    under = ["unshare", "-m", "sh", "-c", _MOUNT, str(province.folder / "daemon")]
    province.start("daemon", until_it_serves=False, under=under)


async def _logged(province: Province, text: str) -> None:
    async with asyncio.timeout(30):
        while text not in (province.folder / "daemon.log").read_text(encoding="utf-8"):
            await asyncio.sleep(0.05)


def _files(province: Province) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (province.folder / "daemon").iterdir() if path.is_file()}


async def _left_reversing(province: Province) -> api.DebitRequest:
    """The city has posted a debit, its caller has gone, its reversal is in the journal and reaches nobody."""
    request = _request()
    async with his_of(province) as his:
        await _ready(his)
        province.lose_answers()
        caller = asyncio.create_task(_call(his, request))
        await _posted(province)
        province.kill("gateway")
        caller.cancel()
        key = api.GetTransactionRequest(request_id=request.request_id)
        async with asyncio.timeout(20):
            while (await his.GetTransaction(key)).transaction.resolves_to != REVERSED:
                await asyncio.sleep(0.05)
    province.kill("daemon")
    province.heal()
    return request


async def test_a_reversal_that_was_decided_is_sent_from_a_disk_that_cannot_be_written(province: Province) -> None:
    request = await _left_reversing(province)
    before = _files(province)
    _start_on_a_read_only_disk(province)
    await _logged(province, "the journal's disk is read-only")
    province.start("gateway")
    await _logged(province, "answered, and kept nowhere")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async with his_of(province) as his:
            await his.Debit(_request(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE, "nothing was sent, nothing is served"
    answer = await province.home_core().ListEntries(citycore_pb2.ListEntriesRequest(home_region=HOME))
    amounts = [entry.amount_fen for entry in answer.entries if entry.account.startswith("personal")]
    assert amounts[-2:] == [-AMOUNT_FEN, AMOUNT_FEN]
    assert _files(province) == before

    # The disk is repaired: the ordinary start asks once more, and is answered alike.
    province.kill("daemon")
    province.start("daemon")
    async with his_of(province) as his:
        row = await _final(his, request)
        assert row.state == REVERSED
        await _prove(province, row)


async def test_it_starts_anew_once_the_disk_can_be_written(province: Province) -> None:
    """Its exit status tells the service manager to start it again."""
    province.kill("daemon")
    _start_on_a_read_only_disk(province)
    await _logged(province, "the journal's disk is read-only")
    (province.folder / "daemon.repaired").touch()
    async with asyncio.timeout(30):
        while (status := province.ended("daemon")) is None:
            await asyncio.sleep(0.05)
    assert status == 1
    await _logged(province, "can be written again")


async def test_a_machine_that_was_replaced_reverses_nothing(province: Province) -> None:
    await _left_reversing(province)
    store = apsw.Connection(str(province.folder / "gateway" / "gateway.db"))
    store.execute("UPDATE session SET epoch = 1000000, epoch_used = 1000000")  # as `ops replace` does
    store.close()
    province.start("gateway")
    _start_on_a_read_only_disk(province)
    async with asyncio.timeout(30):
        while (status := province.ended("daemon")) is None:
            await asyncio.sleep(0.05)
    assert status == 78
    answer = await province.home_core().ListEntries(citycore_pb2.ListEntriesRequest(home_region=HOME))
    amounts = [entry.amount_fen for entry in answer.entries if entry.account.startswith("personal")]
    assert amounts[-1] == -AMOUNT_FEN, "people decide"


async def test_what_can_be_seen_from_outside(province: Province) -> None:
    province.kill("daemon")
    folder = str(province.folder / "daemon")
    command = [
        sys.executable,
        "-m",
        "yikatong.cli.main",
        "doctor",
        "--lang",
        "en",
        "--config",
        str(province.daemon_config),
    ]
    under = ["unshare", "-m", "sh", "-c", _MOUNT, folder]
    done = await asyncio.to_thread(subprocess.run, [*under, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "mounted read-only" in done.stdout
