"""The e-voucher service over HTTPS with client certificates: one question, one answer, one connection.

ASSUMPTION, all of it. What is known of the national service is a library's call at the institution: `NationEcTrans`
with `transType` `ec.query`. Its names are used where they are known: `orgId`, `businessType` (01301 outpatient
settlement, 02121 pharmacy purchase), `idNo`, `userName`. The code's field (`ecQrCode`), the region (`insuplcAdmdvs`),
the numbers of the errors and the transport are ours, and the body has no SM2 signature. What a province really has
takes the place of this class, behind the port `VoucherService`.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Institution, PersonName, Region, SocialSecurityNumber, VoucherCode
from yikatong.core.voucher import VoucherHolder
from yikatong.runtime.tls import Identity, client_context

_log = structlog.get_logger(__name__)

ANSWER_MAX: Final = 65_536
_BUSINESS: Final = {"P": "02121", "H": "01301"}
"""What is done there, by the first letter of the institution's code."""
_NAME_MAX: Final = 50
"""Names are shown and printed: nothing that moves a printer is one."""
_REFUSALS: Final = {
    1: Reason.VOUCHER_INVALID,
    2: Reason.VOUCHER_EXPIRED,
    3: Reason.VOUCHER_USED,
    4: Reason.VOUCHER_NOT_ACCEPTED,
}


class _Person(msgspec.Struct):
    idNo: str  # noqa: N815 - the service's names
    userName: str  # noqa: N815
    insuplcAdmdvs: str = ""  # noqa: N815


class _Answer(msgspec.Struct):
    code: int
    data: _Person | None = None


class HttpsVoucherService:
    """Implements `core.ports.VoucherService`. `timeout_s` bounds a whole question: a person waits at a window."""

    def __init__(self, url: str, identity: Identity, *, timeout_s: float) -> None:
        """`url` is https. Raises YikatongError CERTIFICATE_INVALID, CONFIGURATION_INVALID."""
        parts = urlsplit(url)
        try:
            self._host, self._port = parts.hostname or "", parts.port or 443
        except ValueError as error:
            raise YikatongError(Reason.CONFIGURATION_INVALID, "the port is none", key="voucher_service.url") from error
        self._authority, self._path = parts.netloc, parts.path or "/"
        self._tls: ssl.SSLContext = client_context(identity)
        self._timeout_s = timeout_s

    async def holder_of(self, code: VoucherCode, institution: Institution) -> VoucherHolder:
        """See the port."""
        business = _BUSINESS[institution.code[0]]
        data = {"orgId": institution.code, "businessType": business, "ecQrCode": code.reveal()}
        body = msgspec.json.encode({"transType": "ec.query", "data": data})
        try:
            async with asyncio.timeout(self._timeout_s):
                status, said = _heard(await self._exchanged(body))
        except TimeoutError:
            raise _unreachable("it does not answer in time") from None
        except (OSError, EOFError, http.client.HTTPException) as error:
            # without `from`: what it quotes of an answer may be a person's, and tracebacks are logged
            raise _unreachable(f"the exchange failed: {type(error).__name__}") from None
        if status != http.client.OK:
            raise _unreachable(f"its status is {status}")
        return _holder(said)

    async def _exchanged(self, body: bytes) -> bytes:
        """The whole answer as bytes. Raises OSError, EOFError for more than `ANSWER_MAX`."""
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._tls, server_hostname=self._host
        )
        try:
            head = (
                f"POST {self._path} HTTP/1.1\r\nHost: {self._authority}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode("ascii") + body)
            await writer.drain()
            said = bytearray()
            while piece := await reader.read(8192):
                said += piece
                if len(said) > ANSWER_MAX:
                    raise EOFError("the answer has no end")
            return bytes(said)
        finally:
            writer.transport.abort()  # it was read to its end, or is not wanted: there is nothing to wait for


class _Said:
    """What http.client reads an answer from: a socket whose other end has said everything."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._said)


def _heard(said: bytes) -> tuple[int, bytes]:
    """Status and body. Raises HTTPException for what is no HTTP, or less of it than was announced."""
    response = http.client.HTTPResponse(_Said(said))  # type: ignore[arg-type]  # of a socket it wants `makefile` alone
    response.begin()
    return response.status, response.read()


def _holder(said: bytes) -> VoucherHolder:
    try:
        answer = msgspec.json.decode(said, type=_Answer)
        if answer.code == 0 and answer.data is not None:
            region = answer.data.insuplcAdmdvs
            return VoucherHolder(
                SocialSecurityNumber(answer.data.idNo),
                PersonName("".join(char for char in answer.data.userName if char.isprintable())[:_NAME_MAX]),
                Region(region) if region else None,
            )
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        raise _unreachable("its answer makes no sense") from None  # as above
    if (reason := _REFUSALS.get(answer.code)) is not None:
        raise YikatongError(reason, "the e-voucher service refuses the code")
    raise _unreachable(f"it answers with {answer.code}")


def _unreachable(detail: str) -> YikatongError:
    _log.warning("the e-voucher service", detail=detail)
    return YikatongError(Reason.VOUCHER_SERVICE_UNREACHABLE, detail)
