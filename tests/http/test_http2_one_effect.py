"""Whatever happens on the way, over HTTP/2, to calls that share a connection: `test_one_effect`, for each of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import Backoff, InProgress, OutcomeUnknown
from resilient.testing import (
    ManualClock,
    Origin,
    answer,
    close_without_answer,
    drip_body,
    hang,
    lose_connection,
    reset_mid_body,
    reset_stream,
    retry_later,
    truncated,
    wrong_length,
)
from resilient.testing.behaviours import Stepish, as_behaviour
from resilient.testing.connection import Gone
from resilient.testing.exchange import Answer, Exchange, Request
from resilient.testing.http2 import Http2Exchange
from tests.http.calls import Caller, policies
from tests.http.sdk import httpx
from tests.http.test_one_effect import BODIES, IN_PROGRESS, Ledger, as_another_process, away, body, check

OK = answer(201, b"ok")
LONG = answer(201, b"x" * 1000)


class Shop(Ledger):
    """A server that takes its word back of nothing: what it told to be unprocessed it does not do afterwards.

    Attributes:
        done: how often each call was executed, by its path.
    """

    def __init__(self, *, honours: bool) -> None:
        super().__init__(honours=honours)
        self.done: Counter[str] = Counter()
        self._begun: Counter[int] = Counter()  # the highest stream of each connection that was executed

    def execute(self, exchange: Exchange) -> None:
        request = exchange.read()
        if isinstance(exchange, Http2Exchange):
            home = exchange._home
            with home.changed:
                if home._last is not None and exchange.stream_id > home._last:
                    raise Gone  # another request's goodbye came between
                self._begun[home.connection.number] = max(
                    self._begun[home.connection.number], exchange.stream_id
                )
                self.do(request)
        else:
            self.do(request)

    def do(self, request: Request) -> None:
        before = self.effects.copy()
        super().do(request)
        self.done[request.target] += (self.effects - before).total()

    def charge(self, exchange: Exchange) -> None:
        self.execute(exchange)
        OK(exchange)

    def say_goodbye(self, exchange: Http2Exchange, last: int, code: int) -> None:
        """GOAWAY, with ``last`` or the highest that was executed; never a higher one than before (RFC 9113 6.8)."""
        home = exchange._home
        with home.changed:
            exchange._check()
            last = max(last, self._begun[home.connection.number])
            exchange.goaway(last if home._last is None else min(last, home._last), code)


Makes = Callable[[Shop], Stepish]


def after(then: Stepish) -> Makes:
    """Executed, then it goes wrong."""

    def make(shop: Shop) -> Stepish:
        def run(exchange: Exchange) -> None:
            shop.execute(exchange)
            as_behaviour(then)(exchange)

        return run

    return make


def late(shop: Shop) -> Stepish:
    def run(exchange: Exchange) -> None:
        exchange.read()
        exchange.wait(0.1)
        shop.charge(exchange)

    return run


def goodbye(
    last: Literal["this", "before", "none", "all"], code: int = 0, then: Makes | None = None
) -> Makes:
    """GOAWAY; this request is done by ``then`` where it may be, else it is charged."""

    def make(shop: Shop) -> Stepish:
        def run(exchange: Exchange) -> None:
            exchange.read()
            assert isinstance(exchange, Http2Exchange)
            number = exchange.stream_id
            said = {"none": 0, "before": number - 2, "this": number, "all": 2**31 - 1}[last]
            shop.say_goodbye(exchange, max(0, said), code)
            if exchange.open:
                as_behaviour(shop.charge if then is None else then(shop))(exchange)

        return run

    return make


def in_two_steps(shop: Shop) -> Stepish:
    """As RFC 9113 6.8 has a server go: first that it goes, and when all that was under way has come, which was the
    last."""

    def run(exchange: Exchange) -> None:
        exchange.read()
        assert isinstance(exchange, Http2Exchange)
        shop.say_goodbye(exchange, 2**31 - 1, 0)
        exchange.wait(0.05)
        shop.say_goodbye(exchange, exchange.stream_id, 0)
        shop.charge(exchange)

    return run


def answers_then(code: int) -> Stepish:
    """The head of an answer comes, then the stream is reset: whatever the code says, it was taken."""

    def run(exchange: Exchange) -> None:
        assert isinstance(exchange, Http2Exchange)
        with exchange._home.changed:
            exchange._check()
            exchange._send_head(Answer(201), 1000, end=False)
        exchange.reset_stream(code)

    return run


def in_the_upload(code: int) -> Stepish:
    """It is reset before the whole of the request came."""

    def run(exchange: Exchange) -> None:
        exchange.read(up_to=1)
        assert isinstance(exchange, Http2Exchange)
        exchange.reset_stream(code)

    return run


def nonsense(exchange: Exchange) -> None:
    """A frame that breaks the rules, and so the connection of all."""
    assert isinstance(exchange, Http2Exchange)
    with exchange._home.changed:
        exchange._home.flush(b"\0\0\1\0\0\0\0\0\0!")  # data on stream 0


def goes(exchange: Exchange) -> None:
    """The server goes with all its connections, and is back a moment later."""
    origin: Any = exchange.origin
    exchange.read()
    away(origin)
    lose_connection()(exchange)


UNDONE: dict[str, Stepish] = {
    "REFUSED_STREAM": "refused_stream",
    "REFUSED_STREAM in the upload": in_the_upload(0x7),
    "ENHANCE_YOUR_CALM": "enhance_your_calm",
    "INTERNAL_ERROR in the upload": in_the_upload(0x2),
    "HTTP_1_1_REQUIRED": reset_stream(0xD),
    "in progress": IN_PROGRESS,
    "too early": 425,
    "too many": retry_later(1, 429),
    "an empty quota": answer(429, headers={"RateLimit": '"default";r=0;t=1'}),
    "not processed": answer(503, headers={"Resilient-Not-Processed": "1"}),
}
EITHER: dict[str, Stepish] = {
    "INTERNAL_ERROR": reset_stream(0x2),
    "CANCEL": reset_stream(0x8),
    "the connection is lost": lose_connection(),
    "the connection is closed": close_without_answer(),
    "goes": goes,
    "nonsense": nonsense,
    "hangs": hang(),
    "error": 500,
    "bad gateway": 502,
    "unavailable": 503,
    "unavailable, later": retry_later(1, 503),
    "gateway timeout": 504,
}
DONE: dict[str, Stepish] = {
    "in progress, and done meanwhile": IN_PROGRESS,
    "drips": drip_body(0.01, OK),
    "reset mid body": reset_mid_body(then=LONG),
    "closed mid body": truncated(then=LONG),
    "shorter than told": wrong_length(100, LONG),
    "longer than told": wrong_length(-100, LONG),
    "REFUSED_STREAM after the head": answers_then(0x7),
    "ENHANCE_YOUR_CALM after the head": answers_then(0xB),
    "NO_ERROR after the head": answers_then(0x0),
}
LOST = after(lose_connection())
STEPS: dict[str, Makes] = {
    "fine": lambda shop: shop.charge,
    "late": late,
    "GOAWAY, last stream 0": goodbye("none"),
    "GOAWAY, last stream lower": goodbye("before"),
    "GOAWAY, this stream": goodbye("this"),
    "GOAWAY, all streams": goodbye("all"),
    "GOAWAY in two steps": in_two_steps,
    "GOAWAY for a fault": goodbye("none", 0x2),
    "GOAWAY for a fault, this stream": goodbye("this", 0x2, lambda shop: lose_connection()),
    "GOAWAY to calm down": goodbye("none", 0xB),
    "GOAWAY to calm down, this stream": goodbye("this", 0xB, lambda shop: "close_without_answer"),
    "GOAWAY, this stream, then lost": goodbye("this", 0, LOST),
    "GOAWAY, all streams, then lost": goodbye("all", 0, LOST),
    **{name: lambda shop, step=step: step for name, step in (UNDONE | EITHER).items()},
    **{f"{name}, after the effect": after(step) for name, step in (EITHER | DONE).items()},
}


def step(shop: Shop, name: str) -> Stepish:
    """What is of HTTP/2 alone is left out where a request came by HTTP/1.1, because the server wanted that."""
    made = as_behaviour(STEPS[name](shop))

    def run(exchange: Exchange) -> None:
        (made if isinstance(exchange, Http2Exchange) else shop.charge)(exchange)

    return run


class Call(NamedTuple):
    """One logical call.

    Attributes:
        kind: of its body.
        key: the caller's; None: it is made up.
        patience: seconds after which the caller leaves.
    """

    kind: str
    key: str | None
    patience: float | None


class Round(NamedTuple):
    """Calls made at the same time.

    Attributes:
        calls: all of them.
        before: what becomes of the connections that are there.
    """

    calls: list[Call]
    before: Literal["nothing", "dropped", "away"]


class Case(NamedTuple):
    """What is tried.

    Attributes:
        profile: of the service.
        tls: whether HTTP/2 is agreed upon.
        streams: requests that a connection takes at a time.
        schedule: what the server does with the requests, in the order in which they come.
        rounds: one after the other.
    """

    profile: str
    tls: bool
    streams: int
    schedule: list[str]
    rounds: list[Round]


calls = st.builds(
    Call,
    st.sampled_from([*sorted(BODIES), "large"]),
    st.sampled_from([None, "order-7"]),
    st.sampled_from([None, None, None, 0.02, 0.15]),
)
rounds = st.builds(
    Round,
    st.lists(calls, min_size=1, max_size=4),
    st.sampled_from(["nothing", "nothing", "dropped", "away"]),
)
cases = st.builds(
    Case,
    st.sampled_from(["none", "unknown", "supported"]),
    st.booleans(),
    st.sampled_from([100, 100, 2, 1]),
    st.lists(st.sampled_from(sorted(STEPS)), max_size=8),
    st.lists(rounds, min_size=1, max_size=2),
)


def content(kind: str) -> dict[str, Any]:
    return {"content": b"12" * 50_000} if kind == "large" else body(kind, "async")


def holds(case: Case) -> None:
    clock = ManualClock()
    shop = Shop(honours=case.profile == "supported")
    numbers: dict[str, Any] = {"attempts": 4, "attempt": 3.0, "total": 1_000.0, "name": None}
    with Origin(clock=clock, tls=case.tls, http2=case.streams) as origin:

        def client() -> Caller:
            agreed: dict[str, Any] = {"verify": origin.client_context} if case.tls else {"http1": False}
            wait = Backoff(0.1, jitter="none")
            given = {"policies": policies(clock, wait=wait, **numbers), "profile": case.profile}
            return Caller("async", origin.url, clock, http2=True, **agreed, **given)

        async def one(caller: Caller, url: str, call: Call) -> Any:
            """Its response, its error, or None: the caller left."""
            options: dict[str, Any] = {}
            if call.key is not None and case.profile != "none":
                options = {"resilient": {"idempotency_key": f"{call.key}{url}"}}
            try:
                async with asyncio.timeout(call.patience) as scope:
                    return await caller.client.post(url, extensions=options, **content(call.kind))
            except (httpx.TransportError, httpx.HTTPStatusError) as exc:
                return exc
            except TimeoutError:
                assert scope.expired()
                return None

        async def together(caller: Caller, made: dict[str, Call]) -> list[Any]:
            found = await asyncio.gather(*(one(caller, url, call) for url, call in made.items()))
            await asyncio.sleep(1.0)  # whatever the server still does is done
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return found

        with client() as caller:
            assert caller.get("/there").http_version == "HTTP/2"
            origin.always(shop.charge)
            origin.script(*(step(shop, name) for name in case.schedule))
            for number, (made, before) in enumerate(case.rounds):
                if before == "away":
                    away(origin)
                if before != "nothing":
                    origin.drop_connections()
                by_url = {f"/charges/{number}.{n}": call for n, call in enumerate(made)}
                found = caller.run(together(caller, by_url))
                assert caller.pool.in_use == 0
                unknown = {}
                for (url, call), outcome in zip(by_url.items(), found, strict=True):
                    seen = [request for request in origin.requests if request.target == url]
                    check(outcome, shop.done[url], seen)
                    if isinstance(outcome, (OutcomeUnknown, InProgress)) and case.profile == "supported":
                        unknown[url] = call, outcome
                if unknown:
                    origin.always(shop.charge)
                for url, (call, outcome) in unknown.items():
                    if call.kind == "a form" and call.key is None:
                        continue  # the boundary of a key that was made up was made up too
                    with client() as other:
                        as_another_process(other, url, outcome, **content(call.kind))
                    assert shop.done[url] == 1


@settings(max_examples=150, deadline=None)
@given(case=cases)
def test_any_schedule(case: Case) -> None:
    holds(case)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))  # each within the time of one test
@settings(max_examples=500, deadline=None)
@given(case=cases)
def test_any_schedule_for_long(part: int, case: Case) -> None:
    holds(case)


@pytest.mark.parametrize("profile", ["none", "supported"])
@pytest.mark.parametrize("name", STEPS)
def test_each_beside_others(name: str, profile: str) -> None:
    # On one connection, for the first, the second and the last of those that come at the same time.
    others = [Call("bytes", None, None)] * 3
    for place in range(3):
        schedule = ["late", "late", "late"]
        schedule[place] = name
        holds(Case(profile, False, 100, schedule, [Round(others, "nothing")]))
