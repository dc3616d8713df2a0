"""The one border where PC/SC's codes become reasons."""

from __future__ import annotations

from typing import Final

from smartcard import scard

from yikatong.core.reasons import Reason, YikatongError

REASONS: Final[dict[str, Reason]] = {
    "SCARD_E_NO_SMARTCARD": Reason.NO_CARD,
    "SCARD_W_REMOVED_CARD": Reason.CARD_REMOVED,
    "SCARD_W_RESET_CARD": Reason.CARD_REMOVED,  # somebody else had it: what we selected is gone, as after a removal
    "SCARD_W_UNPOWERED_CARD": Reason.CARD_REMOVED,
    "SCARD_E_COMM_DATA_LOST": Reason.CARD_REMOVED,
    "SCARD_E_NOT_TRANSACTED": Reason.CARD_MUTE,
    "SCARD_W_UNRESPONSIVE_CARD": Reason.CARD_MUTE,
    "SCARD_W_UNSUPPORTED_CARD": Reason.CARD_MUTE,
    "SCARD_E_CARD_UNSUPPORTED": Reason.CARD_MUTE,
    "SCARD_E_UNKNOWN_CARD": Reason.CARD_MUTE,
    "SCARD_E_INVALID_ATR": Reason.CARD_MUTE,
    "SCARD_E_PROTO_MISMATCH": Reason.CARD_MUTE,
    "SCARD_E_UNKNOWN_READER": Reason.NO_READER,
    "SCARD_E_READER_UNAVAILABLE": Reason.NO_READER,
    "SCARD_E_NO_READERS_AVAILABLE": Reason.NO_READER,
    "SCARD_E_SHARING_VIOLATION": Reason.DEVICE_BUSY,
    "SCARD_E_SERVER_TOO_BUSY": Reason.DEVICE_BUSY,
    "SCARD_E_NO_SERVICE": Reason.PCSCD_NOT_RUNNING,
    "SCARD_E_SERVICE_STOPPED": Reason.PCSCD_NOT_RUNNING,
    "SCARD_F_COMM_ERROR": Reason.PCSCD_NOT_RUNNING,  # what a call gets in whose middle pcscd ends
    "SCARD_W_SECURITY_VIOLATION": Reason.PCSCD_REFUSED,  # pcscd 2 asks polkit: the package's rule is missing
    **dict.fromkeys(
        (
            "SCARD_E_BAD_SEEK",
            "SCARD_E_CANCELLED",
            "SCARD_E_CANT_DISPOSE",
            "SCARD_E_CERTIFICATE_UNAVAILABLE",
            "SCARD_E_DIR_NOT_FOUND",
            "SCARD_E_DUPLICATE_READER",
            "SCARD_E_FILE_NOT_FOUND",
            "SCARD_E_ICC_CREATEORDER",
            "SCARD_E_ICC_INSTALLATION",
            "SCARD_E_INSUFFICIENT_BUFFER",
            "SCARD_E_INVALID_CHV",
            "SCARD_E_INVALID_HANDLE",
            "SCARD_E_INVALID_PARAMETER",
            "SCARD_E_INVALID_TARGET",
            "SCARD_E_INVALID_VALUE",
            "SCARD_E_NOT_READY",
            "SCARD_E_NO_ACCESS",
            "SCARD_E_NO_DIR",
            "SCARD_E_NO_FILE",
            "SCARD_E_NO_KEY_CONTAINER",
            "SCARD_E_NO_MEMORY",
            "SCARD_E_NO_SUCH_CERTIFICATE",
            "SCARD_E_PCI_TOO_SMALL",
            "SCARD_E_READER_UNSUPPORTED",
            "SCARD_E_SYSTEM_CANCELLED",
            "SCARD_E_TIMEOUT",
            "SCARD_E_UNEXPECTED",
            "SCARD_E_UNKNOWN_RES_MNG",
            "SCARD_E_UNSUPPORTED_FEATURE",
            "SCARD_E_WRITE_TOO_MANY",
            "SCARD_F_INTERNAL_ERROR",
            "SCARD_F_UNKNOWN_ERROR",
            "SCARD_F_WAITED_TOO_LONG",
            "SCARD_P_SHUTDOWN",
            "SCARD_W_CANCELLED_BY_USER",
            "SCARD_W_CARD_NOT_AUTHENTICATED",
            "SCARD_W_CHV_BLOCKED",
            "SCARD_W_EOF",
            "SCARD_W_WRONG_CHV",
        ),
        Reason.READER_FAILED,
    ),
}
"""PC/SC's name → our reason. A name that pyscard has and this table has not fails a test."""

_NAMES: Final[dict[int, str]] = {
    _code: _name for _name in REASONS if (_code := getattr(scard, _name, None)) is not None
}


def check(code: int, action: str) -> None:
    """Raises what a PC/SC result means; nothing for success. `action` is for people: "connect", "transmit", …"""
    if code != scard.SCARD_S_SUCCESS:
        raise translate(code, action)


def translate(code: int, action: str) -> YikatongError:
    name = _NAMES.get(code, f"{code & 0xFFFFFFFF:08X}")
    reason = REASONS.get(name, Reason.READER_FAILED)
    match reason:
        case Reason.PCSCD_NOT_RUNNING:
            return YikatongError(reason, f"PC/SC refused to {action}", pcsc=name, service="pcscd")
        case Reason.PCSCD_REFUSED:
            return refused_by_polkit(action, pcsc=name)
        case Reason.DEVICE_BUSY:
            return YikatongError(reason, f"another program holds the reader: PC/SC refused to {action}", pcsc=name)
    return YikatongError(reason, f"PC/SC refused to {action}", pcsc=name)


def refused_by_polkit(action: str, **facts: str | int) -> YikatongError:
    """pcscd runs, and polkit has told it not to serve this user."""
    return YikatongError(Reason.PCSCD_REFUSED, f"polkit did not let pcscd {action} for this user", **facts)
