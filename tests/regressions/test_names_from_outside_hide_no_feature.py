"""After a hundred names that no document has, and such names may come from outside, nothing more was logged: not even
that a feature is degraded to a variant that the code does not know, and runs in full."""

from __future__ import annotations

import pytest

from resilient import degradable, features
from resilient.flags.state import MOST_COMPLAINTS
from resilient.testing import feature_flags
from tests.flags.documents import document, flag


def test_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @degradable("search")
    def search() -> str:
        return "in full"

    with feature_flags(document("light", search=flag("full", "cached", degrade="light:cached"))):
        for i in range(2 * MOST_COMPLAINTS):
            features.enabled(f"name-{i}")
        caplog.clear()
        assert search() == "in full"
        assert features.details("search", 5).value == 5
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.partition(",")[0] for line in told] == [
        "feature 'search' is degraded to 'cached'",
        "feature 'search': its variant 'cached' is 'cached'",
    ]
