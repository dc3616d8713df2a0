"""Configuration of the daemon: /etc/yikatong/daemon.toml. A sample with every key stands in deploy/config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from yikatong.runtime.config_check import Finding
from yikatong.runtime.tls import Identity

SOCKET_PATH_MAX: Final = 100
"""Bytes; Linux takes 107."""

Positive = Annotated[int, msgspec.Meta(gt=0)]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Gateway(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where the gateway is, and by which certificate the terminal proves who it is. `server_name`: name to expect."""

    address: Text
    authority: Text
    certificate: Text
    key: Text
    server_name: str = ""

    @property
    def identity(self) -> Identity:
        return Identity(Path(self.authority), Path(self.certificate), Path(self.key))


class Reader(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`kind` pcsc: a reader of the PC/SC daemon, by `name` (all of it, or a part that only one reader's name has).

    `kind` library: a vendor's shared library of the SSSE32 family (`library`, its path), what it calls the device, and
    which slot: 1 to 5 user cards, 65 and 66 contactless A and B.

    `kind` simulated: a card of the deck (`card`) in process; refused unless `development` is on.
    """

    kind: Literal["pcsc", "library", "simulated"] = "pcsc"
    name: str = ""
    library: str = ""
    device: Text = "AUTO"
    slot: Annotated[int, msgspec.Meta(ge=1, le=0xFF)] = 1
    card: str = ""


READER_KEYS: Final = "reader"
"""The value of `pin_keypad.device` that means the reader's own keys."""


class PinKeypad(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The keypad at which a cardholder enters the PIN.

    `device`: a stable path such as /dev/yikatong/pinpad0, or `reader` for the keys of a reader of kind library.
    """

    device: Text
    timeout_ms: Positive = 60_000


class ReceiptPrinter(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An ESC/POS printer of the terminal's own.

    `device`: a stable path such as /dev/yikatong/printer0. `each`: a slip for each bill that is settled, without being
    asked. `profile`: its name in python-escpos, which says what cutter it has.
    """

    device: Text
    each: bool = True
    profile: Text = "default"


class CustomerDisplay(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Two lines that the customer reads. `device`: a stable path such as /dev/yikatong/display0."""

    device: Text


class Hotlines(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Shown until the gateway has said its own: policy (政策热线) and fault (故障热线)."""

    policy: Text = "12393"
    fault: Text = "0000-0000000"


class Sockets(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Unix sockets, gated by their folder's group."""

    his: Text = "/run/yikatong/his/his.sock"
    technician: Text = "/run/yikatong/tech/tech.sock"


class DaemonConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole file. `state` is the folder of the journal; `self_test_days` after which a passed test is too old."""

    terminal_id: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    gateway: Gateway
    reader: Reader = Reader()
    pin_keypad: PinKeypad | None = None
    receipt_printer: ReceiptPrinter | None = None
    customer_display: CustomerDisplay | None = None
    sockets: Sockets = Sockets()
    hotlines: Hotlines = Hotlines()
    state: Text = "/var/lib/yikatong"
    his_may_read_identity: bool = False
    self_test_days: Positive = 8
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    development: bool = False

    def contradictions(self) -> list[Finding]:
        found = []
        if self.reader.kind == "simulated" and not self.development:
            zh, en = "simulated 只能用于开发模式（development = true）", "simulated needs development = true"
            found.append(Finding(("reader", "kind"), zh, en))
        if self.reader.kind == "library" and not self.reader.library:
            found.append(Finding(("reader", "library"), "缺少厂商动态库的路径", "missing; kind is library"))
        if self.pin_keypad and self.pin_keypad.device == READER_KEYS and self.reader.kind != "library":
            zh, en = "reader 只能用于 kind 为 library 的读卡器", "reader needs a reader of kind library"
            found.append(Finding(("pin_keypad", "device"), zh, en))
        for name in ("his", "technician"):
            if len(getattr(self.sockets, name).encode()) > SOCKET_PATH_MAX:
                zh, en = f"路径超过 {SOCKET_PATH_MAX} 字节", f"its path is longer than {SOCKET_PATH_MAX} bytes"
                found.append(Finding(("sockets", name), zh, en))
        return found

    @property
    def journal(self) -> Path:
        return Path(self.state) / "journal.db"
