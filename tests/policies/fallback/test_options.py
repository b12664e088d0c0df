"""What a fallback may be told, and what it says to all else."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import ANY_ERROR, TRANSIENT, Fallback
from tests.policies.wrong import refused


@pytest.mark.parametrize(
    "value", [None, 5, "OSError", [3], KeyboardInterrupt, BaseException, (OSError, SystemExit), int]
)
def test_what_it_stands_in_for_is_exceptions(value: Any) -> None:
    text = refused(lambda: Fallback(0, on=value), "Fallback", "on", value)
    assert text.endswith("write on=(ConnectionError, TimeoutError) or on=TRANSIENT")


def test_what_it_takes() -> None:
    assert Fallback(0).options.on is ANY_ERROR
    assert Fallback(0, on=TRANSIENT).stands_in_for is TRANSIENT
    assert repr(Fallback(0, on=(OSError, KeyError)).options.on) == "When(OSError, KeyError)"
    assert Fallback(None).options.fallback is None, "None is a value like any other"
