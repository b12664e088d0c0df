"""Each test of a file that takes its `httpx` from `tests.http.sdk` runs with both SDKs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.http import sdk as sdks


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    says = any("sdk" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if getattr(metafunc.module, "httpx", None) is sdks.httpx and not says:
        metafunc.parametrize("sdk", list(sdks.SDKS), indirect=True)


@pytest.fixture(autouse=True)
def sdk(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = getattr(request, "param", "httpx")
    sdks.choose(name)
    yield name
    sdks.choose("httpx")
