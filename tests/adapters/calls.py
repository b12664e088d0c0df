"""What the tests of the adapters share: one caller for both clients, which is asked the same way."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, NamedTuple, Self

import aiohttp
import pytest
import requests

import resilient.aiohttp
import resilient.requests
from resilient.core.outcome import Report, report_of
from resilient.testing import ManualClock
from tests.http.calls import policies

each = pytest.mark.parametrize("kind", ["requests", "aiohttp"])

SENT: dict[str, tuple[type[Exception], ...]] = {
    "requests": (requests.ConnectionError, requests.exceptions.ChunkedEncodingError),
    "aiohttp": (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, aiohttp.ClientResponseError),
}
"""What a client raises where the connection broke after the request was sent."""
TIMEOUT: dict[str, type[Exception]] = {"requests": requests.Timeout, "aiohttp": aiohttp.ServerTimeoutError}
BASE: dict[str, type[Exception]] = {"requests": requests.RequestException, "aiohttp": aiohttp.ClientError}
NOBODY: dict[str, type[Exception]] = {
    "requests": requests.ConnectionError,
    "aiohttp": aiohttp.ClientConnectorError,
}


class Answer(NamedTuple):
    """An answer that was read."""

    status: int
    body: bytes
    report: Report | None
    history: int
    given: Any


class Caller:
    """One session of ours, used the same way whichever client it is; an async one keeps its loop between the calls.

    Args:
        kind: the client.
        clock: of the policies, and of its loop.
        given: for `session()` of the binding.
    """

    def __init__(self, kind: str, base_url: str, clock: ManualClock, **given: Any) -> None:
        self.kind = kind
        self.url = base_url
        given.setdefault("policies", policies(clock))
        self.name = given.pop("name", "svc")
        self.session: Any
        if kind == "requests":
            verify = given.pop("verify", True)
            self.session = resilient.requests.session(self.name, base_url=base_url, **given)
            self.session.trust_env = False
            self.session.verify = verify
        else:
            self._runner = asyncio.Runner(loop_factory=clock.loop)
            self.session = self.run(self._open(given))

    async def _open(self, given: dict[str, Any]) -> aiohttp.ClientSession:
        verify = given.pop("verify", None)
        if verify is not None:
            given["connector"] = aiohttp.TCPConnector(ssl=verify)
        return resilient.aiohttp.session(self.name, base_url=self.url, **given)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self.kind == "aiohttp":
            self._runner.close()

    def close(self) -> None:
        """Close the session."""
        if self.kind == "requests":
            self.session.close()
        else:
            self.run(self.session.close())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something on the loop of the async client."""
        return self._runner.run(work, context=contextvars.copy_context())

    def send(
        self, method: str, path: str = "/", *, said: dict[str, Any] | None = None, **given: Any
    ) -> Answer:
        """One call, its answer read.

        Args:
            said: for `options()`.
        """
        if self.kind == "aiohttp":
            answer: Answer = self.run(self._send(method, path, said, given))
            return answer
        url = path if path.startswith("http") else self.url + path
        if said is None:
            response = self.session.request(method, url, **given)
        else:
            with resilient.requests.options(**said):
                response = self.session.request(method, url, **given)
        return Answer(
            response.status_code,
            response.content,
            response.extensions.get("resilient"),
            len(response.history),
            response,
        )

    async def _send(
        self, method: str, path: str, said: dict[str, Any] | None, given: dict[str, Any]
    ) -> Answer:
        with resilient.aiohttp.options(**(said or {})):
            async with self.session.request(method, path, **given) as response:
                body = await response.read()
                return Answer(
                    response.status,
                    body,
                    response.extensions.get("resilient"),
                    len(response.history),
                    response,
                )

    def fails(self, method: str = "GET", path: str = "/", **given: Any) -> Exception:
        """What one call raises."""
        with pytest.raises(Exception) as caught:  # noqa: PT011  (whatever it is; the test looks at it)
            self.send(method, path, **given)
        return caught.value


def report(outcome: Answer | BaseException) -> Report:
    """What is told of a call, on its answer or on its error."""
    found = outcome.report if isinstance(outcome, Answer) else report_of(outcome)
    assert isinstance(found, Report)
    return found
