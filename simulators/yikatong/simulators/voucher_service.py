"""An e-voucher service (医保电子凭证) as a process of its own, and the codes that its phones would show.

    python -m yikatong.simulators.voucher_service --config voucher-service.toml

It speaks the interface that `yikatong.gateway.voucher_client` assumes, written from that description on its own. A code
is good for `life_s` and for one question; it carries the person, sealed with the key in `state_dir`: whoever may
read that key can make codes for invented people. The faults stand in a control file, as those of the simulated city.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import contextlib
import http
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import structlog

from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime import keyfile, logs
from yikatong.runtime.clock import Clock, SystemClock
from yikatong.runtime.config import load
from yikatong.runtime.program import run_until_told
from yikatong.runtime.tls import Identity, server_context
from yikatong.simulators.faults_file import FaultsFile

FAULTS: Final = {
    "slow": "each answer comes three seconds late",
    "silent": "each question is heard, and none is ever answered",
    "lose-answer-once": "the next code is used up, and its answer is lost",
    "down": "each connection is closed at once",
    "error": "each question is answered with status 500",
    "garbled": "each answer is no JSON",
    "nobody": "each answer is fine, and names nobody",
    "endless": "each answer has no end",
    "forgetful": "a code can be asked about again and again",
}

INVALID, EXPIRED, USED = 1, 2, 3
_SLOW_S: Final = 3.0
_REQUEST_MAX: Final = 16_384
_SUBJECT: Final = "e-voucher"

_log = structlog.get_logger(__name__)


class VoucherServiceConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The service's configuration file."""

    listen: str
    """host:port; port 0 takes a free one."""
    state_dir: str
    authority: str
    certificate: str
    key: str
    gateway_name: str
    """Common name of the only certificate that may ask."""
    life_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    port_file: str = ""
    """Where the port is written once the service listens."""
    faults_file: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """An invented person; `region` where insured, six digits, empty where the service does not say."""

    number: str
    name: str
    region: str = ""


class Phones:
    """Makes codes and reads them; what has been read is used."""

    def __init__(self, key: bytes, clock: Clock, *, life_s: float) -> None:
        self._seal, self._clock, self._life_s = keyfile.Seal(key), clock, life_s
        self._used: set[bytes] = set()

    @classmethod
    def of(cls, config: VoucherServiceConfig) -> Phones:
        """Raises YikatongError STORE_UNAVAILABLE."""
        folder = Path(config.state_dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(keyfile.load_or_create(folder / "voucher.key"), SystemClock(), life_s=config.life_s)

    def show(self, person: Person) -> str:
        """A fresh code: printable ASCII without spaces, less than 512 characters."""
        content = msgspec.json.encode((self._now_s(), person.number, person.name, person.region))
        return base64.urlsafe_b64encode(self._seal.close(content, subject=_SUBJECT)).decode("ascii").rstrip("=")

    def ask(self, code: str, *, use: bool) -> Person | int:
        """Whose code it is, or the number of the error. `use`: from now on it is used."""
        try:
            sealed = base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True)
            content = self._seal.open(sealed, subject=_SUBJECT)
        except (YikatongError, binascii.Error, ValueError):
            return INVALID
        shown_at_s, number, name, region = msgspec.json.decode(content, type=tuple[float, str, str, str])
        if sealed in self._used:  # and not the code: its last digit has bits that say nothing
            return USED
        if self._now_s() >= shown_at_s + self._life_s:
            return EXPIRED
        if use:
            self._used.add(sealed)
        return Person(number, name, region)

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


class _Request(msgspec.Struct):
    transType: str  # noqa: N815 - the service's names
    data: dict[str, str]


