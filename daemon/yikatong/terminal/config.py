"""Configuration of the daemon: /etc/yikatong/daemon.toml. A sample with every key stands in deploy/config."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from yikatong.runtime.config_check import Finding
from yikatong.runtime.tls import Identity
from yikatong.runtime.unix_socket import PATH_MAX

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


class CardAuthentication(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How third-generation cards that refuse a free read are opened. `kind` none: they are not.

    `every_card`: a card that reads freely has to prove that it is genuine, too.

    `kind` gateway: the centre's security module, which may take `timeout_ms`. Of two challenges the last or the first
    one makes the session (`session_challenge`): cities differ.

    `kind` psam: a PSAM in the PC/SC reader `psam_reader`, or without that in a slot (`psam_slot`, 17 to 21) of a reader
    of kind library; a simulated one beside a simulated reader. Its keys are usage and id, four hexadecimal digits:
    `psam_key` opens cards, `psam_genuineness_key` knows what genuine ones answer (empty: they are not asked).
    `psam_algorithms`: of which cards it has keys.
    """

    kind: Literal["none", "psam", "gateway"] = "none"
    every_card: bool = False
    timeout_ms: Annotated[int, msgspec.Meta(gt=0, le=15_000)] = 5_000
    session_challenge: Literal["last", "first"] = "last"
    psam_reader: str = ""
    psam_slot: Annotated[int, msgspec.Meta(ge=1, le=0xFF)] = 0x11
    psam_key: Annotated[str, msgspec.Meta(pattern="^[2-7][0-9A-Fa-f]{3}$")] = "470A"
    psam_genuineness_key: Annotated[str, msgspec.Meta(pattern="^([2-7][0-9A-Fa-f]{3})?$")] = ""
    psam_algorithms: list[Literal["3DES", "SM4"]] = msgspec.field(default_factory=lambda: ["3DES", "SM4"])


READER_KEYS: Final = "reader"
"""The value of `pin_keypad.device` that means the reader's own keys."""
SOFTWARE: Final = "software"
"""The value of `pin_keypad.device` that means a computer's keyboard, over the socket `sockets.pin`."""
PIN_DIGITS_MIN: Final = 4
PIN_DIGITS_MAX: Final = 16


