"""A filter of the user's logging that raised was raised to whoever asked for a feature.

What is written there is by the way: that a name is unknown, that a type is another one. And flags that were published
with such a filter were in force, and nobody who follows them was told."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from resilient import features
from resilient.flags.document import parse_flags
from resilient.flags.state import NOTHING, publish
from resilient.testing import capture_events, feature_flags

SWITCH = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}


@pytest.fixture(autouse=True)
def broken() -> Iterator[None]:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise OSError("the disk of the log is gone")

    found = Broken()
    logging.getLogger("resilient").addFilter(found)
    yield
    logging.getLogger("resilient").removeFilter(found)
    publish(NOTHING)


def test_nobody_who_asks_is_told() -> None:
    with feature_flags({"flags": {"search": SWITCH}}):
        assert features.enabled("serach", True)
        assert features.details("search", "text").value == "text"


def test_what_is_published_is_told_to_who_listens() -> None:
    with capture_events() as seen:
        for level in (0, 1):
            publish(parse_flags({"degradation": {"levels": ["normal", "light"], "level": level}}))
    assert len(seen.named("resilient.degradation.level_changed")) == 1
