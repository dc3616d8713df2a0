"""A simulated e-voucher service in this process, over HTTPS with client certificates, for whoever has an authority."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from yikatong.gateway.config import Tls, VoucherServiceConfig
from yikatong.gateway.development_ca import DevelopmentCa
from yikatong.runtime.clock import SystemClock
from yikatong.runtime.tls import Identity
from yikatong.simulators import voucher_service as simulated
from yikatong.simulators.voucher_service import Person, Phones


class PhoneClock(SystemClock):
    """The clock of phones and service; durations of the test are no matter of it."""

    offset = timedelta()

    def now(self) -> datetime:
        return super().now() + self.offset


@dataclass
class VoucherWorld:
    """The running service. `url` is where it listens; `gateway` is the one identity that may ask."""

    url: str
    gateway: Identity
    phones: Phones
    clock: PhoneClock
    faults_file: Path

    def fault(self, *words: str) -> None:
        """What befalls it from now on; nothing: it is well again."""
        draft = self.faults_file.with_suffix(".draft")
        draft.write_text("\n".join(words))
        draft.replace(self.faults_file)

    def code(self, person: Person) -> str:
        return self.phones.show(person)

    def section(self, **changes: int) -> VoucherServiceConfig:
        """The gateway's configuration for it."""
        tls = Tls(str(self.gateway.authority), str(self.gateway.certificate), str(self.gateway.key))
        return VoucherServiceConfig(self.url, tls, **changes)


@asynccontextmanager
async def voucher_service(ca: DevelopmentCa, folder: Path) -> AsyncIterator[VoucherWorld]:
    server, gateway = ca.server("ecode"), ca.client("gateway-to-ecode")
    config = simulated.VoucherServiceConfig(
        listen="localhost:0",
        state_dir=str(folder / "ecode"),
        authority=str(server.authority),
        certificate=str(server.certificate),
        key=str(server.key),
        gateway_name="gateway-to-ecode",
        faults_file=str(folder / "ecode.faults"),
    )
    stop, ready, clock = asyncio.Event(), asyncio.get_running_loop().create_future(), PhoneClock()
    phones = Phones(b"k" * 32, clock, life_s=config.life_s)
    serving = asyncio.create_task(simulated.serve(config, stop=stop, ready=ready.set_result, phones=phones))
    done, _ = await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
    if serving in done:
        serving.result()
    try:
        url = f"https://localhost:{ready.result()}/ec"
        yield VoucherWorld(url, gateway, phones, clock, Path(config.faults_file))
    finally:
        stop.set()
        await serving
