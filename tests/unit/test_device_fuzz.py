"""A short day of the fuzzing that is done by hand (`python -m tests.fuzz.devices`), and that it would notice."""

from __future__ import annotations

import pytest

from tests.fuzz import devices


@pytest.mark.parametrize("name", devices.PARSERS)
def test_damaged_input_raises_only_our_own_errors(name: str) -> None:
    devices.worst_ms(name, 3_000, seed=1)


def test_a_defect_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(devices.PARSERS, "defect", (lambda data: 1 // len(data), lambda dice: bytes(dice.randrange(9))))
    with pytest.raises(ZeroDivisionError) as caught:
        devices.worst_ms("defect", 1_000, seed=1)
    assert caught.value.__notes__ == ["defect: "]
