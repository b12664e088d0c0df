"""Pods come and go under load, and the nameserver breaks: a real nameserver, real servers in a process of their own.

`python -m tests.system.test_discovery` prints what was seen as the table of the guide."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import resilient.httpx
from resilient import configure
from tests.system.parts import Cluster

pytestmark = [pytest.mark.system, pytest.mark.realtime]

RATE = 200
"""Calls a second, whatever the answers."""
ROOT = Path(__file__).parents[2]
Step = Callable[["Scene"], Awaitable[None]]


@dataclass
class Scene:
    """A Service under load.

    Attributes:
        cluster: its nameserver.
        ports: of all pods that run.
        process: their process.
        calls: when each call began, since the change, and which pod answered it; or what it raised.
    """

    cluster: Cluster
    ports: list[int]
    process: subprocess.Popen[str]
    calls: list[tuple[float, int | str]] = field(default_factory=list)
    changed_at: float = 0.0

    def set(self, ports: list[int]) -> None:
        """These are the ready pods from now on; the time of the change is now."""
        self.cluster.set("payments.shop", ports)
        self.changed_at = time.monotonic()

    def stop(self, port: int) -> None:
        """A pod is killed."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"stop {port}\n")
        self.process.stdin.flush()

    @property
    def failed(self) -> Counter[str]:
        """What calls raised."""
        return Counter(what for _, what in self.calls if isinstance(what, str))

    def found_after(self, ports: list[int]) -> float | None:
        """Seconds after the change at which the last of these pods began to get calls; None where one never did."""
        began: dict[int | str, float] = {}
        for at, what in self.calls:
            if at >= self.changed_at:
                began[what] = min(at - self.changed_at, began.get(what, at))
        return max(began[port] for port in ports) if all(port in began for port in ports) else None

    def least_share(self, ports: list[int], since: float) -> float:
        """Of these pods that which got the least, in parts of an even share; from so many seconds after the change on.

        A share of the calls that were answered, however many a busy machine could make."""
        seen = Counter(what for at, what in self.calls if at - self.changed_at >= since and what in ports)
        return min(seen[port] for port in ports) * len(ports) / max(1, seen.total())


