"""A plain `def` that returns a coroutine was awaited at level 0, and its fallback could not be: the first incident was
the first time that anybody learnt it."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import PolicyError, degradable, set_active
from resilient.testing import capture_events, feature_flags
from tests.flags.documents import document, flag

DOCUMENT = document(search=flag("full", "cached", "off", degrade="light:cached,heavy:off"))


async def full(word: str) -> str:
    return word


@pytest.mark.filterwarnings("error")  # what is refused is closed
def test_it_is_refused_at_its_first_call_and_not_in_the_incident() -> None:
    @degradable("search", fallback="nothing")
    def search(word: str) -> Any:
        return full(word)

    with (
        feature_flags(DOCUMENT),
        pytest.raises(PolicyError, match="search is a plain `def`, and it returned a coro"),
    ):
        search("tea")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("level", ["light", "heavy"])
def test_so_is_what_stands_in_for_a_plain_function(level: str) -> None:
    @degradable("search", variants={"cached": lambda word: full(word)}, fallback=lambda word: full(word))
    def search(word: str) -> Any:
        return word

    with (
        feature_flags(DOCUMENT, level=level),
        capture_events() as seen,
        pytest.raises(PolicyError, match="what stands in for it returned a coroutine; write `async def`"),
    ):
        search("tea")
    assert [getattr(event, "path", None) for event in seen.events] == ["fallback_error"]


def test_a_variant_of_the_name_fallback_is_looked_at_too() -> None:
    with pytest.raises(PolicyError, match="its fallback is async"):
        degradable("search", variants={"fallback": full}, fallback="nothing")(lambda word: word)


def test_policies_that_step_aside_take_it_along() -> None:
    search = degradable("search", fallback="nothing")(lambda word: full(word))
    set_active(False)
    try:
        search("tea").close()
    finally:
        set_active(True)