class Service:
    """Answers each connection's one question."""

    def __init__(self, config: VoucherServiceConfig, phones: Phones) -> None:
        self._gateway, self._phones = config.gateway_name, phones
        self._faults = FaultsFile(Path(config.faults_file) if config.faults_file else None, FAULTS)
        self.asked = 0
        """How many questions were heard."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end, which may be the service's."""
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            faults = self._faults.now()
            if "down" not in faults:
                await self._answer(reader, writer, faults)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: set[str]) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii", "replace")
        length = next((line[15:] for line in head.splitlines() if line.lower().startswith("content-length:")), "0")
        body = await reader.readexactly(min(int(length.strip() or 0), _REQUEST_MAX))
        self.asked += 1
        if "slow" in faults:
            await asyncio.sleep(_SLOW_S)
        status, said = self._judged(writer.get_extra_info("peercert"), head, body, faults)
        if faults & {"silent", "lose-answer-once"}:
            _log.info("keeps the answer")
            await reader.read()  # until whoever asked has given up
            return
        endless = b" " * 200_000 if "endless" in faults else b""
        writer.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(said) + 2 * len(endless)}\r\nConnection: close\r\n\r\n".encode("ascii")
            + endless
            + said
        )
        await writer.drain()

    def _judged(
        self, certificate: dict[str, Any], head: str, body: bytes, faults: set[str]
    ) -> tuple[http.HTTPStatus, bytes]:
        names = [value for part in certificate["subject"] for key, value in part if key == "commonName"]
        if names != [self._gateway]:
            return http.HTTPStatus.FORBIDDEN, b""
        if "error" in faults:
            return http.HTTPStatus.INTERNAL_SERVER_ERROR, b""
        if "garbled" in faults:
            return http.HTTPStatus.OK, b"<html>"
        try:
            request = msgspec.json.decode(body, type=_Request)
            code = request.data["ecQrCode"]
        except (msgspec.DecodeError, KeyError):
            return http.HTTPStatus.BAD_REQUEST, b""
        if not head.startswith("POST ") or request.transType != "ec.query":
            return http.HTTPStatus.BAD_REQUEST, b""
        found = self._phones.ask(code, use="forgetful" not in faults)
        _log.info("asked", outcome=found if isinstance(found, int) else "PERSON")
        if isinstance(found, int):
            return http.HTTPStatus.OK, msgspec.json.encode({"code": found, "message": "refused"})
        person = {"idNo": found.number, "userName": found.name, "insuplcAdmdvs": found.region}
        return http.HTTPStatus.OK, msgspec.json.encode({"code": 0, "data": {} if "nobody" in faults else person})


async def serve(
    config: VoucherServiceConfig,
    *,
    stop: asyncio.Event,
    ready: Callable[[int], None] = lambda port: None,
    phones: Phones | None = None,
) -> int:
    """Runs until `stop`; returns the exit status. `ready` hears the port that it listens on. Raises YikatongError."""
    service = Service(config, phones or Phones.of(config))
    context = server_context(Identity(Path(config.authority), Path(config.certificate), Path(config.key)))
    host, _, port = config.listen.rpartition(":")
    try:
        server = await asyncio.start_server(service.answer, host, int(port), ssl=context, limit=_REQUEST_MAX)
    except (OSError, ValueError) as error:
        raise YikatongError(Reason.CONFIGURATION_INVALID, "the address can't be listened on", key="listen") from error
    listening = int(server.sockets[0].getsockname()[1])
    if config.port_file:
        _write(Path(config.port_file), f"{listening}\n")
    _log.info("e-voucher service listens", port=listening)
    ready(listening)
    await stop.wait()
    server.close()
    return 0


def _write(path: Path, content: str) -> None:
    """Whole or not at all: a reader that finds the file finds it complete."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(content, encoding="ascii")
    draft.replace(path)


def run(config: Path) -> int:
    """Runs the service of that configuration until SIGTERM or SIGINT. Raises YikatongError where it can't start."""
    logs.configure()
    settings = load(config, VoucherServiceConfig)
    return run_until_told(lambda stop: serve(settings, stop=stop))


def main() -> int:
    parser = argparse.ArgumentParser(prog="yikatong.simulators.voucher_service", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    return run(parser.parse_args().config)


if __name__ == "__main__":
    sys.exit(main())
