"""DES and SM4 in plain Python, and what keys of cards make of them: what our code is compared with.

Written from FIPS 46-3 and GB/T 32907 without a library, and from card-facts §5 without looking at our encoders: an
error made alike at both ends would else pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# --- DES: bits are numbered from 1, the most significant first ------------------------------------------------------

_IP: Final = [column - 8 * row for column in (58, 60, 62, 64, 57, 59, 61, 63) for row in range(8)]
_FP: Final = [_IP.index(bit) + 1 for bit in range(1, 65)]
_E: Final = [(4 * row + column - 1) % 32 + 1 for row in range(8) for column in range(6)]
_P = [16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10]
_P += [2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25]
_PC1 = [57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36]
_PC1 += [63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4]
_PC2 = [14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2]
_PC2 += [41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32]
_SHIFTS: Final = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1]
_S: Final = [
    "E4D12FB83A6C59070F74E2D1A6CB953841E8D62BFC973A50FC8249175B3EA06D",
    "F18E6B34972DC05A3D47F28EC01A69B50E7BA4D158C6932FD8A13F42B67C05E9",
    "A09E63F51DC7B428D709346A285ECBF1D6498F30B12C5AE71AD069874FE3B52C",
    "7DE3069A1285BC4FD8B56F03472C1AE9A690CB7DF13E52843F06A1D8945BC72E",
    "2C417AB6853FD0E9EB2C47D150FA3986421BAD78F9C5630EB8C71E2D6F09A453",
    "C1AF92680D34E75BAF427C9561DE0B389EF528C3704A1DB6432C95FABE17608D",
    "4B2EF08D3C975A61D0B7491AE35C2F8614BDC37EAF6805926BD814A7950FE23C",
    "D2846FB1A93E50C71FD8A374C56B0E927B419CE206ADF35821E74A8DFC90356B",
]
Bits = list[int]


def _bits(data: bytes) -> Bits:
    return [byte >> shift & 1 for byte in data for shift in range(7, -1, -1)]


def _pick(bits: Bits, table: Sequence[int]) -> Bits:
    return [bits[bit - 1] for bit in table]


def _round_keys(key: bytes) -> list[Bits]:
    chosen = _pick(_bits(key), _PC1)
    left, right = chosen[:28], chosen[28:]
    keys = []
    for shift in _SHIFTS:
        left, right = left[shift:] + left[:shift], right[shift:] + right[:shift]
        keys.append(_pick(left + right, _PC2))
    return keys


def _substituted(bits: Bits) -> Bits:
    out: Bits = []
    for box in range(8):
        a, b, c, d, e, f = bits[6 * box : 6 * box + 6]
        nibble = int(_S[box][(2 * a + f) * 16 + 8 * b + 4 * c + 2 * d + e], 16)
        out += [nibble >> shift & 1 for shift in (3, 2, 1, 0)]
    return out


def _des(keys: list[Bits], block: bytes) -> bytes:
    bits = _pick(_bits(block), _IP)
    left, right = bits[:32], bits[32:]
    for key in keys:
        mixed = [a ^ b for a, b in zip(_pick(right, _E), key, strict=True)]
        left, right = right, [a ^ b for a, b in zip(left, _pick(_substituted(mixed), _P), strict=True)]
    whole = _pick(right + left, _FP)
    return bytes(int("".join(map(str, whole[i : i + 8])), 2) for i in range(0, 64, 8))


def des(key: bytes, block: bytes) -> bytes:
    """One block of 8 bytes under a key of 8."""
    return _des(_round_keys(key), block)


def triple_des(key: bytes, block: bytes) -> bytes:
    """One block under two keys: encipher, decipher, encipher."""
    once = _des(_round_keys(key[:8]), block)
    back = _des(_round_keys(key[8:])[::-1], once)
    return _des(_round_keys(key[:8]), back)


# --- SM4 ------------------------------------------------------------------------------------------------------------

_SBOX: Final = bytes.fromhex(
    "d690e9fecce13db716b614c228fb2c052b679a762abe04c3aa441326498606999c4250f491ef987a33540b43edcfac62"
    "e4b31ca9c908e89580df94fa758f3fa64707a7fcf37317ba83593c19e6854fa8686b81b27164da8bf8eb0f4b70569d35"
    "1e240e5e6358d1a225227c3b01217887d40046579fd327524c3602e7a0c4c89eeabf8ad240c738b5a3f7f2cef96115a1"
    "e0ae5da49b341a55ad933230f58cb1e31df6e22e8266ca60c02923ab0d534e6fd5db3745defd8e2f03ff6a726d6c5b51"
    "8d1baf92bbddbc7f11d95c411f105ad80ac13188a5cd7bbd2d74d012b8e5b4b08969974a0c96777e65b9f109c56ec684"
    "18f07dec3adc4d2079ee5f3ed7cb3948"
)
_FK: Final = (0xA3B1BAC6, 0x56AA3350, 0x677D9197, 0xB27022DC)


def _turned(word: int, by: int) -> int:
    return (word << by | word >> 32 - by) & 0xFFFFFFFF


def _tau(word: int) -> int:
    return int.from_bytes(bytes(_SBOX[byte] for byte in word.to_bytes(4, "big")), "big")


def sm4(key: bytes, block: bytes) -> bytes:
    """One block of 16 bytes under a key of 16."""
    words = [int.from_bytes(key[i : i + 4], "big") ^ _FK[i // 4] for i in range(0, 16, 4)]
    state = [int.from_bytes(block[i : i + 4], "big") for i in range(0, 16, 4)]
    for number in range(32):
        constant = int.from_bytes(bytes((4 * number + j) * 7 % 256 for j in range(4)), "big")
        mixed = _tau(words[1] ^ words[2] ^ words[3] ^ constant)
        words = [*words[1:], words[0] ^ mixed ^ _turned(mixed, 13) ^ _turned(mixed, 23)]
        state = [*state[1:], state[0] ^ _spread(_tau(state[1] ^ state[2] ^ state[3] ^ words[3]))]
    return b"".join(word.to_bytes(4, "big") for word in reversed(state))


def _spread(word: int) -> int:
    return word ^ _turned(word, 2) ^ _turned(word, 10) ^ _turned(word, 18) ^ _turned(word, 24)


# --- keys of cards (card-facts §5) ----------------------------------------------------------------------------------


def _not(block: bytes) -> bytes:
    return bytes(255 - byte for byte in block)


def card_key(algorithm: str, master: bytes, historical: bytes, region: str, levels: int) -> bytes:
    """A card's own key, `levels` below the master: 1 card, 2 city and card, 3 province, city and card."""
    steps = [historical[-8:], region.encode() + bytes.fromhex("7378"), (region[:2] + "0000").encode() + b"\x73\x68"]
    for factor in steps[:levels][::-1]:
        if algorithm == "SM4":
            master = sm4(master, factor + _not(factor))
        else:
            master = triple_des(master, factor) + triple_des(master, _not(factor))
    return master


def cryptogram(algorithm: str, key: bytes, factor: bytes, data: bytes) -> bytes:
    """`data` under the session key that `factor` makes of a card's key."""
    if algorithm == "SM4":
        return sm4(sm4(key, factor + _not(factor)), data + bytes.fromhex("8000000000000000"))[:8]
    return des(triple_des(key, factor), data)
