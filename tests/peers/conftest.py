"""Tests marked `peers` run the peer libraries themselves; they are left out unless asked for, with `-m peers`."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "peers: shows what a peer library does; needs the extra `bench`; -m peers"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "peers" in (config.option.markexpr or ""):
        return
    theirs = [item for item in items if item.get_closest_marker("peers")]
    if theirs:
        config.hook.pytest_deselected(items=theirs)
        items[:] = [item for item in items if not item.get_closest_marker("peers")]
