"""Authentication over every kind of reader: a PSAM in a second slot, a centre that takes its time, and who leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.authentication import Centre, by_centre, by_psam, gated
from tests.support.pcscd import empty, private_slots
from tests.support.vendor import compiled
from yikatong.core.card_authentication import CardQuestion
from yikatong.core.ports import CardReader
from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.card.centre import CentreAuthenticator
from yikatong.drivers.card.psam import PsamAuthenticator
from yikatong.drivers.pcsc import PcscReader
from yikatong.drivers.vendor.process import UnitSettings
from yikatong.drivers.vendor.unit import PSAM, VendorUnit
from yikatong.simulators.card import issuer
from yikatong.simulators.card.deck import find
from yikatong.simulators.card.manners import Manner, Mute, PulledAt
from yikatong.simulators.card.port import PretendCard
from yikatong.simulators.pcscd import PrivatePcscd
from yikatong.simulators.reader import SimulatedReader
from yikatong.simulators.vendor_unit import VendorUnit as SimulatedUnit
from yikatong.simulators.vpcd import VirtualSlot

pytestmark = pytest.mark.timeout(120)

WAIT_MS = 10_000


@dataclass(frozen=True)
class Bench:
    """A reader for the cardholder and one for the PSAM, and the hands that put something in and take it out."""

    reader: CardReader
    insert: Callable[[PretendCard], None]
    remove: Callable[[], None]
    psam_reader: CardReader
    insert_psam: Callable[[PretendCard], None]
    remove_psam: Callable[[], None]

    async def put_psam(self, psam: PretendCard) -> None:
        """Returns when the reader can power it."""
        self.insert_psam(psam)
        async with asyncio.timeout(WAIT_MS / 1000), contextlib.aclosing(self.psam_reader.watch()) as states:  # type: ignore[type-var]
            async for state in states:
                if state.card_present:
                    return

    async def read(self, document: SocialSecurityCard) -> str:
        async with self.reader.visit(wait_ms=WAIT_MS) as visit:
            return (await document.read(visit)).card_number.reveal()

    async def refused(self, document: SocialSecurityCard) -> YikatongError:
        with pytest.raises(YikatongError) as caught:
            await self.read(document)
        return caught.value


@pytest.fixture(scope="module")
def pcscd() -> Iterator[tuple[PrivatePcscd, list[VirtualSlot]]]:
    with private_slots(1) as running:
        yield running


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("library"))


@pytest.fixture(params=["in process", "pcscd", "library"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    match request.param:
        case "in process":
            one, other = SimulatedReader("one"), SimulatedReader("other")
            yield Bench(one, one.insert, one.remove, other, other.insert, other.remove)
            await one.close()
            await other.close()
        case "library":
            with SimulatedUnit(tmp_path / "unit") as simulated:
                unit = VendorUnit(UnitSettings(request.getfixturevalue("library"), str(simulated.path)))
                user, psam = unit.reader(), unit.reader(PSAM)
                yield Bench(
                    user,
                    simulated.insert,
                    simulated.remove,
                    psam,
                    lambda card: simulated.insert(card, PSAM),
                    lambda: simulated.remove(PSAM),
                )
                await user.close()
                await psam.close()
                await unit.close()
        case _:
            running, (slot, second) = request.getfixturevalue("pcscd")
            readers = [PcscReader(known.name) for known in running.slots]
            for reader in readers:
                await empty(reader)
            yield Bench(readers[0], slot.insert, slot.remove, readers[1], second.insert, second.remove)
            slot.remove()
            second.remove()
            for reader in readers:
                await reader.close()


class _Counting(Manner):
    commands = 0

    def execute(self, apdu: bytes) -> bytes:
        self.commands += 1
        return super().execute(apdu)


async def test_a_psam_opens_a_card_and_is_let_go_each_time(bench: Bench) -> None:
    await bench.put_psam(issuer.psam())
    bench.insert(gated())
    authenticator = by_psam(bench.psam_reader)
    document = SocialSecurityCard(authenticator=authenticator)
    assert await authenticator.check() == "370000000001"
    for _ in range(2):
        assert await bench.read(document) == gated().data.card_number
        async with bench.psam_reader.visit(), bench.reader.visit():
            pass  # nobody holds either


async def test_a_psam_that_leaves_at_any_of_its_commands_harms_no_card(bench: Bench) -> None:
    card = gated()
    bench.insert(card)
    authenticator = PsamAuthenticator(bench.psam_reader)
    document = SocialSecurityCard(authenticator=authenticator)
    whole = _Counting(issuer.psam())
    await bench.put_psam(whole)
    assert await bench.read(document) == card.data.card_number
    assert whole.commands == 4
    for command in range(1, whole.commands + 1):
        await bench.put_psam(PulledAt(issuer.psam(), command=command))
        assert (await bench.refused(document)).reason is Reason.PSAM_FAILED, command
    assert (await bench.refused(document)).reason is Reason.NO_PSAM
    with pytest.raises(YikatongError, match="NO_PSAM"):
        await authenticator.check()
    await bench.put_psam(Mute(issuer.psam()))
    assert (await bench.refused(document)).reason is Reason.PSAM_FAILED
    assert card.security.key_tries == {}
    await bench.put_psam(issuer.psam())
    assert await bench.read(document) == card.data.card_number


class _Thinking:
    """A centre that takes its time: `asked` once it has a question, answers when it may."""

    def __init__(self) -> None:
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        self._centre = Centre()

    async def authenticate(self, question: CardQuestion) -> bytes:
        self.asked.set()
        await self.may.wait()
        return await self._centre.authenticate(question)

    async def check(self) -> None: ...


async def test_while_the_centre_thinks_the_card_keeps_its_power_and_the_reader_is_free(bench: Bench) -> None:
    bench.insert(gated())
    centre = _Thinking()
    reading = asyncio.create_task(bench.read(SocialSecurityCard(authenticator=CentreAuthenticator(centre))))
    await centre.asked.wait()
    async with asyncio.timeout(10):  # nothing hangs: not the loop, not the reader's thread
        assert (await bench.reader.state()).card_present
    assert (await bench.refused(SocialSecurityCard())).reason is Reason.DEVICE_BUSY, "the visit holds the card"
    centre.may.set()
    assert await reading == gated().data.card_number


async def test_who_leaves_while_the_centre_thinks_leaves_the_card_well(bench: Bench) -> None:
    card = gated()
    bench.insert(card)
    centre = _Thinking()
    reading = asyncio.create_task(bench.read(SocialSecurityCard(authenticator=CentreAuthenticator(centre))))
    await centre.asked.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await bench.read(SocialSecurityCard(authenticator=by_centre())) == card.data.card_number
    assert card.security.key_tries == {}


async def test_a_card_that_was_swapped_meanwhile_never_sees_the_others_cryptogram(bench: Bench) -> None:
    bench.insert(gated())
    centre = _Thinking()
    reading = asyncio.create_task(bench.refused(SocialSecurityCard(authenticator=CentreAuthenticator(centre))))
    await centre.asked.wait()
    other = find("third-generation-gated").make()
    counting = _Counting(other)
    bench.remove()
    if isinstance(bench.reader, PcscReader):
        await empty(bench.reader)
    bench.insert(counting)
    centre.may.set()
    assert (await reading).reason is Reason.CARD_REMOVED
    assert counting.commands == 0
