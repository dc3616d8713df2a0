"""A simulated PSAM: the security module in a terminal that proves to a card that the terminal may read it.

Sources agree on the commands, the factors of each level, `61xx` and the two files (card-facts §5.3). Assumed, for want
of any source (§11.4): the FCI; that the files can be read without selecting the application, which the keys need
(6985); that a diversified key stays until the next BFDE, SELECT or reset; that 80FA enciphers with usages 7 and 8 alone
and one block at a time; 6A88 for a key that is not there; 6982 for keys of a PSAM that was not authorised [one source];
that a PSAM has one algorithm; how keys are diversified and what session they make.
The whole name of the environment ("sx2.sh.") was never seen, so it is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from yikatong.simulators.card.chip import OK, CardRefusalError, Chip, binary_part, command_data, expected_length
from yikatong.simulators.card.cryptography import TRIPLE_DES, Algorithm
from yikatong.simulators.card.files import RID, DirectoryFile, TransparentFile
from yikatong.simulators.card.security import PUK, RKSSSE

ATR: Final = bytes.fromhex("3B6D00000081544C0086840807230005C0")
"""A published sample (card-facts §1.2, V)."""
TERMINAL_NUMBER: Final = bytes.fromhex("370000000001")
SERIAL_NUMBER: Final = bytes.fromhex("99000100000000000001")
"""Ten bytes, invented."""

KEYS: Final = {(0x47, 0x0A): RKSSSE, (0x48, 0x10): PUK}
"""(usage, id) → key, as card-facts §2.7 names them; the values are the simulated card's."""

APPLICATION: Final = DirectoryFile(0xDF01, RID + b"\x90")
_FILES: Final = (
    TransparentFile(0x0015, b"\x00" + SERIAL_NUMBER),  # terminals read from offset 1; what stands at 0 is not known
    TransparentFile(0x0016, TERMINAL_NUMBER),
)
_BLOCK: Final = 8
_ENCIPHERING: Final = frozenset({0x07, 0x08})

Derivation = Callable[[Algorithm, bytes, Sequence[bytes]], bytes]
"""The card's key from the PSAM's and the factors: card, then city, then province, as many as the usage has levels."""


def undiversified(algorithm: Algorithm, key: bytes, factors: Sequence[bytes]) -> bytes:
    """Every card has the same key, as in the transcripts of card-facts §10: their answers come out in no other way."""
    del algorithm, factors
    return key


def by_region_and_card(algorithm: Algorithm, master: bytes, factors: Sequence[bytes]) -> bytes:
    """From the province down to the card, each step as PBOC does it: inferred, not seen (card-facts §5.5)."""
    for factor in reversed(factors):
        master = algorithm.diversified(master, factor)
    return master


class SimulatedPsam(Chip):
    """One security module. `keys` go by (usage, id); the usage's upper three bits are the number of levels."""

    def __init__(
        self,
        *,
        keys: Mapping[tuple[int, int], bytes] = KEYS,
        derivation: Derivation = undiversified,
        algorithm: Algorithm = TRIPLE_DES,
        authorised: bool = True,
    ) -> None:
        super().__init__()
        self._keys, self._derivation, self._algorithm, self._authorised = keys, derivation, algorithm, authorised
        self._in_application = False
        self._file: TransparentFile | None = None
        self._usage = 0
        self._session: bytes | None = None

    @property
    def atr(self) -> bytes:
        return ATR

    def _forget(self) -> None:
        self._in_application = False
        self._file = None
        self._session = None

    def _dispatch(self, apdu: bytes) -> bytes:
        cla, ins, p1, p2 = apdu[:4]
        match (cla, ins):
            case (0x00, 0xA4):
                return self._select(p1, p2, command_data(apdu))
            case (0x00, 0xB0):
                return self._read_binary(p1, p2, expected_length(apdu))
            case (0xBF, 0xDE):
                self._diversify(p1, p2, command_data(apdu))
                return OK
            case (0x80, 0xFA) if p1 == p2 == 0:
                return self._later(self._encipher(command_data(apdu)))
            case (0x80, 0xFA):
                raise CardRefusalError(0x6A86)
            case (0x00 | 0x80 | 0xBF, _):
                raise CardRefusalError(0x6D00)
            case _:
                raise CardRefusalError(0x6E00)

    def _select(self, p1: int, p2: int, name: bytes) -> bytes:
        if p1 not in {0x00, 0x02, 0x04} or p2 != 0x00:
            raise CardRefusalError(0x6A86)
        if name == (APPLICATION.aid if p1 == 0x04 else APPLICATION.fid.to_bytes(2, "big")):
            self._forget()
            self._in_application = True
            return self._later(APPLICATION.control_information)
        file = None if p1 == 0x04 else next((f for f in _FILES if f.fid.to_bytes(2, "big") == name), None)
        if file is None:
            raise CardRefusalError(0x6A82)
        self._file, self._session = file, None
        return OK

    def _read_binary(self, p1: int, p2: int, length: int) -> bytes:
        if p1 & 0x80:
            self._file = next((f for f in _FILES if f.sfi == p1 & 0x1F), None)
            if self._file is None:
                raise CardRefusalError(0x6A82)
        if self._file is None:
            raise CardRefusalError(0x6986)
        return binary_part(self._file.content, p2 if p1 & 0x80 else p1 << 8 | p2, length)

    def _diversify(self, usage: int, key_id: int, data: bytes) -> None:
        """The factors of the usage's levels, then the card's challenge, 8 bytes each: a session key is ready."""
        self._session = None
        if not self._in_application:
            raise CardRefusalError(0x6985)
        key = self._keys.get((usage, key_id))
        if key is None:
            raise CardRefusalError(0x6A88)
        if not self._authorised:
            raise CardRefusalError(0x6982)
        if len(data) != _BLOCK * ((usage >> 5) + 1):
            raise CardRefusalError(0x6700)
        *factors, challenge = (data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK))
        own = self._derivation(self._algorithm, key, factors)
        self._usage, self._session = usage, self._algorithm.session_key(own, challenge)

    def _encipher(self, data: bytes) -> bytes:
        if self._session is None or self._usage & 0x1F not in _ENCIPHERING:
            raise CardRefusalError(0x6985)
        if len(data) != _BLOCK:
            raise CardRefusalError(0x6700)
        return self._algorithm.cryptogram(self._session, data)
