"""mTLS between our processes: who holds a certificate, and the channel options that a money path needs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from yikatong.core.reasons import Reason, YikatongError

# Hidden retries off: the transaction tables are the only ones that send a debit again.
CLIENT_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
# A channel must not outlive its certificate for long.
SERVER_OPTIONS: Final = (
    ("grpc.max_connection_age_ms", 20 * 60_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.max_receive_message_length", 1024 * 1024),
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Paths of the PEM files by which a process proves who it is, and whom it trusts."""

    authority: Path
    certificate: Path
    key: Path

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Authority, certificate and key. Raises YikatongError CERTIFICATE_INVALID."""
        try:
            return self.authority.read_bytes(), self.certificate.read_bytes(), self.key.read_bytes()
        except OSError as error:
            name = Path(error.filename).name if error.filename else "?"
            raise YikatongError(Reason.CERTIFICATE_INVALID, "a certificate file can't be read", file=name) from error

    def server_credentials(self) -> grpc.ServerCredentials:
        """A client without a certificate of our authority is refused in the handshake."""
        authority, certificate, key = self.read()
        return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        authority, certificate, key = self.read()
        return grpc.ssl_channel_credentials(authority, key, certificate)

    def check(self) -> None:
        """Whether all three can be used, and the key is the certificate's. Raises YikatongError CERTIFICATE_INVALID."""
        authority, _, key = self.read()
        try:
            x509.load_pem_x509_certificates(authority)
            matches = load_pem_private_key(key, None).public_key() == self._certificate().public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise YikatongError(Reason.CERTIFICATE_INVALID, "authority or key can't be read") from error
        if not matches:
            raise YikatongError(Reason.CERTIFICATE_INVALID, "the key is not the certificate's", file=self.key.name)

    def valid_from(self) -> datetime:
        """Beginning of the certificate's life, UTC. Raises YikatongError CERTIFICATE_INVALID."""
        return self._certificate().not_valid_before_utc

    def valid_until(self) -> datetime:
        """End of the certificate's life, UTC. Raises YikatongError CERTIFICATE_INVALID."""
        return self._certificate().not_valid_after_utc

    def _certificate(self) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self.read()[1])
        except ValueError as error:
            raise YikatongError(Reason.CERTIFICATE_INVALID, "the certificate can't be read") from error


def client_context(identity: Identity) -> ssl.SSLContext:
    """For a client of HTTPS: the server must be of our authority and have the name that is asked for.

    Raises YikatongError CERTIFICATE_INVALID.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=identity.read()[0].decode("ascii", "replace"))
    return _with_chain(context, identity)


def server_context(identity: Identity) -> ssl.SSLContext:
    """For a server of HTTPS: a client without a certificate of our authority is refused in the handshake.

    Raises YikatongError CERTIFICATE_INVALID.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=identity.read()[0].decode("ascii", "replace"))
    context.verify_mode = ssl.CERT_REQUIRED
    return _with_chain(context, identity)


def _with_chain(context: ssl.SSLContext, identity: Identity) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(identity.certificate, identity.key)
    except (OSError, ssl.SSLError) as error:
        raise YikatongError(
            Reason.CERTIFICATE_INVALID, "certificate or key can't be used", file=identity.certificate.name
        ) from error
    return context


def peer_name(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Common name of the caller's certificate; raises YikatongError TERMINAL_UNKNOWN where there is none."""
    names = context.auth_context().get("x509_common_name", ())
    if not names:
        raise YikatongError(Reason.TERMINAL_UNKNOWN, "the caller has no certificate")
    return str(next(iter(names)).decode())


def common_name(certificate: bytes) -> str:
    """Common name in a PEM certificate."""
    attributes = x509.load_pem_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attributes[0].value)
