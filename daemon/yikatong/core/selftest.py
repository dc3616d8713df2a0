"""The report of a self-test (自检)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from yikatong.core.reasons import Reason

_MONEY_STEPS: Final = frozenset({"journal", "path", "reversal", "tombstone"})
_WRONG: Final = frozenset(
    {
        reason.value
        for reason in (
            Reason.ANSWER_DOES_NOT_FIT,
            Reason.INTERNAL,
            Reason.JOURNAL_UNAVAILABLE,
            Reason.TRANSACTION_ID_REUSED,
        )
    }
)

TEST_PERSON: Final = "990000195001010019"
"""Social security number of the person on the self-test's card: invented, of a region that belongs to nobody."""


@dataclass(frozen=True, slots=True)
class SelfTestStep:
    """One step. `reason` is a reason code, empty where it passed; the findings are for a person."""

    name: str
    passed: bool
    reason: str
    finding_zh: str
    finding_en: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Report:
    """One run, a UUID, begun at `started_at` (ISO 8601, UTC).

    `wanted`: the gateway is to have it; `reported`: the gateway has it.
    """

    run_id: str
    started_at: str
    steps: tuple[SelfTestStep, ...]
    reported: bool = False
    wanted: bool = False

    @property
    def passed(self) -> bool:
        return bool(self.steps) and all(step.passed for step in self.steps)

    @property
    def disproved(self) -> tuple[str, ...]:
        """Steps that showed the way of the money to be wrong, not only out of reach: no debit until a test passes them.

        A line that is down, or a test account that is missing, says nothing about a customer's debit.
        """
        return tuple(
            step.name for step in self.steps if not step.passed and step.name in _MONEY_STEPS and step.reason in _WRONG
        )
