"""What a bulkhead may be told, and what it says to all else."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import Bulkhead
from tests.policies.wrong import Number, refused, right_numbers, wrong_numbers

NUMBERS = [
    Number("limit", 1, 1_000_000, whole=True),
    Number("queue", 0, 1_000_000, whole=True),
    Number("max_wait", 0, 86_400),
]


@wrong_numbers(*NUMBERS)
def test_a_wrong_number_is_refused(field: str, value: Any) -> None:
    assert "number" in refused(lambda: Bulkhead(**{field: value}), "Bulkhead", field, value)


@right_numbers(*NUMBERS)
def test_the_ends_of_a_range_belong_to_it(field: str, value: Any) -> None:
    beside = {"queue": {"max_wait": 1.0}, "max_wait": {"queue": 1}}.get(field, {}) if value else {}
    assert getattr(Bulkhead(**{field: value, **beside}).options, field) == value


@pytest.mark.parametrize(
    ("options", "field", "value", "instead"),
    [
        ({"queue": 5}, "max_wait", 0.0, "Bulkhead(7, queue=5, max_wait=0.5)"),
        ({"max_wait": 2.0}, "queue", 0, "Bulkhead(7, queue=50, max_wait=2)"),
    ],
)
def test_a_queue_needs_a_length_and_a_time(
    options: dict[str, Any], field: str, value: Any, instead: str
) -> None:
    text = refused(lambda: Bulkhead(7, **options), "Bulkhead", field, value)
    assert text.endswith(f"a queue needs a length and a time; write {instead}")
