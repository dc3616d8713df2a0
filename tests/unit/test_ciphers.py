"""The ciphers of the tests themselves, against published vectors and those of card-facts §10."""

from __future__ import annotations

from tests.support import ciphers

HISTORICAL = bytes.fromhex("00815443309999250101000001")


def test_published_vectors() -> None:
    """FIPS 46-3's key and text as textbooks work them through; GB/T 32907, appendix A."""
    des = ciphers.des(bytes.fromhex("133457799BBCDFF1"), bytes.fromhex("0123456789ABCDEF"))
    assert des.hex().upper() == "85E813540F0AB405"
    text = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    assert ciphers.sm4(text, text).hex().upper() == "681EDF34D206965E86B3E94F536E4246"


def test_the_vectors_of_the_facts() -> None:
    """§10.3: both cryptograms; §10.6: a diversified key."""
    factor, data = bytes.fromhex("1122334455667788"), bytes.fromhex("8877665544332211")
    assert ciphers.cryptogram("3DES", bytes(range(16)), factor, data).hex().upper() == "2BE2C2D96716C603"
    factor, data = bytes.fromhex("A1A2A3A4A5A6A7A8"), bytes.fromhex("B1B2B3B4B5B6B7B8")
    assert ciphers.cryptogram("3DES", bytes(range(16, 32)), factor, data).hex().upper() == "9650817D715E2C40"
    own = ciphers.card_key("3DES", bytes(range(0x40, 0x50)), HISTORICAL, "990001", 1)
    assert own.hex().upper() == "DB840D83EF7AA015E808674476482CAD"
