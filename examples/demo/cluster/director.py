"""Starts the processes of the second act, does to them what the timeline says, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from resilient.testing import KubeletVolume, Nameserver

from ..books import Audit, audit
from ..runner import Broken, end, free_port, say, spawn
from . import timeline as tl
from .shop import Served
from .timeline import Timeline

TTL = 1
"""Seconds that the nameserver's answers hold: an operator waits as long for a pod to be seen."""


class Pod:
    """One process of a service, and what it told.

    Attributes:
        name: in the scorecard.
        address: ``host:port``.
        counts: what it had received so far, by time: seconds from the start of the run, and requests.
        peak: the most requests within one second.
    """

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host
        self.port = free_port(host)
        self.counts: list[tuple[float, int]] = []
        self.peak = 0
        self.process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def between(self, start: float, end: float) -> int:
        """Requests that it received in a stretch of time."""

        def before(moment: float) -> int:
            return max((count for at, count in self.counts if at <= moment), default=0)

        return before(end) - before(start)


class Cluster:
    """All that the shop calls, and the shop itself.

    Args:
        plan: what happens when.
        directory: for the books and the mounted volume.

    Attributes:
        pods: of payments, in the order in which they came.
        recommenders: pods of recommendations.
        orders: in the order of their answers.
        happened: what happened last.
    """

    def __init__(self, plan: Timeline, directory: Path) -> None:
        self.plan = plan
        self.books = directory / "books.sqlite"
        self.errors = directory / "errors"
        self.config = directory / "config"
        self.volume = KubeletVolume(self.config)
        self.nameserver = Nameserver(ttl=TTL)
        hosts = loopbacks(tl.REPLICAS + 1)
        self.pods = [Pod(f"payments-{i}", host) for i, host in enumerate(hosts)]
        self.recommenders = [Pod(f"recommendations-{i}", "127.0.0.1") for i in range(tl.RECOMMENDERS)]
        self.orders: list[Served] = []
        self.tally: dict[str, Any] = {}
        self.happened = ""
        self.start = 0.0
        self._document = Document()
        self._shop: asyncio.subprocess.Process | None = None
        self._children: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """All of the run."""
        with self.nameserver:
            try:
                await self._prepare()
                self.start = time.monotonic() + 0.5
                say(self._shop, {"start": self.start})
                gathering = asyncio.create_task(self._gather())
                self._readers.append(gathering)
                await self._direct()
                await gathering
            finally:
                await self._close()

    async def _prepare(self) -> None:
        self.volume.write({"resilient.json": self._document.text()})
        await asyncio.gather(*(self._begin(pod, self.books) for pod in self.pods[: tl.REPLICAS]))
        await asyncio.gather(*(self._begin(pod, None) for pod in self.recommenders))
        self._publish(self.pods[: tl.REPLICAS])
        addresses = [pod.address for pod in self.recommenders]
        self.nameserver.set("recommendations.shop", addresses, port="http")
        self._shop = await self._spawn(
            "shop",
            {
                "config": str(self.config),
                "nameserver": f"127.0.0.1:{self.nameserver.port}",
                "seed": self.plan.seed,
                "fast": self.plan.fast,
            },
        )

    def _publish(self, pods: list[Pod]) -> None:
        self.nameserver.set("payments.shop", [pod.address for pod in pods], port="http")

    # -------------------------------------------------------------------------------------------- what happens
    async def _direct(self) -> None:
        for step in self.plan.steps:
            await asyncio.sleep(max(0.0, self.start + step.at - time.monotonic()))
            self.happened = tl.SAYS[step.what]
            await self._do(step.what)

    async def _do(self, what: str) -> None:
        document = self._document
        if what == tl.SCALE_UP:
            await self._begin(self.pods[-1], self.books)
            self._publish(self.pods)
        elif what == tl.KILL:
            process = self.pods[0].process
            assert process is not None
            process.kill()
        elif what == tl.GONE:
            self._publish(self.pods[1:])
        elif what in (tl.SICK, tl.WELL):
            say(self.pods[1].process, {"mode": what})
        elif what in (tl.SLOW, tl.QUICK):
            for pod in self.recommenders:
                say(pod.process, {"mode": "slow" if what == tl.SLOW else "well"})
        elif what == tl.BREAK:
            self.volume.write({"resilient.json": document.text()[:-20]})
        elif what == tl.PROTECTED:
            self.volume.write({"resilient.json": document.text(degrade_payment=True)})
        else:
            document.change(what)
            self.volume.write({"resilient.json": document.text()})

    # ---------------------------------------------------------------------------------------------- processes
    async def _begin(self, pod: Pod, books: Path | None) -> None:
        settings = {"host": pod.host, "port": pod.port, "books": None if books is None else str(books)}
        pod.process = await self._spawn("replica", settings)
        self._readers.append(asyncio.create_task(self._read(pod)))

    async def _read(self, pod: Pod) -> None:
        assert pod.process is not None
        assert pod.process.stdout is not None
        async for line in pod.process.stdout:
            told = json.loads(line)
            pod.counts.append((time.monotonic() - self.start, told["requests"]))
            pod.peak = told["peak"]

    async def _gather(self) -> None:
        assert self._shop is not None
        assert self._shop.stdout is not None
        async for line in self._shop.stdout:
            told = json.loads(line)
            if "order" in told:
                self.orders.append(Served(*told["order"]))
            else:
                self.tally = told["tally"]
        if await self._shop.wait() != 0 or not self.tally:
            raise Broken(f"the shop ended early:\n{self.errors.read_text()}")

    async def _spawn(self, module: str, settings: dict[str, Any]) -> asyncio.subprocess.Process:
        return await spawn(f"cluster.{module}", settings, self.errors, self._children)

    async def _close(self) -> None:
        await end(self._children)
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)