class PinKeypad(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where a cardholder enters the PIN, and what the cards here do with it.

    `device`: a stable path such as /dev/yikatong/pinpad0; `reader` for the reader's own keys; `software` for a
    computer's keyboard, refused unless `allow_software` is on. `digits`: how many a PIN has, for the keys of a PC/SC
    reader.

    `card_tells_tries`: the cards answer a VERIFY without data, at no cost (assumption, card-facts §4). `initial_pins`:
    which PINs are the issuers', "id" for the last six digits of the social security number; `on_initial_pin`: what is
    done about one.
    """

    device: Text
    timeout_ms: Positive = 60_000
    digits: int = 6
    allow_software: bool = False
    card_tells_tries: bool = False
    initial_pins: list[Annotated[str, msgspec.Meta(pattern="^([0-9]{4,16}|id)$")]] = msgspec.field(
        default_factory=lambda: ["123456", "888888", "id"]
    )
    on_initial_pin: Literal["tell", "refuse"] = "tell"


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


class Scanner(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where e-vouchers are shown: a scanner on a serial line, or a USB one in serial (CDC) mode, with CR or LF behind.

    `device`: a stable path such as /dev/yikatong/scanner0. `timeout_ms`: how long the gateway may take over a code.
    """

    device: Text
    baud: Positive = 9_600
    timeout_ms: Annotated[int, msgspec.Meta(gt=0, le=15_000)] = 5_000


class IdCardReader(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The module that reads resident identity cards. `device`: a stable path such as /dev/yikatong/id-card0."""

    device: Text
    baud: Positive = 115_200


class Hotlines(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Shown until the gateway has said its own: policy (政策热线) and fault (故障热线)."""

    policy: Text = "12393"
    fault: Text = "0000-0000000"


class Sockets(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Unix sockets, gated by their folder's group. `pin` is there where PINs are typed on a computer's keyboard."""

    his: Text = "/run/yikatong/his/his.sock"
    technician: Text = "/run/yikatong/tech/tech.sock"
    pin: Text = "/run/yikatong/his/pin.sock"


class DaemonConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole file. `state` is the folder of the journal; `self_test_days` after which a passed test is too old."""

    terminal_id: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    gateway: Gateway
    reader: Reader = Reader()
    card_authentication: CardAuthentication = CardAuthentication()
    pin_keypad: PinKeypad | None = None
    scanner: Scanner | None = None
    id_card_reader: IdCardReader | None = None
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
        if self.pin_keypad is not None:
            found += _of_the_keypad(self.pin_keypad, self.reader)
        found += self._about_cards()
        for name in ("his", "technician", "pin"):
            if len(getattr(self.sockets, name).encode()) > PATH_MAX:
                zh, en = f"路径超过 {PATH_MAX} 字节", f"its path is longer than {PATH_MAX} bytes"
                found.append(Finding(("sockets", name), zh, en))
        return found

    def _about_cards(self) -> Iterator[Finding]:
        cards, reader = self.card_authentication, self.reader
        section = "card_authentication"
        if cards.every_card and cards.kind == "none":
            yield Finding((section, "every_card"), "须同时设置 kind", "needs a kind")
        if cards.kind != "psam":
            return
        if cards.every_card and not cards.psam_genuineness_key:
            zh, en = "每张卡都验真须填写 psam_genuineness_key", "to prove every card needs psam_genuineness_key"
            yield Finding((section, "every_card"), zh, en)
        if reader.kind == "pcsc" and not cards.psam_reader:
            yield Finding((section, "psam_reader"), "缺少 PSAM 读卡器的名称", "missing; the PSAM is in a PC/SC reader")
        if reader.kind == "pcsc" and cards.psam_reader and not reader.name:
            zh, en = "有 PSAM 读卡器时须写明读卡器名称", "missing; the PSAM's reader is another one"
            yield Finding(("reader", "name"), zh, en)
        if reader.kind == "pcsc" and cards.psam_reader and cards.psam_reader == reader.name:
            zh, en = "与 reader.name 相同", "the cardholder's reader has this name"
            yield Finding((section, "psam_reader"), zh, en)
        if reader.kind == "library" and not cards.psam_reader and cards.psam_slot == reader.slot:
            yield Finding((section, "psam_slot"), "与 reader.slot 相同", "the cardholder's card is in this slot")

    @property
    def uses_pcsc(self) -> bool:
        """Whether a reader of this terminal is one of pcscd's."""
        psam = self.card_authentication.kind == "psam" and bool(self.card_authentication.psam_reader)
        return self.reader.kind == "pcsc" or psam

    @property
    def journal(self) -> Path:
        return Path(self.state) / "journal.db"


def _of_the_keypad(keypad: PinKeypad, reader: Reader) -> list[Finding]:
    found = []
    if keypad.device == READER_KEYS and reader.kind == "simulated":
        zh, en = "模拟读卡器没有键盘", "a simulated reader has no keys"
        found.append(Finding(("pin_keypad", "device"), zh, en))
    if keypad.device == SOFTWARE and not keypad.allow_software:
        zh = "software 让密码经过本机内存，须同时写 allow_software = true"
        en = "software lets PINs into this machine; it needs allow_software = true"
        found.append(Finding(("pin_keypad", "device"), zh, en))
    if not PIN_DIGITS_MIN <= keypad.digits <= PIN_DIGITS_MAX:
        zh = f"应为 {PIN_DIGITS_MIN} 至 {PIN_DIGITS_MAX}"
        en = f"expected {PIN_DIGITS_MIN} to {PIN_DIGITS_MAX}"
        found.append(Finding(("pin_keypad", "digits"), zh, en))
    if keypad.on_initial_pin == "refuse" and keypad.device == READER_KEYS and reader.kind == "pcsc":
        zh = "密码不出读卡器，无从判断是否初始密码"
        en = "the PIN never leaves the reader: nobody can tell whether it is an initial one"
        found.append(Finding(("pin_keypad", "on_initial_pin"), zh, en))
    return found
