"""An HTTP request over loopback: httpx and httpx2 bare, with everything of ours on, and httpx with httpx-retries.

The server runs in a process of its own and is not counted. sniffio is installed, as it is wherever this library is:
without it httpcore tries to import it four times a request, and bare httpx would look a quarter dearer than it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import process_time
from typing import Any

import httpx
import httpx2
import httpx_retries
import sniffio  # noqa: F401 - the comparison is with httpx as it is where this is installed

import resilient.httpx
import resilient.httpx2
from benchmarks.measure import Contender, Outcome, Race, Settings, Spread, race, silence
from benchmarks.rows import exactly
from benchmarks.server import ITEM, running
from resilient import Backoff, Budget, CircuitBreaker, Pipeline, Retry, standard

BLOCK = 40
"""Requests of one client in one round."""
RETRIED_CALLS = 10
"""Each is answered twice with 503 before it is answered with 200."""

EVERYTHING = "deadline, retry with budget, breaker, rate limit, bulkhead, attempt time-out"
RETRIES_ONLY = "retry"


def policies() -> Pipeline:
    return standard("benchmark", rate="1000000/second")


def patient() -> Pipeline:
    """Retries without delay, and as many of them as the benchmark wants."""
    budget = Budget(ratio=10, floor=1000, stock=10_000)
    return Pipeline(
        Retry(3, wait=Backoff(0), budget=budget), CircuitBreaker(consecutive=1000, minimum_calls=1000)
    )


def retrying() -> httpx_retries.RetryTransport:
    return httpx_retries.RetryTransport(retry=httpx_retries.Retry(total=2, backoff_factor=0))


def measure(settings: Settings) -> Outcome:
    rounds = replace(settings, rounds=max(3, settings.requests // BLOCK))
    with running() as url:
        sync = _sync(url, rounds)
        with asyncio.Runner() as runner:
            asynchronous = _async(url, rounds, runner)
        connections = {
            "http.connections": _connections(
                url, resilient.httpx.client("flaky", base_url=url, policies=patient())
            ),
            "http.connections_httpx_retries": _connections(
                url, httpx.Client(base_url=url, transport=retrying())
            ),
        }
    values = {
        "http.sync": sync.ratio("resilient.httpx", "httpx"),
        "http.sync_httpx2": sync.ratio("resilient.httpx2", "httpx2"),
        "http.async_httpx2": asynchronous.ratio("resilient.httpx2", "httpx2"),
        "http.sync_httpx_retries": sync.ratio("httpx-retries", "httpx"),
        "http.async": asynchronous.ratio("resilient.httpx", "httpx"),
        "http.async_httpx_retries": asynchronous.ratio("httpx-retries", "httpx"),
        **connections,
    }
    return Outcome(
        values,
        {"http: GET over loopback, sync": sync, "http: GET over loopback, async": asynchronous},
    )


def _sync(url: str, settings: Settings) -> Race:
    def batches(client: httpx.Client | httpx2.Client) -> Callable[[int], float]:
        def run(calls: int) -> float:
            began = process_time()
            for _ in range(calls):
                client.get("/item")
            return process_time() - began

        assert client.get("/item").content == ITEM
        run(BLOCK)
        return run

    with (
        httpx.Client(base_url=url) as bare,
        resilient.httpx.client("benchmark", base_url=url, policies=policies()) as ours,
        httpx2.Client(base_url=url) as bare2,
        resilient.httpx2.client("benchmark", base_url=url, policies=policies()) as ours2,
        httpx.Client(base_url=url, transport=retrying()) as theirs,
    ):
        return race(
            [
                Contender("httpx", "nothing", batches(bare)),
                Contender("resilient.httpx", EVERYTHING, batches(ours)),
                Contender("httpx2", "nothing", batches(bare2)),
                Contender("resilient.httpx2", EVERYTHING, batches(ours2)),
                Contender("httpx-retries", RETRIES_ONLY, batches(theirs)),
            ],
            settings,
            calls=BLOCK,
        )


def _async(url: str, settings: Settings, runner: asyncio.Runner) -> Race:
    def batches(client: Any) -> Callable[[int], float]:
        async def batch(calls: int) -> float:
            began = process_time()
            for _ in range(calls):
                await client.get("/item")
            return process_time() - began

        def run(calls: int) -> float:
            return runner.run(batch(calls))

        run(BLOCK)
        return run

    clients: tuple[Any, ...] = (
        httpx.AsyncClient(base_url=url),
        resilient.httpx.async_client("benchmark", base_url=url, policies=policies()),
        httpx2.AsyncClient(base_url=url),
        resilient.httpx2.async_client("benchmark", base_url=url, policies=policies()),
        httpx.AsyncClient(base_url=url, transport=retrying()),
    )
    names = (
        ("httpx", "nothing"),
        ("resilient.httpx", EVERYTHING),
        ("httpx2", "nothing"),
        ("resilient.httpx2", EVERYTHING),
        ("httpx-retries", RETRIES_ONLY),
    )
    try:
        contenders = [
            Contender(name, does, batches(client))
            for (name, does), client in zip(names, clients, strict=True)
        ]
        return race(contenders, settings, calls=BLOCK)
    finally:
        for client in clients:
            runner.run(client.aclose())


def _connections(url: str, client: httpx.Client) -> Spread:
    """How many connections a client needs for calls that are retried twice each."""
    with httpx.Client(base_url=url) as asking:
        asking.get("/connections")
        with client, silence():
            for _ in range(RETRIED_CALLS):
                assert client.get("/flaky").status_code == 200
        return exactly(int(asking.get("/connections").text))
