"""The gateway's configuration file (gateway.toml)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from yikatong.core.selftest import TEST_PERSON
from yikatong.runtime.config_check import Finding
from yikatong.runtime.tls import Identity

RegionCode = Annotated[str, msgspec.Meta(pattern="^[0-9]{6}$")]
InstitutionCode = Annotated[str, msgspec.Meta(pattern="^[HP][0-9]{11}$")]
TerminalName = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
Date = Annotated[str, msgspec.Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class Tls(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """PEM files: whom we trust, and who we are."""

    authority: str
    certificate: str
    key: str

    def identity(self) -> Identity:
        return Identity(Path(self.authority), Path(self.certificate), Path(self.key))


class CityConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A home city. Without `address` its ledger lies in the gateway's own database."""

    region: RegionCode
    name_zh: str
    name_en: str
    state: Literal["OPEN", "NOT_OPEN", "CLOSED_FOR_MAINTENANCE"] = "OPEN"
    open_from: Date | None = None
    """First and last accounting date of the city's cross-city debits; without them there is no limit."""
    open_to: Date | None = None
    address: str = ""
    """host:port of the city's core (CityCoreService)."""
    server_name: str = ""
    """Name in the core's certificate, where it is not the host of `address`."""
    takes_voucher: bool = True
    """Whether its people may pay by e-voucher."""
    takes_resident_id: bool = False
    """Whether its people may pay by resident identity card, which nobody's PIN guards."""


class InstitutionConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A designated institution (定点医药机构) and its agreement (医保协议)."""

    code: InstitutionCode
    name: str
    region: RegionCode
    agreement: Literal["ACTIVE", "SUSPENDED", "TERMINATED"] = "ACTIVE"


class TerminalConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A terminal; its id is the common name of its certificate."""

    terminal_id: TerminalName
    institution: InstitutionCode


class HsmConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The security module (加密机) that authenticates cards."""

    keys: str = ""
    """File of soft keys (gateway/soft_keys.py), in development only; empty: there is no security module."""
    per_minute: Annotated[int, msgspec.Meta(gt=0)] = 30
    """How many cards one terminal may have authenticated in a minute."""


class VoucherServiceConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The e-voucher service (医保电子凭证): it says whose code a terminal has scanned."""

    url: Annotated[str, msgspec.Meta(pattern="^https://[^/ ]+(/[^ ]*)?$")]
    tls: Tls
    """Whom we trust there, and who we are towards it."""
    timeout_ms: Annotated[int, msgspec.Meta(gt=0, le=10_000)] = 3_000
    proof_ms: Annotated[int, msgspec.Meta(gt=0, le=600_000)] = 60_000
    """How long a terminal may take from a resolved code to its debit."""
    per_minute: Annotated[int, msgspec.Meta(gt=0)] = 60
    """How many codes one terminal may have resolved in a minute."""


class GatewayConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole file."""

    listen: str
    """host:port; port 0 takes a free one."""
    state_dir: str
    tls: Tls
    city_tls: Tls | None = None
    """Who we are towards the cities' cores; needed where a city has an address."""
    port_file: str = ""
    """Where the port is written once the gateway listens."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    development: bool = False
    """Server reflection. Never in production."""
    policy_hotline: str = ""
    fault_hotline: str = ""
    debit_max_fen: Annotated[int, msgspec.Meta(gt=0)] = 100_000_000
    """Limit of a single debit."""
    seed: str = ""
    """JSON file of sample persons and accounts; what is missing is made at the start."""
    self_test_persons: list[Annotated[str, msgspec.Meta(pattern="^[0-9]{17}[0-9X]$")]] = msgspec.field(
        default_factory=lambda: [TEST_PERSON]
    )
    """Invented social security numbers of test cards: each has a test account in the self-test partition."""
    hsm: HsmConfig = HsmConfig()
    voucher_service: VoucherServiceConfig | None = None
    """Without it nobody pays by e-voucher."""
    cities: list[CityConfig] = []
    institutions: list[InstitutionConfig] = []
    terminals: list[TerminalConfig] = []

    def contradictions(self) -> list[Finding]:
        """What is listed twice or points nowhere, a city's core without a certificate for it, soft keys in earnest."""
        found = [
            *_twice("cities", "region", [city.region for city in self.cities]),
            *_twice("institutions", "code", [institution.code for institution in self.institutions]),
            *_twice("terminals", "terminal_id", [terminal.terminal_id for terminal in self.terminals]),
        ]
        known = {institution.code for institution in self.institutions}
        for index, terminal in enumerate(self.terminals):
            if terminal.institution not in known:
                zh, en = "没有登记这家机构", "this institution is not listed"
                found.append(Finding(("terminals", index, "institution"), zh, en))
        if self.city_tls is None and any(city.address for city in self.cities):
            zh, en = "缺少；有城市写了 address", "missing; a city has an address"
            found.append(Finding(("city_tls",), zh, en))
        if self.hsm.keys and not self.development:
            zh, en = "软密钥只能用于开发模式（development = true）", "soft keys need development = true"
            found.append(Finding(("hsm", "keys"), zh, en))
        return found


def _twice(section: str, key: str, names: list[str]) -> Iterator[Finding]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Finding((section, index, key), "重复登记", "listed twice")
