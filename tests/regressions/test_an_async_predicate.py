"""An async predicate was taken, and said yes to everything: a coroutine is true."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import CircuitBreaker, Fallback, PolicyError, Retry, When


async def never(_: object) -> bool:
    return False


@pytest.mark.parametrize(
    "build",
    [
        lambda: Retry(on=never),
        lambda: Retry(on=(OSError, never)),
        lambda: CircuitBreaker(ignore=never),
        lambda: Fallback(0, on=never),
        lambda: When(never),
        lambda: When(OSError, unless=[never]),
        lambda: When(result=never),
    ],
)
def test_it_is_refused(build: Any) -> None:
    with pytest.raises(PolicyError, match=r"not async|an async one always says yes|must be a plain function"):
        build()