class Document:
    """What the operator's document says."""

    def __init__(self) -> None:
        self._level = 0
        self._rate = tl.FIRST_RATE
        self._forced = False

    def change(self, what: str) -> None:
        """The operator does something."""
        if what in (tl.DEGRADE, tl.RESTORE):
            self._level = int(what == tl.DEGRADE)
        elif what in (tl.FORCE, tl.RELEASE):
            self._forced = what == tl.FORCE
        elif what == tl.RATE:
            self._rate = tl.LOWER_RATE

    def text(self, *, degrade_payment: bool = False) -> str:
        """The document as JSON; ``degrade_payment``: with what no document may say."""
        payment: dict[str, Any] = {"protected": True, "owner": "pay"}
        if degrade_payment:
            payment["degrade"] = "1:off"
        document: dict[str, Any] = {
            "flags": {
                "recommendations": {
                    "state": "ENABLED",
                    "variants": {"full": "full", "off": "off"},
                    "defaultVariant": "full",
                    "metadata": {"degrade": "1:off", "owner": "growth"},
                },
                "payment": {
                    "state": "ENABLED",
                    "variants": {"on": True, "off": False},
                    "defaultVariant": "on",
                    "metadata": payment,
                },
            },
            # A real one gives back over two minutes; the whole act has less.
            "degradation": {"levels": ["normal", "sale"], "level": self._level, "restoreRamp": "0s"},
            "resiliency": {
                "targets": {"payments": {"ratelimit": {"rate": f"{self._rate}/second", "burst": tl.BURST}}}
            },
        }
        if self._forced:
            document["resiliency"]["targets"]["recommendations"] = {"breaker": {"state": "forced_open"}}
        return json.dumps(document, indent=2)


def loopbacks(count: int) -> list[str]:
    """Addresses of this machine, a different one for each replica where they can be bound: on Linux all of 127.0.0.0/8
    are there, elsewhere ports alone tell replicas apart."""
    hosts = [f"127.0.0.{2 + i}" for i in range(count)]
    try:
        for host in hosts:
            with socket.socket() as sock:
                sock.bind((host, 0))
    except OSError:
        return ["127.0.0.1"] * count
    return hosts


class Acted(NamedTuple):
    """What the second act gave."""

    orders: list[Served]
    pods: list[Pod]
    recommenders: list[Pod]
    audit: Audit
    tally: dict[str, Any]


Watch = Callable[[Timeline, Cluster], Awaitable[None]]


async def act(plan: Timeline, watch: Watch | None = None) -> Acted:
    """The second act.

    Args:
        plan: what happens when.
        watch: shown the cluster while it runs; ended with it.
    """
    with TemporaryDirectory(prefix="resilient-demo-") as directory:
        cluster = Cluster(plan, Path(directory))
        watching = None if watch is None else asyncio.ensure_future(watch(plan, cluster))
        try:
            await cluster.run()
            told = audit(cluster.books)
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    return Acted(cluster.orders, cluster.pods, cluster.recommenders, told, cluster.tally)