@contextmanager
def scene(directory: Path, pods: int) -> Iterator[Scene]:
    """A cluster with so many servers, of which none is announced yet."""
    with Cluster(directory) as cluster:
        command = [sys.executable, "-m", "tests.system.pods", str(pods)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            assert process.stdout is not None
            ports = json.loads(process.stdout.readline())
            configure(dns=cluster.dns())
            try:
                yield Scene(cluster, ports, process)
            finally:
                configure()
                process.terminate()


def under_load(scene: Scene, begins_with: list[int], change: Step, seconds: float) -> Scene:
    """Calls at a steady rate: for a second to the pods that are there, then the change, then so many seconds more."""
    scene.set(begins_with)

    async def call(client: object) -> None:
        began = time.monotonic()
        try:
            response = await client.get("/")  # type: ignore[attr-defined]
            what: int | str = int(response.text)
        except Exception as exc:  # whatever it is, it is counted
            what = type(exc).__name__
        scene.calls.append((began, what))

    async def main() -> None:
        async with resilient.httpx.async_client(
            "payments", base_url="http://payments.shop.svc", port="http"
        ) as client:
            began, sent = time.monotonic(), 0
            changing: asyncio.Task[None] | None = None
            async with asyncio.TaskGroup() as group:
                while (now := time.monotonic() - began) < 1.0 + seconds:
                    if now >= 1.0 and changing is None:
                        changing = group.create_task(_run(change, scene))
                    while sent < now * RATE:
                        group.create_task(call(client))
                        sent += 1
                    await asyncio.sleep(0.002)

    asyncio.run(main())
    return scene


async def _run(change: Step, scene: Scene) -> None:
    await change(scene)


# --------------------------------------------------------------------------------------------------------- the changes
async def scale_up(scene: Scene) -> None:
    scene.set(scene.ports)


async def scale_down(scene: Scene) -> None:
    """As Kubernetes does it: out of DNS first, then, some seconds later, gone."""
    scene.set(scene.ports[:3])
    await asyncio.sleep(3)
    for port in scene.ports[3:]:
        scene.stop(port)


async def killed(scene: Scene) -> None:
    """A pod dies, and its record stays for two seconds more."""
    scene.stop(scene.ports[0])
    await asyncio.sleep(2)
    scene.set(scene.ports[1:])


async def rolling(scene: Scene) -> None:
    """Three pods become three others, one after the other; each is killed two seconds after it left DNS."""
    for n in range(3):
        scene.set(scene.ports[n + 1 : n + 4])
        await asyncio.sleep(2)
        scene.stop(scene.ports[n])


async def all_gone(scene: Scene) -> None:
    """Scaled to zero and, three seconds later, back."""
    scene.set([])
    for port in scene.ports[:3]:
        scene.stop(port)
    await asyncio.sleep(3)
    scene.set(scene.ports[3:])


def broken(fault: str) -> Step:
    async def change(scene: Scene) -> None:
        await asyncio.to_thread(scene.cluster.fail, fault)
        scene.changed_at = time.monotonic()
        await asyncio.sleep(4)
        await asyncio.to_thread(scene.cluster.heal)

    return change


@dataclass(frozen=True)
class Case:
    """What happens, and what must come of it.

    Attributes:
        pods: servers that run.
        first: how many of them are announced at the beginning.
        change: what happens.
        last: from the first of those that are announced in the end, to the last.
        seconds: how long it is watched.
        within: seconds after the change until all pods have calls, at most; TTL and refresh are a second each.
        least: share that each pod gets at least from then on, of an even one.
        fails: whether calls may fail: there is nobody to answer them.
    """

    pods: int
    first: int
    change: Step
    last: tuple[int, int]
    seconds: float = 5.0
    within: float = 4.0
    least: float = 0.1
    fails: bool = False


CASES = {
    "three more pods": Case(6, 3, scale_up, (0, 6), 8.0),
    "three pods fewer": Case(6, 6, scale_down, (0, 3), 8.0),
    "a pod killed, gone from DNS 2 s later": Case(4, 4, killed, (1, 4), 8.0),
    "rolling update of three": Case(6, 3, rolling, (3, 6), 9.0),
    "all gone, others 3 s later": Case(6, 3, all_gone, (3, 6), 9.0, within=6.0, fails=True),
    "nameserver: SERVFAIL for 4 s": Case(3, 3, broken("SERVFAIL"), (0, 3), 6.0),
    "nameserver: silent for 4 s": Case(3, 3, broken("silence"), (0, 3), 6.0),
    "nameserver: half of the packets lost": Case(3, 3, broken("half lost"), (0, 3), 6.0),
    "nameserver: every answer truncated": Case(3, 3, broken("truncation"), (0, 3), 6.0),
    "from 3 to 30 pods": Case(30, 3, scale_up, (0, 30), 12.0),
    "from 3 to 300 pods": Case(300, 3, scale_up, (0, 300), 20.0, within=15.0, least=0.0),
}


def run(case: Case, directory: Path) -> Scene:
    with scene(directory, case.pods) as it:
        return under_load(it, it.ports[: case.first], case.change, case.seconds)


@pytest.mark.parametrize("name", CASES)
def test_pods_come_and_go_under_load(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    seen = run(case, tmp_path)
    if case.fails:
        # First nobody listens any more, then the breaker knows, or DNS.
        assert set(seen.failed) <= {"ConnectError", "CircuitOpen", "NoEndpoints"}
        assert seen.failed["ConnectError"] < 20, "it is not found out again with every call"
    else:
        assert not seen.failed
    last = seen.ports[slice(*case.last)]
    after = seen.found_after(last)
    assert after is not None
    assert after <= case.within
    # Not more: a pause of a busy machine that hits one call to a pod costs it some of its share for seconds.
    assert seen.least_share(last, after) >= case.least


def main() -> None:
    print("| what happens | calls | failed | all pods called after | least share, of an even one |")
    print("|---|---:|---:|---:|---:|")
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            seen = run(case, Path(directory))
        last = seen.ports[slice(*case.last)]
        failed = ", ".join(f"{count} {what}" for what, count in seen.failed.items()) or "0"
        after = seen.found_after(last)
        told, share = "never", ""
        if after is not None:
            told = f"{after:.1f} s"
            if case.least:  # with too few calls for each it says nothing
                share = f"{seen.least_share(last, after):.0%}"
        print(f"| {name} | {len(seen.calls):,} | {failed} | {told} | {share} |", flush=True)


if __name__ == "__main__":
    main()
