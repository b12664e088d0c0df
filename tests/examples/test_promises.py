"""A recipe that breaks a promise fails."""

from __future__ import annotations

import pytest

from examples.promises import Promises


def test_one_broken_promise_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    promises = Promises("a recipe")
    promises.check("one charge", True, "1")
    assert promises.status == 0
    promises.check("one mail", False, "2")
    promises.check("one parcel", True, "1")
    assert (promises.status, promises.broken) == (1, ["one mail"])
    assert "  BROKEN  one mail: 2\n" in capsys.readouterr().out
