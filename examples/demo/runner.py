"""Starts the processes, kills one as the script says, gathers what is told, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from . import columns
from .books import Audit, audit, doubles
from .orders import Order
from .schedule import Plan

ROOT = Path(__file__).parents[2]
_READY_WITHIN = 60.0
_PORTS = range(20_000, 30_000)
"""Below the ports that systems give to outgoing connections, so that nobody takes the port of a service that
is down."""


class Settings(NamedTuple):
    """What a run is told."""

    plan: Plan
    break_key: bool = False


class Broken(Exception):
    """A process of the demo ended by itself; with what it wrote to its standard error."""


class Lane:
    """One column: its payments, its checkout, and what they told so far.

    Attributes:
        orders: in the order of their answers.
        tally: what the policies did, as told last.
        charged_twice: as seen last.
        children: every process that was started for it.
    """

    def __init__(self, name: str, settings: Settings, directory: Path) -> None:
        self.name = name
        self.settings = settings
        self.books = directory / f"{name}.sqlite"
        self.errors = directory / f"{name}.errors"
        self.port = free_port()
        self.orders: list[Order] = []
        self.tally: dict[str, Any] = {}
        self.charged_twice = 0
        self.start: float | None = None
        self.children: list[asyncio.subprocess.Process] = []
        self._payments: asyncio.subprocess.Process | None = None
        self._checkout: asyncio.subprocess.Process | None = None

    async def prepare(self) -> None:
        """Start both processes, up to the moment before the first order."""
        self._payments, self._checkout = await asyncio.gather(self._spawn_payments(), self._spawn_checkout())

    def begin(self, start: float) -> None:
        """Tell both when the run starts."""
        self.start = start
        for child in (self._payments, self._checkout):
            say(child, {"start": start})

    async def run(self) -> None:
        """All of the run."""
        gathering = asyncio.create_task(self._gather())
        watching = asyncio.create_task(self._watch_books())
        try:
            await self._kill_payments()
            await gathering
        finally:
            watching.cancel()
            gathering.cancel()

    async def _kill_payments(self) -> None:
        assert self.start is not None
        fault = next(fault for fault in self.settings.plan.faults if fault.kind == "kill")
        await asyncio.sleep(max(0.0, self.start + fault.start - time.monotonic()))
        assert self._payments is not None
        self._payments.kill()
        await self._payments.wait()
        # The next one is made ready while the port is silent, and takes it when the script says so.
        self._payments = await self._spawn_payments()
        say(self._payments, {"start": self.start})

    async def _gather(self) -> None:
        assert self._checkout is not None
        assert self._checkout.stdout is not None
        async for line in self._checkout.stdout:
            told = json.loads(line)
            if "order" in told:
                self.orders.append(Order(*told["order"]))
            else:
                self.tally = told["tally"]
        if await self._checkout.wait() != 0 or not self.tally:
            raise Broken(f"checkout of {self.name} ended early:\n{self.errors.read_text()}")

    async def _watch_books(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.charged_twice = doubles(self.books)

    def audit(self) -> Audit:
        """The books as they are now."""
        return audit(self.books)

    # ---------------------------------------------------------------------------------------------- processes
    async def _spawn_payments(self) -> asyncio.subprocess.Process:
        return await self._spawn("payments", {"books": str(self.books), "port": self.port})

    async def _spawn_checkout(self) -> asyncio.subprocess.Process:
        url = f"http://127.0.0.1:{self.port}"
        return await self._spawn(
            "checkout", {"column": self.name, "url": url, "break_key": self.settings.break_key}
        )

    async def _spawn(self, module: str, settings: dict[str, Any]) -> asyncio.subprocess.Process:
        plan = self.settings.plan
        told = {**settings, "seed": plan.seed, "fast": plan.fast}
        return await spawn(module, told, self.errors, self.children)

    async def close(self) -> None:
        """End what still runs."""
        await end(self.children)


async def spawn(
    module: str, settings: dict[str, Any], errors: Path, children: list[asyncio.subprocess.Process]
) -> asyncio.subprocess.Process:
    """Start a module of the demo as a process of its own, and wait until it is ready.

    Args:
        module: its name, from this package on.
        settings: what it is told first.
        errors: where its standard error goes.
        children: gets the process as soon as there is one, so that it is ended whatever happens.

    Raises:
        Broken: it did not start.
    """
    with errors.open("ab") as file:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"examples.demo.{module}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            cwd=ROOT,
            env={**os.environ, "NO_PROXY": "*"},  # all that is called is on this machine
            start_new_session=True,  # Ctrl-C is for this process; it ends the others
        )
    children.append(child)
    say(child, settings)
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), _READY_WITHIN)
    except TimeoutError:
        line = b""
    if not line:
        raise Broken(_last_words(module, errors))
    return child


def _last_words(module: str, errors: Path) -> str:
    return f"{module} did not start:\n{errors.read_text()}"


async def end(children: list[asyncio.subprocess.Process]) -> None:
    """End what still runs of them."""
    for child in children:
        if child.returncode is None:
            child.kill()
    for child in children:
        await child.wait()


def say(child: asyncio.subprocess.Process | None, message: dict[str, Any]) -> None:
    """One line to a child process."""
    assert child is not None
    assert child.stdin is not None
    child.stdin.write(json.dumps(message).encode() + b"\n")


def free_port(host: str = "127.0.0.1") -> int:
    """A port on loopback that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as sock:
            try:
                sock.bind((host, port))
            except OSError:
                continue
            return port


class Ran(NamedTuple):
    """What a run gave: per column its orders, the books and the tally; and the CPU that it took.

    Attributes:
        cpu: cores that were busy on average, all processes of the demo together.
    """

    lanes: dict[str, tuple[list[Order], Audit, dict[str, Any]]]
    cpu: float


Watch = Callable[[Plan, dict[str, Lane]], Awaitable[None]]


async def run(settings: Settings, watch: Watch | None = None) -> Ran:
    """Run all columns at once, each against a payments process of its own.

    Args:
        settings: of the run.
        watch: shown the columns while they run; ended with them.
    """
    _end_on_sigterm()
    busy = _cpu()
    with TemporaryDirectory(prefix="resilient-demo-") as directory:
        lanes = {name: Lane(name, settings, Path(directory)) for name in columns.TITLES}
        tasks: list[asyncio.Future[None]] = []
        try:
            await asyncio.gather(*(lane.prepare() for lane in lanes.values()))
            start = time.monotonic() + 0.5
            for lane in lanes.values():
                lane.begin(start)
            if watch is not None:
                tasks.append(asyncio.ensure_future(watch(settings.plan, lanes)))
            runs = [asyncio.create_task(lane.run()) for lane in lanes.values()]
            tasks += runs
            await asyncio.gather(*runs)
            took = time.monotonic() - start
            told = {name: (lane.orders, lane.audit(), lane.tally) for name, lane in lanes.items()}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for lane in lanes.values():
                await lane.close()
    return Ran(told, round((_cpu() - busy) / took, 2))


def _cpu() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _end_on_sigterm() -> None:
    """SIGTERM ends the run as Ctrl-C does, with everything put away."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
