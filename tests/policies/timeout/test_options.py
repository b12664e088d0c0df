"""What a timeout may be told, and what it says to all else."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import Timeout
from tests.policies.wrong import Number, refused, right_numbers, wrong_numbers

NUMBERS = [Number("seconds", 0, 86_400, open_below=True)]


@wrong_numbers(*NUMBERS)
def test_a_wrong_number_is_refused(field: str, value: Any) -> None:
    text = refused(lambda: Timeout(**{field: value}), "Timeout", field, value)
    assert text.endswith("must be a number (seconds), more than 0 and at most 86,400; write Timeout(2.0)")


@right_numbers(*NUMBERS)
def test_the_ends_of_a_range_belong_to_it(field: str, value: Any) -> None:
    assert Timeout(value).seconds == value


@pytest.mark.parametrize("value", [None, 1, 0, "yes", []])
def test_walking_away_is_yes_or_no(value: Any) -> None:
    assert refused(lambda: Timeout(walk_away=value), "Timeout", "walk_away", value).endswith(
        "must be True or False; write walk_away=True"
    )
