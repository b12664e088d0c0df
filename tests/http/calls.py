"""What the tests of the HTTP layer share: a client for both drivers, in virtual time; a server that counts effects."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, Self

import pytest

from resilient import Backoff, Budget, Pipeline, Policy, Retry, Timeout
from resilient.core.clock import Clock
from resilient.core.outcome import Report, report_of
from resilient.testing import ManualClock, Origin
from resilient.testing.exchange import Exchange, Request
from tests.http.sdk import bound, httpx

both = pytest.mark.parametrize("mode", ["sync", "async"])


def policies(
    clock: Clock,
    *,
    attempts: int = 3,
    total: float = 10.0,
    attempt: float | None = None,
    wait: Backoff | float = 0.0,
    name: str | None = "svc",
) -> Pipeline:
    """A total time-out, retries that do not wait, and a time-out for each attempt where asked."""
    inner: list[Policy] = [] if attempt is None else [Timeout(attempt)]
    # A budget of its own, that is never spent: tests do not share what is left of one.
    budget = Budget(ratio=10.0, floor=1000.0, stock=1_000_000)
    retry = Retry(attempts, wait=wait, idempotent=False, budget=budget)
    return Pipeline(Timeout(total), retry, *inner, name=name, clock=clock)


PLAIN = ssl.create_default_context()


class Caller:
    """One client of ours, sync or async, used the same way; an async one keeps its loop between the calls.

    Args:
        mode: ``"sync"`` or ``"async"``.
        clock: of the client, and of its loop.
        given: for `client()` of the binding.
    """

    def __init__(self, mode: str, base_url: str, clock: ManualClock, **given: Any) -> None:
        self.mode = mode
        self.clock = clock
        given.setdefault("policies", policies(clock))
        name = given.pop("name", "svc")
        if "transport" not in given:
            given.setdefault("verify", PLAIN)  # one for all: it takes longer to make than most tests to run
        self.client: Any
        if mode == "sync":
            self.client = bound.client(name, base_url=base_url, **given)
        else:
            self.client = bound.async_client(name, base_url=base_url, **given)
            self._runner = asyncio.Runner(loop_factory=clock.loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.mode == "sync":
            self.client.close()
        else:
            self.run(self.client.aclose())
            self._runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something on the loop of the async client."""
        return self._runner.run(work)

    @property
    def transport(self) -> Any:
        """Our transport inside."""
        return self.client._transport

    @property
    def pool(self) -> Any:
        """The connections of the only endpoint."""
        return next(iter(self.transport.endpoints)).exchange.pool

    def send(self, method: str, url: str = "/", **given: Any) -> httpx.Response:
        """One logical call."""
        if self.mode == "sync":
            response: httpx.Response = self.client.request(method, url, **given)
            return response
        return self.run(self.client.request(method, url, **given))  # type: ignore[no-any-return]

    def get(self, url: str = "/", **given: Any) -> httpx.Response:
        return self.send("GET", url, **given)

    def post(self, url: str = "/", **given: Any) -> httpx.Response:
        return self.send("POST", url, **given)

    def fails(self, method: str = "GET", url: str = "/", **given: Any) -> Exception:
        """What one logical call raises."""
        with pytest.raises(Exception) as caught:  # noqa: PT011  (whatever it is; the test looks at it)
            self.send(method, url, **given)
        return caught.value


def report(outcome: httpx.Response | BaseException) -> Report:
    """What is told of a call, on its response or on its error."""
    found = outcome.extensions.get("resilient") if isinstance(outcome, httpx.Response) else report_of(outcome)
    assert isinstance(found, Report)
    return found


def told(exc: BaseException) -> str:
    """The notes on an exception, and on what it was raised from."""
    notes: list[str] = []
    at: BaseException | None = exc
    while at is not None:
        notes += getattr(at, "__notes__", ())
        at = at.__cause__
    return "\n".join(notes)


class Bank:
    """What a server does that counts: an effect per request, or per key where it honours keys.

    Args:
        honours: whether a key that was seen is answered without doing it again.
    """

    def __init__(self, *, honours: bool) -> None:
        self.honours = honours
        self.effects: Counter[str] = Counter()
        self.arrived = 0
        self._lock = threading.Lock()

    def do(self, request: Request) -> None:
        """The request is executed now."""
        key = request.header("idempotency-key")
        with self._lock:
            self.arrived += 1
            if key is not None and self.honours and self.effects[key]:
                return
            self.effects[key or "no key"] += 1

    def charge(self, exchange: Exchange) -> None:
        """A behaviour: execute it, then answer."""
        self.do(exchange.read())
        exchange.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")


def wait_until_left(origin: Origin) -> None:
    """Wait until no connection to it is open, nor in the queue of those not accepted yet."""
    origin.wait_until(lambda origin: origin.open_connections == 0 and not origin.busy())


def descriptors() -> int:
    """How many descriptors this process has open, but for those that the collector has yet to find."""
    gc.collect()
    return len(os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"))  # noqa: PTH208  (quicker)


def seen_keys(requests: Sequence[Request], header: str = "idempotency-key") -> list[str | None]:
    return [request.header(header) for request in requests]
