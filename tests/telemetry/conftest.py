"""Dependencies of one name share a gauge for as long as they live; each test begins without any."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def no_dependency_of_an_earlier_test() -> None:
    gc.collect()
