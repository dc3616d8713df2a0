"""The ways that are walked: what happens beside the one fault, so that every commit and message has its turn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from yikatong.core.orders import City
from yikatong.simulation.chance import OneFault, Rates
from yikatong.simulation.faults import Run, play
from yikatong.simulation.his import Bill
from yikatong.simulation.machines import HERE
from yikatong.simulation.points import TO_CITY, TO_GATEWAY, message_point
from yikatong.simulation.province import PAYERS, Plan

NEAR, FAR = 0, 1
AGAIN: Final = frozenset({"same request again"})


def _never(way: str, misfortune: str, *methods: str) -> frozenset[str]:
    return frozenset(message_point(way, method, misfortune) for method in methods)


@dataclass(frozen=True)
class Way:
    """One bill on its way. `always` strikes every time, `once` the first time."""

    name: str
    payer: int = FAR
    amount_fen: int = 700
    confirm_within_ms: int = 0
    always: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()
    closed: tuple[City, float, float] | None = None
    seed: int = 0

    def walk(self, point: str = "", nth: int = 0) -> tuple[Run, OneFault]:
        """Plays it with the one fault, or with none."""
        chance = OneFault(self.seed, Rates(), point=point, nth=nth, always=AGAIN | self.always, once=self.once)
        bill = Bill("order-0", self.amount_fen, PAYERS[self.payer], self.confirm_within_ms, 1.0)
        return play(chance, Plan(timedelta(hours=3), 120.0, 1, (1_000,) * len(PAYERS), (bill,), self.closed)), chance


_TAKEN_BACK: Final = frozenset({"bill taken back"})
_CANCELLED: Final = _TAKEN_BACK | {"cancellation"}
_UNANSWERED: Final = _never(TO_GATEWAY, "answer lost", "Debit", "GetTransaction")
_CITY_SILENT: Final = _never(TO_CITY, "lost", "Debit", "GetTransaction", "Reverse")

WAYS: Final = (
    Way("approved, city with a core of its own"),
    Way("approved, ledger at the gateway", NEAR),
    Way("declined", amount_fen=2_000),
    Way("confirmed by the HIS", confirm_within_ms=60_000),
    Way("never confirmed by the HIS", confirm_within_ms=5_000, always=frozenset({"never books"})),
    Way("unanswered, reversed", always=_UNANSWERED),
    Way("unanswered, reversed, ledger at the gateway", NEAR, always=_UNANSWERED),
    Way("city silent, reversal promised", always=_CITY_SILENT),
    Way("cancelled", always=_CANCELLED),
    Way("cancelled, ledger at the gateway", NEAR, always=_CANCELLED),
    Way("refunded", always=_TAKEN_BACK),
    Way("refunded, ledger at the gateway", NEAR, always=_TAKEN_BACK),
    Way("refund promised", always=_TAKEN_BACK | _never(TO_CITY, "lost", "Refund")),
    Way("cancellation promised", always=_CANCELLED | _never(TO_CITY, "lost", "Cancel")),
    Way("gateway dies with the debit forwarded", once=frozenset({"gateway dies after G1 Router.debit"})),
    Way("terminal dies with the debit sent", once=frozenset({"terminal dies after P1 Journal.record SENT"})),
    Way(
        "terminal dies with the debit being reversed",
        always=_UNANSWERED,
        once=frozenset({"terminal dies after P3 Journal.record REVERSING"}),
    ),
    Way("refunded while the city is closed", NEAR, always=_TAKEN_BACK, closed=(HERE, 6.0, 90.0)),
    Way("city silent, enquired about", always=_CITY_SILENT, seed=1),
)

LATE: Final = Way(
    "a debit that comes when its reversal is done, and the city is silent",
    always=_never(TO_CITY, "lost", "Debit", "GetTransaction")
    | _never(TO_GATEWAY, "very late", "Debit")
    | {"caller vanishes", "gateway forgets"},
)
"""The gateway that dies at the second reversal has forgotten the first one when that one's debit comes."""
