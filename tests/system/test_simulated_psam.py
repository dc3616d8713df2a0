"""What our own commands put into the two slots of a real pcscd: a gated card, and the PSAM that opens it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.pcscd import private_pcscd
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.card.psam import PsamAuthenticator
from yikatong.drivers.pcsc import PcscReader
from yikatong.simulators.card.deck import find
from yikatong.simulators.pcscd import Slot

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]


@contextmanager
def held(slot: Slot, *arguments: str) -> Iterator[None]:
    command = [sys.executable, "-m", "yikatong.cli.main", "simulate", *arguments, "--lang", "en"]
    with subprocess.Popen([*command, "--port", str(slot.port)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert "is in" in holder.stdout.readline()
        yield
        holder.send_signal(signal.SIGINT)
        assert holder.wait(10) == 0


@pytest.mark.parametrize(
    ("card", "psam"), [("third-generation-gated", ("psam",)), ("gated-sm4", ("psam", "--sm4"))], ids=["3DES", "SM4"]
)
async def test_our_psam_opens_our_gated_card(card: str, psam: tuple[str, ...]) -> None:
    with private_pcscd() as (pcscd, _), held(pcscd.slots[0], "card", card), held(pcscd.slots[1], *psam):
        reader, psam_reader = (PcscReader(slot.name) for slot in pcscd.slots)
        async with psam_reader.visit(wait_ms=10_000):
            pass  # pcscd has seen it
        document = SocialSecurityCard(authenticator=PsamAuthenticator(psam_reader))
        async with reader.visit(wait_ms=10_000) as visit:
            read = await document.read(visit)
        assert read.card_number.reveal() == find(card).data.card_number
        await reader.close()
        await psam_reader.close()
