"""A signal handler that raised while an endpoint was told of a call left it in flight for ever: the endpoint looked
busy, and got less of the traffic with each."""

from __future__ import annotations

import linecache
import socket
import sys
from collections.abc import Callable, Iterator
from contextvars import copy_context
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import pytest

import resilient.httpx
from resilient import Pipeline, Policy, Retry, Timeout
from resilient.core.policy import Site
from resilient.testing import Origin, answer
from tests.http.calls import PLAIN

P = ParamSpec("P")
R = TypeVar("R")
ROOMS = (
    "/resilient/http/transport.py",
    "/resilient/http/steps.py",
    "/resilient/http/logical.py",
    "/resilient/balance/",
)


class Boom(BaseException):
    """What the handler raises."""


class SoftTimeLimit(Exception):
    """What Celery's raises: policies take it for a failure."""


class Raises:
    """Raises when so many lines of these rooms were begun, as a signal handler could between any two; but for a bare
    ``try:``, which is no step: the interpreter looks for signals after calls and jumps.

    Attributes:
        at: the line where it did; None where there were fewer.
    """

    def __init__(self, lines: int, error: type[BaseException]) -> None:
        self.left = lines
        self.error = error
        self.at: str | None = None

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        name = frame.f_code.co_filename
        if event == "line" and any(room in name for room in ROOMS):
            if linecache.getline(name, frame.f_lineno).strip() == "try:":
                return self
            self.left -= 1
            if not self.left:
                sys.settrace(None)
                self.at = f"{name.rpartition('/resilient/')[2]}:{frame.f_lineno}"
                raise self.error
        return self


@pytest.fixture(params=["well", "fails", "refuses"])
def places(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    with Origin(500 if request.param == "fails" else 200) as one, Origin() as two, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        first = nobody.getsockname()[1] if request.param == "refuses" else one.port
        yield [f"127.0.0.1:{first}", f"127.0.0.1:{two.port}"]


@pytest.mark.parametrize("error", [Boom, SoftTimeLimit])
def test_it_is_in_flight_no_more(error: type[BaseException], places: list[str]) -> None:
    policies = Pipeline(Timeout(9.0), Retry(2, wait=0, on=Exception), name="payments")
    with resilient.httpx.client(
        "payments", base_url="http://payments", endpoints=places, policies=policies, verify=PLAIN
    ) as client:
        client.get("/")
        lines, lost = 0, []
        while True:
            lines += 1
            raises = Raises(lines, error)
            before = sys.gettrace()
            sys.settrace(raises)
            try:
                copy_context().run(client.get, "/")
            except (Boom, Exception):
                pass
            finally:
                sys.settrace(before)
            if raises.at is None:
                break
            lost += [raises.at for each in client._transport.endpoints if each.calls]
            for each in client._transport.endpoints:
                each.calls.clear()
                each.forgive()
    assert lines > 50
    assert lost == []


class Ends(Policy):
    """Is interrupted when the answer's head has come and its body has not."""

    kind = "ends"

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            self.kept.append(inner(*args, **kwargs))
            raise Boom

        return call


def test_one_whose_answer_nobody_was_given() -> None:
    with Origin(answer(200, b"x" * 100_000)) as one, Origin(answer(200, b"x" * 100_000)) as two:
        client = resilient.httpx.client(
            "payments",
            base_url="http://payments",
            endpoints=[f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"],
            policies=Pipeline(ends := Ends(), name="payments"),
            verify=PLAIN,
        )
        with client, pytest.raises(Boom):
            client.get("/")
        assert not any(each.calls for each in client._transport.endpoints)
        ends.kept[0].result.close()
